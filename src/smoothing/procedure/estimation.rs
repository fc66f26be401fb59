//! Step 2: on fresh samples, bound the frozen class's smoothed score.

use std::ops::Range;

use ndarray::Array2;

use super::candidate::{Bound, CandidateError};
use super::{Outcome, ProcedureError, SampleError, Scorer, Selection, Setup, Verdict, each_sample};
use crate::smoothing::confidence::{
    Bernstein, Binomial, Checkpoint, Checkpoints, ClopperPearson, ConfidenceBound, HedgedBetting, Hoeffding,
    KrichevskyTrofimov, RandomizedClopperPearson, Running,
};
use crate::smoothing::ledger::Ledger;
use crate::smoothing::quantity::{Alpha, LowerBound, OutOfRange, Radius, UpperBound};
use crate::smoothing::statistics::{Moments, ScoreStatistics};

/// First sample count at which an adaptive rule looks.
const FIRST_CHECKPOINT: u32 = 16;

/// When to stop sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stopping {
    /// After this many samples.
    Fixed(u32),
    /// As soon as it is settled whether this radius is certified, or after `most` samples.
    Settle {
        /// The radius in question.
        radius: Radius,
        /// Most samples.
        most: u32,
    },
    /// As soon as more samples (up to `most`) could enlarge the radius by less than this fraction of it.
    Tolerance {
        /// The fraction, positive.
        fraction: f64,
        /// Most samples.
        most: u32,
    },
}

/// Step 2 for one input.
#[derive(Debug)]
pub struct Estimation {
    selection: Selection,
}

/// The statistics of the estimation samples.
struct Seen {
    scorer: Scorer,
    statistics: ScoreStatistics,
    /// The class's scores and the greatest other scores in order, for bounds that need them.
    ordered: Option<(Vec<f64>, Vec<f64>)>,
}

/// Levels for the class and the runner-up, booked in the ledger.
#[derive(Clone, Copy)]
struct Levels {
    top: Alpha,
    runner_up: Option<Alpha>,
}

