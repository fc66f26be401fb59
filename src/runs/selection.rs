//! Which inputs of a data set a run is about: decided before any of them is loaded.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// More inputs than any data set has.
const MOST: usize = 1 << 30;

/// `A..B`, `A..` or `..B`; the end is not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range(Option<usize>, Option<usize>);

impl From<(Option<usize>, Option<usize>)> for Range {
    fn from((from, to): (Option<usize>, Option<usize>)) -> Self {
        Self(from, to)
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a range; give A..B, A.. or ..B");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let end = |part: &str| match part.trim() {
            "" => Ok(None),
            number => number.parse().map(Some).map_err(|_| wrong()),
        };
        Ok(Self(end(from)?, end(to)?))
    }
}

/// Why inputs cannot be selected.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SelectionError {
    /// A range that is empty or leaves the data.
    #[error("indices {from}..{to}: the data has the inputs 0..{len}")]
    Range {
        /// First input asked for.
        from: usize,
        /// The one after the last.
        to: usize,
        /// How many there are.
        len: usize,
    },
    /// Every 0th input.
    #[error("skip 0: give at least 1")]
    Skip,
}

/// Part `I` (from 0) of `N` parts.
pub type Shard = (usize, usize);

/// Reads `I/N`.
///
/// # Errors
/// A sentence that says what would be accepted.
pub fn shard(text: &str) -> Result<Shard, String> {
    let wrong = || format!("`{text}` is not a part; give I/N with I below N, such as 0/4");
    let (part, parts) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
    let (part, parts) = (number(part)?, number(parts)?);
    if part < parts { Ok((part, parts)) } else { Err(wrong()) }
}

/// The shard of a task of a Slurm job array, from what `variable` says of the environment: none outside of
/// one.
///
/// # Errors
/// A sentence, if the tasks are not numbered evenly.
pub fn slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Shard>, String> {
    let number = |name: &str| variable(&format!("SLURM_ARRAY_TASK_{name}"))?.parse::<usize>().ok();
    let (Some(id), Some(count)) = (number("ID"), number("COUNT")) else { return Ok(None) };
    let (first, step) = (number("MIN").unwrap_or(0), number("STEP").unwrap_or(1).max(1));
    let part = id.checked_sub(first).filter(|offset| offset.is_multiple_of(step)).map(|n| n / step);
    part.filter(|part| *part < count).map(|part| Some((part, count))).ok_or_else(|| {
        format!(
            "task {id} of the Slurm array is no part of {count}; give --shard, or an array such as 0-{}",
            count - 1
        )
    })
}

/// The inputs of a run, as its first line tells them: every `skip`-th of `indices`, of which a shard
/// takes every `N`-th from its `I`-th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The first input, and the one after the last.
    pub indices: (usize, usize),
    /// Every how many inputs one is taken.
    #[serde(default = "one")]
    pub skip: usize,
    /// The part of them.
    #[serde(default)]
    pub shard: Option<Shard>,
}

fn one() -> usize {
    1
}

impl Selection {
    /// The asked-for inputs of a data set of `len`.
    ///
    /// # Errors
    /// [`SelectionError`].
    pub fn new(
        Range(from, to): Range,
        skip: usize,
        shard: Option<Shard>,
        len: usize,
    ) -> Result<Self, SelectionError> {
        let (from, to) = (from.unwrap_or(0), to.unwrap_or(len));
        if from >= to || to > len {
            return Err(SelectionError::Range { from, to, len });
        }
        if skip == 0 {
            return Err(SelectionError::Skip);
        }
        Ok(Self { indices: (from, to), skip, shard })
    }

    /// The selection in the first line of a run.
    ///
    /// # Errors
    /// If it holds none, or more inputs than there can be.
    pub fn of(header: &Value) -> Result<Self, serde_json::Error> {
        let mut selection = Self::deserialize(header)?;
        if selection.indices.1 > MOST {
            return Err(serde::de::Error::custom(format!("indices up to {}", selection.indices.1)));
        }
        selection.skip = selection.skip.max(1);
        Ok(selection)
    }

    /// Whether an input is among them.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        let (from, to) = self.indices;
        let (part, parts) = self.shard.unwrap_or((0, 1));
        (from..to).contains(&index)
            && (index - from).is_multiple_of(self.skip)
            && (index - from) / self.skip % parts.max(1) == part
    }

    /// The inputs in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let (part, parts) = self.shard.unwrap_or((0, 1));
        let (from, to) = self.indices;
        (from..to).step_by(self.skip).skip(part).step_by(parts.max(1))
    }

    /// The selection of which this one is a shard.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { shard: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_selection_out() {
        let whole = Selection::new("3..20".parse().expect("a range"), 4, None, 30).expect("fits");
        assert_eq!(whole.iter().collect::<Vec<_>>(), [3, 7, 11, 15, 19]);
        let parts = [0, 1].map(|part| Selection { shard: Some((part, 2)), ..whole });
        assert_eq!(parts.map(|p| p.iter().collect::<Vec<_>>()), [vec![3, 11, 19], vec![7, 15]]);
        for selection in [&parts[..], &[whole]].concat() {
            let expected: Vec<_> = (0..40).filter(|&index| selection.contains(index)).collect();
            assert_eq!(selection.iter().collect::<Vec<_>>(), expected);
            let header = serde_json::to_value(selection).expect("JSON");
            assert_eq!(Selection::of(&header).expect("read again"), selection);
        }
        let range = |text: &str| Selection::new(text.parse().expect("a range"), 1, None, 10);
        assert!(range("5..11").is_err() && range("5..5").is_err() && range("..").is_ok());
        let array = |values: &'static [(&str, &str)]| {
            slurm(|name| values.iter().find(|(n, _)| name.ends_with(n)).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(array(&[]), Ok(None));
        assert_eq!(array(&[("_ID", "3"), ("_COUNT", "4")]), Ok(Some((3, 4))));
        assert_eq!(array(&[("_ID", "5"), ("_COUNT", "3"), ("_MIN", "1"), ("_STEP", "2")]), Ok(Some((2, 3))));
        assert!(array(&[("_ID", "7"), ("_COUNT", "3")]).is_err());
        assert!("7".parse::<Range>().is_err() && shard("4/4").is_err() && shard("0/4") == Ok((0, 4)));
    }
}
