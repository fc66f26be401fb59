//! Sound bounds on what a network computes over a whole set of inputs.
//!
//! All bounds are in `f64` and hold for the network with the weights as the
//! model gives them: every rounding error on the way to them is bounded and
//! added outward ([`crate::rounding`]). An [`Evaluation`] says whether they
//! speak of the network in exact real arithmetic, or of every evaluation of it
//! in f32, whose rounding is then bounded and added at each node.

mod elision;
mod float32;
mod input;
mod interval;
pub(crate) mod linear;
mod margin;
mod region;
pub(crate) mod transpose;

pub(crate) use crate::rounding;
pub use crate::rounding::Evaluation;
pub use input::{Ball, BoxError, InputBox, Norm};
pub use interval::{Intervals, propagate, propagate_evaluated};
pub use margin::{MarginBounds, Margins, Method, Steepness};
pub use region::{Eps, Region};
