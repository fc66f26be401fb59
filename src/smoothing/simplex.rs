//! Simplex maps: from logits to scores in [0, 1] that sum to at most 1.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::quantity::OutOfRange;
use crate::rounding::directed::{div_up, sqrt_up};

/// Logits that no score can be made of: empty, not a number, or infinite where that has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("found logits that are empty, NaN or infinite; accepted: numbers")]
pub struct Undefined;

/// A temperature, positive.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Temperature(f64);

impl Temperature {
    /// A temperature.
    ///
    /// # Errors
    /// Unless `1e-6 <= t <= 1e6`.
    pub fn new(t: f64) -> Result<Self, OutOfRange> {
        if (1e-6..=1e6).contains(&t) {
            Ok(Self(t))
        } else {
            let accepted = "a number between 1e-6 and 1e6";
            Err(OutOfRange { quantity: "the temperature", found: t, accepted })
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Temperature {
    type Error = OutOfRange;
    fn try_from(t: f64) -> Result<Self, OutOfRange> {
        Self::new(t)
    }
}

impl From<Temperature> for f64 {
    fn from(t: Temperature) -> Self {
        t.0
    }
}

/// A map from logits to the simplex. Written `hardmax`, `softmax:T`, `sparsemax:T`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SimplexMap {
    /// The indicator of the greatest logit; the first one among equals.
    Hardmax,
    /// `softmax(h / t)`.
    Softmax(Temperature),
    /// The Euclidean projection of `h / t` on the simplex (Martins and Astudillo 2016).
    Sparsemax(Temperature),
}

impl SimplexMap {
    /// Writes the scores of `logits` (K entries) to `scores` (K entries), each in [0, 1].
    ///
    /// `-inf` is a class that is never chosen; `inf` has a meaning for hardmax only.
    ///
    /// # Errors
    /// [`Undefined`], with scores all 0, for logits without a score.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(self, logits: &[f32], scores: &mut [f64]) -> Result<(), Undefined> {
        assert_eq!(logits.len(), scores.len(), "one score for each logit");
        scores.fill(0.0);
        let top = argmax(logits).ok_or(Undefined)?;
        let greatest = f64::from(logits[top]);
        if greatest == f64::NEG_INFINITY {
            return Err(Undefined);
        }
        match self {
            Self::Hardmax => scores[top] = 1.0,
            _ if greatest == f64::INFINITY => return Err(Undefined),
            Self::Softmax(t) => {
                let mut sum = 0.0;
                for (score, &logit) in scores.iter_mut().zip(logits) {
                    *score = libm::exp((f64::from(logit) - greatest) / t.0);
                    sum += *score;
                }
                for score in scores.iter_mut() {
                    *score = (*score / sum).clamp(0.0, 1.0);
                }
            }
            Self::Sparsemax(t) => {
                let shifted = |logit: f32| (f64::from(logit) - greatest) / t.0;
                let threshold = sparsemax_threshold(logits.iter().map(|&h| shifted(h)).collect());
                for (score, &logit) in scores.iter_mut().zip(logits) {
                    *score = (shifted(logit) - threshold).clamp(0.0, 1.0);
                }
            }
        }
        Ok(())
    }

    /// The l2 Lipschitz constant of one score as a function of K logits, rounded up: `sqrt(2) / (4 t)`
    /// for softmax (a row `p_i (e_i - p)` of its Jacobian), `sqrt((K - 1) / K) / t` for sparsemax.
    /// `None` for hardmax, which has none.
    #[must_use]
    pub fn score_lipschitz(self, classes: usize) -> Option<f64> {
        match self {
            Self::Hardmax => None,
            Self::Softmax(t) => Some(div_up(std::f64::consts::SQRT_2.next_up(), 4.0 * t.0)),
            Self::Sparsemax(t) => {
                let k = classes.max(1) as f64;
                Some(div_up(sqrt_up(div_up(k - 1.0, k)), t.0).max(f64::MIN_POSITIVE))
            }
        }
    }

    /// The l2-to-l2 Lipschitz constant of the whole map, rounded up: `1 / (2 t)` for softmax, `1 / t`
    /// for sparsemax (a projection does not expand). `None` for hardmax.
    #[must_use]
    pub fn vector_lipschitz(self) -> Option<f64> {
        match self {
            Self::Hardmax => None,
            Self::Softmax(t) => Some(div_up(0.5, t.0)),
            Self::Sparsemax(t) => Some(div_up(1.0, t.0)),
        }
    }
}

/// The first index of the greatest logit; `None` if there is none or one is NaN.
#[must_use]
pub fn argmax(logits: &[f32]) -> Option<usize> {
    let mut best = None;
    for (i, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        if best.is_none_or(|b: usize| logit > logits[b]) {
            best = Some(i);
        }
    }
    best
}

/// `theta` with `sum max(z - theta, 0) = 1`, for entries of which the greatest is 0.
fn sparsemax_threshold(mut z: Vec<f64>) -> f64 {
    // Below -1 an entry is outside the support: theta >= max z - 1.
    z.retain(|&value| value > -1.0);
    z.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut theta) = (0.0, -1.0);
    for (j, &value) in z.iter().enumerate() {
        sum += value;
        let k = (j + 1) as f64;
        if 1.0 + k * value <= sum {
            break;
        }
        theta = (sum - 1.0) / k;
    }
    theta
}

