//! The spectral norm of a matrix from its singular value decomposition,
//! with a bound on what the decomposition is off by.

use ndarray::{Array2, ArrayView2};
use ndarray_linalg::{JobSvd, SVDDC};

use super::matrix::frobenius;
use crate::rounding::directed::{add_up, mul_up, sqrt_up};
use crate::rounding::{gamma, underflow};

/// An upper bound on the largest singular value of a `rows x cols` matrix;
/// `None` if LAPACK fails, or returns what bounds nothing.
///
/// Whatever `U`, `S` and `V` are, `||A|| <= ||U S V^T|| + ||A - U S V^T||_F`
/// and `||U||^2 <= 1 + ||U^T U - I||_F`; so the bound does not rely on LAPACK,
/// only its quality does.
pub(super) fn norm(a: &[f64], rows: usize, cols: usize) -> Option<f64> {
    let top = a.iter().fold(0.0, |m: f64, x| if x.abs() > m || x.is_nan() { x.abs() } else { m });
    // Squares in what follows must neither overflow nor vanish.
    if !(1e-100..=1e100).contains(&top) {
        return None;
    }
    let a = ArrayView2::from_shape((rows, cols), a).ok()?.to_owned();
    let (Some(u), s, Some(vt)) = a.svddc(JobSvd::Some).ok()? else { return None };
    let terms = s.len();
    let mut scaled = vt.clone();
    scaled.rows_mut().into_iter().zip(&s).for_each(|(mut row, &s)| row *= s);
    let residual = &a - &product(u.view(), scaled.view());
    // The products of the residual round, and so does its difference.
    let rounding = mul_up(2.0 * gamma(terms), add_up(mul_up(size(&u), size(&scaled)), size(&a)));
    let residual = add_up(add_up(size(&residual), rounding), underflow(rows * cols * terms));
    let greatest = s.iter().fold(0.0, |m: f64, &s| if s > m || s.is_nan() { s } else { m });
    let orthogonal = mul_up(deviation(u.view()), deviation(vt.t()));
    let bound = add_up(mul_up(orthogonal, greatest), residual);
    bound.is_finite().then_some(bound)
}

/// `sqrt(1 + ||Q^T Q - I||_F)`, at least the norm of `Q`.
fn deviation(q: ArrayView2<f64>) -> f64 {
    let mut gram = product(q.t(), q);
    gram.diag_mut().iter_mut().for_each(|x| *x -= 1.0);
    let size_of_q = size(&q.to_owned());
    let rounding =
        add_up(mul_up(2.0 * gamma(q.nrows()), add_up(mul_up(size_of_q, size_of_q), 1.0)), underflow(q.len()));
    sqrt_up(add_up(1.0, add_up(size(&gram), rounding)))
}

/// The product by this toolkit's kernel, whose rounding is known.
fn product(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Array2<f64> {
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    if let (Some(out), Some(x), Some(y)) = (out.as_slice_mut(), a.as_slice(), b.as_slice()) {
        let x = crate::kernels::Matrix::new(x, a.nrows(), a.ncols());
        crate::kernels::matmul(out, x, crate::kernels::Matrix::new(y, b.nrows(), b.ncols()), false);
    }
    out
}

/// An upper bound on the Frobenius norm.
fn size(a: &Array2<f64>) -> f64 {
    frobenius(&a.iter().copied().collect::<Vec<_>>())
}
