//! How tight interval bounds are, and why: optimal against layer-wise radii.
mod linearize;
mod measure;
mod radii;
mod scaled;

pub use linearize::{Mask, Unsupported};
pub use measure::{LayerTightness, Radii, Tightness};
pub use scaled::Scaled;
