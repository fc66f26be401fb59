//! What the rounding of an evaluation in f32 adds to the outputs.
//!
//! For a network input `z` in exact arithmetic, let `v` be a value of the
//! network and `v'` what [`Plan`](crate::exec::Plan) computes, which reads `z`
//! rounded to f32. Both bounds below are affine in `||z||`, and all norms are
//! l2:
//!
//! - `||v|| <= ||v(0)|| + L ||z||` with the Lipschitz constant `L` of the value
//!   and an interval bound for `v(0)`;
//! - `||v' - v|| <= e(||z||)`, from node to node: with `x'` what a node reads,
//!   `||v' - v|| <= sum ||A_i|| e_i + local error`, where the first part is what
//!   the exact node makes of errors before it.
//!
//! Across a layer whose constant is less than the norms of its nodes give, the
//! error before it counts with that constant, and the sum above is taken from
//! the layer's computed input on.
//!
//! The local error of an affine node, with `u = 2^-24`, `n` terms in a sum,
//! stored coefficients and biases within `r` (relative) and `b` (absolute) of
//! the true ones, and each rounded once more to f32, is that of every evaluation
//! in f32 ([`Evaluation`](crate::rounding::Evaluation)):
//! `(gamma_{n+4} + 2 r) (|| |A| || ||x'|| + ||bias||) + b sqrt(len)`, for any
//! order of summation, blocked or not, with or without fused multiply-add
//! (Higham, section 3.1). Elementwise functions and log-sum-exp are evaluated
//! in f64, with a relative error below `u`, and rounded once: `2 u ||v||`.
//! Selections and maxima do not round. Each operation may underflow, by
//! `2^-150`, as `Plan` flushes nothing to zero. None may overflow, which is checked for every input of norm up to
//! `||x|| + 1000 sigma sqrt(d)`; Gaussian noise is longer with a probability
//! below `exp(-400000)`.

use super::Network;
use super::affine::Norms;
use crate::bounds::{Intervals, propagate};
use crate::ops::Op;
use crate::rounding::UNIT;
use crate::rounding::directed::{add_up, div_up, mul_up, sqrt_up};

/// Four times the error of an f32 operation that underflows.
const TINY: f64 = 4.0 * 7.006_492_321_624_086e-46;
/// Values up to here do not overflow, nor do their sums on the way.
const LARGEST: f64 = 1e38;

/// A bound on the l2 distance between outputs evaluated in f32 and exact ones,
/// affine in the l2 norm of the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationError {
    error: Growth,
    peak: Growth,
}

/// `constant + slope * ||z||`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Growth {
    constant: f64,
    slope: f64,
}

impl Growth {
    fn constant(constant: f64) -> Self {
        Self { constant, slope: 0.0 }
    }

    fn plus(self, other: Self) -> Self {
        Self { constant: add_up(self.constant, other.constant), slope: add_up(self.slope, other.slope) }
    }

    fn times(self, factor: f64) -> Self {
        Self { constant: mul_up(self.constant, factor), slope: mul_up(self.slope, factor) }
    }

    fn at(self, norm: f64) -> f64 {
        add_up(self.constant, mul_up(self.slope, norm))
    }

    fn larger(self, other: Self) -> Self {
        Self { constant: self.constant.max(other.constant), slope: self.slope.max(other.slope) }
    }

    fn is_finite(self) -> bool {
        self.constant.is_finite() && self.slope.is_finite()
    }
}

impl EvaluationError {
    /// The bound for inputs of l2 norm up to `norm`; infinite where an
    /// evaluation might overflow.
    #[must_use]
    pub fn at(&self, norm: f64) -> f64 {
        let bound = self.error.at(norm);
        if self.peak.at(norm) <= LARGEST && bound.is_finite() { bound } else { f64::INFINITY }
    }

