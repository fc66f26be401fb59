//! The norms of affine maps from above.

use super::{conv, matrix};
use crate::ops::{Affine, Sparse, Weights};
use crate::rounding::directed::{add_up, div_up, mul_up, sqrt_up};
use crate::rounding::{gamma, underflow};

/// Bounds on l2 norms of the linear part `A = [A_1 A_2 ...]` of an affine map
/// of one or more inputs, for the true coefficients; infinite where none holds.
#[derive(Clone, Debug)]
pub(super) struct Norms {
    /// Of `A`.
    pub(super) whole: f64,
    /// Of every `A_i`.
    pub(super) parts: Vec<f64>,
    /// Of every `|A_i|`.
    pub(super) absolute: Vec<f64>,
}

impl Norms {
    /// Of a map that is not affine, with one constant for all of its inputs.
    pub(super) fn same(constant: f64, inputs: usize) -> Self {
        Self { whole: constant, parts: vec![constant; inputs], absolute: vec![constant; inputs] }
    }

    /// Of a map of inputs of `lens` entries to `len` entries.
    pub(super) fn new(op: &Affine, lens: &[usize], len: usize) -> Self {
        let absolute: Vec<f64> = match op {
            Affine::Scale(_) | Affine::Sum(_) => Vec::new(),
            _ => (0..lens.len()).map(|part| absolute(op, lens, len, Some(part))).collect(),
        };
        let (whole, parts) = match op {
            Affine::Dense(dense) => {
                let norm = dense_norm(dense.weight.exact(), dense.inputs, dense.outputs);
                (norm, vec![norm])
            }
            Affine::Conv(op) => {
                let norm = conv::norm(op);
                (norm, vec![norm])
            }
            Affine::Scale(op) => {
                let norm = op.scale.as_ref().map_or(1.0, |scale| greatest(scale.values().absolute()));
                (norm, vec![norm])
            }
            Affine::Sum(op) => {
                let sizes = op.coefficients.absolute();
                let whole = sizes.iter().fold(0.0, |sum, &c| add_up(sum, mul_up(c, c)));
                let whole = sqrt_up(whole).min(sizes.iter().fold(0.0, |sum, &c| add_up(sum, c)));
                (whole, sizes.to_vec())
            }
            Affine::Sparse(sparse) => match written_out(sparse) {
                Some(norm) => (norm, vec![norm; lens.len()]),
                None => (f64::INFINITY, vec![f64::INFINITY; lens.len()]),
            },
        };
        let of_whole = match &absolute[..] {
            [] => whole,
            [one] => *one,
            _ => self::absolute(op, lens, len, None),
        };
        let absolute = if absolute.is_empty() { parts.clone() } else { absolute };
        // Each coefficient may be off by its share, which is a map of norm
        // error * || |A| ||. A norm with absolute coefficients is a bound too.
        let error = op.relative_error();
        let uncertain = |norm: f64, absolute: f64| {
            if !op.is_finite() || norm.is_nan() || absolute.is_nan() {
                f64::INFINITY
            } else if error == 0.0 {
                norm.min(absolute)
            } else {
                add_up(norm.min(absolute), mul_up(error, absolute))
            }
        };
        Self {
            whole: uncertain(whole, of_whole),
            parts: parts.iter().zip(&absolute).map(|(&norm, &abs)| uncertain(norm, abs)).collect(),
            absolute: absolute.iter().map(|&abs| uncertain(abs, abs)).collect(),
        }
    }
}

/// Greatest of nonnegative numbers; NaN if one of them is.
fn greatest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, &x| if x > m || x.is_nan() { x } else { m })
}

#[cfg(not(feature = "lapack"))]
fn dense_norm(weight: &[f64], rows: usize, cols: usize) -> f64 {
    matrix::norm(weight, rows, cols, 0.0)
}

#[cfg(feature = "lapack")]
fn dense_norm(weight: &[f64], rows: usize, cols: usize) -> f64 {
    match super::lapack::norm(weight, rows, cols) {
        Some(norm) => norm.min(matrix::norm(weight, rows, cols, norm)),
        None => matrix::norm(weight, rows, cols, 0.0),
    }
}

