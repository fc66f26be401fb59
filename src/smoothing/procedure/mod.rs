//! The two-step procedure, so that the stated risk is the true risk.
//!
//! [`Selection`] looks at the samples `0 .. n0` and freezes the class, the simplex map, the bound and the
//! radius rule. [`Estimation`] can only be made from it, consumes it, and looks at the samples from `n0`
//! on, which nothing has seen. Its alpha is split by a [`Ledger`](super::ledger::Ledger) that the
//! [`Outcome`] carries. Nothing is ever chosen on the estimation samples except when to stop, and then
//! the bounds hold at every time.
//!
//! The runner-up costs one level, not one for each class: the true runner-up is one fixed class, and the
//! greatest of all upper bounds is at least its bound. So do pairs: the class that comes closest is one
//! fixed class `j`, the true radius is that against `j`, and the least of all bounds on pairs is at most
//! the bound on the pair with `j`; whatever the other bounds do, and however they depend on each other,
//! the radius is false with at most the probability that this one is. One coin per sample therefore
//! serves all pairs.
//!
//! Where a tolerance is given, the number of samples is planned on the selection's samples, and all of
//! alpha is spent at that number. Where a radius is to be settled, the mean that it needs is tested by a
//! martingale, which may be looked at any time.
//!
//! With a map chosen for each input the certificate speaks of the classifier smoothed with that map,
//! `argmax_j E s_j(h(x + e))`, and of all perturbed inputs under the same map.

mod bound;
mod candidate;
mod estimation;
mod forecast;
mod record;
mod selection;

use std::ops::Range;

use ndarray::Array2;
use thiserror::Error;

use super::ledger::Overdrawn;
use super::noise::Noise;
use super::quantity::Alpha;
use super::simplex::SimplexMap;
use crate::random::InputStreams;

pub use bound::Bound;
pub use candidate::{Candidate, CandidateError, RadiusRule, RuleName};
pub use estimation::{Estimation, Stopping};
pub use record::{Outcome, RecomputeError, Settled, Verdict};
pub use selection::Selection;

/// What sampling can fail with.
pub type SampleError = Box<dyn std::error::Error + Send + Sync>;

/// What is fixed before any sample is drawn.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The noise.
    pub noise: Noise,
    /// On how many entries noise is drawn; recorded only.
    pub entries: usize,
    /// How far the sampled noise may be from the ideal one in total variation; charged to every bound
    /// (`Distribution::charge`).
    pub charge: f64,
    /// The risk of a false certificate.
    pub alpha: Alpha,
    /// Samples for the selection.
    pub n0: u32,
    /// Most samples asked for at once. Does not influence any result.
    pub batch: u32,
    /// What is drawn for this input beside its noise: the one `W` of randomized Clopper-Pearson, and the
    /// coins of pairs, one for each sample.
    pub streams: InputStreams,
}

/// Why an input could not be certified or abstained on.
#[derive(Debug, Error)]
pub enum ProcedureError {
    /// The logits do not have the shape asked for.
    #[error(
        "found logits of {rows} x {columns} for {samples} samples; accepted: one row for each sample, {accepted}"
    )]
    Shape {
        /// Rows found.
        rows: usize,
        /// Columns found.
        columns: usize,
        /// Samples asked for.
        samples: usize,
        /// What the columns should be.
        accepted: String,
    },
    /// The network failed.
    #[error("sampling failed: {0}")]
    Sampling(#[source] SampleError),
    /// A number of samples that cannot be used.
    #[error("found {what} = {found}; accepted: {accepted}")]
    Count {
        /// Which number.
        what: &'static str,
        /// The number.
        found: u64,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// A fraction or charge that cannot be used.
    #[error(transparent)]
    Range(#[from] super::quantity::OutOfRange),
    /// A combination of map, bound and rule that has no meaning.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    /// More alpha was asked for than there is.
    #[error(transparent)]
    Overdrawn(#[from] Overdrawn),
}

/// Scores of one map: those of the `K` classes, and a last one that is 1 where the logits are undefined.
/// A network that answers nothing is thus one more class that can be the runner-up.
struct Scorer {
    map: SimplexMap,
    scores: Vec<f64>,
}

impl Scorer {
    fn new(map: SimplexMap, classes: usize) -> Self {
        Self { map, scores: vec![0.0; classes + 1] }
    }

    fn score(&mut self, logits: &[f32]) -> &[f64] {
        let (undefined, scores) = self.scores.split_last_mut().expect("classes + 1 entries");
        *undefined = if self.map.apply(logits, scores).is_ok() { 0.0 } else { 1.0 };
        &self.scores
    }
}

/// Asks for samples in batches and hands on their logits in order.
fn each_sample(
    range: Range<u32>,
    batch: u32,
    classes: Option<usize>,
    sample: &mut dyn FnMut(Range<u32>) -> Result<Array2<f32>, SampleError>,
    mut take: impl FnMut(&[f32]),
) -> Result<usize, ProcedureError> {
    let (mut next, mut classes) = (range.start, classes);
    while next < range.end {
        let end = next.saturating_add(batch.max(1)).min(range.end);
        let logits = sample(next..end).map_err(ProcedureError::Sampling)?;
        let (rows, columns) = logits.dim();
        let samples = (end - next) as usize;
        let expected = *classes.get_or_insert(columns);
        if rows != samples || columns != expected || columns < 2 {
            let accepted =
                if expected < 2 { "at least 2 columns".into() } else { format!("{expected} columns") };
            return Err(ProcedureError::Shape { rows, columns, samples, accepted });
        }
        let logits = logits.as_standard_layout();
        for row in logits.rows() {
            take(row.as_slice().expect("standard layout"));
        }
        next = end;
    }
    classes.ok_or(ProcedureError::Count { what: "the number of samples", found: 0, accepted: "at least 1" })
}

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod tests;
