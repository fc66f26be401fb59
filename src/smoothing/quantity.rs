//! The quantities that certificates are made of, as types that cannot be mistaken for each other.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::rounding::directed::sub_up;

/// A number outside the range of the quantity it should be.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{quantity} is {found}; accepted: {accepted}")]
pub struct OutOfRange {
    /// Which quantity.
    pub quantity: &'static str,
    /// The number given.
    pub found: f64,
    /// What would be accepted.
    pub accepted: &'static str,
}

fn check(
    quantity: &'static str,
    found: f64,
    accepted: &'static str,
    within: bool,
) -> Result<f64, OutOfRange> {
    if within { Ok(found) } else { Err(OutOfRange { quantity, found, accepted }) }
}

/// The least failure probability taken: far above underflow, far below any use.
const LEAST_ALPHA: f64 = 1e-250;

/// A failure probability, in (0, 1).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Alpha(f64);

impl Alpha {
    /// A failure probability.
    ///
    /// # Errors
    /// Unless `1e-250 <= alpha < 1`.
    pub fn new(alpha: f64) -> Result<Self, OutOfRange> {
        let within = (LEAST_ALPHA..1.0).contains(&alpha);
        check("alpha", alpha, "a number strictly between 0 and 1 (at least 1e-250)", within).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// `numerator / denominator` of this level, rounded down; `None` if the fraction is not in (0, 1]
    /// or the result is below what a level can be.
    #[must_use]
    pub fn fraction(self, numerator: f64, denominator: f64) -> Option<Self> {
        let share = numerator / denominator;
        let value = self.0 * share * (1.0 - 1e-12);
        (share > 0.0 && share <= 1.0 && value >= LEAST_ALPHA).then_some(Self(value))
    }

    /// Half of this level, exactly.
    #[must_use]
    pub fn half(self) -> Self {
        Self(self.0 * 0.5)
    }
}

/// A number that a probability (or a mean score in [0, 1]) is at least, with stated confidence.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct LowerBound(f64);

impl LowerBound {
    /// The bound that says nothing.
    pub const TRIVIAL: Self = Self(0.0);

    /// A lower bound, clamped to [0, 1]; NaN says nothing.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) })
    }

    /// The number, in [0, 1].
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// The upper bound on the complementary probability, rounded up.
    #[must_use]
    pub fn complement(self) -> UpperBound {
        UpperBound::new(sub_up(1.0, self.0))
    }

    /// The bound after taking off `charge >= 0`, rounded down; a charge that is not a number leaves
    /// nothing.
    #[must_use]
    pub fn charged(self, charge: f64) -> Self {
        Self::new(-sub_up(charge.max(0.0) + 0.0 * charge, self.0))
    }

    /// The stronger of two bounds on the same quantity.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }
}

/// A number that a probability (or a mean score in [0, 1]) is at most, with stated confidence.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct UpperBound(f64);

impl UpperBound {
    /// The bound that says nothing.
    pub const TRIVIAL: Self = Self(1.0);

    /// An upper bound, clamped to [0, 1]; NaN says nothing.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { 1.0 } else { value.clamp(0.0, 1.0) })
    }

    /// The number, in [0, 1].
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// The lower bound on the complementary probability, rounded down.
    #[must_use]
    pub fn complement(self) -> LowerBound {
        LowerBound::new(-sub_up(self.0, 1.0))
    }

    /// The bound after adding `charge >= 0`, rounded up; a charge that is not a number leaves nothing.
    #[must_use]
    pub fn charged(self, charge: f64) -> Self {
        Self::new(sub_up(charge.max(0.0) + 0.0 * charge, -self.0))
    }

    /// The stronger of two bounds on the same quantity.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

/// A certified radius: positive and finite. Abstention is `None`, never a special number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Radius(f64);

impl Radius {
    /// A radius from a number that has been rounded down; `None` (abstain) unless it is positive and
    /// finite.
    #[must_use]
    pub fn new(rounded_down: f64) -> Option<Self> {
        (rounded_down > 0.0 && rounded_down.is_finite()).then_some(Self(rounded_down))
    }

    /// The number, in the units of the network's input.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// The larger of two radii that hold both.
    #[must_use]
    pub fn larger(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Self(a.0.max(b.0))),
            (a, b) => a.or(b),
        }
    }
}

/// A noise scale: a positive `f32`, because that is what the noise is computed with. Certificates use
/// the same number, so they speak of the noise that was really added.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Scale(f32);

