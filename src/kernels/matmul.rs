//! Matrix products.

use super::Scalar;

/// A strided view of a matrix inside a slice: entry `(i, j)` stands at
/// `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix that fills the whole slice.
    ///
    /// # Panics
    /// If the slice does not hold `rows * cols` entries.
    #[must_use]
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a matrix fills its slice");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// Rows of the result that a micro-kernel holds in registers.
const ROWS: usize = 6;
/// Terms of the inner dimension that are summed before the partial result
/// goes back to memory.
const DEPTH: usize = 256;

/// `out = a b`, or `out += a b` if `accumulate`; `out` is row-major and has
/// `a.rows * b.cols` entries.
///
/// Every entry is summed in the order of the inner index, so it does not
/// depend on the other rows and columns of the product. Where the processor
/// has fused multiply-add it is used; both ways satisfy the error bound
/// `gamma_k * sum |a||b|` that the bounds rely on.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul<T: Scalar>(out: &mut [T], a: Matrix<T>, b: Matrix<T>, accumulate: bool) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "inner dimensions agree");
    assert_eq!(out.len(), m * n, "the result fits");
    if !accumulate {
        out.fill(T::zero());
    }
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    if b.col_stride == 1 {
        T::blocked(out, a, b.data, b.row_stride);
    } else {
        let mut rows = Vec::with_capacity(k * n);
        for p in 0..k {
            rows.extend((0..n).map(|j| b.data[p * b.row_stride + j * b.col_stride]));
        }
        T::blocked(out, a, &rows, n);
    }
}

/// Runs [`blocked`] compiled for what the processor has. `COLS` is the width
/// of the micro-kernel: two vector registers.
#[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
pub(super) fn dispatch<T: Scalar, const COLS: usize>(out: &mut [T], a: Matrix<T>, b: &[T], b_stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features, as just checked; the
        // function is otherwise safe.
        unsafe { blocked_avx2::<T, COLS>(out, a, b, b_stride) };
        return;
    }
    blocked::<T, COLS, { cfg!(target_arch = "aarch64") }>(out, a, b, b_stride);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn blocked_avx2<T: Scalar, const COLS: usize>(out: &mut [T], a: Matrix<T>, b: &[T], b_stride: usize) {
    blocked::<T, COLS, true>(out, a, b, b_stride);
}

/// `out += a b` in blocks of `ROWS x COLS` results by `DEPTH` terms; `b` is
/// row-major with `b_stride` entries from row to row.
#[inline(always)]
fn blocked<T: Scalar, const COLS: usize, const FUSED: bool>(
    out: &mut [T],
    a: Matrix<T>,
    b: &[T],
    b_stride: usize,
) {
    let n = out.len() / a.rows;
    let whole = n - n % COLS;
    let mut left = [[T::zero(); ROWS]; DEPTH];
    let mut edge = [[T::zero(); COLS]; DEPTH];
    for first in (0..a.cols).step_by(DEPTH) {
        let depth = DEPTH.min(a.cols - first);
        let b = &b[first * b_stride..];
        if whole < n {
            for (p, row) in edge[..depth].iter_mut().enumerate() {
                row[..n - whole].copy_from_slice(&b[p * b_stride + whole..][..n - whole]);
            }
        }
        for top in (0..a.rows).step_by(ROWS) {
            let height = ROWS.min(a.rows - top);
            for i in 0..ROWS {
                for (p, column) in left[..depth].iter_mut().enumerate() {
                    column[i] = if i < height {
                        a.data[(top + i) * a.row_stride + (first + p) * a.col_stride]
                    } else {
                        T::zero()
                    };
                }
            }
            let out = &mut out[top * n..(top + height) * n];
            for j in (0..whole).step_by(COLS) {
                micro::<T, COLS, FUSED>(out, n, j, COLS, &left[..depth], &b[j..], b_stride);
            }
            if whole < n {
                micro::<T, COLS, FUSED>(out, n, whole, n - whole, &left[..depth], edge.as_flattened(), COLS);
            }
        }
    }
}

