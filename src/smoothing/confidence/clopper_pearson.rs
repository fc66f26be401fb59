//! Clopper-Pearson bounds on a binomial probability, and their randomized, exact form.

use super::binomial::{UpperTail, invert};
use super::{Binomial, ConfidenceBound};
use crate::smoothing::quantity::{Alpha, LowerBound, OutOfRange, UpperBound};

/// The bound of Clopper and Pearson (Biometrika 1934): the greatest `p` with `P(B >= k) <= alpha`,
/// which is `BetaInv(alpha; k, n - k + 1)`.
///
/// The inequality is verified on the returned number with a rigorous bound on the tail, so the
/// number is at most the exact limit, by about `1e-11` relatively.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClopperPearson;

impl ConfidenceBound for ClopperPearson {
    type Sample = Binomial;

    fn lower(&self, sample: &Binomial, alpha: Alpha) -> LowerBound {
        if sample.trials() == 0 {
            return LowerBound::TRIVIAL;
        }
        LowerBound::new(invert(&UpperTail::new(*sample), alpha.get()))
    }

    fn upper(&self, sample: &Binomial, alpha: Alpha) -> UpperBound {
        self.lower(&sample.failures(), alpha).complement()
    }
}

/// The randomized bound (Stevens, Biometrika 1950): `inf { p : P(B > k) + W P(B = k) > alpha }` with
/// `W` uniform on [0, 1], exact where Clopper-Pearson is conservative.
///
/// `W` must be drawn once for an input, independently of the samples and before looking at them;
/// redrawing it until the result pleases voids the guarantee. The bound falls as `W` grows, and for `n`
/// successes of `n` a `W` below `2 alpha` counts as that: they give at most `2^(-1/n)`, instead of 1,
/// from which no finite radius follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomizedClopperPearson {
    w: f64,
}

impl RandomizedClopperPearson {
    /// The bound for one draw of `W`.
    ///
    /// # Errors
    /// Unless `0 <= w <= 1`.
    pub fn new(w: f64) -> Result<Self, OutOfRange> {
        if (0.0..=1.0).contains(&w) {
            Ok(Self { w })
        } else {
            Err(OutOfRange { quantity: "W", found: w, accepted: "a number between 0 and 1" })
        }
    }

    /// The draw.
    #[must_use]
    pub fn w(self) -> f64 {
        self.w
    }
}

impl ConfidenceBound for RandomizedClopperPearson {
    type Sample = Binomial;

    fn lower(&self, sample: &Binomial, alpha: Alpha) -> LowerBound {
        if sample.trials() == 0 {
            return LowerBound::TRIVIAL;
        }
        let all = sample.successes() == sample.trials();
        let w = if all { self.w.max(2.0 * alpha.get()).min(1.0) } else { self.w };
        LowerBound::new(invert(&UpperTail::weighted(*sample, w), alpha.get()))
    }

    fn upper(&self, sample: &Binomial, alpha: Alpha) -> UpperBound {
        self.lower(&sample.failures(), alpha).complement()
    }
}
