//! Betting against a mean: the hedged capital bound for scores in [0, 1].

use super::ConfidenceBound;
use crate::rounding::directed::{div_up, exp_up, mul_up};
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
        let clamped: Vec<f64> = sample.iter().map(|&x| if x > 0.0 { x.min(1.0) } else { 0.0 }).collect();
        lower(&clamped, alpha)
    }

    /// Scores that are not in [0, 1] count as 0 or 1, NaN as 1.
    fn upper(&self, sample: &[f64], alpha: Alpha) -> UpperBound {
        // 1 - x rounded down: its mean is at most the complement of the mean.
        let flipped = |&x: &f64| if x < 1.0 { (1.0 - x.max(0.0)).next_down().max(0.0) } else { 0.0 };
        let flipped: Vec<f64> = sample.iter().map(flipped).collect();
        lower(&flipped, alpha).complement()
    }
}

fn lower(scores: &[f64], alpha: Alpha) -> LowerBound {
    let n = scores.len() as f64;
    let bets = bets(scores, alpha);
    let target = mul_up(div_up(1.0, alpha.get()), exp_up(n * ROUNDING));
    let rejected = |m: f64| {
        let largest = STAKE / m;
        let mut capital = 1.0_f64;
        for (x, bet) in scores.iter().zip(&bets) {
            capital *= 1.0 + bet.min(largest) * (x - m);
            if capital >= target {
                return true;
            }
            // Where relative errors end the capital is given up; it never comes back.
            if capital < 1e-280 {
                return false;
            }
        }
        false
    };
    let (mut low, mut high) = (0.0, scores.iter().sum::<f64>() / n.max(1.0));
    for _ in 0..44 {
        let middle = 0.5 * (low + high);
        if rejected(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    LowerBound::new(low)
}

/// The untruncated bets. Any nonnegative number computed from earlier samples keeps the bound valid,
/// so roundings here are free.
fn bets(scores: &[f64], alpha: Alpha) -> Vec<f64> {
    let scale = -2.0 * libm::log(alpha.get()) / scores.len() as f64;
    let (mut sum, mut squares, mut t) = (0.5, 0.25, 1.0);
    scores
        .iter()
        .map(|&x| {
            let bet = (scale / (squares / t)).sqrt();
            t += 1.0;
            sum += x;
            let deviation = x - sum / t;
            squares += deviation * deviation;
            bet
        })
        .collect()
}