/// Adds one block of at most `ROWS x COLS` results, kept in registers.
#[inline(always)]
fn micro<T: Scalar, const COLS: usize, const FUSED: bool>(
    out: &mut [T],
    n: usize,
    column: usize,
    width: usize,
    left: &[[T; ROWS]],
    b: &[T],
    b_stride: usize,
) {
    let mut sums = [[T::zero(); COLS]; ROWS];
    for (sum, row) in sums.iter_mut().zip(out.chunks_exact(n)) {
        sum[..width].copy_from_slice(&row[column..column + width]);
    }
    for (p, entries) in left.iter().enumerate() {
        let row: &[T; COLS] = b[p * b_stride..][..COLS].try_into().expect("COLS entries");
        for i in 0..ROWS {
            for j in 0..COLS {
                sums[i][j] = if FUSED {
                    entries[i].mul_add(row[j], sums[i][j])
                } else {
                    sums[i][j] + entries[i] * row[j]
                };
            }
        }
    }
    for (sum, row) in sums.iter().zip(out.chunks_exact_mut(n)) {
        row[column..column + width].copy_from_slice(&sum[..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries<T: Scalar>(n: usize, seed: u64) -> Vec<T> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                T::of((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
            })
            .collect()
    }

    fn naive(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_naive_product_in_every_layout() {
        for (m, k, n) in [(1, 1, 1), (1, 7, 5), (5, 3, 1), (17, 33, 9), (4, 300, 65)] {
            let (a, b) = (entries::<f64>(m * k, 1), entries::<f64>(k * n, 2));
            let expected = naive(&a, &b, m, k, n);
            let transpose = |x: &[f64], r: usize, c: usize| -> Vec<f64> {
                (0..c * r).map(|i| x[(i % r) * c + i / r]).collect()
            };
            let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
            for lhs in [Matrix::new(&a, m, k), Matrix::new(&at, k, m).t()] {
                for rhs in [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()] {
                    let mut out = vec![1.0; m * n];
                    matmul(&mut out, lhs, rhs, true);
                    for (x, y) in out.iter().zip(&expected) {
                        assert!((x - 1.0 - y).abs() < 1e-12);
                    }
                }
            }
        }
    }

    /// Every row of a product has the same bits whatever rows stand beside it.
    fn rows_are_independent<T: Scalar>() {
        for (k, n) in [(1, 1), (5, 1), (784, 1), (25, 3), (784, 10), (1568, 100), (100, 257)] {
            let (a, b) = (entries::<T>(70 * k, 3), entries::<T>(k * n, 4));
            let bt: Vec<T> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            for right in [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()] {
                let mut all = vec![T::zero(); 70 * n];
                matmul(&mut all, Matrix::new(&a, 70, k), right, false);
                for rows in [1, 2, 3, 4, 5, 8, 13, 16, 31, 32, 33, 64] {
                    for start in [0, 1, 5] {
                        let part = &a[start * k..(start + rows) * k];
                        let mut out = vec![T::zero(); rows * n];
                        matmul(&mut out, Matrix::new(part, rows, k), right, false);
                        assert_eq!(out, all[start * n..(start + rows) * n], "{rows} x {k} x {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_portable_kernel_agrees_with_the_dispatched_one() {
        let (m, k, n) = (13, 700, 37);
        let (a, b) = (entries::<f64>(m * k, 5), entries::<f64>(k * n, 6));
        let mut fast = vec![0.0; m * n];
        matmul(&mut fast, Matrix::new(&a, m, k), Matrix::new(&b, k, n), false);
        let mut portable = vec![0.0; m * n];
        blocked::<f64, 8, false>(&mut portable, Matrix::new(&a, m, k), &b, n);
        for (x, y) in fast.iter().zip(&portable) {
            assert!((x - y).abs() < 1e-11);
        }
    }

    #[test]
    fn rows_are_independent_of_the_batch() {
        rows_are_independent::<f32>();
        rows_are_independent::<f64>();
    }
}
