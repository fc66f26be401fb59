//! Radii from one mean for each pair of classes.

use serde::{Deserialize, Serialize};

use crate::rounding::directed::{add_up, div_down, div_up, ln_down, ln_up, mul_down, mul_up, sub_up};
use crate::smoothing::normal::{cdf_upper, quantile_lower, quantile_upper};
use crate::smoothing::quantity::{LowerBound, OutOfRange, Radius, Scale};

/// The weight `w` of the other class in a pair's score `(1 - w) s_A + w (1 - s_j)`: a multiple of 1/256
/// in [1/2, 1), so that a byte decides a coin of exactly this probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight(u8);

impl Weight {
    /// Both classes alike: a fair coin.
    pub const HALF: Self = Self(128);

    /// A weight.
    ///
    /// # Errors
    /// Unless it is a multiple of 1/256 from 1/2 to 255/256.
    pub fn new(weight: f64) -> Result<Self, OutOfRange> {
        let parts = weight * 256.0;
        if (128.0..256.0).contains(&parts) && parts.fract() == 0.0 {
            Ok(Self(parts as u8))
        } else {
            let accepted = "a multiple of 1/256 from 1/2 to 255/256";
            Err(OutOfRange { quantity: "the weight of the other class", found: weight, accepted })
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / 256.0
    }

    /// A coin that shows heads for this share of all bytes.
    #[must_use]
    pub fn coin(self, byte: u8) -> bool {
        byte < self.0
    }

    /// The score of the pair from the scores of both classes, in [0, 1].
    #[must_use]
    pub fn score(self, top: f64, other: f64) -> f64 {
        (1.0 - self.get()) * top + self.get() * (1.0 - other)
    }
}

impl TryFrom<f64> for Weight {
    type Error = OutOfRange;
    fn try_from(weight: f64) -> Result<Self, OutOfRange> {
        Self::new(weight)
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> Self {
        weight.get()
    }
}

/// l2 radius for Gaussian noise up to which class `A` keeps ahead of one class `j`, from a lower bound on
/// the mean `m = (1 - w) F_A + w (1 - F_j)` at the input: the greatest `R` with
///
/// `(1 - w) Phi(r - c/r) + w Phi(r + c/r) <= m`, `r = R / sigma`, `c = ln(w / (1 - w)) / 2`;
///
/// for `w = 1/2` it is `R = sigma Phi^-1(m)` with `m = (1 + F_A - F_j) / 2`.
///
/// *Why.* `Phi^-1` of a smoothed score in [0, 1] is `1/sigma`-Lipschitz (Salman et al. 2019, Lemma 2).
/// If within distance `R` there is a point with `F_A <= Phi(t) <= F_j`, then at the input
/// `F_A <= Phi(t + r)` and `1 - F_j <= Phi(r - t)`, so `m <= (1 - w) Phi(t + r) + w Phi(r - t)`; over all
/// `t` that is greatest where the derivative vanishes, `t = -c/r`. A mean above this excludes it. The greatest radius over `w` is the two-sided one,
/// `sigma/2 (Phi^-1(F_A) - Phi^-1(F_j))`: the set of pairs `(F_A, F_j)` where that is below `R` is convex,
/// and the mean says on which side of one of its tangents the pair lies.
#[must_use]
pub fn pair(sigma: Scale, weight: Weight, mean: LowerBound) -> Option<Radius> {
    let (w, m) = (weight.get(), mean.get());
    if weight == Weight::HALF {
        return Radius::new(mul_down(sigma.get(), quantile_lower(m)));
    }
    // w >= 1/2: its complement is exact, and the logarithm positive.
    let odds = (div_down(w, 1.0 - w), div_up(w, 1.0 - w));
    let c = (0.5 * ln_down(odds.0), 0.5 * ln_up(odds.1));
    let holds = |r: f64| {
        let top = mul_up(1.0 - w, cdf_upper(sub_up(r, div_down(c.0, r))));
        let other = mul_up(w, cdf_upper(add_up(r, div_up(c.1, r))));
        add_up(top, other) <= m
    };
    // With t = 0 instead of the best t the left side is Phi(r).
    let (mut low, mut high) = (0.0, quantile_upper(m));
    if !high.is_finite() {
        return None;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Radius::new(mul_down(sigma.get(), low))
}
