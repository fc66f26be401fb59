//! Which confidence bound, and what it says of recorded statistics.

use serde::{Deserialize, Serialize};

use crate::smoothing::confidence::{
    Bernstein, Binomial, Checkpoint, ClopperPearson, ConfidenceBound, Hoeffding, KrichevskyTrofimov,
    RandomizedClopperPearson, TestMartingale,
};
use crate::smoothing::quantity::{Alpha, LowerBound, UpperBound};
use crate::smoothing::statistics::Moments;

/// Which confidence bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// For hardmax.
    ClopperPearson,
    /// For hardmax, with the input's one draw of `W`.
    RandomizedClopperPearson,
    /// For hardmax; valid at all times.
    KrichevskyTrofimov,
    /// For any map.
    Hoeffding,
    /// For any map.
    Bernstein,
    /// For any map, from the scores in order; valid at all times for bets that are sized in advance.
    Betting,
    /// For hardmax, with a radius to settle: tests the mean that this radius needs; valid at all times.
    TestMartingale,
}

impl Bound {
    /// Whether the bound holds only for scores that are 0 or 1.
    #[must_use]
    pub fn needs_indicators(self) -> bool {
        !matches!(self, Self::Hoeffding | Self::Bernstein | Self::Betting)
    }

    /// The level of a checkpoint: a share of `alpha`, or all of it for bounds that hold at all times.
    pub(super) fn level_at(self, checkpoint: Checkpoint, alpha: Alpha) -> Option<Alpha> {
        match self {
            Self::KrichevskyTrofimov | Self::Betting | Self::TestMartingale => Some(alpha),
            _ => checkpoint.level(alpha),
        }
    }

    /// Lower bound on a mean score from its statistics. Trivial where they do not suffice: for binomial
    /// bounds on other scores than 0 and 1, bounds without what they take beside the samples, and
    /// betting, which needs the scores in order.
    pub(super) fn lower(self, moments: &Moments, alpha: Alpha, beside: &Beside) -> LowerBound {
        self.binomial(beside).map_or_else(
            || match self {
                Self::Hoeffding => Hoeffding.lower(moments, alpha),
                Self::Bernstein => Bernstein.lower(moments, alpha),
                _ => LowerBound::TRIVIAL,
            },
            |bound| moments.counts().map_or(LowerBound::TRIVIAL, |counts| bound.lower(&counts, alpha)),
        )
    }

    /// Upper bound on a mean score; see [`Bound::lower`].
    pub(super) fn upper(self, moments: &Moments, alpha: Alpha, beside: &Beside) -> UpperBound {
        self.binomial(beside).map_or_else(
            || match self {
                Self::Hoeffding => Hoeffding.upper(moments, alpha),
                Self::Bernstein => Bernstein.upper(moments, alpha),
                _ => UpperBound::TRIVIAL,
            },
            |bound| moments.counts().map_or(UpperBound::TRIVIAL, |counts| bound.upper(&counts, alpha)),
        )
    }

    /// The bound as one on counts.
    fn binomial(self, beside: &Beside) -> Option<&dyn ConfidenceBound<Sample = Binomial>> {
        match self {
            Self::ClopperPearson => Some(&ClopperPearson),
            Self::RandomizedClopperPearson => beside.drawn.as_ref().map(|bound| bound as _),
            Self::KrichevskyTrofimov => Some(&KrichevskyTrofimov),
            Self::TestMartingale => beside.test.as_ref().map(|bound| bound as _),
            Self::Hoeffding | Self::Bernstein | Self::Betting => None,
        }
    }

    /// The least lower bound on any of several mean scores, each at the same level.
    pub(super) fn lower_of_all<'a>(
        self,
        scores: impl Iterator<Item = &'a Moments>,
        alpha: Alpha,
        beside: &Beside,
    ) -> LowerBound {
        if self.needs_indicators() {
            // Binomial bounds grow with the count.
            let least = scores.min_by_key(|m| m.counts().map(Binomial::successes));
            return least.map_or(LowerBound::TRIVIAL, |m| self.lower(m, alpha, beside));
        }
        let bounds = scores.map(|m| self.lower(m, alpha, beside));
        bounds.reduce(|a, b| if b < a { b } else { a }).unwrap_or(LowerBound::TRIVIAL)
    }

    /// The greatest upper bound on any of several mean scores: one level pays for all of them, because
    /// the true greatest is one of them.
    pub(super) fn upper_of_all<'a>(
        self,
        scores: impl Iterator<Item = &'a Moments>,
        alpha: Alpha,
        beside: &Beside,
    ) -> UpperBound {
        if self.needs_indicators() {
            // Binomial bounds grow with the count.
            let most = scores.max_by_key(|m| m.counts().map(Binomial::successes));
            return most.map_or(UpperBound::TRIVIAL, |m| self.upper(m, alpha, beside));
        }
        let bounds = scores.map(|m| self.upper(m, alpha, beside));
        bounds.fold(UpperBound::new(0.0), |a, b| if b > a { b } else { a })
    }
}

/// What a bound may take beside the samples, all of it fixed before them.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    /// The input's one draw of `W`.
    pub(super) drawn: Option<RandomizedClopperPearson>,
    /// The test of the mean that the radius to settle needs.
    pub(super) test: Option<TestMartingale>,
}
