//! The arithmetic that everything else is made of: matrix products, the
//! rearrangements that turn convolutions into them, and products of linear
//! functions with transposed maps.
//!
//! This is the only room that may hold `unsafe` code, knows about strides and
//! blocks. Kernels are sequential: parallelism is
//! over inputs, in the rooms above.
//!
//! Every kernel computes one row (one network input) in the same way whatever
//! other rows stand beside it, so results never depend on the batch.

mod dispatch;
mod gather;
mod im2col;
mod matmul;
mod panel;

pub use dispatch::{Kernel, dispatch};
pub use gather::{Finish, Gather, Layout, NARROW, WIDE, one_by_one, side_by_side};
pub use im2col::{Neighbours, Part, Window2d};
pub use matmul::{Matrix, matmul};
pub use panel::{LANES, Lane, Panel, Taps, accumulate, choose};

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::AddAssign;

/// `f32` for inference, `f64` for bounds.
pub trait Scalar: num_traits::Float + AddAssign + Sum + Debug + Default + Send + Sync + 'static {
    /// The nearest value of this type.
    fn of(x: f64) -> Self;
    /// The same value in `f64` (exact).
    fn wide(self) -> f64;
    /// `out += a b` by the micro-kernel of this type's vector width; `b` is
    /// row-major with `b_stride` entries from row to row.
    #[doc(hidden)]
    fn blocked(out: &mut [Self], a: Matrix<Self>, b: &[Self], b_stride: usize);
}

/// Whether a tensor is zero all over, of either sign. Looks at all entries, so
/// that the comparison runs over whole vectors.
#[inline(always)]
#[must_use]
pub fn is_zero<T: Scalar>(entries: &[T]) -> bool {
    entries.iter().fold(true, |zero, x| zero & (*x == T::zero()))
}

impl Scalar for f32 {
    fn of(x: f64) -> Self {
        x as Self
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn blocked(out: &mut [Self], a: Matrix<Self>, b: &[Self], b_stride: usize) {
        matmul::dispatch::<Self, 16>(out, a, b, b_stride);
    }
}

impl Scalar for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
    fn blocked(out: &mut [Self], a: Matrix<Self>, b: &[Self], b_stride: usize) {
        matmul::dispatch::<Self, 8>(out, a, b, b_stride);
    }
}
