//! The spectral norm of a matrix from above, by Gram iteration.

use rayon::prelude::*;

use crate::kernels::{Matrix, matmul};
use crate::rounding::directed::{add_up, mul_up, sqrt_up};
use crate::rounding::{gamma, underflow};

/// Relative gain of a step below which the iteration ends. What is left to
/// gain after a step is at most what the step gained, because the logarithm
/// of the p-norm is convex in 1/p.
const GAIN: f64 = 1e-7;
/// Multiply-adds after which it ends in any case.
const WORK: usize = 1 << 38;
/// Rows of a product that one thread computes.
const ROWS: usize = 64;

/// An upper bound on the Frobenius norm of numbers of size at most 1 or so.
pub(super) fn frobenius(a: &[f64]) -> f64 {
    let squares = a.iter().map(|x| x * x).sum::<f64>();
    sqrt_up(add_up(mul_up(squares, 1.0 + gamma(a.len())), underflow(a.len())))
}

/// The exponent `e` with `2^(e-1) <= max |a| < 2^e`; `None` if all are zero
/// or one is not finite.
fn exponent(a: &[f64]) -> Option<i32> {
    let top = a.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    (top > 0.0 && top.is_finite()).then(|| libm::frexp(top).1)
}

/// An upper bound on the largest singular value of the row-major `rows x cols`
/// matrix `a`; infinite if an entry is not finite. Stops early once the bound
/// is at most `enough`.
///
/// Gram iteration (Delattre, Barthelemy, Araujo and Allauzen 2023): with
/// `G_0 = A` and `G_{k+1} = G_k G_k^T`, `||A|| = ||G_k||^(2^-k)`, and the
/// Frobenius norm in place of the spectral one costs a factor that tends to 1.
///
/// Every `G_k` is scaled by a power of two. A computed product differs from
/// `G_k G_k^T` by at most `delta_k = gamma ||G_k||_F^2` in the Frobenius norm,
/// so that `||G_k||^2 <= 2^e_k ||G_{k+1}|| + delta_k` with the matrices *as
/// stored*: errors do not accumulate, and every bound is rolled back through
/// these inequalities to one on `||A||`.
pub(super) fn norm(a: &[f64], rows: usize, cols: usize, enough: f64) -> f64 {
    if a.iter().any(|x| !x.is_finite()) {
        return f64::INFINITY;
    }
    let Some(e) = exponent(a) else { return 0.0 };
    let scaled = |x: f64| libm::ldexp(x, -e);
    let (mut g, n, mut inner) = if rows <= cols {
        (a.iter().map(|&x| scaled(x)).collect::<Vec<_>>(), rows, cols)
    } else {
        let transposed = (0..a.len()).map(|i| scaled(a[i % rows * cols + i / rows]));
        (transposed.collect(), cols, rows)
    };
    // What the scaling lost where entries are tiny beside the largest.
    let lost = underflow(a.len());
    let unscaled = |x: f64| libm::ldexp(add_up(x, lost), e).next_up();
    let mut size = frobenius(&g);
    let mut best = unscaled(size);
    let mut steps: Vec<(i32, f64)> = Vec::new();
    let mut work = 0;
    loop {
        work += n * n * inner;
        if best <= enough || work > WORK || (n == 1 && !steps.is_empty()) {
            return best;
        }
        let product = gram(&g, n, inner);
        let delta = add_up(mul_up(gamma(inner), mul_up(size, size)), underflow(n * inner));
        let Some(e) = exponent(&product) else { return best };
        g = product.into_iter().map(|x| libm::ldexp(x, -e)).collect();
        inner = n;
        // Entries that leave the normal range are paid for by `underflow`.
        steps.push((e, delta));
        size = frobenius(&g);
        let bound = steps.iter().rev().fold(size, |bound, &(e, delta)| {
            sqrt_up(add_up(add_up(libm::ldexp(bound, e).next_up(), delta), underflow(n)))
        });
        let bound = unscaled(bound);
        let done = !(bound < best * (1.0 - GAIN));
        best = if bound < best { bound } else { best };
        if done {
            return best;
        }
    }
}

/// `a a^T` for a row-major `n x inner` matrix.
fn gram(a: &[f64], n: usize, inner: usize) -> Vec<f64> {
    let mut product = vec![0.0; n * n];
    let part = |(out, rows): (&mut [f64], &[f64])| {
        matmul(out, Matrix::new(rows, rows.len() / inner, inner), Matrix::new(a, n, inner).t(), false);
    };
    product.par_chunks_mut(ROWS * n).zip(a.par_chunks(ROWS * inner)).for_each(part);
    product
}
