//! Step 1: on the first `n0` samples, choose and freeze.

use std::ops::Range;

use ndarray::Array2;

use super::candidate::CandidateError;
use super::forecast::{self, FOLDS, Forecast, Sums};
use super::{Candidate, ProcedureError, SampleError, Scorer, Setup, Stopping, each_sample};
use crate::smoothing::quantity::{LowerBound, OutOfRange};

/// Standard errors that the gain of another map or bound has to exceed: the best of some forty forecasts is
/// too good by about two, and errors that are estimated from ten parts are themselves off by a quarter.
const OTHER_SCORES: f64 = 4.0;

/// The frozen outcome of step 1. It is made by [`Selection::run`] only, cannot be copied, and is consumed
/// by [`Estimation::new`](super::Estimation::new).
#[derive(Debug)]
pub struct Selection {
    pub(super) setup: Setup,
    pub(super) stopping: Stopping,
    pub(super) candidate: Candidate,
    pub(super) classes: usize,
    pub(super) forecast: Forecast,
}

impl Selection {
    /// Draws the samples `0 .. n0` and chooses, for each map, the class of the highest mean score, and
    /// among the candidates the one of the largest radius to expect at the end, or of the soonest answer
    /// where a radius is to be settled. The first candidate is left only for a gain that exceeds the
    /// error of its forecast, one standard error (by the jackknife over ten parts) for another rule and
    /// four for another map or bound; the candidates are compared by their gains less this.
    ///
    /// `sample` gives the logits (`samples x K`, `K >= 2`) of a range of sample indices, each under its
    /// own noise. How well this chooses has no influence on the validity of what follows.
    ///
    /// # Errors
    /// [`ProcedureError`] for candidates without meaning, or if sampling fails.
    pub fn run(
        setup: Setup,
        candidates: &[Candidate],
        stopping: Stopping,
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
        stopping.check(setup.n0)?;
        let mut logits = Vec::new();
        let classes =
            each_sample(0..setup.n0, setup.batch, None, sample, |row| logits.extend_from_slice(row))?;
        let mut forecasts: Vec<Forecast> = Vec::new();
        let mut of = Vec::new();
        for (i, candidate) in candidates.iter().enumerate() {
            candidate.check_for(&setup.noise, classes)?;
            candidate.check_stopping(stopping)?;
            let same = candidates[..i].iter().position(|earlier| earlier.map() == candidate.map());
            of.push(same.map_or(forecasts.len(), |earlier| of[earlier]));
            if same.is_none() {
                forecasts.push(forecast(candidate, &logits, classes));
            }
        }
        let objectives: Vec<_> = candidates
            .iter()
            .map(|candidate| Objective::new(candidate, candidates, &setup, classes, stopping))
            .collect();
        let first: Vec<f64> = forecasts[of[0]].views().map(|sums| objectives[0].of(&sums)).collect();
        let mut best = (0.0, 0);
        for (i, objective) in objectives.iter().enumerate().skip(1) {
            let mut views = forecasts[of[i]].views();
            let mut gains = views.by_ref().take(1).map(|sums| objective.of(&sums) - first[0]);
            let gain = gains.next().unwrap_or(0.0);
            if gain > best.0 {
                let left_out: Vec<f64> =
                    views.zip(&first[1..]).map(|(sums, first)| objective.of(&sums) - first).collect();
                let alike = candidates[i].map() == candidates[0].map()
                    && candidates[i].bound() == candidates[0].bound();
                let certain = gain - if alike { 1.0 } else { OTHER_SCORES } * standard_error(&left_out);
                if certain > best.0 {
                    best = (certain, i);
                }
            }
        }
        let forecast = forecasts.swap_remove(of[best.1]);
        Ok(Self { setup, stopping, candidate: candidates[best.1], classes, forecast })
    }

    /// The frozen class.
    #[must_use]
    pub fn class(&self) -> usize {
        self.forecast.class
    }

    /// The frozen map, bound and rule.
    #[must_use]
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }
}

fn forecast(candidate: &Candidate, logits: &[f32], classes: usize) -> Forecast {
    let mut scorer = Scorer::new(candidate.map(), classes);
    let mut scores = Vec::with_capacity(logits.len() / classes * (classes + 1));
    for row in logits.chunks_exact(classes) {
        scores.extend_from_slice(scorer.score(row));
    }
    Forecast::new(&scores, classes + 1)
}

/// The jackknife's, from values with one part left out each.
fn standard_error(left_out: &[f64]) -> f64 {
    let parts = FOLDS as f64;
    let mean = left_out.iter().sum::<f64>() / parts;
    let squares: f64 = left_out.iter().map(|value| (value - mean).powi(2)).sum();
    ((parts - 1.0) / parts * squares).sqrt()
}

/// What is to be large.
struct Objective<'a> {
    candidate: &'a Candidate,
    setup: &'a Setup,
    classes: usize,
    most: u32,
    /// The mean that settles the radius, where all candidates look at one mean.
    threshold: Option<LowerBound>,
}

impl<'a> Objective<'a> {
    fn new(
        candidate: &'a Candidate,
        all: &[Candidate],
        setup: &'a Setup,
        classes: usize,
        stopping: Stopping,
    ) -> Self {
        let threshold = match stopping {
            Stopping::Settle { radius, .. } if !all.iter().any(|c| c.rule().uses_runner_up()) => Some(
                candidate
                    .threshold(&setup.noise, classes, radius, setup.charge)
                    .unwrap_or(LowerBound::new(1.0)),
            ),
            _ => None,
        };
        Self { candidate, setup, classes, most: stopping.most().max(2), threshold }
    }

    fn of(&self, sums: &Sums) -> f64 {
        match self.threshold {
            Some(threshold) => forecast::rate(sums, self.candidate, threshold.get()),
            None => forecast::radius(sums, self.setup, self.candidate, self.classes, self.most),
        }
    }
}
