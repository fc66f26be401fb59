//! The arithmetic that everything else is made of. This is the only room that may hold `unsafe` code and
//! knows about vectors, blocks and caches.
//!
//! # How a kernel is written
//! A kernel is plain loops over arrays of fixed size, marked `#[inline(always)]`, inside an implementation
//! of [`Kernel`]. [`dispatch`] compiles it twice, once for AVX2 with fused multiply-add and once for the
//! plain processor, and chooses when it runs; compilers turn loops over fixed sizes into vectors by
//! themselves. Closures and `array::map` are not inlined reliably and cost a factor of ten where they are
//! not. Kernels are sequential: threads work on different inputs, in the rooms above. Every input is
//! computed in the same way whatever stands beside it, so that results never depend on the batch.
//!
//! # Samples side by side
//! The first choice is what fills a vector. Here it is never a row of an image, but the same entry of 16
//! samples (or of 8 boxes, or the coefficients of 8 linear functions on it): one weight then meets whole
//! vectors, no shape is too small or too odd, and nothing is unrolled or padded. Sums stay in registers:
//! six outputs of 16 samples fill twelve of the sixteen, and each weight and each vector that is loaded is
//! used twice or six times.
//!
//! | kernel | computes | for |
//! |---|---|---|
//! | [`Gather`] | `A x + b` of dense layers and convolutions, with a residual and a relu on the way out | inference in f32 |
//! | [`Winograd`] | convolutions with a quarter to two fifths of the products | sampling in f32 |
//! | [`Gather::boxes`] | `A c + b` and `abs(A) r` in one pass, leaving out what is zero for all boxes | interval bounds, tightness |
//! | [`Panel`], [`accumulate`] | `A^T y` for eight linear functions, block by block, leaving out zeros entry by entry | linear bounds, tightness |
//! | [`matmul`], [`Window2d`] | products of matrices, and convolutions as such | everything else: gradients, elision |
//!
//! Convolutions reach these kernels as lists: which term of a sum reads which input. Places that differ by
//! a shift share a list ([`Window2d::neighbours`]), so an image needs as many lists as it has kinds of
//! edges.
//!
//! Each kernel is held to a plain reference by a property test in its own file, and `cargo bench --bench
//! costs` fails where one costs twice what it should.

mod aligned;
mod boxes;
mod dispatch;
mod gather;
mod im2col;
mod matmul;
mod panel;
mod winograd;

pub use aligned::Aligned;
pub use boxes::{BOXES, Balls};
pub use dispatch::{Kernel, dispatch};
pub use gather::{Finish, Gather, Layout, NARROW, WIDE, one_by_one, side_by_side};
pub use im2col::{Neighbours, Part, Window2d};
pub use matmul::{Matrix, matmul};
pub use panel::{Block, Entries, LANES, Lane, Panel, Taps, accumulate, choose};
pub use winograd::Winograd;

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::AddAssign;

/// `f32` for inference, `f64` for bounds.
pub trait Scalar: num_traits::Float + AddAssign + Sum + Debug + Default + Send + Sync + 'static {
    /// Outputs that a [`Gather`] sums at once, a multiple of three.
    #[doc(hidden)]
    const OUTPUTS: usize;
    /// Whether its kernels need absolute values of weights.
    #[doc(hidden)]
    const SIZES: bool;
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
    const OUTPUTS: usize = 6;
    const SIZES: bool = false;
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
    const OUTPUTS: usize = 3;
    const SIZES: bool = true;
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
