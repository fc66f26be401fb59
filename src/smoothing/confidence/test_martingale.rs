//! A test of one threshold for a binomial probability that may be looked at after every sample.

use super::binomial::{Approximate, ln};
use super::{Binomial, ConfidenceBound};
use crate::rounding::directed::ln_down;
use crate::smoothing::normal::cdf_lower;
use crate::smoothing::quantity::{Alpha, LowerBound, UpperBound};

/// How far beyond the threshold the alternatives lie, in standard deviations of a normal score: from
/// what the largest samples can tell to what a handful can, each by this factor further.
const FIRST: f64 = 0.004;
const GROWTH: f64 = 1.4;
const ALTERNATIVES: i32 = 21;

/// The least expected evidence at the end, relative to what is needed, that makes a test worthwhile.
pub(crate) const WORTHWHILE: f64 = 4.0;

/// The power against giving up what is worthwhile.
pub(crate) const POWER: f64 = 0.9;

/// What the logarithm of a mixture is lowered by for the rounding of its sum: 21 terms, each accurate to
/// a few units of `2^-53` relative to the greatest.
const ROUNDING: f64 = 1e-12;

/// A mixture of likelihood ratios against a threshold `p0`: the capital after `k` successes in `n` trials
/// is `sum_i w_i (p_i/p)^k ((1 - p_i)/(1 - p))^(n - k)` with alternatives `p_i > p0` and weights that sum
/// to at most 1. For `p <= p0` it is a nonnegative supermartingale under every probability of at most `p`
/// (Robbins 1970; Shafer et al. 2011), so it ever reaches `1/alpha` with probability at most alpha.
///
/// The lower bound is the greatest `p <= p0` whose capital does. It holds at all times together: the
/// capital against `p` exceeds 1 only where `k/n > p`, and there it falls with `p`, so a bound above the
/// true probability means that the capital against the true one has reached `1/alpha`.
///
/// Half of the weight is spread evenly, the other half by the likelihood of a pilot sample that is
/// independent of the trials.
#[derive(Clone, Debug, PartialEq)]
pub struct TestMartingale {
    threshold: f64,
    pilot: Binomial,
    /// Logarithm of the weight, and the alternative.
    weighted: Vec<(f64, f64)>,
}

impl TestMartingale {
    /// The test of `threshold`, in [1/2, 1), after a pilot sample.
    #[must_use]
    pub fn new(threshold: LowerBound, pilot: Binomial) -> Self {
        let p0 = threshold.get().max(0.5);
        Self { threshold: p0, pilot, weighted: weighted(alternatives(p0, 1.0), pilot) }
    }

    /// The threshold.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Whether the capital against the threshold has reached `1/alpha`.
    #[must_use]
    pub fn reached(&self, counts: Binomial, alpha: Alpha) -> bool {
        self.ln_capital(counts, self.threshold) >= -ln_down(alpha.get())
    }

    /// A number at most the logarithm of the capital against `p <= p0`, for `p >= 1/2`.
    fn ln_capital(&self, counts: Binomial, p: f64) -> f64 {
        let failures = counts.failures().successes();
        let against = |p: f64| {
            let lost = if failures > 0 {
                ln(1.0 - p).times(failures)
            } else {
                Approximate { value: 0.0, error: 0.0 }
            };
            ln(p).times(counts.successes()).plus(lost)
        };
        let null = against(p);
        let term = |&(weight, p): &(f64, f64)| against(p).minus(null).lower() + weight;
        let ln = ln_sum(&self.weighted.iter().map(term).collect::<Vec<_>>());
        ln - ROUNDING * (1.0 + ln.abs())
    }

    /// The test that gives up the threshold, with `most` trials in all at level `alpha`.
    #[must_use]
    pub fn futility(&self, most: u32, alpha: Alpha) -> Futility {
        let (p0, needed) = (self.threshold, -libm::log(alpha.get()));
        let divergence = |p: f64| p * libm::log(p / p0) + (1.0 - p) * libm::log((1.0 - p) / (1.0 - p0));
        let (mut low, mut worthwhile) = (p0, 1.0 - 1e-15);
        for _ in 0..40 {
            let middle = 0.5 * (low + worthwhile);
            if f64::from(most) * divergence(middle) < WORTHWHILE * needed {
                low = middle;
            } else {
                worthwhile = middle;
            }
        }
        let weighted = weighted(alternatives(worthwhile, -1.0), self.pilot);
        Futility { test: self.clone(), most, needed, worthwhile, weighted }
    }
}

