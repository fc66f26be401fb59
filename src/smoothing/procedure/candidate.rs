//! Combinations of simplex map, confidence bound and radius rule that an input can be certified with.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Bound, Stopping};
use crate::rounding::directed::{add_up, div_down, mul_up, sub_down};
use crate::smoothing::noise::Noise;
use crate::smoothing::quantity::{Alpha, LowerBound, OutOfRange, Radius, UpperBound};
use crate::smoothing::radius::{self, Lipschitz, Weight};
use crate::smoothing::simplex::{SimplexMap, Temperature};

/// How bounds become a radius.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RadiusRule {
    /// From the class's score alone, at the whole alpha.
    OneSided,
    /// From the class's score and the runner-up's, each at half of alpha. Gaussian noise only.
    TwoSided,
    /// From the pair's score `(1 - w) s_A + w (1 - s_j)` with each other class `j`, at the whole alpha
    /// ([`radius::pair`]). Binomial bounds count a coin instead: 1 for `A`, 0 for `j`, and for any other
    /// class heads with probability `w`. With other noise than Gaussian, `w = 1/2` only: for `F_A <= F_j`
    /// the mean is at most 1/2, so the pair's score obeys the law of a class's.
    ///
    /// The least bound over all `j` costs one level: the class that comes closest to `A` is one fixed
    /// class, not chosen by the samples, and a radius can be false only if the bound of *that* class is.
    Pairwise {
        /// The weight `w`.
        weight: Weight,
    },
    /// The larger of the Lipschitz-aware and the margin radius, from the same bounds as two-sided and a
    /// Lipschitz constant of the *logits* (l2 to l2). Gaussian noise and smooth maps only.
    Aware {
        /// The constant of the logit map.
        logits: Lipschitz,
        /// How far evaluated logits may be from exact ones: bound on the l2 distance, in the mean over
        /// the noise. A score is off by at most the map's constant times that.
        evaluation_error: f64,
    },
}

impl RadiusRule {
    /// Whether alpha is split between the class and the runner-up.
    pub(super) fn uses_runner_up(self) -> bool {
        matches!(self, Self::TwoSided | Self::Aware { .. })
    }

    /// What a lower bound on the one mean that the rule looks at says of the class's score and of every
    /// other. From `(1 - w) F_A + w (1 - F_j) >= m` and `F_A <= 1 - F_j` follow `F_j <= 1 - m` and
    /// `F_A >= (m - w) / (1 - w)`.
    pub(super) fn bounds(self, mean: LowerBound) -> (LowerBound, UpperBound) {
        let Self::Pairwise { weight } = self else { return (mean, UpperBound::TRIVIAL) };
        let top = div_down(sub_down(mean.get(), weight.get()), 1.0 - weight.get());
        (LowerBound::new(top), mean.complement())
    }

    /// Whether the rule has a meaning for other noise than Gaussian.
    pub(in crate::smoothing) fn any_noise(self) -> bool {
        matches!(self, Self::OneSided | Self::Pairwise { weight: Weight::HALF })
    }

    /// The weight of the other class in pairs' scores.
    pub(in crate::smoothing) fn weight(self) -> Option<Weight> {
        if let Self::Pairwise { weight } = self { Some(weight) } else { None }
    }
}

/// A radius rule without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleName {
    /// [`RadiusRule::OneSided`].
    OneSided,
    /// [`RadiusRule::TwoSided`].
    TwoSided,
    /// [`RadiusRule::Pairwise`], with the weight that the selection finds best.
    Pairwise,
}

impl RuleName {
    /// The rules of this name that a selection chooses from.
    #[must_use]
    pub fn rules(self) -> Vec<RadiusRule> {
        match self {
            Self::OneSided => vec![RadiusRule::OneSided],
            Self::TwoSided => vec![RadiusRule::TwoSided],
            Self::Pairwise => {
                let weights = WEIGHTS.iter().filter_map(|&w| Weight::new(w).ok());
                weights.map(|weight| RadiusRule::Pairwise { weight }).collect()
            }
        }
    }
}

/// Weights of pairs that `auto` tries.
const WEIGHTS: [f64; 6] = [0.5, 0.5625, 0.625, 0.6875, 0.75, 0.875];

