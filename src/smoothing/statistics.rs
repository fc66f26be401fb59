//! Streamed statistics of scores: exact integer sums, so that nothing depends on the order or the
//! grouping of the samples, and no rounding error accumulates.
//!
//! A score in [0, 1] is floored to a multiple of [`UNIT`]. The floored score never exceeds the score,
//! so a lower bound on its mean is one on the score's mean; upper bounds add one unit.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::confidence::Binomial;
use crate::rounding::directed::{add_up, div_down, div_up, mul_up};

/// Bits of a score's fraction.
const BITS: u32 = 48;

/// One as a number of units.
const ONE: u64 = 1 << BITS;

/// The grid that scores are floored to: `2^-48`.
pub const UNIT: f64 = 1.0 / ONE as f64;

/// A score floored to the grid, in units. NaN and negative numbers become 0; numbers above 1 become 1.
#[must_use]
pub(crate) fn units(score: f64) -> u64 {
    ((score * ONE as f64) as u64).min(ONE)
}

/// Number, sum and sum of squares of the floored scores of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawMoments", into = "RawMoments")]
pub struct Moments {
    count: u32,
    /// In units of `2^-48`; below `2^80`.
    sum: u128,
    /// In units of `2^-96`; below `2^128`, because the count is below `2^32`.
    squares: u128,
}

/// The written form: integers of more than 64 bits as decimal strings.
#[derive(Serialize, Deserialize)]
struct RawMoments {
    count: u32,
    sum: String,
    squares: String,
}

/// Sums that no scores in [0, 1] can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("found sums of scores that no {count} scores can have; accepted: sums as they were recorded")]
pub struct ImpossibleSums {
    /// The number of samples stated.
    pub count: u32,
}

impl Moments {
    /// Adds a score. NaN and negative numbers count as 0, numbers above 1 as 1.
    ///
    /// # Panics
    /// After `2^32 - 1` scores.
    pub fn push(&mut self, score: f64) {
        let units = u128::from(units(score));
        self.count = self.count.checked_add(1).expect("fewer than 2^32 samples");
        self.sum += units;
        self.squares += units * units;
    }

    /// The statistics of both samples together.
    ///
    /// # Panics
    /// If there are `2^32` scores or more.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            count: self.count.checked_add(other.count).expect("fewer than 2^32 samples"),
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
        }
    }

    /// Counts as the moments of indicator scores.
    #[must_use]
    pub fn of_counts(counts: Binomial) -> Self {
        let successes = u128::from(counts.successes());
        Self { count: counts.trials(), sum: successes << BITS, squares: successes << (2 * BITS) }
    }

    /// About the statistics of `count` samples with the same mean and variance: for planning, never
    /// for a certificate.
    #[must_use]
    pub fn scaled(&self, count: u32) -> Self {
        let old = u128::from(self.count.max(1));
        let scale = |sum: u128| sum / old * u128::from(count) + sum % old * u128::from(count) / old;
        let sum = scale(self.sum);
        Self { count, sum, squares: scale(self.squares).min(sum << BITS) }
    }

    /// Number of samples.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The counts of about the same mean: for planning, never for a certificate.
    #[must_use]
    pub fn nearest_counts(&self) -> Binomial {
        let successes = ((self.sum + u128::from(ONE) / 2) >> BITS) as u32;
        Binomial::new(successes.min(self.count), self.count).unwrap_or_default()
    }

    /// The counts, if every floored score is 0 or 1: only then is the sum of squares equal to the sum.
    ///
    /// That the scores seen are 0 or 1 does not make them Bernoulli: a binomial bound holds only if
    /// the scores are indicators by construction (hardmax).
    #[must_use]
    pub fn counts(&self) -> Option<Binomial> {
        let indicator = self.squares == self.sum << BITS;
        if indicator { Binomial::new((self.sum >> BITS) as u32, self.count) } else { None }
    }

    /// The mean of the floored scores, to nearest (0 without samples): within [`UNIT`] of the scores'.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 * UNIT / f64::from(self.count) }
    }

    /// A number at most the mean of the scores.
    #[must_use]
    pub fn mean_lower(&self) -> f64 {
        if self.count == 0 { 0.0 } else { div_down(round_down(self.sum) * UNIT, f64::from(self.count)) }
    }

    /// A number at least the mean of the scores, which the floors lowered by less than one unit.
    #[must_use]
    pub fn mean_upper(&self) -> f64 {
        if self.count == 0 {
            return 1.0;
        }
        add_up(div_up(round_up(self.sum) * UNIT, f64::from(self.count)), UNIT)
    }

    /// The unbiased variance of the floored scores, rounded up; infinite for fewer than two.
    #[must_use]
    pub fn variance_upper(&self) -> f64 {
        if self.count < 2 {
            return f64::INFINITY;
        }
        let n = u128::from(self.count);
        // Exactly: sum of squared deviations = squares - sum^2 / n, with sum = a n + b and b < n.
        let (a, b) = (self.sum / n, self.sum % n);
        let deviations = self.squares - a * a * n - 2 * a * b - b * b / n;
        mul_up(div_up(round_up(deviations), f64::from(self.count - 1)), UNIT * UNIT)
    }

    /// The unbiased standard deviation, to nearest up to a few roundings; 0 for fewer than two.
    #[must_use]
    pub fn sd(&self) -> f64 {
        if self.count < 2 { 0.0 } else { self.variance_upper().sqrt() }
    }
}

/// The moments of all classes of one network, over the same samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreStatistics {
    count: u32,
    /// Sum and sum of squares for each class, as in [`Moments`].
    sums: Vec<(u128, u128)>,
}

