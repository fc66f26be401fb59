//! The first kind: affine maps `A x + b`.

use super::{Conv, Dense, Periodic, Pick, Scale, Sparse, Sum, Weights};
use crate::kernels::{Gather, Scalar};
use crate::rounding::{FLUSHED, LARGEST, single_gamma, single_underflow};

/// An affine map of one or more inputs.
///
/// Its matrix `A` is never formed: an analysis asks for `A x`, `|A| x`,
/// `A^T y` or `|A|^T y`, choosing signed or absolute coefficients by [`Pick`].
#[derive(Clone, Debug)]
pub enum Affine {
    /// Matrix product with a constant.
    Dense(Dense),
    /// Convolution or its transpose.
    Conv(Conv),
    /// Entry by entry: `scale * x + shift`.
    Scale(Scale),
    /// Linear combination of inputs of one shape.
    Sum(Sum),
    /// Any other map with few terms per output: selections, window sums.
    Sparse(Sparse),
}

impl Affine {
    /// `out = A x`, without the bias. `inputs` and `out` hold `batch` tensors
    /// each; `scratch` is working memory that keeps its capacity.
    pub fn linear<T: Scalar>(
        &self,
        pick: Pick<T>,
        batch: usize,
        inputs: &[&[T]],
        out: &mut [T],
        scratch: &mut Vec<T>,
    ) {
        match self {
            Self::Dense(op) => op.linear(pick, batch, inputs[0], out),
            Self::Conv(op) => op.linear(pick, inputs[0], out, scratch),
            Self::Scale(op) => op.linear(pick, batch, inputs[0], out),
            Self::Sum(op) => op.linear(pick, inputs, out),
            Self::Sparse(op) => op.linear(pick, batch, inputs, out, scratch),
        }
    }

    /// `out = A x + b`.
    pub fn apply<T: Scalar>(
        &self,
        pick: Pick<T>,
        batch: usize,
        inputs: &[&[T]],
        out: &mut [T],
        scratch: &mut Vec<T>,
    ) {
        self.linear(pick, batch, inputs, out, scratch);
        if let Some(bias) = self.bias() {
            bias.add_to(pick, batch, out);
        }
    }

    /// The map for boxes, if it is a dense layer or convolution; `len` counts the entries of its input.
    #[must_use]
    pub fn boxes(&self, len: usize) -> Option<&Gather<f64>> {
        match self {
            Self::Dense(op) => Some(op.weight.boxes(|| op.gather(Weights::exact))),
            Self::Conv(op) => Some(op.weight.boxes(|| op.gather(Weights::exact, len))),
            _ => None,
        }
    }

    /// `grads[i] += A_i^T y` for every input `i`, where `A = [A_0 A_1 ...]`.
    pub fn adjoint<T: Scalar>(
        &self,
        pick: Pick<T>,
        batch: usize,
        y: &[T],
        grads: &mut [&mut [T]],
        scratch: &mut Vec<T>,
    ) {
        match self {
            Self::Dense(op) => op.adjoint(pick, batch, y, grads[0]),
            Self::Conv(op) => op.adjoint(pick, y, grads[0], scratch),
            Self::Scale(op) => op.adjoint(pick, batch, y, grads[0]),
            Self::Sum(op) => op.adjoint(pick, y, grads),
            Self::Sparse(op) => op.adjoint(pick, batch, y, grads),
        }
    }

    /// The bias `b`, if any.
    #[must_use]
    pub fn bias(&self) -> Option<&Periodic> {
        match self {
            Self::Dense(op) => op.bias.as_ref(),
            Self::Conv(op) => op.bias.as_ref(),
            Self::Scale(op) => op.shift.as_ref(),
            Self::Sum(_) => None,
            Self::Sparse(op) => op.bias.as_ref(),
        }
    }

    /// Bound on the absolute error of every entry of the stored bias; 0 where
    /// the bias stands in the model.
    #[must_use]
    pub fn bias_error(&self) -> f64 {
        let relative = self.bias().map_or(0.0, |b| {
            b.values().relative_error() * b.values().exact().iter().fold(0.0, |m: f64, x| m.max(x.abs()))
        });
        match self {
            Self::Scale(op) => op.shift_error + relative,
            _ => relative,
        }
    }

