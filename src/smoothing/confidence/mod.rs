//! Confidence bounds on a mean of independent samples in [0, 1].
//!
//! Each bound is one-sided: with probability at least `1 - alpha` over the samples, the true mean is
//! at least `lower` (or at most `upper`). Whoever uses both spends the sum of both levels. Results
//! are rounded outward, so the statements hold for the numbers returned.

mod anytime;
mod bernstein;
mod betting;
mod binomial;
mod clopper_pearson;
mod hoeffding;
mod krichevsky_trofimov;
mod test_martingale;

use super::quantity::{Alpha, LowerBound, UpperBound};

pub use anytime::{Checkpoint, Checkpoints, Running};
pub use bernstein::Bernstein;
pub use betting::{Capital, HedgedBetting};
pub use binomial::Binomial;
pub(crate) use binomial::{lower_tail_upper, upper_tail_upper};
pub use clopper_pearson::{ClopperPearson, RandomizedClopperPearson};
pub use hoeffding::Hoeffding;
pub use krichevsky_trofimov::KrichevskyTrofimov;
pub use test_martingale::{Futility, TestMartingale};
pub(crate) use test_martingale::{POWER, WORTHWHILE};

/// A way to bound a mean from what was sampled.
pub trait ConfidenceBound {
    /// What the bound looks at: counts, moments, or all scores in order.
    type Sample: ?Sized;

    /// A lower bound on the mean, wrong with probability at most `alpha`.
    fn lower(&self, sample: &Self::Sample, alpha: Alpha) -> LowerBound;

    /// An upper bound on the mean, wrong with probability at most `alpha`.
    fn upper(&self, sample: &Self::Sample, alpha: Alpha) -> UpperBound;
}

#[cfg(test)]
mod tests;
