//! The betting confidence sequence for a binomial probability with Krichevsky-Trofimov bets.

use super::binomial::{Approximate, ln, ln_factorial};
use super::{Binomial, ConfidenceBound};
use crate::rounding::directed::ln_down;
use crate::smoothing::quantity::{Alpha, LowerBound, UpperBound};

/// An anytime-valid bound on a probability (Voracek, "Treatment of Statistical Estimation Problems in
/// Randomized Smoothing for Adversarial Robustness", 2024): with the KT mixture as the bettor
/// the capital against `p` after `k` successes in `n` trials is
/// `Gamma(k + 1/2) Gamma(n - k + 1/2) / (pi n! p^k (1 - p)^(n - k))`, a martingale under `p`. It ever
/// reaches `1/alpha` with probability at most alpha, so the bounds hold at all times simultaneously and
/// may be consulted after every sample; so does their running intersection.
///
/// The capital rejects on both sides of `k/n` at once: `lower` and `upper` at the *same* alpha on the
/// *same* trials hold together, at total risk alpha.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KrichevskyTrofimov;

impl ConfidenceBound for KrichevskyTrofimov {
    type Sample = Binomial;

    fn lower(&self, sample: &Binomial, alpha: Alpha) -> LowerBound {
        let (k, n) = (sample.successes(), sample.trials());
        if k == 0 {
            return LowerBound::TRIVIAL;
        }
        let mixture = ln_mixture(k, n);
        let needed = -ln_down(alpha.get());
        // On (0, k/n) the capital falls with p, so what is rejected is an interval from 0.
        let rejected = |p: f64| {
            let failures =
                if n > k { ln(1.0 - p).times(n - k) } else { Approximate { value: 0.0, error: 0.0 } };
            mixture.minus(ln(p).times(k)).minus(failures).lower() >= needed
        };
        let (mut low, mut high) = (0.0, (f64::from(k) / f64::from(n)).next_down());
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high || high - low < 1e-14 * high {
                break;
            }
            if rejected(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        LowerBound::new(low)
    }

    fn upper(&self, sample: &Binomial, alpha: Alpha) -> UpperBound {
        self.lower(&sample.failures(), alpha).complement()
    }
}

/// `ln(Gamma(k + 1/2) Gamma(n - k + 1/2) / (pi n!))`, from `Gamma(k + 1/2) = sqrt(pi) (2k)! / (4^k k!)`.
fn ln_mixture(k: u32, n: u32) -> Approximate {
    let half = |k: u32| {
        let k = u64::from(k);
        ln_factorial(2 * k).minus(ln_factorial(k))
    };
    let fours = ln(4.0).times(n);
    half(k).plus(half(n - k)).minus(fours).minus(ln_factorial(u64::from(n)))
}