/// Steps of the power iteration with absolute coefficients.
const STEPS: usize = 24;
/// Relative gain of a step below which it ends.
const GAIN: f64 = 1e-6;
/// Least entry of a test vector, whose greatest is 1.
const LEAST: f64 = 1e-12;

/// An upper bound on the norm of `|A|`, or of one of the `|A_i|`.
///
/// For a nonnegative matrix `M` and any positive vector `v`,
/// `||M||^2 <= max_i (M^T M v)_i / v_i` (Collatz 1942, Wielandt 1950), with
/// equality for the leading singular vector, towards which `v` is moved by
/// power iteration. `|A|` bounds the norm of `A`, and equals it where no
/// coefficient is negative: selections, window sums, averages.
fn absolute(op: &Affine, lens: &[usize], len: usize, part: Option<usize>) -> f64 {
    let wanted = |i: usize| part.is_none_or(|p| p == i);
    let mut v: Vec<Vec<f64>> =
        lens.iter().enumerate().map(|(i, &len)| vec![f64::from(wanted(i)); len]).collect();
    let mut best = f64::INFINITY;
    let mut scratch = Vec::new();
    let (terms, back) = (op.terms(), op.adjoint_terms());
    for _ in 0..STEPS {
        let inputs: Vec<&[f64]> = v.iter().map(Vec::as_slice).collect();
        let mut y = vec![0.0; len];
        op.linear(Weights::absolute, 1, &inputs, &mut y, &mut scratch);
        for y in &mut y {
            *y = *y * (1.0 + gamma(terms)) + underflow(terms);
        }
        let mut next: Vec<Vec<f64>> = lens.iter().map(|&len| vec![0.0; len]).collect();
        let mut grads: Vec<&mut [f64]> = next.iter_mut().map(Vec::as_mut_slice).collect();
        op.adjoint(Weights::absolute, 1, &y, &mut grads, &mut scratch);
        let (mut ratio, mut top) = (0.0_f64, 0.0_f64);
        for (_, (v, next)) in v.iter().zip(&mut next).enumerate().filter(|(i, _)| wanted(*i)) {
            for (v, u) in v.iter().zip(next) {
                *u = *u * (1.0 + gamma(back)) + underflow(back);
                let quotient = div_up(*u, *v);
                if quotient > ratio || quotient.is_nan() {
                    ratio = quotient;
                }
                top = top.max(*u);
            }
        }
        if !ratio.is_finite() {
            return best;
        }
        let bound = sqrt_up(ratio);
        let done = !(bound < best * (1.0 - GAIN));
        best = best.min(bound);
        if done {
            break;
        }
        for (i, part) in next.iter_mut().enumerate() {
            let scaled = |u: f64| if wanted(i) { (u / top).max(LEAST) } else { 0.0 };
            for u in part {
                *u = scaled(*u);
            }
        }
        v = next;
    }
    best
}

/// Most multiply-adds of the first product for which a sparse map with
/// negative coefficients is written out.
const WRITTEN_OUT: usize = 1 << 27;

/// An upper bound on the norm of a sparse map with negative coefficients, if
/// it is small enough to be written out as a matrix.
fn written_out(op: &Sparse) -> Option<f64> {
    let weights = op.weights.as_ref()?.exact();
    let (rows, cols) = (op.groups.len(), op.inputs.iter().sum::<usize>());
    let work = rows.saturating_mul(cols).saturating_mul(rows.min(cols));
    if work > WRITTEN_OUT || weights.iter().all(|&w| w >= 0.0) {
        return None;
    }
    let mut matrix = vec![0.0; rows * cols];
    let mut size = 0.0;
    for (row, (first, group)) in op.groups.iter().enumerate() {
        for (&j, &w) in group.iter().zip(&weights[first..]) {
            matrix[row * cols + j as usize] += w;
            size = add_up(size, w.abs());
        }
    }
    // An entry that is listed several times in a group was summed.
    Some(add_up(matrix::norm(&matrix, rows, cols, 0.0), mul_up(gamma(op.groups.longest()), size)))
}
