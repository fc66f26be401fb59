//! Combinations of simplex map, confidence bound and radius rule that an input can be certified with.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Bound;
use crate::rounding::directed::{add_up, mul_up};
use crate::smoothing::noise::Noise;
use crate::smoothing::quantity::{Alpha, LowerBound, OutOfRange, Radius, UpperBound};
use crate::smoothing::radius::{self, Lipschitz};
use crate::smoothing::simplex::{SimplexMap, Temperature};

/// How bounds become a radius.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RadiusRule {
    /// From the class's score alone, at the whole alpha.
    OneSided,
    /// From the class's score and the runner-up's, each at half of alpha. Gaussian noise only.
    TwoSided,
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
    pub(super) fn uses_runner_up(self) -> bool {
        self != Self::OneSided
    }
}

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
    #[error("found the radius rule {rule:?} with {noise}; accepted: one-sided, or Gaussian noise")]
    NotGaussian {
        /// The rule.
        rule: RadiusRule,
        /// The noise.
        noise: Noise,
    },
    /// A bound for a fixed number of samples with adaptive stopping.
    #[error(
        "found the bound {bound:?} with adaptive stopping; accepted: any other bound, or a fixed number of samples"
    )]
    NotAnytime {
        /// The bound.
        bound: Bound,
    },
    /// Randomized bounds without a draw.
    #[error("found randomized Clopper-Pearson without a draw of W; accepted: one draw for each input")]
    NoDraw,
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

    /// What `auto` tries: hardmax with Clopper-Pearson, one- and two-sided, first, so that it wins ties;
    /// then softmax and sparsemax with Bernstein over a grid of temperatures, two-sided, and also
    /// Lipschitz-aware where a constant of the logits and their evaluation error are given. Both,
    /// because the two-sided radius needs no charge for the evaluation.
    #[must_use]
    pub fn auto(logits: Option<(Lipschitz, f64)>) -> Vec<Self> {
        let hardmax = |rule| Self { map: SimplexMap::Hardmax, bound: Bound::ClopperPearson, rule };
        let mut candidates = vec![hardmax(RadiusRule::OneSided), hardmax(RadiusRule::TwoSided)];
        for t in [0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0] {
            let Ok(t) = Temperature::new(t) else { continue };
            for map in [SimplexMap::Softmax(t), SimplexMap::Sparsemax(t)] {
                let two_sided = Self { map, bound: Bound::Bernstein, rule: RadiusRule::TwoSided };
                candidates.push(two_sided);
                candidates.extend(logits.and_then(|(constant, error)| two_sided.aware(constant, error).ok()));
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
        if self.rule.uses_runner_up() && noise.gaussian().is_none() {
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

    /// The radius from bounds on the scores that were sampled; `charge` is taken off both.
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

    /// The levels for the class and for the runner-up.
    pub(super) fn split(&self, alpha: Alpha) -> (Alpha, Option<Alpha>) {
        if self.rule.uses_runner_up() { (alpha.half(), Some(alpha.half())) } else { (alpha, None) }
    }
}
