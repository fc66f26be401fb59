//! What a certification leaves behind.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::estimation::{FIRST_CHECKPOINT, Levels};
use super::{Bound, Candidate, CandidateError, RadiusRule};
use crate::smoothing::confidence::{Checkpoints, RandomizedClopperPearson};
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
    /// More samples could gain less than the stated fraction.
    Converged,
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
    /// Where alpha went.
    pub ledger: Ledger,
    /// Statistics of the class's score over the estimation samples.
    pub top: Moments,
    /// Index and statistics of the other scores (`classes` stands for undefined answers) that can have
    /// the greatest upper bound: the one with the highest mean first, then those of lower mean and
    /// greater variance.
    pub others: Vec<(usize, Moments)>,
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
        if bound == Bound::Betting {
            return Err(RecomputeError::Order);
        }
        let drawn = self.w.map(RandomizedClopperPearson::new).transpose().map_err(CandidateError::from)?;
        if bound == Bound::RandomizedClopperPearson && drawn.is_none() {
            return Err(RecomputeError::Draw);
        }
        let candidate = Candidate::new(self.candidate.map(), bound, rule)?;
        candidate.check_for(&self.noise, self.classes)?;
        let mut ledger = Ledger::new(alpha);
        let levels = Levels::book(&mut ledger, &candidate, alpha).map_err(|_| RecomputeError::Levels)?;
        // The checkpoint of the last sample: the k-th of those up to here.
        let last = self.anytime.then(|| Checkpoints::new(FIRST_CHECKPOINT, self.samples).last()).flatten();
        let at = |level| last.map_or(Some(level), |checkpoint| bound.level_at(checkpoint, level));
        let p_lower =
            at(levels.top).map_or(LowerBound::TRIVIAL, |level| bound.lower(&self.top, level, drawn));
        let p_upper = levels.runner_up.and_then(at).map_or(UpperBound::TRIVIAL, |level| {
            bound.upper_of_all(self.others.iter().map(|(_, moments)| moments), level, drawn)
        });
        let radius = candidate.radius(&self.noise, self.classes, p_lower, p_upper, self.charge);
        Ok(Self { radius, p_lower, p_upper, candidate, ledger, ..self.clone() })
    }
}

/// What recorded statistics do not allow.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecomputeError {
    /// Betting bounds need the scores in order.
    #[error(
        "found the betting bound, which needs the scores in order, and only their sums are recorded; \
         accepted: clopper-pearson, krichevsky-trofimov, hoeffding or bernstein"
    )]
    Order,
    /// A randomized bound needs a draw made before the samples.
    #[error(
        "found the bound randomized-clopper-pearson, and no draw of W is recorded; accepted: any other \
         bound, or a run made with this one"
    )]
    Draw,
    /// Alpha cannot be split.
    #[error("alpha is too small to be split; accepted: a larger alpha, or the one-sided rule")]
    Levels,
    /// A combination without meaning for this map and noise.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
}