    /// The mean over Gaussian noise of standard deviation `sigma` in every
    /// entry of `x`: the bound at `sqrt(||x||^2 + sigma^2 d) >= E ||x + e||`.
    /// Clipping to a box that holds 0 only shortens `x + e`; what else may be
    /// done to it, such as rounding to a grid, moves it by at most `moved`.
    #[must_use]
    pub fn mean(&self, x: &[f32], sigma: f64, moved: f64) -> f64 {
        let square = |v: f64| mul_up(v, v);
        let image = x.iter().fold(0.0, |sum, &x| add_up(sum, square(x.into())));
        let noise = mul_up(square(sigma), x.len() as f64);
        let longest = add_up(sqrt_up(image), mul_up(1000.0, sqrt_up(noise)));
        if self.at(add_up(longest, moved)).is_finite() {
            // The tail beyond `longest` is far below the last bit.
            let typical = add_up(sqrt_up(add_up(image, noise)), moved);
            add_up(self.at(typical), f64::MIN_POSITIVE)
        } else {
            f64::INFINITY
        }
    }
}

impl Network {
    /// Bounds how far [`Plan`](crate::exec::Plan)'s evaluation of the network
    /// lies from the exact outputs, including the rounding of its input to f32;
    /// none if the network has no Lipschitz constant.
    ///
    /// Relies on [`Function::rounding`](crate::ops::Function::rounding) being
    /// below `2^-24` of the value, as it is for all functions of the toolkit.
    #[must_use]
    pub fn evaluation_error(&self) -> Option<EvaluationError> {
        self.error_with(UNIT)
    }

    /// The same for [`Wide`](crate::exec::Wide), whose inputs and outputs are rounded to f32, and nothing
    /// between. Functions that are not piecewise linear are relied on as in
    /// [`Network::evaluation_error`].
    #[must_use]
    pub fn evaluation_error_wide(&self) -> Option<EvaluationError> {
        self.error_with(0.5 * f64::EPSILON)
    }

    /// With the unit roundoff of the operations.
    fn error_with(&self, unit: f64) -> Option<EvaluationError> {
        let graph = &self.fused.graph;
        let zero = vec![0.0; graph.input_len()];
        let at_zero = Intervals { lower: zero.clone(), upper: zero };
        let at_zero = propagate(&self.original, 1, at_zero, |v| self.fused.original.contains(&v));
        let sizes = self.fused.original.iter().zip(&self.constants).map(|(&v, constant)| {
            let ends = at_zero[v].lower.iter().zip(&at_zero[v].upper);
            let squares = ends.fold(0.0, |sum, (l, u)| {
                // NaN, a value that may be undefined, must stay.
                let size = if l.abs() > u.abs() { l.abs() } else { u.abs() };
                add_up(sum, mul_up(size, size))
            });
            Growth { constant: sqrt_up(squares), slope: constant.unwrap_or(f64::INFINITY) }
        });
        let sizes: Vec<Growth> = sizes.collect();
        let mut peak = Growth { constant: 0.0, slope: 1.0 };
        let input = Growth { constant: mul_up(TINY, graph.input_len() as f64), slope: UNIT };
        let mut errors = vec![Some(input)];
        for i in 0..graph.nodes.len() {
            let step = self.step(unit, i, &errors, &sizes);
            let mut error = step.map(|(error, most)| {
                peak = peak.larger(most);
                error
            });
            if let (Some(long), Some((base, constant))) = (error, self.layers[i + 1]) {
                // The layer as a whole carries the error before it; what it adds itself is that of an
                // evaluation from what was computed there.
                let inside = |v: usize| sizes[v].plus(errors.get(v).copied().flatten().unwrap_or(long));
                let moved: Vec<Growth> = (0..=i + 1).map(inside).collect();
                let mut own: Vec<Option<Growth>> = vec![None; base];
                own.push(Some(Growth::default()));
                (base..=i).for_each(|j| own.push(self.step(unit, j, &own, &moved).map(|(own, _)| own)));
                let short =
                    own[i + 1].zip(errors[base]).map(|(own, before)| before.times(constant).plus(own));
                let typical = sqrt_up(graph.input_len() as f64);
                error = short.filter(|short| short.at(typical) < long.at(typical)).or(error);
            }
            errors.push(error);
        }
        let error = errors[graph.output]?;
        let tiny = mul_up(TINY, sqrt_up(graph.output_len() as f64));
        let last = sizes[graph.output].plus(error).times(UNIT).plus(Growth::constant(tiny));
        let error = if unit < UNIT { error.plus(last) } else { error };
        Some(EvaluationError { error, peak })
    }

