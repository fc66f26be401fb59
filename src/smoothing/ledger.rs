//! The ledger of alpha: who spent how much of the failure probability.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::quantity::Alpha;
use crate::rounding::directed::add_up;

/// A failure probability and what it was spent on. What is spent, summed with upward rounding, never
/// exceeds the total.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawLedger")]
pub struct Ledger {
    total: Alpha,
    entries: Vec<Entry>,
}

/// One expense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What the failure probability pays for.
    pub purpose: String,
    /// How much.
    pub alpha: Alpha,
}

/// More was asked for than is left.
#[derive(Clone, Debug, PartialEq, Error)]
#[error(
    "found {asked} asked of alpha for {purpose:?} with {spent} of {total} spent; accepted: at most what is left"
)]
pub struct Overdrawn {
    /// What for.
    pub purpose: String,
    /// How much.
    pub asked: f64,
    /// What was spent before.
    pub spent: f64,
    /// The whole.
    pub total: f64,
}

#[derive(Deserialize)]
struct RawLedger {
    total: Alpha,
    entries: Vec<Entry>,
}

impl Ledger {
    /// A ledger with everything left.
    #[must_use]
    pub fn new(total: Alpha) -> Self {
        Self { total, entries: Vec::new() }
    }

    /// Books an expense and hands out the level.
    ///
    /// # Errors
    /// [`Overdrawn`] if the expenses would exceed the total.
    pub fn spend(&mut self, purpose: impl Into<String>, alpha: Alpha) -> Result<Alpha, Overdrawn> {
        let (purpose, spent) = (purpose.into(), self.spent());
        if add_up(spent, alpha.get()) > self.total.get() {
            return Err(Overdrawn { purpose, asked: alpha.get(), spent, total: self.total.get() });
        }
        self.entries.push(Entry { purpose, alpha });
        Ok(alpha)
    }

    /// What was spent, rounded up.
    #[must_use]
    pub fn spent(&self) -> f64 {
        self.entries.iter().fold(0.0, |sum, entry| add_up(sum, entry.alpha.get()))
    }

    /// The whole.
    #[must_use]
    pub fn total(&self) -> Alpha {
        self.total
    }

    /// The expenses in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl TryFrom<RawLedger> for Ledger {
    type Error = Overdrawn;

    fn try_from(raw: RawLedger) -> Result<Self, Overdrawn> {
        let mut ledger = Self::new(raw.total);
        for entry in raw.entries {
            ledger.spend(entry.purpose, entry.alpha)?;
        }
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alpha(x: f64) -> Alpha {
        Alpha::new(x).expect("a level")
    }

    #[test]
    fn what_is_not_left_cannot_be_spent() {
        let mut ledger = Ledger::new(alpha(0.001));
        ledger.spend("a", alpha(0.0005)).expect("half");
        assert!(ledger.spend("b", alpha(0.0005_f64.next_up())).is_err());
        ledger.spend("b", alpha(0.0005)).expect("the other half");
        assert!(ledger.spend("c", alpha(1e-30)).is_err());
        assert_eq!((ledger.spent(), ledger.entries().len()), (0.001, 2));
    }

    #[test]
    fn equal_parts_fit() {
        for parts in 1..50_u32 {
            let total = alpha(0.001);
            let mut ledger = Ledger::new(total);
            for _ in 0..parts {
                ledger
                    .spend("part", total.fraction(1.0, f64::from(parts)).expect("a part"))
                    .expect("it fits");
            }
        }
    }

    #[test]
    fn records_that_overspend_are_refused() {
        let mut ledger = Ledger::new(alpha(0.01));
        ledger.spend("a", alpha(0.004)).expect("it fits");
        let text = serde_json::to_string(&ledger).expect("json");
        assert_eq!(serde_json::from_str::<Ledger>(&text).expect("a ledger"), ledger);
        assert!(serde_json::from_str::<Ledger>(&text.replace("0.004", "0.04")).is_err());
    }
}
