//! Step 1: on the first `n0` samples, choose and freeze.

use std::ops::Range;

use ndarray::Array2;

use super::candidate::CandidateError;
use super::{Bound, Candidate, ProcedureError, SampleError, Scorer, Setup, each_sample};
use crate::smoothing::confidence::{
    Bernstein, ClopperPearson, ConfidenceBound, Hoeffding, KrichevskyTrofimov,
};
use crate::smoothing::quantity::{Alpha, LowerBound, OutOfRange, Radius, UpperBound};
use crate::smoothing::statistics::{Moments, ScoreStatistics};

/// The frozen outcome of step 1. It is made by [`Selection::run`] only, cannot be copied, and is consumed
/// by [`Estimation::new`](super::Estimation::new).
#[derive(Debug)]
pub struct Selection {
    pub(super) setup: Setup,
    pub(super) candidate: Candidate,
    pub(super) class: usize,
    pub(super) classes: usize,
}

impl Selection {
    /// Draws the samples `0 .. n0` and chooses, for each candidate, the class of the highest mean score;
    /// among the candidates, the one that promises the largest radius if `planned` samples showed the
    /// same mean and variance. Ties go to the earlier candidate.
    ///
    /// `sample` gives the logits (`samples x K`, `K >= 2`) of a range of sample indices, each under its
    /// own noise. How well this chooses has no influence on the validity of what follows.
    ///
    /// # Errors
    /// [`ProcedureError`] for candidates without meaning, or if sampling fails.
    pub fn run(
        setup: Setup,
        candidates: &[Candidate],
        planned: u32,
        sample: &mut dyn FnMut(Range<u32>) -> Result<Array2<f32>, SampleError>,
    ) -> Result<Self, ProcedureError> {
        if candidates.is_empty() {
            return Err(CandidateError::None.into());
        }
        if setup.n0 == 0 || setup.n0 == u32::MAX {
            let accepted = "at least 1 and below 2^32 - 1";
            return Err(ProcedureError::Count { what: "n0", found: setup.n0.into(), accepted });
        }
        if !(0.0..=1.0).contains(&setup.charge) {
            let (quantity, accepted) = ("the charge for the noise", "a number between 0 and 1");
            return Err(OutOfRange { quantity, found: setup.charge, accepted }.into());
        }
        let randomized = candidates.iter().any(|c| c.bound() == Bound::RandomizedClopperPearson);
        if randomized && setup.randomized.is_none() {
            return Err(CandidateError::NoDraw.into());
        }
        let mut running: Vec<(Scorer, ScoreStatistics)> = Vec::new();
        let classes = each_sample(0..setup.n0, setup.batch, None, sample, |logits| {
            if running.is_empty() {
                let fresh = |c: &Candidate| {
                    (Scorer::new(c.map(), logits.len()), ScoreStatistics::new(logits.len() + 1))
                };
                running = candidates.iter().map(fresh).collect();
            }
            for (scorer, statistics) in &mut running {
                scorer.add_to(statistics, logits);
            }
        })?;
        let mut best: Option<(f64, Candidate, usize)> = None;
        for (candidate, (_, statistics)) in candidates.iter().zip(&running) {
            candidate.check_for(&setup.noise, classes)?;
            let class = top_class(statistics, classes);
            let promise = promise(&setup, candidate, statistics, class, planned.max(2));
            if best.is_none_or(|(so_far, ..)| promise > so_far) {
                best = Some((promise, *candidate, class));
            }
        }
        let (_, candidate, class) = best.ok_or(CandidateError::None)?;
        Ok(Self { setup, candidate, class, classes })
    }

    /// The frozen class.
    #[must_use]
    pub fn class(&self) -> usize {
        self.class
    }

    /// The frozen map, bound and rule.
    #[must_use]
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }
}

/// The first class of highest mean, leaving out the undefined answers.
fn top_class(statistics: &ScoreStatistics, classes: usize) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for class in 0..classes {
        let mean = statistics.moments(class).mean();
        if mean > best.1 {
            best = (class, mean);
        }
    }
    best.0
}

/// The radius to hope for; 0 for none.
fn promise(setup: &Setup, candidate: &Candidate, seen: &ScoreStatistics, class: usize, planned: u32) -> f64 {
    let (first, second) = candidate.split(setup.alpha);
    // One more sample of score 1/2: n0 successes of n0 do not promise certainty.
    let hedged = |moments: Moments| {
        let mut hedged = moments;
        hedged.push(0.5);
        hedged.scaled(planned)
    };
    let p1 = expected_lower(candidate.bound(), &hedged(seen.moments(class)), first);
    let p2 = second.map_or(UpperBound::TRIVIAL, |level| {
        let others = (0..seen.classes()).filter(|&other| other != class);
        let bounds =
            others.map(|j| expected_upper(candidate.bound(), &seen.moments(j).scaled(planned), level));
        bounds.fold(UpperBound::new(0.0), |a, b| if b > a { b } else { a })
    });
    candidate.radius(&setup.noise, seen.classes() - 1, p1, p2, setup.charge).map_or(0.0, Radius::get)
}

fn expected_lower(bound: Bound, moments: &Moments, alpha: Alpha) -> LowerBound {
    match bound {
        Bound::ClopperPearson | Bound::RandomizedClopperPearson => {
            ClopperPearson.lower(&moments.nearest_counts(), alpha)
        }
        Bound::KrichevskyTrofimov => KrichevskyTrofimov.lower(&moments.nearest_counts(), alpha),
        Bound::Hoeffding => Hoeffding.lower(moments, alpha),
        Bound::Bernstein => Bernstein.lower(moments, alpha),
        Bound::Betting => LowerBound::new(moments.mean() - betting_width(moments, alpha)),
    }
}

fn expected_upper(bound: Bound, moments: &Moments, alpha: Alpha) -> UpperBound {
    match bound {
        Bound::ClopperPearson | Bound::RandomizedClopperPearson => {
            ClopperPearson.upper(&moments.nearest_counts(), alpha)
        }
        Bound::KrichevskyTrofimov => KrichevskyTrofimov.upper(&moments.nearest_counts(), alpha),
        Bound::Hoeffding => Hoeffding.upper(moments, alpha),
        Bound::Bernstein => Bernstein.upper(moments, alpha),
        Bound::Betting => UpperBound::new(moments.mean() + betting_width(moments, alpha)),
    }
}

/// About how far a betting bound lies from the mean.
fn betting_width(moments: &Moments, alpha: Alpha) -> f64 {
    let (log, n) = (-alpha.get().ln(), f64::from(moments.count()));
    moments.sd() * (2.0 * log / n).sqrt() + log / n
}