impl Estimation {
    /// Takes over a selection; there is no other way to an estimation.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self { selection }
    }

    /// Draws samples from `n0` on and bounds the frozen class's score.
    ///
    /// `sample` is as in [`Selection::run`]; it is asked for indices in order, from `n0`, each once.
    ///
    /// # Errors
    /// [`ProcedureError`] if the stopping rule does not fit the bound, or if sampling fails.
    pub fn run(
        self,
        stopping: Stopping,
        sample: &mut dyn FnMut(Range<u32>) -> Result<Array2<f32>, SampleError>,
    ) -> Result<Outcome, ProcedureError> {
        let Selection { setup, candidate, classes, .. } = &self.selection;
        let most = check(stopping, setup, candidate.bound())?;
        let mut ledger = Ledger::new(setup.alpha);
        let (top, runner_up) = candidate.split(setup.alpha);
        let levels = Levels {
            top: ledger.spend("lower bound on the class's score", top)?,
            runner_up: runner_up
                .map(|a| ledger.spend("upper bound on the runner-up's score", a))
                .transpose()?,
        };
        let mut seen = Seen {
            scorer: Scorer::new(candidate.map(), *classes),
            statistics: ScoreStatistics::new(classes + 1),
            ordered: (candidate.bound() == Bound::Betting).then(Default::default),
        };
        let mut running = Running::default();
        let mut verdict = Verdict::Exhausted;
        if let Stopping::Fixed(n) = stopping {
            self.draw(&mut seen, n, sample)?;
            running.raise(self.lower(&seen, levels.top));
            running.reduce(levels.runner_up.map_or(UpperBound::TRIVIAL, |level| self.upper(&seen, level)));
        } else {
            let checkpoints: Vec<Checkpoint> = Checkpoints::new(FIRST_CHECKPOINT, most).collect();
            for &checkpoint in &checkpoints {
                self.draw(&mut seen, checkpoint.count(), sample)?;
                if let Some(level) = self.at(checkpoint, levels.top) {
                    running.raise(self.lower(&seen, level));
                }
                if let Some(level) = levels.runner_up.and_then(|level| self.at(checkpoint, level)) {
                    running.reduce(self.upper(&seen, level));
                }
                let radius = self.radius(&running);
                let last = checkpoints[checkpoints.len() - 1];
                if let Some(settled) =
                    self.settled(stopping, radius, &seen, &running, checkpoint, last, levels)
                {
                    verdict = settled;
                    break;
                }
            }
        }
        Ok(self.outcome(&seen, &running, ledger, verdict, !matches!(stopping, Stopping::Fixed(_))))
    }

    /// Draws until there are `count` samples.
    fn draw(
        &self,
        seen: &mut Seen,
        count: u32,
        sample: &mut dyn FnMut(Range<u32>) -> Result<Array2<f32>, SampleError>,
    ) -> Result<(), ProcedureError> {
        let Selection { setup, classes, class, .. } = &self.selection;
        let range = setup.n0 + seen.statistics.count()..setup.n0 + count;
        each_sample(range, setup.batch, Some(*classes), sample, |logits| {
            let scores = seen.scorer.score(logits);
            seen.statistics.push(scores);
            if let Some((top, rest)) = &mut seen.ordered {
                top.push(scores[*class]);
                let others = scores.iter().enumerate().filter(|&(j, _)| j != *class);
                rest.push(others.fold(0.0, |greatest: f64, (_, &s)| greatest.max(s)));
            }
        })?;
        Ok(())
    }

    /// The level of a checkpoint: a share of `alpha`, or all of it for bounds that hold at all times.
    fn at(&self, checkpoint: Checkpoint, alpha: Alpha) -> Option<Alpha> {
        match self.selection.candidate.bound() {
            Bound::KrichevskyTrofimov => Some(alpha),
            _ => checkpoint.level(alpha),
        }
    }

    fn lower(&self, seen: &Seen, alpha: Alpha) -> LowerBound {
        match &seen.ordered {
            Some((top, _)) => HedgedBetting.lower(top, alpha),
            None => self.moments_lower(&seen.statistics.moments(self.selection.class), alpha),
        }
    }

    /// The greatest upper bound on any other score; for betting, the bound on the mean of the greatest
    /// other score, which is at least every other mean.
    fn upper(&self, seen: &Seen, alpha: Alpha) -> UpperBound {
        if let Some((_, rest)) = &seen.ordered {
            return HedgedBetting.upper(rest, alpha);
        }
        let others = (0..=self.selection.classes).filter(|&j| j != self.selection.class);
        let moments = others.map(|j| seen.statistics.moments(j));
        if self.selection.candidate.bound().needs_indicators() {
            // Binomial bounds grow with the count.
            let most = moments.max_by_key(|m| m.counts().map(Binomial::successes));
            return most.map_or(UpperBound::TRIVIAL, |m| self.moments_upper(&m, alpha));
        }
        let bounds = moments.map(|m| self.moments_upper(&m, alpha));
        bounds.fold(UpperBound::new(0.0), |a, b| if b > a { b } else { a })
    }

    fn moments_lower(&self, moments: &Moments, alpha: Alpha) -> LowerBound {
        let binomial = |bound: &dyn ConfidenceBound<Sample = Binomial>| {
            moments.counts().map_or(LowerBound::TRIVIAL, |counts| bound.lower(&counts, alpha))
        };
        match self.selection.candidate.bound() {
            Bound::ClopperPearson => binomial(&ClopperPearson),
            Bound::RandomizedClopperPearson => match &self.selection.setup.randomized {
                Some(bound) => binomial(bound),
                None => LowerBound::TRIVIAL,
            },
            Bound::KrichevskyTrofimov => binomial(&KrichevskyTrofimov),
            Bound::Hoeffding => Hoeffding.lower(moments, alpha),
            Bound::Bernstein => Bernstein.lower(moments, alpha),
            Bound::Betting => LowerBound::TRIVIAL,
        }
    }

    fn moments_upper(&self, moments: &Moments, alpha: Alpha) -> UpperBound {
        let binomial = |bound: &dyn ConfidenceBound<Sample = Binomial>| {
            moments.counts().map_or(UpperBound::TRIVIAL, |counts| bound.upper(&counts, alpha))
        };
        match self.selection.candidate.bound() {
            Bound::ClopperPearson => binomial(&ClopperPearson),
            Bound::RandomizedClopperPearson => match &self.selection.setup.randomized {
                Some(bound) => binomial(bound),
                None => UpperBound::TRIVIAL,
            },
            Bound::KrichevskyTrofimov => binomial(&KrichevskyTrofimov),
            Bound::Hoeffding => Hoeffding.upper(moments, alpha),
            Bound::Bernstein => Bernstein.upper(moments, alpha),
            Bound::Betting => UpperBound::TRIVIAL,
        }
    }

    fn radius(&self, bounds: &Running) -> Option<Radius> {
        let Selection { setup, candidate, classes, .. } = &self.selection;
        candidate.radius(setup.threat, *classes, bounds.lower, bounds.upper, setup.charge)
    }

    /// Whether a checkpoint settles the question.
    #[expect(clippy::too_many_arguments, reason = "all that an adaptive rule looks at")]
    fn settled(
        &self,
        stopping: Stopping,
        radius: Option<Radius>,
        seen: &Seen,
        running: &Running,
        now: Checkpoint,
        last: Checkpoint,
        levels: Levels,
    ) -> Option<Verdict> {
        match stopping {
            Stopping::Fixed(_) => None,
            Stopping::Settle { radius: wanted, .. } => {
                if radius.is_some_and(|r| r >= wanted) {
                    return Some(Verdict::Reached);
                }
                let best = self.best_case(seen, running, now, last, levels);
                (!best.is_some_and(|r| r >= wanted)).then_some(Verdict::OutOfReach)
            }
            Stopping::Tolerance { fraction, .. } => {
                let best = self.best_case(seen, running, now, last, levels).map_or(0.0, Radius::get);
                let so_far = radius.map_or(0.0, Radius::get);
                (best <= so_far * (1.0 + fraction)).then_some(Verdict::Converged)
            }
        }
    }

    /// The radius if the true scores were as good as the samples allow and all samples were drawn. It
    /// only decides when to stop, so nothing is charged for it and nothing is rounded.
    fn best_case(
        &self,
        seen: &Seen,
        running: &Running,
        now: Checkpoint,
        last: Checkpoint,
        levels: Levels,
    ) -> Option<Radius> {
        let Selection { class, classes, .. } = &self.selection;
        let top = seen.statistics.moments(*class);
        let room =
            self.at(now, levels.top).map_or(1.0, |level| self.moments_upper(&top, level).get() - top.mean());
        let end = self.at(last, levels.top)?;
        let hoped = self.moments_lower(&self.at_end(&top, last), end).get() + room;
        let lower = LowerBound::new(hoped).tighter(running.lower);
        // Certainty has no quantile; more than the bound of all successes is not to be hoped for.
        let all = self.moments_lower(&Moments::of_counts(Binomial::new(last.count(), last.count())?), end);
        let lower = LowerBound::new(lower.get().min(all.get())).tighter(running.lower);
        let upper = levels.runner_up.map_or(UpperBound::TRIVIAL, |level| {
            let others = (0..=*classes).filter(|j| j != class);
            let means = others.map(|j| {
                let moments = seen.statistics.moments(j);
                self.at(now, level).map_or(0.0, |level| self.moments_lower(&moments, level).get())
            });
            UpperBound::new(means.fold(0.0, f64::max)).tighter(running.upper)
        });
        self.radius(&Running { lower, upper })
    }

    /// The statistics to expect at the last checkpoint.
    fn at_end(&self, moments: &Moments, last: Checkpoint) -> Moments {
        let scaled = moments.scaled(last.count());
        let indicators = self.selection.candidate.bound().needs_indicators();
        if indicators { Moments::of_counts(scaled.nearest_counts()) } else { scaled }
    }

    fn outcome(
        &self,
        seen: &Seen,
        running: &Running,
        ledger: Ledger,
        verdict: Verdict,
        anytime: bool,
    ) -> Outcome {
        let Selection { setup, candidate, class, classes } = &self.selection;
        let mut runner_up = (usize::from(*class == 0), seen.statistics.moments(usize::from(*class == 0)));
        for j in (0..=*classes).filter(|j| j != class) {
            let moments = seen.statistics.moments(j);
            if moments.mean() > runner_up.1.mean() {
                runner_up = (j, moments);
            }
        }
        let randomized = candidate.bound() == Bound::RandomizedClopperPearson;
        Outcome {
            class: *class,
            radius: self.radius(running),
            p_lower: running.lower,
            p_upper: running.upper,
            n0: setup.n0,
            samples: seen.statistics.count(),
            classes: *classes,
            threat: setup.threat,
            charge: setup.charge,
            candidate: *candidate,
            w: setup.randomized.filter(|_| randomized).map(RandomizedClopperPearson::w),
            verdict,
            anytime,
            ledger,
            top: seen.statistics.moments(*class),
            runner_up,
        }
    }
}

/// The most samples that a stopping rule allows.
fn check(stopping: Stopping, setup: &Setup, bound: Bound) -> Result<u32, ProcedureError> {
    let most = match stopping {
        Stopping::Fixed(n) => n,
        Stopping::Settle { most, .. } => most,
        Stopping::Tolerance { fraction, most } => {
            if !(fraction > 0.0 && fraction.is_finite()) {
                let (quantity, accepted) = ("the tolerance", "a positive number");
                return Err(OutOfRange { quantity, found: fraction, accepted }.into());
            }
            most
        }
    };
    if most == 0 || most > u32::MAX - 1 - setup.n0 {
        let accepted = "at least 1, and together with n0 below 2^32 - 1";
        return Err(ProcedureError::Count { what: "the number of samples", found: most.into(), accepted });
    }
    if bound == Bound::Betting && !matches!(stopping, Stopping::Fixed(_)) {
        return Err(CandidateError::NotAnytime { bound }.into());
    }
    Ok(most)
}
