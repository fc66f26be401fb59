//! Hoeffding's bound, the baseline that uses no variance.

use super::ConfidenceBound;
use crate::rounding::directed::{add_up, div_up, ln_down, sqrt_up, sub_down};
use crate::smoothing::quantity::{Alpha, LowerBound, UpperBound};
use crate::smoothing::statistics::Moments;

/// `mean -/+ sqrt(ln(1/alpha) / (2 n))` (Hoeffding 1963, Theorem 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hoeffding;

fn width(sample: &Moments, alpha: Alpha) -> f64 {
    // No sample: division by zero gives an infinite width.
    sqrt_up(div_up(-ln_down(alpha.get()), 2.0 * f64::from(sample.count())))
}

impl ConfidenceBound for Hoeffding {
    type Sample = Moments;

    fn lower(&self, sample: &Moments, alpha: Alpha) -> LowerBound {
        LowerBound::new(sub_down(sample.mean_lower(), width(sample, alpha)))
    }

    fn upper(&self, sample: &Moments, alpha: Alpha) -> UpperBound {
        UpperBound::new(add_up(sample.mean_upper(), width(sample, alpha)))
    }
}
