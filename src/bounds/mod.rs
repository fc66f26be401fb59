//! Sound bounds on what a network computes over a whole set of inputs.
//!
//! All bounds are in `f64` and hold for the network in exact real arithmetic,
//! with the weights as the model gives them: every rounding error on the way
//! is bounded and added outward ([`crate::rounding`]).

mod input;
mod interval;
pub(crate) mod linear;
mod margin;
mod region;
pub(crate) mod transpose;

pub(crate) use crate::rounding;
pub use input::{Ball, BoxError, InputBox, Norm};
pub use interval::{Intervals, propagate};
pub use margin::{MarginBounds, Margins, Method, Steepness};
pub use region::{Eps, Region};