impl ScoreStatistics {
    /// No samples yet, of this many classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { count: 0, sums: vec![(0, 0); classes] }
    }

    /// Adds the scores of one sample, one for each class.
    ///
    /// # Panics
    /// If the number of scores differs, or after `2^32 - 1` samples.
    pub fn push(&mut self, scores: &[f64]) {
        assert_eq!(scores.len(), self.sums.len(), "one score for each class");
        self.count = self.count.checked_add(1).expect("fewer than 2^32 samples");
        for ((sum, squares), &score) in self.sums.iter_mut().zip(scores) {
            let units = u128::from(units(score));
            if units != 0 {
                *sum += units;
                *squares += units * units;
            }
        }
    }

    /// Number of samples.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.sums.len()
    }

    /// The moments of one class.
    ///
    /// # Panics
    /// If there is no such class.
    #[must_use]
    pub fn moments(&self, class: usize) -> Moments {
        let (sum, squares) = self.sums[class];
        Moments { count: self.count, sum, squares }
    }

    /// The first class with the greatest mean; `None` without classes.
    #[must_use]
    pub fn top(&self) -> Option<usize> {
        let greatest = self.sums.iter().map(|s| s.0).max()?;
        self.sums.iter().position(|s| s.0 == greatest)
    }
}

fn round_up(x: u128) -> f64 {
    let nearest = x as f64;
    if (nearest as u128) < x { nearest.next_up() } else { nearest }
}

fn round_down(x: u128) -> f64 {
    let nearest = x as f64;
    if (nearest as u128) > x { nearest.next_down() } else { nearest }
}

impl From<Moments> for RawMoments {
    fn from(m: Moments) -> Self {
        Self { count: m.count, sum: m.sum.to_string(), squares: m.squares.to_string() }
    }
}

impl TryFrom<RawMoments> for Moments {
    type Error = ImpossibleSums;

    fn try_from(raw: RawMoments) -> Result<Self, ImpossibleSums> {
        let error = ImpossibleSums { count: raw.count };
        let (Ok(sum), Ok(squares)) = (raw.sum.parse::<u128>(), raw.squares.parse::<u128>()) else {
            return Err(error);
        };
        let n = u128::from(raw.count);
        let possible = sum <= n << BITS && squares <= sum << BITS && {
            // Cauchy-Schwarz, sum^2 <= n squares, without overflow: sum = a n + b.
            // Without samples the sum is 0, whatever it is divided by.
            let (a, b) = (sum / n.max(1), sum % n.max(1));
            squares >= a * a * n + 2 * a * b
        };
        if possible { Ok(Self { count: raw.count, sum, squares }) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(scores: &[f64]) -> Moments {
        let mut moments = Moments::default();
        for &score in scores {
            moments.push(score);
        }
        moments
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(scores in prop::collection::vec(0.0..=1.0, 2..60), cut in 0usize..60) {
            let cut = cut.min(scores.len());
            let mut backwards = scores.clone();
            backwards.reverse();
            let whole = of(&scores);
            prop_assert_eq!(whole, of(&backwards));
            prop_assert_eq!(whole, of(&scores[cut..]).merged(of(&scores[..cut])));
        }

        #[test]
        fn mean_and_variance_enclose_two_pass_values(scores in prop::collection::vec(0.0..=1.0, 2..60)) {
            let (moments, n) = (of(&scores), scores.len() as f64);
            let mean = scores.iter().sum::<f64>() / n;
            let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0);
            prop_assert!(moments.mean_lower() <= mean + 1e-15 && mean - 1e-15 <= moments.mean_upper());
            prop_assert!(moments.mean_upper() - moments.mean_lower() < 2.0 * UNIT);
            prop_assert!((moments.variance_upper() - variance).abs() < 1e-13);
        }
    }

    #[test]
    fn indicators_are_recognised_and_nothing_else() {
        let counts = Binomial::new(2, 3).expect("counts");
        assert_eq!(of(&[1.0, 0.0, 1.0]).counts(), Some(counts));
        assert_eq!(of(&[1.0, 0.0, 1.0]), Moments::of_counts(counts));
        assert_eq!(of(&[1.0, 0.5, 0.5]).counts(), None);
        assert_eq!(of(&[1.0; 5]).variance_upper(), 0.0);
    }

    #[test]
    fn scores_outside_the_unit_interval_are_clamped() {
        let moments = of(&[f64::NAN, -1.0, 2.0, f64::INFINITY]);
        assert_eq!((moments.mean(), moments.count()), (0.5, 4));
    }

    #[test]
    fn scores_below_the_grid_still_count_in_upper_bounds() {
        assert!(of(&[1e-20; 4]).mean_upper() >= 1e-20);
    }

    #[test]
    fn records_are_checked() {
        let moments = of(&[0.25, 0.75, 1.0]);
        let text = serde_json::to_string(&moments).expect("json");
        assert_eq!(serde_json::from_str::<Moments>(&text).expect("moments"), moments);
        let forged = text.replace("\"count\":3", "\"count\":1");
        assert!(serde_json::from_str::<Moments>(&forged).is_err());
        assert!(
            serde_json::from_str::<Moments>(r#"{"count":2,"sum":"281474976710656","squares":"0"}"#).is_err()
        );
    }

    #[test]
    fn the_largest_sample_does_not_overflow() {
        let all = Binomial::new(u32::MAX, u32::MAX).expect("counts");
        let moments = Moments::of_counts(all);
        assert_eq!((moments.mean_upper().min(1.0), moments.variance_upper()), (1.0, 0.0));
    }
}
