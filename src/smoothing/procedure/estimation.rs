//! Step 2: on fresh samples, bound the frozen class's smoothed score.

use std::cmp::Ordering;
use std::ops::Range;

use ndarray::Array2;

use super::bound::{Beside, Bound};
use super::record::Settled;
use super::{Candidate, Outcome, ProcedureError, SampleError, Scorer, Selection, Verdict, each_sample};
use crate::rounding::directed::ln_down;
use crate::smoothing::confidence::{
    Binomial, Capital, Checkpoint, Checkpoints, HedgedBetting, POWER, RandomizedClopperPearson, Running,
    TestMartingale, WORTHWHILE,
};
use crate::smoothing::ledger::{Ledger, Overdrawn};
use crate::smoothing::quantity::{Alpha, LowerBound, OutOfRange, Radius, UpperBound};
use crate::smoothing::statistics::{Moments, ScoreStatistics};

/// First sample count at which an adaptive rule looks.
pub(super) const FIRST_CHECKPOINT: u32 = 16;

/// Other classes whose scores are kept in order one by one; those of the rest are kept as their greatest.
const RIVALS: usize = 8;

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
    /// After as many samples, planned before the first one, as bring the radius within this fraction of
    /// the one to expect from `most`.
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
    /// The scores of the pairs with every other class, if the rule asks for them; the class's own entry
    /// has no meaning.
    pairs: Option<ScoreStatistics>,
    /// For bounds that need scores in order: the class's, and those of other classes, or of their pairs.
    ordered: Option<(Vec<f64>, Vec<Vec<f64>>)>,
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
        let purpose = match candidate.rule().weight() {
            Some(_) => "lower bound on the scores of all pairs",
            None => "lower bound on the class's score",
        };
        let top = ledger.spend(purpose, top)?;
        let runner_up = runner_up.map(|a| ledger.spend("upper bound on the runner-up's score", a));
        Ok(Self { top, runner_up: runner_up.transpose()? })
    }
}

/// What asks for samples.
type Sample<'a> = dyn FnMut(Range<u32>) -> Result<Array2<f32>, SampleError> + 'a;

/// How the estimation ended.
struct End {
    running: Running,
    verdict: Verdict,
    settled: Option<Settled>,
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
    /// [`ProcedureError`] if sampling fails.
    pub fn run(self, sample: &mut Sample) -> Result<Outcome, ProcedureError> {
        let Selection { setup, stopping, candidate, classes, forecast } = &self.selection;
        let mut ledger = Ledger::new(setup.alpha);
        let levels = Levels::book(&mut ledger, candidate, setup.alpha)?;
        let mut seen = Seen {
            scorer: Scorer::new(candidate.map(), *classes),
            statistics: ScoreStatistics::new(classes + 1),
            pairs: candidate.rule().weight().map(|_| ScoreStatistics::new(classes + 1)),
            ordered: (candidate.bound() == Bound::Betting)
                .then(|| (Vec::new(), vec![Vec::new(); forecast.others.len().min(RIVALS + 1)])),
        };
        let fixed = |n| (n, if n < stopping.most() { Verdict::Converged } else { Verdict::Exhausted });
        let (n, verdict) = match *stopping {
            Stopping::Fixed(n) => (n, Verdict::Exhausted),
            Stopping::Tolerance { fraction, most } => fixed(forecast.plan(setup, candidate, fraction, most)),
            Stopping::Settle { radius, most } => {
                let one_mean = !candidate.rule().uses_runner_up();
                let tests = matches!(candidate.bound(), Bound::TestMartingale | Bound::Betting);
                let end = if one_mean && tests {
                    self.test(&mut seen, radius, most, levels.top, sample)?
                } else {
                    self.settle(&mut seen, radius, most, levels, sample)?
                };
                return Ok(self.outcome(&seen, end, ledger, true));
            }
        };
        self.draw(&mut seen, n, sample)?;
        let mut running = Running::default();
        self.tighten(&mut running, &seen, n, Some(levels.top), levels.runner_up, &self.beside());
        Ok(self.outcome(&seen, End { running, verdict, settled: None }, ledger, false))
    }

