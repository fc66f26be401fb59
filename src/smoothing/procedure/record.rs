//! What a certification leaves behind.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::bound::Beside;
use super::estimation::{FIRST_CHECKPOINT, Levels, ln_reaches};
use super::{Bound, Candidate, CandidateError, RadiusRule};
use crate::smoothing::confidence::{Binomial, Checkpoints, RandomizedClopperPearson, TestMartingale};
use crate::smoothing::ledger::Ledger;
use crate::smoothing::noise::Noise;
use crate::smoothing::quantity::{Alpha, LowerBound, Radius, UpperBound};
use crate::smoothing::statistics::Moments;

/// Why sampling ended, and what was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All samples were used.
    Exhausted,
    /// The given radius is certified.
    Reached,
    /// The given radius cannot be expected to be certified with the samples allowed. A statement about
    /// this run, not a proof that the radius is not robust.
    OutOfReach,
    /// More samples could gain less than the stated fraction, to judge by the selection's samples.
    Converged,
}

/// The test of a radius.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// The radius.
    pub radius: Radius,
    /// The bound on the rule's mean that gives it.
    pub threshold: LowerBound,
    /// Successes and trials among the selection's samples, which the test's alternatives were weighted by.
    pub pilot: (u32, u32),
    /// By betting: at least the logarithm of the least capital against the threshold, at its greatest;
    /// the radius is certified at every alpha of which this reaches `ln(1 / alpha)`.
    pub evidence: Option<f64>,
}

/// The result for one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The class that was frozen by the selection.
    pub class: usize,
    /// The certified radius, in the norm of the noise; `None` is an abstention.
    pub radius: Option<Radius>,
    /// Bound on the class's smoothed score, before the charge.
    pub p_lower: LowerBound,
    /// Bound on the runner-up's smoothed score, before the charge; trivial for one-sided rules.
    pub p_upper: UpperBound,
    /// Samples used by the selection.
    pub n0: u32,
    /// Samples used by the estimation.
    pub samples: u32,
    /// Number of classes of the network.
    pub classes: usize,
    /// The noise; in earlier runs `threat`, which calls every Gaussian noise `gaussian`.
    #[serde(alias = "threat")]
    pub noise: Noise,
    /// On how many entries noise was drawn: on all of the input, or, behind a narrow first layer, on
    /// fewer ([`RowSpace`](crate::smoothing::row_space::RowSpace)). 0 in runs that do not say.
    #[serde(default)]
    pub entries: usize,
    /// What was charged to both bounds for the noise.
    pub charge: f64,
    /// Map, bound and rule.
    pub candidate: Candidate,
    /// The draw of `W` used by a randomized bound.
    pub w: Option<f64>,
    /// Why sampling ended.
    pub verdict: Verdict,
    /// Whether the bounds hold at all sample counts (adaptive stopping) or at this one only.
    pub anytime: bool,
    /// The test of a radius, where one was settled by testing its mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// Where alpha went.
    pub ledger: Ledger,
    /// Statistics of the class's score over the estimation samples.
    pub top: Moments,
    /// Index and statistics of the other scores (`classes` stands for undefined answers) that can have
    /// the greatest upper bound: the one with the highest mean first, then those of lower mean and
    /// greater variance.
    pub others: Vec<(usize, Moments)>,
    /// For pairs: the other class and the statistics of the pair's score (coins counted, for binomial
    /// bounds) of those that can have the least bound, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<(usize, Moments)>,
}

impl Outcome {
    /// The class, unless this is an abstention.
    #[must_use]
    pub fn predicted(&self) -> Option<usize> {
        self.radius.map(|_| self.class)
    }
    /// The same samples at another alpha, bound or radius rule. Each result holds at its own alpha; the
    /// best of several, chosen after looking, does not.
    ///
    /// With adaptive stopping the bounds are those of the last checkpoint, without the intersection with
    /// earlier ones, which are not recorded; they hold at whatever time sampling stopped.
    ///
    /// # Errors
    /// [`RecomputeError`] if the recorded statistics do not allow it.
    pub fn recompute(&self, alpha: Alpha, bound: Bound, rule: RadiusRule) -> Result<Self, RecomputeError> {
        if bound == Bound::RandomizedClopperPearson && self.w.is_none() {
            return Err(RecomputeError::Draw);
        }
        let candidate = Candidate::new(self.candidate.map(), bound, rule)?;
        candidate.check_for(&self.noise, self.classes)?;
        let coins = bound.needs_indicators();
        if let (Some(weight), recorded) = (rule.weight(), self.candidate.rule().weight())
            && (recorded != Some(weight) || (coins && !self.candidate.bound().needs_indicators()))
        {
            return Err(RecomputeError::Pairs);
        }
        let mut ledger = Ledger::new(alpha);
        let levels = Levels::book(&mut ledger, &candidate, alpha).map_err(|_| RecomputeError::Levels)?;
        let (p_lower, p_upper) = if bound == Bound::Betting {
            self.betting(alpha, rule)?
        } else {
            self.bounds(&candidate, levels)?
        };
        let radius = candidate.radius(&self.noise, self.classes, p_lower, p_upper, self.charge);
        Ok(Self { radius, p_lower, p_upper, candidate, ledger, ..self.clone() })
    }

