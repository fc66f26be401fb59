//! How tight interval bounds are, and why: optimal against layer-wise radii.
mod chain;
pub mod closed_form;
mod companion;
pub mod exact;
pub mod generate;
mod linearize;
mod measure;
mod radii;
mod scaled;
pub mod study;

pub use chain::{ChainError, DenseChain, Witness};
pub use companion::{CompanionFigures, Companions, Sampling, Units, WeightSigns, weight_signs};
pub use linearize::{Mask, Unsupported};
pub use measure::{LayerTightness, Radii, Tightness};
pub use scaled::Scaled;