/// Combinations that have no meaning.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CandidateError {
    /// A binomial bound on scores that are not indicators.
    #[error("found the bound {bound:?} with {map}; accepted: hardmax, or Bernstein, Hoeffding or Betting")]
    NotIndicators {
        /// The bound.
        bound: Bound,
        /// The map.
        map: SimplexMap,
    },
    /// A Lipschitz constant for a map that has none.
    #[error("found a Lipschitz-aware radius with {map}; accepted: softmax or sparsemax")]
    NotLipschitz {
        /// The map.
        map: SimplexMap,
    },
    /// A rule of Gaussian noise with other noise.
    #[error(
        "found the radius rule {rule:?} with {noise}; accepted: one-sided or pairwise of weight 1/2, or Gaussian noise"
    )]
    NotGaussian {
        /// The rule.
        rule: RadiusRule,
        /// The noise.
        noise: Noise,
    },
    /// A test of a radius without one, or of two means at once.
    #[error(
        "found the bound test-martingale without a radius to settle, or with a rule that bounds the runner-up apart; \
         accepted: a radius to settle, with the rule one-sided or pairwise"
    )]
    NothingToTest,
    /// A constant out of range.
    #[error(transparent)]
    Constant(#[from] OutOfRange),
    /// Nothing to choose from.
    #[error("found no candidates; accepted: at least one")]
    None,
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    map: SimplexMap,
    bound: Bound,
    rule: RadiusRule,
}

impl Candidate {
    /// A combination.
    ///
    /// # Errors
    /// [`CandidateError`] for one without meaning.
    pub fn new(map: SimplexMap, bound: Bound, rule: RadiusRule) -> Result<Self, CandidateError> {
        let candidate = Self { map, bound, rule };
        candidate.check()?;
        Ok(candidate)
    }

    /// What `auto` tries. With `bound` for hardmax: pairs at weights from 1/2 on, the first of which is
    /// never below the one-sided radius from the same samples; two-sided; pairs by betting, which needs
    /// no coins; then softmax and sparsemax over a grid of temperatures, in pairs by betting. With
    /// [`Bound::TestMartingale`] only the first.
    #[must_use]
    pub fn auto(bound: Bound) -> Vec<Self> {
        let hardmax = SimplexMap::Hardmax;
        let pairs = |map, bound, weights: &[f64]| {
            let rules = weights.iter().filter_map(|&w| Weight::new(w).ok());
            rules.map(|weight| Self { map, bound, rule: RadiusRule::Pairwise { weight } }).collect::<Vec<_>>()
        };
        let mut candidates = pairs(hardmax, bound, &WEIGHTS);
        if bound == Bound::TestMartingale {
            return candidates;
        }
        candidates.push(Self { map: hardmax, bound, rule: RadiusRule::TwoSided });
        candidates.extend(pairs(hardmax, Bound::Betting, &WEIGHTS[1..]));
        for t in [0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0] {
            let Ok(t) = Temperature::new(t) else { continue };
            for map in [SimplexMap::Softmax(t), SimplexMap::Sparsemax(t)] {
                candidates.extend(pairs(map, Bound::Betting, &[0.5, 0.75]));
            }
        }
        candidates
    }

    /// The same map and bound with the Lipschitz-aware rule.
    ///
    /// # Errors
    /// [`CandidateError`] for hardmax, or an error that is not finite.
    pub fn aware(self, logits: Lipschitz, evaluation_error: f64) -> Result<Self, CandidateError> {
        Self::new(self.map, self.bound, RadiusRule::Aware { logits, evaluation_error })
    }

    /// The map.
    #[must_use]
    pub fn map(&self) -> SimplexMap {
        self.map
    }

    /// The bound.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// The radius rule.
    #[must_use]
    pub fn rule(&self) -> RadiusRule {
        self.rule
    }

    /// Checks what [`Candidate::new`] checks; records are read without it.
    pub(super) fn check(&self) -> Result<(), CandidateError> {
        if self.bound.needs_indicators() && self.map != SimplexMap::Hardmax {
            return Err(CandidateError::NotIndicators { bound: self.bound, map: self.map });
        }
        if let RadiusRule::Aware { evaluation_error, .. } = self.rule {
            if self.map == SimplexMap::Hardmax {
                return Err(CandidateError::NotLipschitz { map: self.map });
            }
            if !(evaluation_error >= 0.0 && evaluation_error.is_finite()) {
                let (quantity, accepted) = ("the evaluation error", "a finite number of at least 0");
                return Err(OutOfRange { quantity, found: evaluation_error, accepted }.into());
            }
        }
        Ok(())
    }

