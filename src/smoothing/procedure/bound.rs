//! Which confidence bound, and what it says of recorded statistics.

use serde::{Deserialize, Serialize};

use crate::smoothing::confidence::{
    Bernstein, Binomial, Checkpoint, ClopperPearson, ConfidenceBound, Hoeffding, KrichevskyTrofimov,
    RandomizedClopperPearson,
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
    /// For any map; needs the number of samples in advance.
    Betting,
}

impl Bound {
    /// Whether the bound holds only for scores that are 0 or 1.
    #[must_use]
    pub fn needs_indicators(self) -> bool {
        matches!(self, Self::ClopperPearson | Self::RandomizedClopperPearson | Self::KrichevskyTrofimov)
    }

    /// The level of a checkpoint: a share of `alpha`, or all of it for bounds that hold at all times.
    pub(super) fn level_at(self, checkpoint: Checkpoint, alpha: Alpha) -> Option<Alpha> {
        match self {
            Self::KrichevskyTrofimov => Some(alpha),
            _ => checkpoint.level(alpha),
        }
    }

    /// Lower bound on a mean score from its statistics. Trivial where they do not suffice: for binomial
    /// bounds on other scores than 0 and 1, randomized bounds without a draw, and betting, which needs
    /// the scores in order.
    pub(super) fn lower(self, moments: &Moments, alpha: Alpha, drawn: Drawn) -> LowerBound {
        let binomial = |bound: &dyn ConfidenceBound<Sample = Binomial>| {
            moments.counts().map_or(LowerBound::TRIVIAL, |counts| bound.lower(&counts, alpha))
        };
        match self {
            Self::ClopperPearson => binomial(&ClopperPearson),
            Self::RandomizedClopperPearson => drawn.map_or(LowerBound::TRIVIAL, |bound| binomial(&bound)),
            Self::KrichevskyTrofimov => binomial(&KrichevskyTrofimov),
            Self::Hoeffding => Hoeffding.lower(moments, alpha),
            Self::Bernstein => Bernstein.lower(moments, alpha),
            Self::Betting => LowerBound::TRIVIAL,
        }
    }

    /// Upper bound on a mean score; see [`Bound::lower`].
    pub(super) fn upper(self, moments: &Moments, alpha: Alpha, drawn: Drawn) -> UpperBound {
        let binomial = |bound: &dyn ConfidenceBound<Sample = Binomial>| {
            moments.counts().map_or(UpperBound::TRIVIAL, |counts| bound.upper(&counts, alpha))
        };
        match self {
            Self::ClopperPearson => binomial(&ClopperPearson),
            Self::RandomizedClopperPearson => drawn.map_or(UpperBound::TRIVIAL, |bound| binomial(&bound)),
            Self::KrichevskyTrofimov => binomial(&KrichevskyTrofimov),
            Self::Hoeffding => Hoeffding.upper(moments, alpha),
            Self::Bernstein => Bernstein.upper(moments, alpha),
            Self::Betting => UpperBound::TRIVIAL,
        }
    }

    /// The greatest upper bound on any of several mean scores: one level pays for all of them, because
    /// the true greatest is one of them.
    pub(super) fn upper_of_all<'a>(
        self,
        scores: impl Iterator<Item = &'a Moments>,
        alpha: Alpha,
        drawn: Drawn,
    ) -> UpperBound {
        if self.needs_indicators() {
            // Binomial bounds grow with the count.
            let most = scores.max_by_key(|m| m.counts().map(Binomial::successes));
            return most.map_or(UpperBound::TRIVIAL, |m| self.upper(m, alpha, drawn));
        }
        let bounds = scores.map(|m| self.upper(m, alpha, drawn));
        bounds.fold(UpperBound::new(0.0), |a, b| if b > a { b } else { a })
    }
}

/// The input's one draw of `W`, if there is one.
pub(super) type Drawn = Option<RandomizedClopperPearson>;