    /// Bound on the relative error of every stored coefficient.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        self.coefficients().map_or(0.0, Weights::relative_error)
    }

    /// Whether every output is a copy of an input entry or a constant, so that
    /// nothing rounds.
    #[must_use]
    pub fn is_selection(&self) -> bool {
        matches!(self, Self::Sparse(op) if op.weights.is_none() && op.groups.longest() <= 1)
    }

    /// Whether all coefficients and the bias are finite numbers.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let constants = [self.coefficients(), self.bias().map(Periodic::values)];
        constants.into_iter().flatten().flat_map(Weights::exact).all(|c| c.is_finite())
    }

    fn coefficients(&self) -> Option<&Weights> {
        match self {
            Self::Dense(op) => Some(&op.weight),
            Self::Conv(op) => Some(&op.weight),
            Self::Scale(op) => op.scale.as_ref().map(Periodic::values),
            Self::Sum(op) => Some(&op.coefficients),
            Self::Sparse(op) => op.weights.as_ref(),
        }
    }

    /// The largest number of terms in one entry of `A x`: the length of the
    /// sums whose rounding a bound has to cover.
    #[must_use]
    pub fn terms(&self) -> usize {
        match self {
            Self::Dense(op) => op.inputs,
            Self::Conv(op) => op.terms(),
            Self::Scale(_) => 1,
            Self::Sum(op) => op.coefficients.exact().len(),
            Self::Sparse(op) => op.groups.longest(),
        }
    }

    /// The largest number of terms in one entry of `A^T y`.
    #[must_use]
    pub fn adjoint_terms(&self) -> usize {
        match self {
            Self::Dense(op) => op.outputs,
            Self::Conv(op) => op.adjoint_terms(),
            Self::Scale(_) | Self::Sum(_) => 1,
            Self::Sparse(op) => op.groups.len(),
        }
    }

    /// How far an evaluation in f32 may lie from `A x + b`, as [`SingleError`] says.
    #[must_use]
    pub fn single_error(&self) -> SingleError {
        if self.is_selection() {
            return SingleError::default();
        }
        let terms = self.terms();
        let [least, most] = self.coefficients().map_or([1.0; 2], Weights::magnitudes);
        // The stored bias of a batch normalisation is the difference of numbers that a deployed one may
        // subtract later; its error is 8 units of their size. It also computes its coefficients in f32.
        let computed = if self.relative_error() > 0.0 { 4 } else { 0 };
        let relative = single_gamma(terms + computed);
        let bias = self.bias().map_or(0.0, |b| b.values().magnitudes()[1]);
        let before = self.bias_error() / (8.0 * f64::EPSILON);
        // Coefficients out of range have no value in f32.
        let range = if most <= LARGEST { 1.0 } else { f64::INFINITY };
        SingleError {
            relative: relative * range,
            before: relative * before,
            bias: relative * (bias + before),
            underflow: single_underflow(terms),
            flushed: if least < FLUSHED { terms as f64 * FLUSHED } else { 0.0 },
            most: terms as f64 * most,
            shift: bias + before,
        }
    }

    pub(super) fn parameters(&self) -> usize {
        let weights = match self {
            Self::Sum(_) => 0,
            _ => self.coefficients().map_or(0, |w| w.exact().len()),
        };
        weights + self.bias().map_or(0, |b| b.values().exact().len())
    }

    pub(super) fn multiply_adds(&self) -> usize {
        match self {
            Self::Dense(op) => op.rows * op.inputs * op.outputs,
            Self::Conv(op) => op.multiply_adds(),
            Self::Scale(op) => op.len,
            Self::Sum(op) => op.len * op.coefficients.exact().len(),
            Self::Sparse(op) => op.weights.as_ref().map_or(0, |_| op.groups.entries()),
        }
    }
}

/// How far an evaluation of an affine map in f32 may lie from `A x + b`, for the `x` that it reads: by
/// `relative (|A| |x| + |b|) + before + underflow + flushed max |x|` in every entry. Zero for selections.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleError {
    /// Relative to the sum of the magnitudes.
    pub relative: f64,
    /// Absolute, where the bias was made from larger numbers.
    pub before: f64,
    /// Bound on `relative |b| + before` for all entries.
    pub bias: f64,
    /// Of underflow.
    pub underflow: f64,
    /// Relative to the greatest `|x|`, where subnormal coefficients may be flushed to zero.
    pub flushed: f64,
    /// An entry of `|A| |x|` is at most this times the greatest `|x|`.
    pub most: f64,
    /// The greatest number that is added.
    pub shift: f64,
}
