//! What a certification leaves behind.

use serde::{Deserialize, Serialize};

use super::{Candidate, Threat};
use crate::smoothing::ledger::Ledger;
use crate::smoothing::quantity::{LowerBound, Radius, UpperBound};
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
    /// The certified radius, in the norm of the threat; `None` is an abstention.
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
    /// Noise and norm.
    pub threat: Threat,
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
    /// Of the other scores (the undefined answers last among them), the first one with the highest mean,
    /// and its index; `classes` stands for undefined answers.
    pub runner_up: (usize, Moments),
}

impl Outcome {
    /// The class, unless this is an abstention.
    #[must_use]
    pub fn predicted(&self) -> Option<usize> {
        self.radius.map(|_| self.class)
    }
}