    /// Tests the mean that a radius needs, at checkpoints.
    fn test(
        &self,
        seen: &mut Seen,
        radius: Radius,
        most: u32,
        alpha: Alpha,
        sample: &mut Sample,
    ) -> Result<End, ProcedureError> {
        let Selection { setup, candidate, classes, forecast, .. } = &self.selection;
        let mut end = End { running: Running::default(), verdict: Verdict::OutOfReach, settled: None };
        let Some(threshold) = candidate.threshold(&setup.noise, *classes, radius, setup.charge) else {
            return Ok(end);
        };
        let pilot = forecast.counts(candidate.rule());
        let test = TestMartingale::new(threshold, pilot);
        let (futility, mut evidence) = (test.futility(most, alpha), None);
        // Betting: for each mean a capital against the threshold, and one for giving up.
        let hoped = {
            let (log, n) = (WORTHWHILE * -libm::log(alpha.get()), f64::from(most));
            threshold.get() + (2.0 * forecast.variance(candidate.rule()) * log / n).sqrt() + 0.5 * log / n
        };
        let risk = Alpha::new(1.0 - POWER)?;
        // Bets are sized for the number of samples that the answer, either way, can be expected to take.
        let planned = forecast.duration(candidate, threshold.get(), alpha, most) as usize;
        let at_worst = (f64::from(most) / WORTHWHILE) as usize + 1;
        let mut capitals: Vec<[Capital; 2]> = Vec::new();
        let mut taken = 0;
        for checkpoint in Checkpoints::new(FIRST_CHECKPOINT, most) {
            self.draw(seen, checkpoint.count(), sample)?;
            let futile = if let Some((top, others)) = &seen.ordered {
                let lists: Vec<&Vec<f64>> =
                    if candidate.rule().weight().is_some() { others.iter().collect() } else { vec![top] };
                capitals.resize(
                    lists.len(),
                    [
                        Capital::new(threshold.get(), planned, alpha),
                        Capital::new((1.0 - hoped).max(1e-9), at_worst, risk),
                    ],
                );
                for (scores, [reach, give_up]) in lists.iter().zip(&mut capitals) {
                    for &score in &scores[taken..] {
                        reach.push(score);
                        give_up.push(1.0 - score);
                    }
                }
                taken = seen.statistics.count() as usize;
                let least = capitals.iter().map(|[reach, _]| reach.ln()).fold(f64::INFINITY, f64::min);
                evidence = Some(evidence.map_or(least, |before: f64| before.max(least)));
                if ln_reaches(least, alpha) {
                    let (lower, upper) = candidate.rule().bounds(threshold);
                    end.running = Running { lower, upper };
                }
                capitals.iter().any(|[_, give_up]| ln_reaches(give_up.ln(), risk))
            } else {
                let least = self.means(seen).filter_map(|m| m.counts()).map(Binomial::successes).min();
                let counts = least.and_then(|k| Binomial::new(k, checkpoint.count()));
                let futile = counts.is_none_or(|counts| futility.reached(counts));
                if futile
                    || checkpoint.count() == most
                    || counts.is_some_and(|counts| test.reached(counts, alpha))
                {
                    let beside = Beside { test: Some(test.clone()), ..Beside::default() };
                    self.tighten(&mut end.running, seen, most, Some(alpha), None, &beside);
                }
                futile
            };
            end.verdict = Verdict::Exhausted;
            if self.radius(&end.running).is_some_and(|found| found >= radius) {
                end.verdict = Verdict::Reached;
                break;
            }
            if futile {
                end.verdict = Verdict::OutOfReach;
                break;
            }
        }
        let evidence = evidence.filter(|ln| ln.is_finite());
        end.settled =
            Some(Settled { radius, threshold, pilot: (pilot.successes(), pilot.trials()), evidence });
        Ok(end)
    }

    /// Settles a radius by bounds on two means, at checkpoints that share alpha.
    fn settle(
        &self,
        seen: &mut Seen,
        wanted: Radius,
        most: u32,
        levels: Levels,
        sample: &mut Sample,
    ) -> Result<End, ProcedureError> {
        let mut end = End { running: Running::default(), verdict: Verdict::Exhausted, settled: None };
        let checkpoints: Vec<Checkpoint> = Checkpoints::new(FIRST_CHECKPOINT, most).collect();
        let last = checkpoints[checkpoints.len() - 1];
        for &now in &checkpoints {
            self.draw(seen, now.count(), sample)?;
            let bound = self.bound();
            let (top, runner_up) = (
                bound.level_at(now, levels.top),
                levels.runner_up.and_then(|level| bound.level_at(now, level)),
            );
            self.tighten(&mut end.running, seen, most, top, runner_up, &self.beside());
            if self.radius(&end.running).is_some_and(|r| r >= wanted) {
                end.verdict = Verdict::Reached;
                break;
            }
            let best = self.best_case(seen, &end.running, now, last, levels);
            if !best.is_some_and(|r| r >= wanted) {
                end.verdict = Verdict::OutOfReach;
                break;
            }
        }
        Ok(end)
    }

