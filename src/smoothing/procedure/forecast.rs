//! What the selection's samples let expect of the estimation: for choosing and planning, never for a
//! certificate.

use super::{Bound, Candidate, RadiusRule, Setup};
use crate::smoothing::confidence::{Binomial, ConfidenceBound, KrichevskyTrofimov, RandomizedClopperPearson};
use crate::smoothing::quantity::{Alpha, LowerBound, Radius, UpperBound};

/// Parts of the sample of which each is left out once, to see how far a forecast moves.
pub(super) const FOLDS: usize = 10;

/// Number, sums, squares and products of the class's score `a` and the runner-up's `b`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    n: f64,
    a: f64,
    b: f64,
    aa: f64,
    bb: f64,
    ab: f64,
}

impl Sums {
    fn plus(self, o: Self, sign: f64) -> Self {
        Self {
            n: self.n + sign * o.n,
            a: self.a + sign * o.a,
            b: self.b + sign * o.b,
            aa: self.aa + sign * o.aa,
            bb: self.bb + sign * o.bb,
            ab: self.ab + sign * o.ab,
        }
    }

    fn of(a: f64, b: f64) -> Self {
        Self { n: 1.0, a, b, aa: a * a, bb: b * b, ab: a * b }
    }

    /// Mean and variance of `x a + y b`.
    fn combined(&self, x: f64, y: f64) -> Spread {
        let (a, b) = (self.a / self.n, self.b / self.n);
        let square = x * x * self.aa + y * y * self.bb + 2.0 * x * y * self.ab;
        let mean = x * a + y * b;
        Spread { mean, variance: (square / self.n - mean * mean).max(0.0) }
    }
}

/// Mean and variance of a score.
#[derive(Clone, Copy, Debug)]
struct Spread {
    mean: f64,
    variance: f64,
}

/// The scores of one map on the selection's samples.
#[derive(Clone, Debug)]
pub(super) struct Forecast {
    pub(super) class: usize,
    /// The other classes, highest mean first; `classes` stands for undefined answers.
    pub(super) others: Vec<usize>,
    folds: [Sums; FOLDS],
    total: Sums,
}

impl Forecast {
    /// From scores (`samples x (K + 1)`, the last of undefined answers). The class is the first of
    /// highest mean, leaving out the undefined answers.
    pub(super) fn new(scores: &[f64], width: usize) -> Self {
        let mut means = vec![0.0; width];
        for row in scores.chunks_exact(width) {
            for (mean, score) in means.iter_mut().zip(row) {
                *mean += score;
            }
        }
        let highest = means[..width - 1].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let class = means.iter().position(|&mean| mean == highest).unwrap_or(0);
        let mut others: Vec<usize> = (0..width).filter(|&j| j != class).collect();
        others.sort_by(|&i, &j| means[j].total_cmp(&means[i]));
        // One more sample of score 1/2: n0 successes of n0 do not promise certainty.
        let (mut folds, mut total) = ([Sums::default(); FOLDS], Sums::of(0.5, 0.5));
        for (i, row) in scores.chunks_exact(width).enumerate() {
            let one = Sums::of(row[class], row[others[0]]);
            folds[i % FOLDS] = folds[i % FOLDS].plus(one, 1.0);
            total = total.plus(one, 1.0);
        }
        Self { class, others, folds, total }
    }

    /// All samples, then all but one fold each.
    pub(super) fn views(&self) -> impl Iterator<Item = Sums> {
        std::iter::once(self.total).chain(self.folds.iter().map(|fold| self.total.plus(*fold, -1.0)))
    }

    /// The samples as counts of the mean that a rule looks at.
    pub(super) fn counts(&self, rule: RadiusRule) -> Binomial {
        let trials = self.total.n as u32;
        let successes = (score(&self.total, rule).mean * self.total.n).round() as u32;
        Binomial::new(successes.min(trials), trials).unwrap_or_default()
    }

    /// The variance of the mean that a rule looks at.
    pub(super) fn variance(&self, rule: RadiusRule) -> f64 {
        score(&self.total, rule).variance
    }

