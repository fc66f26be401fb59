//! Randomized smoothing: the statistics that turn noisy evaluations of a network into certified radii.
//!
//! The smoothed scores of a network `h` at `x` are `F(x) = E s(h(x + e))` with noise `e` and a simplex
//! map `s`. A certificate says: with probability at least `1 - alpha` over the noise samples, the class
//! with the greatest smoothed score is the same for every perturbation within the radius.
//!
//! Sources: Cohen, Rosenfeld and Kolter (ICML 2019) for the procedure; Delattre, Araujo, Barthélemy and
//! Allauzen, "The Lipschitz-Variance-Margin Tradeoff for Enhanced Randomized Smoothing" (ICLR 2024), for
//! simplex maps with variance-aware bounds; further ones where they are used.
//!
//! | module | what |
//! |---|---|
//! | [`noise`] | noise distributions |
//! | [`simplex`] | simplex maps with their Lipschitz constants |
//! | [`statistics`] | exact sums of scores |
//! | [`confidence`] | confidence bounds on a mean score |
//! | [`radius`] | radii from bounds |
//! | [`ledger`], [`procedure`] | where alpha goes; selection, estimation, stopping |
//! | [`sampler`] | inputs under noise, and the logits of a network on them |
//! | [`row_space`] | Gaussian noise behind a narrow first layer |
//! | [`certifier`] | all of it for one input after the other |
//! | [`prediction`], [`regression`] | classes without a radius; median smoothing |
//! | [`normal`], [`quantity`] | the normal distribution from below and above; the types of quantities |
//!
//! # What is guaranteed
//! Bounds and radii are rounded outward, with the one assumption that `libm`'s elementary functions are
//! accurate to 8 units in the last place. Whatever is not a positive finite radius is an abstention.
//!
//! # What is not
//! The ordinary noise is drawn in `f32` and added in `f32`, while certificates speak of real noise; a
//! network built for it can tell the difference. The lattice mode closes that gap for 8-bit inputs.

pub mod certifier;
pub mod confidence;
pub mod ledger;
pub mod noise;
pub mod normal;
pub mod prediction;
pub mod procedure;
pub mod quantity;
pub mod radius;
pub mod regression;
pub mod row_space;
pub mod sampler;
pub mod simplex;
pub mod statistics;