    /// Draws until there are `count` samples.
    fn draw(&self, seen: &mut Seen, count: u32, sample: &mut Sample) -> Result<(), ProcedureError> {
        let Selection { setup, classes, forecast, candidate, .. } = &self.selection;
        let (class, weight) = (forecast.class, candidate.rule().weight());
        let coins = candidate.bound().needs_indicators();
        let mut index = setup.n0 + seen.statistics.count();
        let mut pair = vec![0.0; classes + 1];
        each_sample(index..setup.n0 + count, setup.batch, Some(*classes), sample, |logits| {
            let scores = seen.scorer.score(logits);
            seen.statistics.push(scores);
            if let (Some(weight), Some(pairs)) = (weight, &mut seen.pairs) {
                let coin = coins.then(|| f64::from(u8::from(weight.coin(setup.streams.byte(index)))));
                for (pair, &other) in pair.iter_mut().zip(scores) {
                    let tie = coin.filter(|_| scores[class] == 0.0 && other == 0.0);
                    *pair = tie.unwrap_or_else(|| weight.score(scores[class], other));
                }
                pairs.push(&pair);
            }
            if let Some((top, others)) = &mut seen.ordered {
                top.push(scores[class]);
                let ranked = forecast.others.iter().map(|&j| scores[j]);
                let rest = ranked.clone().skip(RIVALS).fold(f64::NEG_INFINITY, f64::max);
                let kept = ranked.take(RIVALS).chain((rest >= 0.0).then_some(rest));
                for (list, other) in others.iter_mut().zip(kept) {
                    list.push(weight.map_or(other, |weight| weight.score(scores[class], other)));
                }
            }
            index += 1;
        })?;
        Ok(())
    }

    /// Takes up the bounds at these levels.
    fn tighten(
        &self,
        running: &mut Running,
        seen: &Seen,
        planned: u32,
        top: Option<Alpha>,
        runner_up: Option<Alpha>,
        beside: &Beside,
    ) {
        let (rule, bound, planned) = (self.selection.candidate.rule(), self.bound(), planned as usize);
        if let Some(level) = top {
            let mean = if let Some((top, pairs)) = &seen.ordered {
                let lists: Vec<&[f64]> = if rule.weight().is_some() {
                    pairs.iter().map(Vec::as_slice).collect()
                } else {
                    vec![top]
                };
                HedgedBetting.lower_of_all(lists, planned, level)
            } else {
                let means: Vec<Moments> = self.means(seen).collect();
                bound.lower_of_all(means.iter(), level, beside)
            };
            let (lower, upper) = rule.bounds(mean);
            running.raise(lower);
            running.reduce(upper);
        }
        if let Some(level) = runner_up {
            running.reduce(if let Some((_, others)) = &seen.ordered {
                HedgedBetting.upper_of_all(others.iter().map(Vec::as_slice), planned, level)
            } else {
                let others: Vec<Moments> = self.others(&seen.statistics).map(|(_, m)| m).collect();
                bound.upper_of_all(others.iter(), level, beside)
            });
        }
    }

    /// The statistics of the means that the rule bounds from below: of every pair, or of the class.
    fn means(&self, seen: &Seen) -> impl Iterator<Item = Moments> {
        let alone = seen.pairs.is_none().then(|| seen.statistics.moments(self.selection.class()));
        let pairs = seen.pairs.iter().flat_map(|pairs| self.others(pairs).map(|(_, moments)| moments));
        alone.into_iter().chain(pairs)
    }

    /// All but the class, that of undefined answers last.
    fn others(&self, statistics: &ScoreStatistics) -> impl Iterator<Item = (usize, Moments)> {
        let class = self.selection.class();
        let others = (0..statistics.classes()).filter(move |&j| j != class);
        others.map(|j| (j, statistics.moments(j)))
    }

    fn bound(&self) -> Bound {
        self.selection.candidate.bound()
    }

    fn beside(&self) -> Beside {
        let drawn = RandomizedClopperPearson::new(self.selection.setup.streams.once()).ok();
        Beside { drawn, test: None }
    }