impl Scale {
    /// The greatest `f32` at most `scale`.
    ///
    /// # Errors
    /// Unless `1e-30 <= scale <= 1e30`.
    pub fn new(scale: f64) -> Result<Self, OutOfRange> {
        let within = (1e-30..=1e30).contains(&scale);
        let scale = check("the noise scale", scale, "a number between 1e-30 and 1e30", within)?;
        let nearest = scale as f32;
        Ok(Self(if f64::from(nearest) > scale { nearest.next_down() } else { nearest }))
    }

    /// The number, exactly.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0)
    }

    /// The number, exactly.
    #[must_use]
    pub fn single(self) -> f32 {
        self.0
    }
}

impl TryFrom<f64> for Alpha {
    type Error = OutOfRange;
    fn try_from(alpha: f64) -> Result<Self, OutOfRange> {
        Self::new(alpha)
    }
}

impl TryFrom<f64> for Scale {
    type Error = OutOfRange;
    fn try_from(scale: f64) -> Result<Self, OutOfRange> {
        Self::new(scale)
    }
}

impl TryFrom<f64> for Radius {
    type Error = OutOfRange;
    fn try_from(radius: f64) -> Result<Self, OutOfRange> {
        Self::new(radius).ok_or(OutOfRange {
            quantity: "the radius",
            found: radius,
            accepted: "a positive finite number",
        })
    }
}

impl From<f64> for LowerBound {
    fn from(value: f64) -> Self {
        Self::new(value)
    }
}

impl From<f64> for UpperBound {
    fn from(value: f64) -> Self {
        Self::new(value)
    }
}

impl From<Alpha> for f64 {
    fn from(alpha: Alpha) -> Self {
        alpha.0
    }
}

impl From<LowerBound> for f64 {
    fn from(bound: LowerBound) -> Self {
        bound.0
    }
}

impl From<UpperBound> for f64 {
    fn from(bound: UpperBound) -> Self {
        bound.0
    }
}

impl From<Radius> for f64 {
    fn from(radius: Radius) -> Self {
        radius.0
    }
}

impl From<Scale> for f64 {
    fn from(scale: Scale) -> Self {
        scale.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_never_become_a_certificate() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0] {
            assert_eq!(Radius::new(bad), None);
            assert!(Alpha::new(bad).is_err());
            assert!(Scale::new(bad).is_err());
        }
        assert_eq!(LowerBound::new(f64::NAN), LowerBound::TRIVIAL);
        assert_eq!(UpperBound::new(f64::NAN), UpperBound::TRIVIAL);
        assert_eq!(LowerBound::new(1.5).get(), 1.0);
        assert_eq!(LowerBound::new(0.9).charged(f64::NAN), LowerBound::TRIVIAL);
        assert_eq!(LowerBound::new(0.9).charged(f64::INFINITY), LowerBound::TRIVIAL);
        assert_eq!(UpperBound::new(0.1).charged(f64::NAN), UpperBound::TRIVIAL);
    }

    #[test]
    fn complements_and_charges_round_outward() {
        assert!(LowerBound::new(1e-20).complement().get() == 1.0);
        assert!(UpperBound::new(1e-20).complement().get() < 1.0);
        assert!(LowerBound::new(0.9).charged(1e-20).get() < 0.9);
        assert!(UpperBound::new(0.9).charged(1e-20).get() > 0.9);
        assert_eq!(LowerBound::new(0.9).charged(0.0).get(), 0.9);
    }

    #[test]
    fn a_scale_is_never_rounded_up() {
        for scale in [0.1, 0.12, 0.25, 0.3, 1.0] {
            let used = Scale::new(scale).expect("a scale").get();
            assert!(used <= scale && used > scale * (1.0 - 1.2e-7));
        }
    }

    #[test]
    fn shares_of_alpha_stay_within_it() {
        let alpha = Alpha::new(0.001).expect("a level");
        assert_eq!(alpha.half().get(), 0.0005);
        assert!(alpha.fraction(1.0, 3.0).expect("a share").get() * 3.0 < 0.001);
        assert_eq!(alpha.fraction(2.0, 1.0), None);
        assert_eq!(alpha.fraction(f64::NAN, 1.0), None);
    }

    #[test]
    fn records_with_impossible_numbers_are_refused() {
        assert!(serde_json::from_str::<Radius>("-0.5").is_err());
        assert!(serde_json::from_str::<Alpha>("1.5").is_err());
        assert_eq!(serde_json::from_str::<LowerBound>("0.5").expect("a bound").get(), 0.5);
    }
}
