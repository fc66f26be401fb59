//! How tight interval bounds are, and why a network can or cannot be certified
//! with them.
//!
//! Interval bounds pass boxes from layer to layer and lose what the layers
//! would cancel. Tightness is what is left: the radius of the smallest box
//! around the outputs over the radius that intervals give, 1 where nothing is
//! lost. For a linear network both are closed formulas; a piecewise-linear one
//! is replaced by the linear network that a [`Mask`] chooses. **Tightness is a
//! diagnostic of that linear network, not a bound** on what the given one
//! computes; [`exact`] gives the true value for small networks.
//!
//! Source: Mao, Müller, Fischer and Vechev, "Understanding Certified Training
//! with Interval Bound Propagation" (ICLR 2024, arXiv 2306.10426).
//!
//! | item | what |
//! |---|---|
//! | [`Tightness`] | optimal and layer-wise radii per input, margin and layer |
//! | [`CompanionFigures`] | states of units, box radii, margins, losses |
//! | [`weight_signs`] | signs of weights per layer |
//! | [`DenseChain`] | propagation invariance of dense chains, with a witness |
//! | [`exact`] | true tightness of small networks by branch and bound |
//! | [`generate`] | random networks |
//! | [`closed_form`], [`study`] | theory, and measurements beside it |
//!
//! Costs: one pass forward for the layer-wise radii, one adjoint pass for each
//! margin for the optimal ones, in `f64`. Rows are rescaled by powers of two
//! on the way, so that ratios of radii far below the least `f64` are right.

mod chain;
pub mod closed_form;
mod companion;
pub mod exact;
pub mod generate;
mod lanes;
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
