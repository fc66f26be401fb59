//! Floating-point rounding, always outward: what every bound is computed with.
//!
//! Results for a few numbers are rounded step by step in a chosen direction; long sums are formed to
//! nearest and widened once by a bound on their error.

pub(crate) mod directed;
mod evaluation;
mod sums;

pub use evaluation::Evaluation;
pub(crate) use evaluation::{FLUSHED, LARGEST, UNIT, single_gamma, single_underflow};
pub use sums::{centre_radius, centres_radii, gamma, outward, underflow};