    /// The error of node `i`'s result from the errors and sizes of values before it, and the largest
    /// number on the way.
    fn step(
        &self,
        unit: f64,
        i: usize,
        errors: &[Option<Growth>],
        sizes: &[Growth],
    ) -> Option<(Growth, Growth)> {
        let (node, norms) = (&self.fused.graph.nodes[i], &self.norms[i]);
        let inputs = node.inputs.iter().map(|&v| Some((errors[v]?, sizes[v])));
        let inputs: Vec<(Growth, Growth)> = inputs.collect::<Option<_>>()?;
        let carried = inputs.iter().zip(&norms.parts);
        let carried = carried.fold(Growth::default(), |sum, ((e, _), &a)| sum.plus(e.times(a)));
        let (local, most) = self.local(unit, i, &inputs, norms, sizes[i + 1].plus(carried))?;
        let error = carried.plus(local);
        (error.is_finite() && sizes[i + 1].is_finite()).then_some((error, most))
    }

    /// The rounding of node `i` itself, and the largest number on the way.
    /// `inputs` are errors and sizes of what it reads, `result` the size of
    /// its exact result for the inputs as computed.
    fn local(
        &self,
        unit: f64,
        i: usize,
        inputs: &[(Growth, Growth)],
        norms: &Norms,
        result: Growth,
    ) -> Option<(Growth, Growth)> {
        let graph = &self.fused.graph;
        let len = graph.len(i + 1) as f64;
        let root = sqrt_up(len);
        let op = match &graph.nodes[i].op {
            Op::Affine(op) if op.is_selection() && op.bias().is_none() => {
                return Some((Growth::default(), result));
            }
            Op::Affine(op) => op,
            Op::Product(op) => {
                if op.is_selection() {
                    return Some((Growth::default(), result));
                }
                let [relative, absolute] = op.evaluation_error()?;
                let absolute = Growth::constant(mul_up(absolute * UNIT, root));
                let local = result.times(relative * UNIT).plus(absolute);
                return Some((local, result.plus(local)));
            }
            Op::Elementwise(f) => {
                // Of straight pieces each is one product, evaluated in f64.
                let unit = if f.slope(0, 0.0).is_some() { 4.0 * unit } else { 2.0 * UNIT };
                let local = result.times(unit).plus(Growth::constant(mul_up(TINY, root)));
                return Some((local, result.plus(local)));
            }
        };
        let terms = op.terms() as f64;
        let units = (terms + 4.0) * unit;
        let relative = op.relative_error();
        if !(units < 0.5 && relative < 0.5) {
            return None;
        }
        let share = add_up(div_up(units, 1.0 - units), 2.0 * relative);
        let bias = op.bias().map_or(0.0, |bias| {
            let entries = (0..graph.len(i + 1)).map(|j| bias.at(j));
            sqrt_up(entries.fold(0.0, |sum, b| add_up(sum, mul_up(b, b))))
        });
        let (mut sum, mut read) = (Growth::constant(bias), Growth::constant(1.0));
        for ((error, size), &absolute) in inputs.iter().zip(&norms.absolute) {
            let computed = size.plus(*error);
            sum = sum.plus(computed.times(absolute));
            read = read.plus(computed);
        }
        let bias_error = mul_up(self.fused.bias_error[i], root);
        let tiny = mul_up(TINY, mul_up(terms + 4.0, root));
        let local = sum.times(share).plus(Growth::constant(bias_error)).plus(read.times(tiny));
        // Coefficients must be in the range of f32, too.
        let largest = norms.absolute.iter().fold(0.0, |m: f64, &a| m.max(a));
        Some((local, sum.times(4.0).plus(local).larger(Growth::constant(largest))))
    }
}
