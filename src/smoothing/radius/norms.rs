//! Radii in other norms and for other noise.

use serde::{Deserialize, Serialize};

use crate::rounding::directed::{div_down, ln_up, mul_down, sqrt_up, sub_down, sub_up};
use crate::smoothing::normal::quantile_lower;
use crate::smoothing::quantity::{LowerBound, Radius, Scale};

/// l1 radius `2 lambda (p1 - 1/2)` for noise uniform on `[-lambda, lambda]^d` (Lee et al. 2019; Yang et
/// al. 2020, Table 1).
#[must_use]
pub fn uniform_l1(lambda: Scale, p1: LowerBound) -> Option<Radius> {
    Radius::new(mul_down(2.0 * lambda.get(), sub_down(p1.get(), 0.5)))
}

/// l1 radius `-lambda ln(2 (1 - p1))` for Laplace noise of scale lambda and `p1 > 1/2` (Teng et al.
/// 2020).
#[must_use]
pub fn laplace_l1(lambda: Scale, p1: LowerBound) -> Option<Radius> {
    if p1.get() <= 0.5 {
        return None;
    }
    Radius::new(mul_down(lambda.get(), -ln_up(2.0 * sub_up(1.0, p1.get()))))
}

/// The l-inf radius `l2 / sqrt(d)` that an l2 certificate implies for `d` input entries.
#[must_use]
pub fn linf_from_l2(l2: Radius, dimension: usize) -> Option<Radius> {
    // Dimensions beyond 2^53 are rounded to nearest by the cast; one step up covers that.
    Radius::new(div_down(l2.get(), sqrt_up((dimension as f64).next_up().max(1.0))))
}

/// A certificate for Gaussian noise with a scale for each entry: every `delta` with
/// `sum (delta_i / sigma_i)^2 <= mahalanobis^2` keeps the class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ellipsoid {
    /// Radius in units of the scales, rounded down.
    pub mahalanobis: Radius,
    /// Radius of the largest l2 ball inside: the least scale times that, rounded down.
    pub l2: Radius,
}

/// The ellipsoid for noise `N(0, diag(sigma_i^2))`: `Phi^-1(p1)` in units of the scales (Eiras et al.
/// 2022, Section 4). `None` without scales.
#[must_use]
pub fn anisotropic(sigmas: &[Scale], p1: LowerBound) -> Option<Ellipsoid> {
    let least = sigmas.iter().map(|s| s.get()).min_by(f64::total_cmp)?;
    let quantile = quantile_lower(p1.get());
    Some(Ellipsoid { mahalanobis: Radius::new(quantile)?, l2: Radius::new(mul_down(least, quantile))? })
}