    /// Checks that the rule has a meaning for this noise and number of classes.
    pub(super) fn check_for(&self, noise: &Noise, classes: usize) -> Result<(), CandidateError> {
        self.check()?;
        if !self.rule.any_noise() && noise.gaussian().is_none() {
            return Err(CandidateError::NotGaussian { rule: self.rule, noise: noise.clone() });
        }
        if let RadiusRule::Aware { logits, .. } = self.rule {
            self.score_lipschitz(logits, classes)?;
        }
        Ok(())
    }

    fn score_lipschitz(&self, logits: Lipschitz, classes: usize) -> Result<Lipschitz, CandidateError> {
        let constant =
            self.map.score_lipschitz(classes).ok_or(CandidateError::NotLipschitz { map: self.map })?;
        Ok(logits.then(constant)?)
    }

    /// The radius from bounds on the scores that were sampled; `charge` is taken off both. For pairs,
    /// `1 - p2` bounds the mean of every pair's score from below.
    #[must_use]
    pub fn radius(
        &self,
        noise: &Noise,
        classes: usize,
        p1: LowerBound,
        p2: UpperBound,
        charge: f64,
    ) -> Option<Radius> {
        let (p1, p2) = (p1.charged(charge), p2.charged(charge));
        match (self.rule, noise.gaussian()) {
            (RadiusRule::OneSided, _) => noise.radius(p1),
            (RadiusRule::TwoSided, Some(sigma)) => radius::two_sided(sigma, p1, p2),
            (RadiusRule::Pairwise { weight }, Some(sigma)) => radius::pair(sigma, weight, p2.complement()),
            (RadiusRule::Pairwise { weight: Weight::HALF }, None) => noise.radius(p2.complement()),
            (RadiusRule::Aware { logits, evaluation_error }, Some(sigma)) => {
                let score = self.score_lipschitz(logits, classes).ok()?;
                // Of one score; it also covers the rounding of the map itself in f64.
                let of_score = add_up(mul_up(self.map.score_lipschitz(classes)?, evaluation_error), 1e-9);
                let aware = radius::aware(sigma, p1, p2, score, of_score);
                // The margin radius holds under the same bounds, and wins for some maps.
                let vector = logits.then(self.map.vector_lipschitz()?).ok()?;
                let (p1, p2) = (p1.charged(of_score), p2.charged(of_score));
                Radius::larger(aware, radius::margin(sigma, p1, p2, Some(vector)))
            }
            _ => None,
        }
    }

    /// Checks that the bound can be used with a stopping rule.
    pub(super) fn check_stopping(&self, stopping: Stopping) -> Result<(), CandidateError> {
        let settles = matches!(stopping, Stopping::Settle { .. });
        if self.bound == Bound::TestMartingale && (!settles || self.rule.uses_runner_up()) {
            return Err(CandidateError::NothingToTest);
        }
        Ok(())
    }

    /// The least bound found on the one mean that the rule looks at that gives a radius; `None` if none
    /// is found below 1, or the rule looks at two means.
    pub(super) fn threshold(
        &self,
        noise: &Noise,
        classes: usize,
        radius: Radius,
        charge: f64,
    ) -> Option<LowerBound> {
        let gives = |mean: f64| {
            let (p1, p2) = self.rule.bounds(LowerBound::new(mean));
            self.radius(noise, classes, p1, p2, charge).is_some_and(|found| found >= radius)
        };
        let (mut low, mut high) = (0.5, 1.0_f64.next_down());
        if self.rule.uses_runner_up() || !gives(high) {
            return None;
        }
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            if gives(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(LowerBound::new(high))
    }

    /// The levels for the class and for the runner-up.
    pub(super) fn split(&self, alpha: Alpha) -> (Alpha, Option<Alpha>) {
        if self.rule.uses_runner_up() { (alpha.half(), Some(alpha.half())) } else { (alpha, None) }
    }
}
