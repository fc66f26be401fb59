//! In which arithmetic the network is evaluated that a bound speaks of, and how far evaluations in f32 may
//! lie from real arithmetic.
//!
//! With `u = 2^-24`, `eta = 2^-126` and `gamma_k = k u / (1 - k u)`, a node that reads the numbers `x`, as
//! they were computed before it, computes:
//!
//! - an entry `sum w x + b` of an affine map with `k` terms up to
//!   `gamma_{k+4} (sum |w| |x| + |b|) + 2 (k + 4) eta`, in any order of summation, blocked or not, with or
//!   without fused multiply-add, in f32 or wider accumulators (Higham, "Accuracy and Stability of Numerical
//!   Algorithms", section 3.1). The 4 pay for a scale that is folded into the weights before deployment and
//!   for the rounding of an activation that is fused;
//! - products of activations in the same way, the exponential and its kin up to a few units in the last
//!   place (`ops` says for each function up to how many);
//! - relu, maxima, clipping, absolute values, selections exactly.
//!
//! Subnormal numbers may be flushed to zero, as results (`eta` above) and as operands: a value counts as what
//! its readers take it for. Where a partial sum may leave the range of f32, the value is undefined.
//!
//! Outside of this are minimal filtering (Winograd), products in fewer bits (TF32, bf16, f16), and functions
//! that are less accurate.

use serde::{Deserialize, Serialize};

/// The arithmetic in which the network is evaluated that a bound speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evaluation {
    /// Exact real arithmetic.
    Real,
    /// Any evaluation in f32, at points of f32: every order of summation, with or without fused
    /// multiply-add, in f32 or wider accumulators, subnormal numbers kept or not. What runs ask for unless
    /// told otherwise.
    #[default]
    Float32,
}

/// Unit roundoff of f32.
pub(crate) const UNIT: f64 = 1.0 / 16_777_216.0;
/// The least normal number of f32: what underflow, or flushing to zero, changes at most.
pub(crate) const FLUSHED: f64 = f32::MIN_POSITIVE as f64;
/// Sums of magnitudes up to here do not overflow on the way in f32, whatever their rounding.
pub(crate) const LARGEST: f64 = 0.5 * f32::MAX as f64;

/// `gamma_{terms + 4}` of f32, rounded up; infinite for sums so long that there is no bound.
#[must_use]
pub(crate) fn single_gamma(terms: usize) -> f64 {
    let units = (terms as f64 + 4.0) * UNIT;
    if units < 0.5 { units / (1.0 - units) * (1.0 + 4.0 * f64::EPSILON) } else { f64::INFINITY }
}

/// What underflow, or flushing to zero, adds to a sum of so many products.
#[must_use]
pub(crate) fn single_underflow(terms: usize) -> f64 {
    2.0 * (terms as f64 + 4.0) * FLUSHED
}
