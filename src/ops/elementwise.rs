//! The second kind: elementwise functions.

use std::fmt::Debug;

use super::relaxation::{self, Hint, Lines, Shape};
use crate::kernels::Scalar;
use crate::rounding::FLUSHED;

/// A function that is applied to every entry of a tensor.
///
/// A new function implements `name` and `eval`; where it is not monotone also
/// `turning`, where its `eval` rounds also `rounding`, and where its values
/// are bounded also `image`. One that is the same for all entries says so in
/// `is_uniform`, and is then evaluated faster. Inference and interval bounds follow; linear
/// bounds from `shapes` and `derivative`, tightness from `slope`.
pub trait Function: Debug + Send + Sync {
    /// Name for tables and errors.
    fn name(&self) -> &'static str;

    /// Value at `x` for entry `i` of the tensor. NaN outside the domain.
    fn eval(&self, i: usize, x: f64) -> f64;

    /// Bound on `|eval(x) - f(x)|` where `y = eval(x)`. Default: the bound of
    /// a few elementary functions and operations in a row.
    fn rounding(&self, _x: f64, y: f64) -> f64 {
        ELEMENTARY * y.abs() + TINY
    }

    /// Bound on `|y' - f(x)|` for what an evaluation in f32 makes of a number `x` of f32, where `|x|` is at
    /// most `input` and `|f(x)|` at most `output`; 0 where nothing rounds. Default: 8 units in the last
    /// place, and underflow.
    fn single_rounding(&self, _input: f64, output: f64) -> f64 {
        single_units(output)
    }

    /// Lower and upper bounds on the values at the points inside
    /// `(lower, upper)` where the function turns; `None` if it is monotone there.
    /// A pair of NaN if it has a pole in the interval or leaves its domain.
    fn turning(&self, _i: usize, _lower: f64, _upper: f64) -> Option<(f64, f64)> {
        None
    }

    /// An interval that holds all values of the function, exactly.
    fn image(&self) -> (f64, f64) {
        (f64::NEG_INFINITY, f64::INFINITY)
    }

    /// How the function bends, piece by piece from left to right: each piece
    /// with its right end, the last with an end of at least `upper`; pieces
    /// left of `lower` do no harm. The function must be continuous. Empty if
    /// not known; then [`Function::lines`] are constants.
    fn shapes(&self, _i: usize, _lower: f64, _upper: f64) -> Vec<(f64, Shape)> {
        Vec::new()
    }

    /// Lower and upper bounds on the derivative at `x`, at a kink of that on
    /// the side of `toward`. Of use only together with [`Function::shapes`].
    fn derivative(&self, _i: usize, _x: f64, _toward: f64) -> (f64, f64) {
        (f64::NEG_INFINITY, f64::INFINITY)
    }

    /// Slope of the linear piece that holds `x`, for entry `i`; at a kink, of
    /// the piece that is called active there (for relu the one to the right).
    /// `None` for every `x` unless the function is continuous and piecewise
    /// linear.
    fn slope(&self, _i: usize, _x: f64) -> Option<f64> {
        None
    }

    /// Least and greatest slope of a line through two points of the function, rounded outward;
    /// `None` where there are none on the whole line, or none are known.
    fn slopes(&self) -> Option<[f64; 2]> {
        None
    }

    /// A Lipschitz constant of the function, rounded up; `None` where there is
    /// none on the whole line, or none is known.
    fn lipschitz(&self) -> Option<f64> {
        let [least, greatest] = self.slopes()?.map(f64::abs);
        Some(if least > greatest || least.is_nan() { least } else { greatest })
    }

    /// A slope that steers a search where the derivative says nothing, as on a staircase.
    fn guide(&self, _i: usize, _x: f64) -> Option<f64> {
        None
    }

    /// Whether `eval` does not depend on the entry. Only then may tensors be evaluated in pieces, or
    /// side by side; a function that does not say so is evaluated correctly, but slowly.
    fn is_uniform(&self) -> bool {
        false
    }

    /// Where to cut `[lower, upper]`, strictly inside, so that the function is easier to bound on both
    /// sides: the end of a piece or an inflection nearest to the middle, else the middle. `None` where
    /// nothing is gained, as the function is affine on the interval, and where there is no such point.
    fn split_point(&self, i: usize, lower: f64, upper: f64) -> Option<f64> {
        relaxation::split_point(self, i, lower, upper)
    }

    /// Number of constants the function holds per network.
    fn parameters(&self) -> usize {
        0
    }