/// When a threshold is not worth further samples. Decides when to stop and nothing else.
#[derive(Clone, Debug)]
pub struct Futility {
    test: TestMartingale,
    most: u32,
    needed: f64,
    /// The least probability that reaches the threshold after a quarter of all samples, as evidence
    /// grows on average.
    worthwhile: f64,
    weighted: Vec<(f64, f64)>,
}

impl Futility {
    /// Whether not even successes alone would reach the threshold, or a test of the same kind refutes
    /// that it is worthwhile, with a power of .9.
    #[must_use]
    pub fn reached(&self, counts: Binomial) -> bool {
        let left = self.most.saturating_sub(counts.trials());
        let best = Binomial::new(counts.successes() + left, counts.trials() + left);
        if best.is_none_or(|best| self.test.ln_capital(best, self.test.threshold) < self.needed) {
            return true;
        }
        let (k, n, p) = (f64::from(counts.successes()), f64::from(counts.trials()), self.worthwhile);
        let log = |q: f64| k * libm::log(q / p) + (n - k) * libm::log((1.0 - q) / (1.0 - p));
        let terms: Vec<f64> = self.weighted.iter().map(|&(weight, q)| weight + log(q)).collect();
        ln_sum(&terms) >= -libm::log(1.0 - POWER)
    }
}

/// The logarithm of a sum, from the logarithms of its terms.
fn ln_sum(terms: &[f64]) -> f64 {
    let greatest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    greatest + libm::log(terms.iter().map(|term| libm::exp(term - greatest)).sum::<f64>())
}

/// Alternatives with the logarithms of their weights: half spread evenly, half by the likelihood of the
/// pilot sample, one success and one failure added in halves.
fn weighted(alternatives: Vec<f64>, pilot: Binomial) -> Vec<(f64, f64)> {
    let (k, n) = (f64::from(pilot.successes()), f64::from(pilot.trials()));
    let log = |p: f64| (k + 0.5) * libm::log(p) + (n - k + 0.5) * libm::log(1.0 - p);
    let logs: Vec<f64> = alternatives.iter().map(|&p| log(p)).collect();
    let (sum, even) = (ln_sum(&logs), 1.0 / logs.len() as f64);
    // The factor pays for the roundings: the weights sum to less than 1.
    let weights = logs.iter().map(|l| ln_down(0.5 * (libm::exp(l - sum) + even) * (1.0 - 1e-9)));
    weights.zip(alternatives).collect()
}

/// Alternatives on one side of a probability, strictly inside (0, 1).
fn alternatives(p0: f64, side: f64) -> Vec<f64> {
    let start = crate::smoothing::normal::quantile_lower(p0);
    let start = if start.is_finite() { start } else { 0.0 };
    let points = (0..ALTERNATIVES).map(|i| cdf_lower(start + side * FIRST * GROWTH.powi(i)));
    points.filter(|&p| p > 0.0 && p < 1.0 && (p - p0) * side > 0.0).collect()
}

impl ConfidenceBound for TestMartingale {
    type Sample = Binomial;

    fn lower(&self, sample: &Binomial, alpha: Alpha) -> LowerBound {
        let needed = -ln_down(alpha.get());
        let holds = |p: f64| self.ln_capital(*sample, p) >= needed;
        if sample.trials() == 0 {
            return LowerBound::TRIVIAL;
        }
        if self.reached(*sample, alpha) {
            return LowerBound::new(self.threshold);
        }
        let (mut low, mut high) = (0.5, self.threshold);
        if !holds(low) {
            return LowerBound::TRIVIAL;
        }
        for _ in 0..40 {
            let middle = 0.5 * (low + high);
            if holds(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        LowerBound::new(low)
    }

    /// A test from below says nothing.
    fn upper(&self, _: &Binomial, _: Alpha) -> UpperBound {
        UpperBound::TRIVIAL
    }
}