    /// The bounds from recorded statistics.
    fn bounds(
        &self,
        candidate: &Candidate,
        levels: Levels,
    ) -> Result<(LowerBound, UpperBound), RecomputeError> {
        let (bound, rule) = (candidate.bound(), candidate.rule());
        let drawn = self.w.map(RandomizedClopperPearson::new).transpose().map_err(CandidateError::from)?;
        let test = self.settled.filter(|_| rule == self.candidate.rule()).and_then(|settled| {
            let (successes, trials) = settled.pilot;
            Some(TestMartingale::new(settled.threshold, Binomial::new(successes, trials)?))
        });
        if bound == Bound::TestMartingale && test.is_none() {
            return Err(RecomputeError::Test);
        }
        let beside = Beside { drawn, test };
        // The checkpoint of the last sample: the k-th of those up to here.
        let last = self.anytime.then(|| Checkpoints::new(FIRST_CHECKPOINT, self.samples).last()).flatten();
        let at = |level| last.map_or(Some(level), |checkpoint| bound.level_at(checkpoint, level));
        let means: Vec<&Moments> = match rule.weight() {
            Some(_) => self.pairs.iter().map(|(_, moments)| moments).collect(),
            None => vec![&self.top],
        };
        let mean = at(levels.top)
            .map_or(LowerBound::TRIVIAL, |level| bound.lower_of_all(means.into_iter(), level, &beside));
        let (lower, upper) = rule.bounds(mean);
        let others = levels.runner_up.and_then(at).map_or(UpperBound::TRIVIAL, |level| {
            bound.upper_of_all(self.others.iter().map(|(_, moments)| moments), level, &beside)
        });
        Ok((lower, upper.tighter(others)))
    }

    /// The bounds by betting, of which the recorded evidence or the recorded bounds tell.
    fn betting(&self, alpha: Alpha, rule: RadiusRule) -> Result<(LowerBound, UpperBound), RecomputeError> {
        let same = self.candidate.bound() == Bound::Betting && self.candidate.rule() == rule;
        if let Some(Settled { threshold, evidence: Some(evidence), .. }) = self.settled.filter(|_| same) {
            let reached = ln_reaches(evidence, alpha);
            return Ok(if reached { rule.bounds(threshold) } else { rule.bounds(LowerBound::TRIVIAL) });
        }
        // Bounds hold at every greater alpha, too.
        if same && alpha >= self.ledger.total() {
            Ok((self.p_lower, self.p_upper))
        } else {
            Err(RecomputeError::Order)
        }
    }
}

/// What recorded statistics do not allow.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecomputeError {
    /// Betting bounds need the scores in order.
    #[error(
        "found the betting bound, which needs the scores in order, and only their sums are recorded; \
         accepted: another bound, or betting with the recorded rule at the recorded alpha or a greater one"
    )]
    Order,
    /// A randomized bound needs a draw made before the samples.
    #[error(
        "found the bound randomized-clopper-pearson, and no draw of W is recorded; accepted: any other \
         bound, or a run made with this one"
    )]
    Draw,
    /// A test needs its threshold.
    #[error(
        "found the bound test-martingale, and no test of this rule's mean is recorded; accepted: any other \
         bound, or a run made with this one and the same rule"
    )]
    Test,
    /// Pairs' scores are not among the recorded statistics.
    #[error(
        "found the rule pairwise, and the scores of such pairs are not recorded; accepted: one-sided or \
         two-sided, or the recorded rule (with binomial bounds, of a run that counted coins)"
    )]
    Pairs,
    /// Alpha cannot be split.
    #[error("alpha is too small to be split; accepted: a larger alpha, or the one-sided rule")]
    Levels,
    /// A combination without meaning for this map and noise.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
}
