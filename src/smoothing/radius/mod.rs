//! Certified radii from confidence bounds on smoothed scores. All are rounded down; whatever is not
//! positive and finite is an abstention (`None`).
//!
//! `p1` bounds the smoothed score of the class from below, `p2` the greatest other smoothed score from
//! above. Scores are nonnegative and sum to at most one, so `p2 <= 1 - p1` may always be used.

mod lipschitz;
mod norms;
mod pair;

pub use lipschitz::{
    Lipschitz, aware, margin, pairwise, smoothed_score_lipschitz, smoothed_vector_lipschitz,
};
pub use norms::{Ellipsoid, anisotropic, laplace_l1, linf_from_l2, uniform_l1};
pub use pair::{Weight, pair};

use super::normal::{quantile_lower, quantile_upper};
use super::quantity::{LowerBound, Radius, Scale, UpperBound};
use crate::rounding::directed::{mul_down, sub_down};

/// l2 radius `sigma Phi^-1(p1)` for Gaussian noise and `p1 > 1/2` (Cohen, Rosenfeld and Kolter 2019,
/// Theorem 1 with `p2 = 1 - p1`).
#[must_use]
pub fn one_sided(sigma: Scale, p1: LowerBound) -> Option<Radius> {
    Radius::new(mul_down(sigma.get(), quantile_lower(p1.get())))
}

/// l2 radius `sigma/2 (Phi^-1(p1) - Phi^-1(p2))` for Gaussian noise (Cohen et al. 2019, Theorem 1; for
/// scores in [0, 1] Salman et al. 2019, Appendix A). Uses `min(p2, 1 - p1)`, so it is never below
/// [`one_sided`].
#[must_use]
pub fn two_sided(sigma: Scale, p1: LowerBound, p2: UpperBound) -> Option<Radius> {
    let p2 = p2.tighter(p1.complement());
    let difference = sub_down(quantile_lower(p1.get()), quantile_upper(p2.get()));
    let radius = Radius::new(mul_down(0.5 * sigma.get(), difference));
    Radius::larger(radius, one_sided(sigma, p1))
}

#[cfg(test)]
mod tests;
