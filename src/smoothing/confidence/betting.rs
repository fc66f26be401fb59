//! Betting against a mean: the hedged capital bound for scores in [0, 1].

use super::ConfidenceBound;
use crate::rounding::directed::{div_up, exp_up, ln_down, mul_up};
use crate::smoothing::quantity::{Alpha, LowerBound, UpperBound};

/// Largest share of the capital that a bet can lose.
const STAKE: f64 = 0.9;

/// Charged per sample against the logarithm of the capital: `2^-47`. A factor `1 + bet (x - m)` is at
/// least `1 - STAKE`, so its roundings cost less than 20 units of `2^-53`, and as much again pays for
/// the capital being monotone in `m` only up to the rounding of the largest bet.
const ROUNDING: f64 = 64.0 * f64::EPSILON / 2.0;

/// The capital `prod_t (1 + bet_t(m) (x_t - m))` is a nonnegative supermartingale for every mean at
/// most `m`, if each bet depends on earlier samples only; by Ville's inequality it ever reaches
/// `1/alpha` with probability at most alpha. The bound is the greatest `m` for which it does (Waudby-Smith and Ramdas 2024, Section 4, with their plug-in bets for a fixed number of samples:
/// `bet_t = min(sqrt(2 ln(1/alpha) / (n var_{t-1})), STAKE / m)`).
///
/// The sample is all `n` scores in the order in which they were drawn, with `n` fixed in advance. The
/// order matters for the value of the bound, not for its validity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HedgedBetting;

impl ConfidenceBound for HedgedBetting {
    type Sample = [f64];

    /// Scores that are not in [0, 1] count as 0 or 1, NaN as 0.
    fn lower(&self, sample: &[f64], alpha: Alpha) -> LowerBound {
        self.lower_of_all([sample], sample.len(), alpha)
    }

    /// Scores that are not in [0, 1] count as 0 or 1, NaN as 1.
    fn upper(&self, sample: &[f64], alpha: Alpha) -> UpperBound {
        self.upper_of_all([sample], sample.len(), alpha)
    }
}

impl HedgedBetting {
    /// The least of the lower bounds on the means of several samples, after some of `planned` scores
    /// each. The bets are sized for `planned` and `alpha`; bounds of one plan hold at all times together.
    #[must_use]
    pub fn lower_of_all<'a>(
        &self,
        samples: impl IntoIterator<Item = &'a [f64]>,
        planned: usize,
        alpha: Alpha,
    ) -> LowerBound {
        least(samples.into_iter().map(|sample| sample.iter().map(|&x| clamp(x)).collect()), planned, alpha)
    }

    /// The greatest of the upper bounds on the means of several samples; see [`Self::lower_of_all`].
    #[must_use]
    pub fn upper_of_all<'a>(
        &self,
        samples: impl IntoIterator<Item = &'a [f64]>,
        planned: usize,
        alpha: Alpha,
    ) -> UpperBound {
        // 1 - x rounded down: its mean is at most the complement of the mean.
        let flip = |&x: &f64| if x < 1.0 { (1.0 - x.max(0.0)).next_down().max(0.0) } else { 0.0 };
        least(samples.into_iter().map(|sample| sample.iter().map(flip).collect()), planned, alpha)
            .complement()
    }
}

fn clamp(x: f64) -> f64 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// The capital against one mean, score by score: what the bound asks for at one point, for as many
/// scores as come.
#[derive(Clone, Copy, Debug)]
pub struct Capital {
    mean: f64,
    bets: Bets,
    value: f64,
    /// What was taken out as a power of `2^512`, so that the value does not overflow.
    scaled: f64,
    count: f64,
}

impl Capital {
    /// A capital of 1 against means of at most `mean`, in (0, 1), with bets sized for `planned` scores
    /// and `alpha`.
    #[must_use]
    pub fn new(mean: f64, planned: usize, alpha: Alpha) -> Self {
        Self { mean, bets: Bets::new(planned, alpha), value: 1.0, scaled: 0.0, count: 0.0 }
    }

    /// The next score.
    pub fn push(&mut self, score: f64) {
        let x = clamp(score);
        let bet = self.bets.next(x);
        self.count += 1.0;
        if self.value >= BROKE {
            self.value *= 1.0 + bet.min(STAKE / self.mean) * (x - self.mean);
        }
        if self.value > 1e150 {
            self.value *= 2.0_f64.powi(-512);
            self.scaled += 512.0;
        }
    }

    /// A number at most the logarithm of the capital; `-inf` once little is left of it.
    #[must_use]
    pub fn ln(&self) -> f64 {
        if self.value < BROKE {
            return f64::NEG_INFINITY;
        }
        let ln = ln_down(self.value) + self.scaled * std::f64::consts::LN_2;
        ln - self.count * ROUNDING - 1e-12 * (1.0 + ln.abs())
    }
}

/// Where relative errors end the capital is given up; it never comes back.
const BROKE: f64 = 1e-280;

fn least(samples: impl Iterator<Item = Vec<f64>>, planned: usize, alpha: Alpha) -> LowerBound {
    let mut samples: Vec<(f64, Vec<f64>)> =
        samples.map(|scores| (scores.iter().sum::<f64>() / (scores.len() as f64).max(1.0), scores)).collect();
    // The least mean has most likely the least bound; the others need to be searched only below it.
    samples.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut bound = 1.0;
    for (mean, scores) in &samples {
        let rejected = Rejected::new(scores, planned, alpha);
        if !rejected.at(bound) {
            bound = rejected.greatest(bound.min(*mean));
        }
    }
    LowerBound::new(if samples.is_empty() { 0.0 } else { bound })
}

/// Which means one sample rejects.
struct Rejected<'a> {
    scores: &'a [f64],
    bets: Vec<f64>,
    target: f64,
}

impl<'a> Rejected<'a> {
    fn new(scores: &'a [f64], planned: usize, alpha: Alpha) -> Self {
        let mut bets = Bets::new(planned, alpha);
        let bets = scores.iter().map(|&x| bets.next(x)).collect();
        let target = mul_up(div_up(1.0, alpha.get()), exp_up(scores.len() as f64 * ROUNDING));
        Self { scores, bets, target }
    }

    fn at(&self, m: f64) -> bool {
        let largest = STAKE / m;
        let mut capital = 1.0_f64;
        for (x, bet) in self.scores.iter().zip(&self.bets) {
            capital *= 1.0 + bet.min(largest) * (x - m);
            if capital >= self.target {
                return true;
            }
            if capital < BROKE {
                return false;
            }
        }
        false
    }

    /// The greatest mean up to `high` that is rejected.
    fn greatest(&self, mut high: f64) -> f64 {
        let mut low = 0.0;
        for _ in 0..44 {
            let middle = 0.5 * (low + high);
            if self.at(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// The untruncated bets. Any nonnegative number computed from earlier samples keeps the bound valid,
/// so roundings here are free.
#[derive(Clone, Copy, Debug)]
struct Bets {
    scale: f64,
    sum: f64,
    squares: f64,
    count: f64,
}

impl Bets {
    fn new(planned: usize, alpha: Alpha) -> Self {
        let scale = -2.0 * libm::log(alpha.get()) / planned as f64;
        Self { scale, sum: 0.5, squares: 0.25, count: 1.0 }
    }

    /// The bet on a score, which is taken up afterwards.
    fn next(&mut self, x: f64) -> f64 {
        let bet = (self.scale / (self.squares / self.count)).sqrt();
        self.count += 1.0;
        self.sum += x;
        let deviation = x - self.sum / self.count;
        self.squares += deviation * deviation;
        bet
    }
}