    /// Bounds on the values over `[lower, upper]`: exact ranges, widened by
    /// the rounding of `eval`. NaN where the function may be undefined.
    fn range(&self, i: usize, lower: f64, upper: f64) -> (f64, f64) {
        let (at_lower, at_upper) = (self.eval(i, lower), self.eval(i, upper));
        let turning = self.turning(i, lower, upper);
        if at_lower.is_nan() || at_upper.is_nan() || turning.is_some_and(|(least, _)| least.is_nan()) {
            return (f64::NAN, f64::NAN);
        }
        let (r0, r1) = (self.rounding(lower, at_lower), self.rounding(upper, at_upper));
        let below = |y: f64, r: f64| if r == 0.0 { y } else { (y - r).next_down() };
        let above = |y: f64, r: f64| if r == 0.0 { y } else { (y + r).next_up() };
        let mut low = below(at_lower, r0).min(below(at_upper, r1));
        let mut high = above(at_lower, r0).max(above(at_upper, r1));
        if let Some((least, greatest)) = turning {
            low = low.min(least);
            high = high.max(greatest);
        }
        let (least, greatest) = self.image();
        let (low, high) = (low.max(least), high.min(greatest));
        // An infinite error bound next to an infinite value gives NaN.
        (if low.is_nan() { least } else { low }, if high.is_nan() { greatest } else { high })
    }

    /// [`Function::range`] of every entry of tensors of `len` entries, in place. Each entry stands there
    /// `beside` times, for as many tensors side by side.
    fn ranges(&self, len: usize, beside: usize, lower: &mut [f64], upper: &mut [f64]) {
        let entries = lower.chunks_mut(beside).zip(upper.chunks_mut(beside));
        for ((lower, upper), i) in entries.zip((0..len).cycle()) {
            for (low, high) in lower.iter_mut().zip(upper) {
                (*low, *high) = self.range(i, *low, *high);
            }
        }
    }

    /// Lines below and above the function: for every real `x` in `[lower,
    /// upper]`, `lines.lower <= f(x) <= lines.upper` at `x`, in exact
    /// arithmetic. Constants from [`Function::range`] where that is all that is
    /// known: for unbounded intervals, and NaN where the function may be
    /// undefined.
    fn lines(&self, i: usize, lower: f64, upper: f64, hint: Hint) -> Lines {
        relaxation::lines(self, i, lower, upper, hint)
    }

    /// Applies the function to tensors of `len` entries that fill `data`.
    /// Computed in `f64` and rounded once, so the same on every machine.
    fn apply32(&self, len: usize, data: &mut [f32]) {
        apply(self, len, data);
    }

    /// As [`Function::apply32`], in `f64`.
    fn apply64(&self, len: usize, data: &mut [f64]) {
        apply(self, len, data);
    }
}

/// The result of [`Function::turning`] for an interval that holds a point at
/// which the function has no value.
pub(super) const UNDEFINED: Option<(f64, f64)> = Some((f64::NAN, f64::NAN));

fn apply<T: Scalar, F: Function + ?Sized>(function: &F, len: usize, data: &mut [T]) {
    for tensor in data.chunks_mut(len.max(1)) {
        for (i, x) in tensor.iter_mut().enumerate() {
            *x = T::of(function.eval(i, x.wide()));
        }
    }
}

/// Relative error bound of an elementary function of `libm` (each within one
/// or two units in the last place) followed by a few operations.
pub(super) const ELEMENTARY: f64 = 8.0 * f64::EPSILON;
/// Absolute error bound where results leave the normal range.
pub(super) const TINY: f64 = 4.0 * f64::MIN_POSITIVE * f64::EPSILON;

/// Eight units in the last place of f32 numbers up to `size`, and underflow.
pub(super) fn single_units(size: f64) -> f64 {
    SINGLE * size + FLUSHED
}
/// As [`single_units`] for `x g(x)`, where the gate `g` has values up to 1 and is computed with an absolute
/// error: implementations form it as a difference, or end it at a value that is not quite 0.
pub(super) fn single_gate(input: f64, output: f64) -> f64 {
    single_units(output) + 0.5 * SINGLE * input
}
/// Eight units in the last place of f32, relative.
pub(super) const SINGLE: f64 = 8.0 * f32::EPSILON as f64;

/// Bounds on a derivative from its value, computed by a few elementary
/// functions and operations in a row.
pub(super) fn near(slope: f64) -> (f64, f64) {
    around(slope, ELEMENTARY * slope.abs() + TINY)
}

/// `slope - error` and `slope + error`, rounded outward.
pub(super) fn around(slope: f64, error: f64) -> (f64, f64) {
    ((slope - error).next_down(), (slope + error).next_up())
}
