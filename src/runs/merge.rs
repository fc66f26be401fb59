//! The parts of one run, each computed on its own, put together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use serde_json::{Value, json};
use thiserror::Error;

use super::file::{RunError, RunLines};
use super::provenance::differences;
use super::{Key, Part, Selection};

/// Options in which the parts of one run may differ.
const PARTS: [&str; 2] = ["indices", "shard"];

/// Why run files are not the parts of one run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MergeError {
    /// There is nothing to merge.
    #[error("found no run files; accepted: at least one")]
    Nothing,
    /// A file holds something else than a run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The first line does not say which inputs were asked for.
    #[error("{}: the first line does not tell the inputs ({cause}); accepted: a run file", file.display())]
    Header {
        /// The run file.
        file: PathBuf,
        /// What is wrong.
        cause: serde_json::Error,
    },
    /// Two files come from different runs.
    #[error(
        "{} and {} are of different runs: {}; accepted: runs that differ in --shard and --indices only",
        first.display(), second.display(), differences.join(", ")
    )]
    OtherOptions {
        /// A run file.
        first: PathBuf,
        /// A run file with other options.
        second: PathBuf,
        /// Each option that differs, with both values.
        differences: Vec<String>,
    },
    /// Two records of one input say different things.
    #[error(
        "{key}: {} and {} contradict each other in {}",
        first.display(), second.display(), fields.join(", ")
    )]
    Contradiction {
        /// What they are records of.
        key: Key,
        /// Where the first record is.
        first: PathBuf,
        /// Where the second record is.
        second: PathBuf,
        /// What differs.
        fields: Vec<String>,
    },
    /// A record of an input that the run does not have.
    #[error(
        "{}: index {index} is not among the inputs {from}..{to} with --skip {skip}; merge runs whose ranges fit together",
        file.display()
    )]
    Stray {
        /// Where the record is.
        file: PathBuf,
        /// The input.
        index: usize,
        /// First input of the merged run.
        from: usize,
        /// The input after its last one.
        to: usize,
        /// Every how many inputs one is taken.
        skip: usize,
    },
}

/// Several runs as one.
#[derive(Clone, Debug)]
pub struct MergedRun {
    /// The options of the whole run, of which the files hold parts.
    pub header: Value,
    /// The records as the files have them, in the order of an undisturbed run.
    pub records: Vec<String>,
    /// The inputs of the whole run that lack a record.
    pub missing: Vec<usize>,
    /// The shards that have inputs among the missing ones, of how many.
    pub missing_shards: Option<(Vec<usize>, usize)>,
}

impl MergedRun {
    /// Puts runs together whose options differ in `shard` and `indices` only. Equal records (seconds
    /// aside) are kept once. The options of the result are those of the run over all shards and over the
    /// range from the least to the greatest index, of which it is a finished or unfinished run file.
    ///
    /// # Errors
    /// [`MergeError`] if the files are of different runs or contradict each other.
    pub fn new(runs: &[RunLines]) -> Result<Self, MergeError> {
        let first = runs.first().ok_or(MergeError::Nothing)?;
        for run in &runs[1..] {
            let differences: Vec<String> = differences(&first.header, &run.header)
                .into_iter()
                .filter(|(key, ..)| !PARTS.contains(&key.as_str()))
                .map(|(key, one, other)| format!("{key} is {one} in the first and {other} in the second"))
                .collect();
            if !differences.is_empty() {
                let (first, second) = (first.file.clone(), run.file.clone());
                return Err(MergeError::OtherOptions { first, second, differences });
            }
        }
        let parts = runs.iter().map(selection).collect::<Result<Vec<_>, _>>()?;
        let mut whole = parts[0].whole();
        for part in &parts {
            whole.indices.0 = whole.indices.0.min(part.indices.0);
            whole.indices.1 = whole.indices.1.max(part.indices.1);
        }
        let mut header = first.header.clone();
        for (key, value) in [("indices", json!(whole.indices)), ("shard", Value::Null)] {
            if let Some(option) = header.get_mut(key) {
                *option = value;
            }
        }
        // Every input has its records in the same order, so the first of each kind tell it.
        let mut order: Vec<Part> = Vec::new();
        let mut records = BTreeMap::new();
        for run in runs {
            for ((line, key), value) in run.records.iter().zip(run.records::<Key>()?).zip(run.records()?) {
                let Key { index, part } = key;
                if !whole.contains(index) {
                    let ((from, to), file) = (whole.indices, run.file.clone());
                    return Err(MergeError::Stray { file, index, from, to, skip: whole.skip });
                }
                let rank = order.iter().position(|known| *known == part).unwrap_or_else(|| {
                    order.push(part);
                    order.len() - 1
                });
                match records.entry((index, rank)) {
                    Entry::Vacant(entry) => drop(entry.insert((line, without_seconds(value), run))),
                    Entry::Occupied(entry) => {
                        let (_, known, at) = entry.get();
                        let differences = differences(known, &without_seconds(value));
                        if !differences.is_empty() {
                            let (first, second) = (at.file.clone(), run.file.clone());
                            let fields = differences.into_iter().map(|(field, ..)| field).collect();
                            return Err(MergeError::Contradiction { key, first, second, fields });
                        }
                    }
                }
            }
        }
        let wanted = per_input(&header).max(order.len());
        let found = |index| records.range((index, 0)..=(index, usize::MAX)).count();
        let missing: Vec<usize> = whole.iter().filter(|&index| found(index) < wanted).collect();
        // Shards are those of one range.
        let shards = parts.iter().filter_map(|part| part.shard.map(|(_, parts)| parts)).max();
        let missing_shards = shards.filter(|_| parts.iter().all(|p| p.indices == whole.indices)).map(|n| {
            let lacks = |part: &usize| {
                let shard = Selection { shard: Some((*part, n)), ..whole };
                missing.iter().any(|&index| shard.contains(index))
            };
            ((0..n).filter(lacks).collect(), n)
        });
        Ok(Self {
            records: records.values().map(|(line, ..)| (*line).clone()).collect(),
            missing,
            missing_shards,
            header,
        })
    }
}