    /// After how many samples, up to `most`, a test of `threshold` can be expected to have gained the
    /// evidence that `alpha` needs.
    pub(super) fn duration(&self, candidate: &Candidate, threshold: f64, alpha: Alpha, most: u32) -> u32 {
        let samples = -libm::log(alpha.get()) / rate(&self.total, candidate, threshold);
        if samples < f64::from(most) { samples as u32 + 1 } else { most }
    }

    /// The least number of samples, up to `most`, at which the radius to expect is within a fraction of
    /// that at `most`.
    pub(super) fn plan(&self, setup: &Setup, candidate: &Candidate, fraction: f64, most: u32) -> u32 {
        let at = |n: u32| radius(&self.total, setup, candidate, self.others.len(), n);
        let enough = at(most) / (1.0 + fraction);
        if enough <= 0.0 {
            return most.min(setup.n0);
        }
        let (mut low, mut high) = (0, most);
        // The radius grows with n but for the rounding of counts.
        while high - low > 1 + high / 64 {
            let middle = low + (high - low) / 2;
            if at(middle) >= enough {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }
}

/// The score of which a rule bounds the mean: the pair's, or the class's.
fn score(sums: &Sums, rule: RadiusRule) -> Spread {
    let Some(w) = rule.weight().map(f64::from) else { return sums.combined(1.0, 0.0) };
    let spread = sums.combined(1.0 - w, -w);
    Spread { mean: spread.mean + w, ..spread }
}

/// The radius to expect from `n` samples; 0 for none.
pub(super) fn radius(sums: &Sums, setup: &Setup, candidate: &Candidate, classes: usize, n: u32) -> f64 {
    let bound = candidate.bound();
    let (level, second) = candidate.split(setup.alpha);
    let lower = LowerBound::new(lower(bound, score(sums, candidate.rule()), n, level));
    let (p1, p2) = match second {
        Some(level) => {
            let other = sums.combined(0.0, 1.0);
            let flipped = Spread { mean: 1.0 - other.mean, ..other };
            (lower, UpperBound::new(1.0 - self::lower(bound, flipped, n, level)))
        }
        None => candidate.rule().bounds(lower),
    };
    candidate.radius(&setup.noise, classes, p1, p2, setup.charge).map_or(0.0, Radius::get)
}

/// How fast a test of the mean that `wanted` needs gains evidence, for each sample.
pub(super) fn rate(sums: &Sums, candidate: &Candidate, threshold: f64) -> f64 {
    let Spread { mean, variance } = score(sums, candidate.rule());
    if mean <= threshold {
        return 0.0;
    }
    if candidate.bound().needs_indicators() {
        let log = |p: f64, q: f64| if p > 0.0 { p * libm::log(p / q) } else { 0.0 };
        log(mean, threshold) + log(1.0 - mean, 1.0 - threshold)
    } else {
        // A bet on the mean, no larger than a share of the capital.
        let gain = mean - threshold;
        0.5 * gain * gain / (variance + gain * gain)
    }
}

/// About the lower bound from `n` samples of this mean and variance.
fn lower(bound: Bound, score: Spread, n: u32, alpha: Alpha) -> f64 {
    let Spread { mean, variance } = score;
    let samples = f64::from(n);
    let counts = Binomial::new((mean * samples).round() as u32, n).unwrap_or_default();
    let log = -libm::log(alpha.get());
    match bound {
        Bound::ClopperPearson => {
            LowerBound::get(crate::smoothing::confidence::ClopperPearson.lower(&counts, alpha))
        }
        Bound::RandomizedClopperPearson => {
            // The draw of the middle.
            RandomizedClopperPearson::new(0.5).map_or(0.0, |bound| bound.lower(&counts, alpha).get())
        }
        Bound::KrichevskyTrofimov | Bound::TestMartingale => KrichevskyTrofimov.lower(&counts, alpha).get(),
        Bound::Hoeffding => mean - (0.5 * log / samples).sqrt(),
        Bound::Bernstein => {
            let log = log + std::f64::consts::LN_2;
            mean - (2.0 * variance * log / samples).sqrt() - 7.0 * log / (3.0 * (samples - 1.0).max(1.0))
        }
        Bound::Betting => mean - (2.0 * variance * log / samples).sqrt() - log / samples,
    }
}