    fn radius(&self, bounds: &Running) -> Option<Radius> {
        let Selection { setup, candidate, classes, .. } = &self.selection;
        candidate.radius(&setup.noise, *classes, bounds.lower, bounds.upper, setup.charge)
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
        // Betting takes scores in order; its bound is about this one.
        let bound = if self.bound() == Bound::Betting { Bound::Bernstein } else { self.bound() };
        let beside = self.beside();
        let least = self.means(seen).min_by(|a, b| a.mean().total_cmp(&b.mean()))?;
        let room = bound
            .level_at(now, levels.top)
            .map_or(1.0, |level| bound.upper(&least, level, &beside).get() - least.mean());
        let end = bound.level_at(last, levels.top)?;
        let at_end = if bound.needs_indicators() {
            Moments::of_counts(least.scaled(last.count()).nearest_counts())
        } else {
            least.scaled(last.count())
        };
        let hoped = bound.lower(&at_end, end, &beside).get() + room;
        // Certainty has no quantile; more than the bound of all successes is not to be hoped for.
        let all = Moments::of_counts(Binomial::new(last.count(), last.count())?);
        let all = bound.lower(&all, end, &beside);
        let (lower, upper) = self.selection.candidate.rule().bounds(LowerBound::new(hoped.min(all.get())));
        let upper = levels.runner_up.map_or(upper, |level| {
            let level = bound.level_at(now, level);
            let least = |moments| level.map_or(0.0, |level| bound.lower(&moments, level, &beside).get());
            let means = self.others(&seen.statistics).map(|(_, moments)| least(moments));
            UpperBound::new(means.fold(0.0, f64::max))
        });
        let (lower, upper) = (lower.tighter(running.lower), upper.tighter(running.upper));
        self.radius(&Running { lower, upper })
    }

    fn outcome(&self, seen: &Seen, end: End, ledger: Ledger, anytime: bool) -> Outcome {
        let Selection { setup, candidate, classes, .. } = &self.selection;
        let (class, randomized) =
            (self.selection.class(), candidate.bound() == Bound::RandomizedClopperPearson);
        Outcome {
            class,
            radius: self.radius(&end.running),
            p_lower: end.running.lower,
            p_upper: end.running.upper,
            n0: setup.n0,
            samples: seen.statistics.count(),
            classes: *classes,
            noise: setup.noise.clone(),
            entries: setup.entries,
            charge: setup.charge,
            candidate: *candidate,
            w: randomized.then(|| setup.streams.once()),
            verdict: end.verdict,
            anytime,
            settled: end.settled,
            ledger,
            top: seen.statistics.moments(class),
            others: front(self.others(&seen.statistics).collect(), |a, b| b > a),
            pairs: seen
                .pairs
                .iter()
                .flat_map(|pairs| front(self.others(pairs).collect(), |a, b| a > b))
                .collect(),
        }
    }
}

/// Whether a capital of this logarithm has reached `1/alpha`.
pub(super) fn ln_reaches(ln_capital: f64, alpha: Alpha) -> bool {
    ln_capital >= -ln_down(alpha.get())
}

/// The scores that can have the weakest bound: in order from the weakest mean, each with a greater
/// variance than all before it. Every bound weakens with both.
fn front(mut scores: Vec<(usize, Moments)>, weaker: impl Fn(f64, f64) -> bool) -> Vec<(usize, Moments)> {
    scores.sort_by(|(_, a), (_, b)| {
        let (a, b) = (a.mean_upper(), b.mean_upper());
        if weaker(a, b) {
            Ordering::Greater
        } else if weaker(b, a) {
            Ordering::Less
        } else {
            Ordering::Equal
        }
    });
    let mut widest = f64::NEG_INFINITY;
    scores.retain(|(_, moments)| {
        let kept = moments.variance_upper() > widest;
        widest = widest.max(moments.variance_upper());
        kept
    });
    scores
}

impl Stopping {
    /// How many samples a selection should have: 2 % of a fixed number, 1 % of the most that may be
    /// planned, at least 100; and 50 where a radius may be settled with as few.
    #[must_use]
    pub fn pilot(self) -> u32 {
        let share = match self {
            Self::Fixed(n) => n / 50,
            Self::Tolerance { most, .. } => most / 100,
            Self::Settle { .. } => return 50,
        };
        share.max(100)
    }

    /// Checks the numbers of samples and the tolerance.
    pub(super) fn check(self, n0: u32) -> Result<(), ProcedureError> {
        if let Self::Tolerance { fraction, .. } = self
            && !(fraction > 0.0 && fraction.is_finite())
        {
            let (quantity, accepted) = ("the tolerance", "a positive number");
            return Err(OutOfRange { quantity, found: fraction, accepted }.into());
        }
        let most = self.most();
        if most == 0 || most > u32::MAX - 1 - n0 {
            let accepted = "at least 1, and together with n0 below 2^32 - 1";
            return Err(ProcedureError::Count {
                what: "the number of samples",
                found: most.into(),
                accepted,
            });
        }
        Ok(())
    }
}
