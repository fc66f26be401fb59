//! The empirical Bernstein bound, which rewards a small variance.

use super::ConfidenceBound;
use crate::rounding::directed::{add_up, div_up, ln_up, mul_up, sqrt_up, sub_down};
use crate::smoothing::quantity::{Alpha, LowerBound, UpperBound};
use crate::smoothing::statistics::Moments;

/// `mean -/+ (sd sqrt(2 ln(2/alpha) / n) + 7 ln(2/alpha) / (3 (n - 1)))`, with `sd^2` the unbiased
/// variance of all `n` samples (Maurer and Pontil 2009, Theorem 4). One-sided at level `alpha`: the
/// two halves of alpha pay for the mean and for the variance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bernstein;

fn width(sample: &Moments, alpha: Alpha) -> f64 {
    if sample.count() < 2 {
        return f64::INFINITY;
    }
    let n = f64::from(sample.count());
    let log = ln_up(div_up(2.0, alpha.get()));
    let slow = mul_up(sqrt_up(sample.variance_upper()), sqrt_up(div_up(mul_up(2.0, log), n)));
    let fast = div_up(mul_up(7.0, log), 3.0 * (n - 1.0));
    add_up(slow, fast)
}

impl ConfidenceBound for Bernstein {
    type Sample = Moments;

    fn lower(&self, sample: &Moments, alpha: Alpha) -> LowerBound {
        LowerBound::new(sub_down(sample.mean_lower(), width(sample, alpha)))
    }

    fn upper(&self, sample: &Moments, alpha: Alpha) -> UpperBound {
        UpperBound::new(add_up(sample.mean_upper(), width(sample, alpha)))
    }
}