/// How many records every input has.
pub(super) fn per_input(header: &Value) -> usize {
    header.get("records_per_input").and_then(Value::as_u64).map_or(1, |n| n.max(1) as usize)
}

pub(crate) fn selection(run: &RunLines) -> Result<Selection, MergeError> {
    Selection::of(&run.header).map_err(|cause| MergeError::Header { file: run.file.clone(), cause })
}

fn without_seconds(mut record: Value) -> Value {
    if let Some(record) = record.as_object_mut() {
        record.remove("seconds");
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(name: &str, options: Value, records: &[Value]) -> RunLines {
        let mut header = json!({"command": "smooth", "n": 10, "skip": 1, "shard": null});
        for (key, value) in options.as_object().expect("options") {
            header[key] = value.clone();
        }
        let records = records.iter().map(Value::to_string).collect();
        RunLines { file: name.into(), header, records, cut_off: false }
    }

    fn at(index: usize, radius: f64, seconds: f64) -> Value {
        json!({"index": index, "radius": radius, "seconds": seconds})
    }

    #[test]
    fn shards_become_the_whole_run() {
        let one = run("a", json!({"indices": [4, 8], "shard": [0, 2]}), &[at(6, 0.2, 1.0), at(4, 0.1, 1.0)]);
        let two = run("b", json!({"indices": [4, 8], "shard": [1, 2]}), &[at(5, 0.3, 1.0), at(7, 0.4, 1.0)]);
        let merged = MergedRun::new(&[two.clone(), one.clone()]).expect("parts");
        assert_eq!(merged.header, run("", json!({"indices": [4, 8]}), &[]).header);
        let order = [&one.records[1], &two.records[0], &one.records[0], &two.records[1]];
        assert!(merged.records.iter().eq(order));
        assert!(merged.missing.is_empty());
        for parts in [&[two.clone()][..], &[two.clone(), two.clone()]] {
            let part = MergedRun::new(parts).expect("one part");
            assert_eq!((part.header, part.missing), (merged.header.clone(), vec![4, 6]));
            assert_eq!(part.missing_shards, Some((vec![0], 2)));
        }
    }

    #[test]
    fn gaps_are_told_and_strays_refused() {
        let one = run("a", json!({"indices": [0, 4], "skip": 2}), &[at(0, 0.1, 1.0), at(2, 0.1, 1.0)]);
        let two = run("b", json!({"indices": [8, 12], "skip": 2}), &[at(8, 0.1, 1.0)]);
        let merged = MergedRun::new(&[one.clone(), two]).expect("parts");
        assert_eq!(merged.header["indices"], json!([0, 12]));
        assert_eq!(merged.missing, [4, 6, 10]);
        let odd = run("c", json!({"indices": [5, 9], "skip": 2}), &[at(5, 0.1, 1.0)]);
        let error = MergedRun::new(&[one, odd]).expect_err("5 is odd").to_string();
        assert!(error.contains("c: index 5") && error.contains("0..9"), "{error}");
    }

    #[test]
    fn equal_records_are_kept_once_and_contradictions_named() {
        let one = run("a", json!({"indices": [0, 1]}), &[at(0, 0.1, 1.0)]);
        let again = run("b", json!({"indices": [0, 1]}), &[at(0, 0.1, 2.0)]);
        assert_eq!(MergedRun::new(&[one.clone(), again]).expect("equal").records, one.records);
        let other = run("b", json!({"indices": [0, 1]}), &[at(0, 0.2, 1.0)]);
        let error = MergedRun::new(&[one.clone(), other]).expect_err("differs").to_string();
        assert_eq!(error, "index 0: a and b contradict each other in radius");
        let options = run("b", json!({"indices": [0, 1], "n": 20}), &[]);
        let error = MergedRun::new(&[one, options]).expect_err("differs").to_string();
        assert!(error.contains("a and b") && error.contains("n is 10 in the first and 20 in the second"));
    }

    #[test]
    fn records_of_several_eps_are_told_apart() {
        let at =
            |index: usize, eps: f64| json!({"index": index, "eps": eps, "certified": true, "seconds": 0.1});
        let options =
            |indices: [usize; 2]| json!({"command": "certify", "indices": indices, "records_per_input": 2});
        let one = run("a", options([0, 1]), &[at(0, 0.2), at(0, 0.1)]);
        let two = run("b", options([1, 2]), &[at(1, 0.1)]);
        let merged = MergedRun::new(&[one, two]).expect("parts");
        assert_eq!(merged.missing, [1]);
        let order: Vec<Value> =
            merged.records.iter().map(|r| serde_json::from_str(r).expect("JSON")).collect();
        assert_eq!(order, [at(0, 0.2), at(0, 0.1), at(1, 0.1)]);
    }

    #[test]
    fn records_of_several_methods_are_told_apart() {
        let at =
            |method: &str, margin: f64| json!({"index": 0, "eps": 0.1, "method": method, "margin": margin});
        let options = json!({"indices": [0, 1], "records_per_input": 2});
        let one = run("a", options, &[at("ibp", 0.1), at("crown", 0.2)]);
        let merged = MergedRun::new(&[one.clone(), one.clone()]).expect("equal");
        assert_eq!((merged.records, merged.missing), (one.records, vec![]));
    }
}
