//! Step 2: on fresh samples, bound the frozen class's smoothed score.

use std::ops::Range;

use ndarray::Array2;

use super::bound::{Bound, Drawn};
use super::candidate::CandidateError;
use super::{
    Candidate, Outcome, ProcedureError, SampleError, Scorer, Selection, Setup, Verdict, each_sample,
};
use crate::smoothing::confidence::{
    Binomial, Checkpoint, Checkpoints, ConfidenceBound, HedgedBetting, RandomizedClopperPearson, Running,
};
use crate::smoothing::ledger::{Ledger, Overdrawn};
use crate::smoothing::quantity::{Alpha, LowerBound, OutOfRange, Radius, UpperBound};
use crate::smoothing::statistics::{Moments, ScoreStatistics};

/// First sample count at which an adaptive rule looks.
pub(super) const FIRST_CHECKPOINT: u32 = 16;

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

impl Stopping {
    /// The most samples that may be drawn.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Self::Fixed(most) | Self::Settle { most, .. } | Self::Tolerance { most, .. } => most,
        }
    }
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

impl Seen {
    /// All other scores, that of undefined answers last.
    fn others(&self, class: usize) -> impl Iterator<Item = (usize, Moments)> {
        let others = (0..self.statistics.classes()).filter(move |&j| j != class);
        others.map(|j| (j, self.statistics.moments(j)))
    }
}

/// Levels for the class and the runner-up, booked in the ledger.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) top: Alpha,
    pub(super) runner_up: Option<Alpha>,
}

impl Levels {
    pub(super) fn book(ledger: &mut Ledger, candidate: &Candidate, alpha: Alpha) -> Result<Self, Overdrawn> {
        let (top, runner_up) = candidate.split(alpha);
        let top = ledger.spend("lower bound on the class's score", top)?;
        let runner_up = runner_up.map(|a| ledger.spend("upper bound on the runner-up's score", a));
        Ok(Self { top, runner_up: runner_up.transpose()? })
    }
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
        let levels = Levels::book(&mut ledger, candidate, setup.alpha)?;
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
                if let Some(level) = self.bound().level_at(checkpoint, levels.top) {
                    running.raise(self.lower(&seen, level));
                }
                if let Some(level) =
                    levels.runner_up.and_then(|level| self.bound().level_at(checkpoint, level))
                {
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

    fn lower(&self, seen: &Seen, alpha: Alpha) -> LowerBound {
        match &seen.ordered {
            Some((top, _)) => HedgedBetting.lower(top, alpha),
            None => self.bound().lower(&seen.statistics.moments(self.selection.class), alpha, self.drawn()),
        }
    }

    /// The greatest upper bound on any other score; for betting, the bound on the mean of the greatest
    /// other score, which is at least every other mean.
    fn upper(&self, seen: &Seen, alpha: Alpha) -> UpperBound {
        if let Some((_, rest)) = &seen.ordered {
            return HedgedBetting.upper(rest, alpha);
        }
        let others: Vec<Moments> = seen.others(self.selection.class).map(|(_, moments)| moments).collect();
        self.bound().upper_of_all(others.iter(), alpha, self.drawn())
    }

    fn bound(&self) -> Bound {
        self.selection.candidate.bound()
    }

    fn drawn(&self) -> Drawn {
        self.selection.setup.randomized
    }

    fn radius(&self, bounds: &Running) -> Option<Radius> {
        let Selection { setup, candidate, classes, .. } = &self.selection;
        candidate.radius(&setup.noise, *classes, bounds.lower, bounds.upper, setup.charge)
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
        let (class, bound, drawn) = (self.selection.class, self.bound(), self.drawn());
        let top = seen.statistics.moments(class);
        let room = bound
            .level_at(now, levels.top)
            .map_or(1.0, |level| bound.upper(&top, level, drawn).get() - top.mean());
        let end = bound.level_at(last, levels.top)?;
        let hoped = bound.lower(&self.at_end(&top, last), end, drawn).get() + room;
        let lower = LowerBound::new(hoped).tighter(running.lower);
        // Certainty has no quantile; more than the bound of all successes is not to be hoped for.
        let all = Moments::of_counts(Binomial::new(last.count(), last.count())?);
        let all = bound.lower(&all, end, drawn);
        let lower = LowerBound::new(lower.get().min(all.get())).tighter(running.lower);
        let upper = levels.runner_up.map_or(UpperBound::TRIVIAL, |level| {
            let level = bound.level_at(now, level);
            let least = |moments| level.map_or(0.0, |level| bound.lower(&moments, level, drawn).get());
            let means = seen.others(class).map(|(_, moments)| least(moments));
            UpperBound::new(means.fold(0.0, f64::max)).tighter(running.upper)
        });
        self.radius(&Running { lower, upper })
    }

    /// The statistics to expect at the last checkpoint.
    fn at_end(&self, moments: &Moments, last: Checkpoint) -> Moments {
        let scaled = moments.scaled(last.count());
        let indicators = self.bound().needs_indicators();
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
        let randomized = candidate.bound() == Bound::RandomizedClopperPearson;
        Outcome {
            class: *class,
            radius: self.radius(running),
            p_lower: running.lower,
            p_upper: running.upper,
            n0: setup.n0,
            samples: seen.statistics.count(),
            classes: *classes,
            noise: setup.noise.clone(),
            entries: setup.entries,
            charge: setup.charge,
            candidate: *candidate,
            w: setup.randomized.filter(|_| randomized).map(RandomizedClopperPearson::w),
            verdict,
            anytime,
            ledger,
            top: seen.statistics.moments(*class),
            others: front(seen.others(*class).collect()),
        }
    }
}

/// The scores that can have the greatest upper bound: in order of falling means, each with a greater
/// variance than all before it. Every bound grows with both.
fn front(mut scores: Vec<(usize, Moments)>) -> Vec<(usize, Moments)> {
    scores.sort_by(|(_, a), (_, b)| b.mean_upper().total_cmp(&a.mean_upper()));
    let mut widest = f64::NEG_INFINITY;
    scores.retain(|(_, moments)| {
        let kept = moments.variance_upper() > widest;
        widest = widest.max(moments.variance_upper());
        kept
    });
    scores
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