impl fmt::Display for SimplexMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hardmax => write!(f, "hardmax"),
            Self::Softmax(t) => write!(f, "softmax:{}", t.0),
            Self::Sparsemax(t) => write!(f, "sparsemax:{}", t.0),
        }
    }
}

/// Text that names no simplex map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "found the simplex map {found:?}; accepted: hardmax, softmax:T or sparsemax:T with a temperature T > 0"
)]
pub struct UnknownMap {
    /// The text.
    pub found: String,
}

impl FromStr for SimplexMap {
    type Err = UnknownMap;

    fn from_str(text: &str) -> Result<Self, UnknownMap> {
        let temperature = |t: &str| t.parse().ok().and_then(|t| Temperature::new(t).ok());
        let map = match text.split_once(':') {
            None if text == "hardmax" => Some(Self::Hardmax),
            Some(("softmax", t)) => temperature(t).map(Self::Softmax),
            Some(("sparsemax", t)) => temperature(t).map(Self::Sparsemax),
            _ => None,
        };
        map.ok_or_else(|| UnknownMap { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores(map: &str, logits: &[f32]) -> Result<Vec<f64>, Undefined> {
        let mut scores = vec![0.5; logits.len()];
        map.parse::<SimplexMap>().expect("a map").apply(logits, &mut scores).map(|()| scores)
    }

    #[test]
    fn ties_go_to_the_first_class() {
        assert_eq!(scores("hardmax", &[1.0, 3.0, 3.0]), Ok(vec![0.0, 1.0, 0.0]));
        assert_eq!(scores("hardmax", &[0.0, -0.0]), Ok(vec![1.0, 0.0]));
    }

    #[test]
    fn logits_without_meaning_have_no_scores() {
        for map in ["hardmax", "softmax:1", "sparsemax:1"] {
            for logits in [&[][..], &[1.0, f32::NAN], &[f32::NAN, 1.0], &[f32::NEG_INFINITY; 2]] {
                assert_eq!(scores(map, logits), Err(Undefined), "{map} {logits:?}");
            }
            assert_eq!(scores(map, &[0.0, f32::NEG_INFINITY]), Ok(vec![1.0, 0.0]), "{map}");
        }
        assert_eq!(scores("softmax:1", &[0.0, f32::INFINITY]), Err(Undefined));
        assert_eq!(scores("hardmax", &[0.0, f32::INFINITY]), Ok(vec![0.0, 1.0]));
    }

    #[test]
    fn known_values() {
        assert_eq!(scores("sparsemax:1", &[0.5, 0.0]), Ok(vec![0.75, 0.25]));
        assert_eq!(scores("sparsemax:0.25", &[0.5, 0.0]), Ok(vec![1.0, 0.0]));
        assert_eq!(scores("sparsemax:2", &[1.0, 1.0, 1.0, 1.0]), Ok(vec![0.25; 4]));
        let soft = scores("softmax:2", &[2.0 * 3.0f32.ln(), 0.0]).expect("scores");
        assert!((soft[0] - 0.75).abs() < 1e-7);
    }

    #[test]
    fn names_are_read_back() {
        for name in ["hardmax", "softmax:0.5", "sparsemax:4"] {
            assert_eq!(name.parse::<SimplexMap>().expect("a map").to_string(), name);
        }
        for name in ["", "softmax", "softmax:0", "softmax:nan", "sparsemax:-1", "hardmax:1", "relu:1"] {
            assert!(name.parse::<SimplexMap>().is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn scores_lie_in_the_simplex_and_respect_the_constants(
            a in prop::collection::vec(-20.0f32..20.0, 5),
            d in prop::collection::vec(-1.0f32..1.0, 5),
            t in 0.1f64..5.0,
        ) {
            let b: Vec<f32> = a.iter().zip(&d).map(|(a, d)| a + d).collect();
            let distance = a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
            let t = Temperature::new(t).expect("a temperature");
            for map in [SimplexMap::Softmax(t), SimplexMap::Sparsemax(t)] {
                let (mut x, mut y) = ([0.0; 5], [0.0; 5]);
                map.apply(&a, &mut x).expect("scores");
                map.apply(&b, &mut y).expect("scores");
                prop_assert!((x.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                let apart = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
                prop_assert!(apart <= map.vector_lipschitz().expect("a constant") * distance * 1.00001 + 1e-12);
                let one = map.score_lipschitz(5).expect("a constant");
                prop_assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= one * distance * 1.00001 + 1e-12));
                prop_assert!(x.iter().all(|p| (0.0..=1.0).contains(p)));
            }
        }
    }
}
