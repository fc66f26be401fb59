//! Anytime-valid bounds from fixed-sample ones by a union bound over checkpoints.

use serde::{Deserialize, Serialize};

use crate::smoothing::quantity::{Alpha, LowerBound, UpperBound};

/// Sample counts at which an adaptive procedure may look: geometrically growing by a factor 1.1, up to
/// a last one (Voracek 2024).
#[derive(Clone, Debug)]
pub struct Checkpoints {
    next: u32,
    last: u32,
    index: u32,
    done: bool,
}

/// One of the sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    index: u32,
    count: u32,
}

impl Checkpoints {
    /// Checkpoints from `first` on; the last is `last` exactly.
    #[must_use]
    pub fn new(first: u32, last: u32) -> Self {
        Self { next: first.clamp(1, last.max(1)), last, index: 0, done: last == 0 }
    }
}

impl Iterator for Checkpoints {
    type Item = Checkpoint;

    fn next(&mut self) -> Option<Checkpoint> {
        if self.done {
            return None;
        }
        self.index += 1;
        let count = self.next;
        self.done = count >= self.last;
        // In 64 bits: 1.1 times a count can exceed 32.
        let grown = (u64::from(count) * 11).div_ceil(10).min(u64::from(self.last));
        self.next = grown as u32;
        Some(Checkpoint { index: self.index, count })
    }
}

impl Checkpoint {
    /// Number of samples at this checkpoint.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// The part of alpha for this checkpoint: `5 alpha / ((k + 4) (k + 5))` for the k-th, k = 1, 2, ...,
    /// rounded down. The sum over all k is alpha. `None` if it is too small to be a level.
    #[must_use]
    pub fn level(self, alpha: Alpha) -> Option<Alpha> {
        let k = f64::from(self.index);
        alpha.fraction(5.0, (k + 4.0) * (k + 5.0))
    }
}

/// The intersection of all bounds so far on one quantity. With bounds that hold simultaneously it
/// holds too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// The greatest lower bound so far.
    pub lower: LowerBound,
    /// The least upper bound so far.
    pub upper: UpperBound,
}

impl Default for Running {
    fn default() -> Self {
        Self { lower: LowerBound::TRIVIAL, upper: UpperBound::TRIVIAL }
    }
}

impl Running {
    /// Takes up a lower bound.
    pub fn raise(&mut self, lower: LowerBound) {
        self.lower = self.lower.tighter(lower);
    }

    /// Takes up an upper bound.
    pub fn reduce(&mut self, upper: UpperBound) {
        self.upper = self.upper.tighter(upper);
    }
}
