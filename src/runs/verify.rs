//! `verify --instances`: a table of properties, each of networks of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::provenance::fingerprint;
use super::{Batch, Failure, Key, Part, Question, Record, RunError};
use crate::bounds::Evaluation;
use crate::onnx::{LoadOptions, load_with_files};
use crate::query::{Property, Query};
use crate::verify::{Limits, Outcome, Verdict, Verifier};

/// One line of a table: the networks, the property, and how long to search.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The networks' names in the property, where the table gives them, and files.
    pub networks: Vec<(Option<String>, PathBuf)>,
    /// The property's file.
    pub property: PathBuf,
    /// The search ends after this time.
    pub timeout: Option<Duration>,
    /// The verdict that the table says is right.
    pub expected: Option<Verdict>,
}

/// Why a table of instances cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InstancesError {
    /// It is no table.
    #[error("{}: {cause}", file.display())]
    Csv {
        /// The table.
        file: PathBuf,
        /// What the reader says.
        cause: csv::Error,
    },
    /// A line is none of a table of instances.
    #[error(
        "{}, line {line}: {found}; accepted: lines NETWORK,PROPERTY[,SECONDS] with a file for NETWORK or pairs \
         [('name', 'file'), ...], a first line of names, files relative to the table's folder", file.display()
    )]
    Line {
        /// The table.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong.
        found: String,
    },
}

/// What tells a first line of names.
const NAMES: [&str; 4] = ["onnx", "network", "vnnlib", "property"];

/// Reads a table as the verification competition has it: `network,property,seconds`, or with a first line of
/// names, where a column `verdict` holds what is known (`sat`, `unsat`). Files are relative to the
/// table's folder; where one is missing and stands there gzipped, that is taken.
///
/// # Errors
/// [`InstancesError`], with the line.
pub fn instances(file: &Path) -> Result<Vec<Instance>, InstancesError> {
    let csv = |cause| InstancesError::Csv { file: file.to_owned(), cause };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(file)
        .map_err(csv)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let located = |name: &str| {
        let path = folder.join(name);
        let gzipped = folder.join(format!("{name}.gz"));
        if !path.exists() && gzipped.exists() { gzipped } else { path }
    };
    let (mut all, mut verdict) = (Vec::new(), None);
    for (number, row) in reader.records().enumerate() {
        let row = row.map_err(csv)?;
        let line = row.position().map_or(0, csv::Position::line);
        let wrong = |found: String| InstancesError::Line { file: file.to_owned(), line, found };
        let (Some(network), Some(property)) = (row.get(0), row.get(1)) else {
            return Err(wrong(format!("{} columns", row.len())));
        };
        let seconds = row.get(2).filter(|text| !text.is_empty());
        if number == 0 && row.iter().any(|name| NAMES.contains(&name)) {
            verdict = row.iter().position(|name| name == "verdict");
            continue;
        }
        let timeout = seconds.map(|text| {
            let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            seconds.ok_or_else(|| wrong(format!("`{text}` is no number of seconds")))
        });
        let networks = networks(network).ok_or_else(|| wrong(format!("`{network}` names no network")))?;
        if property.is_empty() {
            return Err(wrong("no property".into()));
        }
        all.push(Instance {
            networks: networks.into_iter().map(|(name, file)| (name, located(&file))).collect(),
            property: located(property),
            timeout: timeout.transpose()?,
            expected: verdict.and_then(|column| match row.get(column)? {
                "sat" => Some(Verdict::Sat),
                "unsat" => Some(Verdict::Unsat),
                _ => None,
            }),
        });
    }
    if all.is_empty() {
        return Err(InstancesError::Line { file: file.to_owned(), line: 1, found: "no instances".into() });
    }
    Ok(all)
}

/// A file, or a list of pairs of a name and a file.
fn networks(text: &str) -> Option<Vec<(Option<String>, String)>> {
    let Some(list) = text.strip_prefix('[') else {
        return (!text.is_empty()).then(|| vec![(None, text.to_owned())]);
    };
    let unquoted =
        |text: &str| Some(text.trim().trim_matches(['\'', '"'])).filter(|t| !t.is_empty()).map(str::to_owned);
    let pair = |text: &str| {
        let (name, file) = text.trim().trim_start_matches(',').trim().strip_prefix('(')?.split_once(',')?;
        Some((Some(unquoted(name)?), unquoted(file)?))
    };
    let pairs = list.trim().strip_suffix(']')?.trim().strip_suffix(')')?;
    pairs.split(')').map(pair).collect()
}

impl Instance {
    /// The question, from its files.
    fn query(&self, as_real: bool) -> Result<Query, String> {
        let property = Property::read(&self.property).map_err(|e| e.to_string())?;
        let mut files = Vec::new();
        for declared in &property.networks {
            let named = |(name, _): &&(Option<String>, PathBuf)| {
                name.as_ref().is_none_or(|name| *name == declared.name)
            };
            let file = self.networks.iter().find(named).map(|(_, file)| file.as_path());
            files.push(file.ok_or_else(|| {
                format!(
                    "{} declares the network {}, for which there is no file",
                    self.property.display(),
                    declared.name
                )
            })?);
        }
        if files.len() != self.networks.len() {
            let (found, wanted) = (self.networks.len(), files.len());
            return Err(format!(
                "{} declares {wanted} networks, the table has {found}",
                self.property.display()
            ));
        }
        Query::load(property, &files, as_real).map_err(|e| e.to_string())
    }

    /// The networks' files as one text.
    #[must_use]
    pub fn network(&self) -> String {
        let files: Vec<String> = self.networks.iter().map(|(_, file)| file.display().to_string()).collect();
        files.join(", ")
    }
}

/// The answer to one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyRecord {
    /// Its place in the table, from 0.
    pub index: usize,
    /// The networks' files.
    pub network: String,
    /// The property's file.
    pub property: String,
    /// The verdict; absent if the question could not be asked.
    pub verdict: Option<Verdict>,
    /// The arithmetic that `unsat` speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// What the table says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Verdict>,
    /// Subproblems that were bounded.
    pub subproblems: u64,
    /// The greatest number of cuts of a subproblem.
    pub depth: u32,
    /// The least bound before anything was cut; absent if there was none.
    pub root: Option<f64>,
    /// The least bound at the end, where the search is open.
    pub lower: Option<f64>,
    /// Why there is no verdict, or no question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The input that has the property, in the order of the graph's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Vec<f32>>,
    /// The values of all variables there, in the format of the property's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<String>,
    /// Seconds from the reading of the files to the verdict.
    pub seconds: f64,
}

impl Record for VerifyRecord {
    fn key(&self) -> Key {
        Key { index: self.index, part: Part::default() }
    }
}

/// The instances of a table; the inputs of the run are their places.
pub struct Verify {
    instances: Vec<Instance>,
    options: Map<String, Value>,
    as_real: bool,
    evaluation: Option<Evaluation>,
    timeout: Option<Duration>,
}

impl Verify {
    /// The question for instances, each for its own time or `timeout`, the shorter of both. Variables of
    /// floating-point types count as real numbers if `as_real`; `unsat` speaks of the arithmetic of the
    /// types, or of `evaluation`.
    #[must_use]
    pub fn new(
        instances: Vec<Instance>,
        (as_real, evaluation): (bool, Option<Evaluation>),
        timeout: Option<Duration>,
    ) -> Self {
        let options = json!({
            "command": "verify",
            "real": as_real,
            "evaluation": evaluation,
            "timeout": timeout.map(|timeout| timeout.as_secs_f64()),
        });
        let options = options.as_object().cloned().unwrap_or_default();
        Self { instances, options, as_real, evaluation, timeout }
    }

    /// The same with the fingerprints of the table and of all its files among the options, as a run file needs
    /// them.
    ///
    /// # Errors
    /// [`RunError`] if a file of the table cannot be read.
    pub fn of_table(mut self, table: &Path) -> Result<Self, RunError> {
        let folder = table.parent().unwrap_or(Path::new(""));
        let mut files: BTreeSet<PathBuf> = BTreeSet::new();
        for instance in &self.instances {
            files.insert(instance.property.clone());
            for (_, network) in &instance.networks {
                // A network that does not load is no reason not to ask about the others; nor is a missing one.
                if files.insert(network.clone())
                    && let Ok((_, weights)) = load_with_files(network, &LoadOptions::default())
                {
                    files.extend(weights);
                }
            }
        }
        let files: Vec<PathBuf> = files.into_iter().filter(|file| file.exists()).collect();
        let texts = [
            ("instances", table.display().to_string()),
            ("instances_sha256", fingerprint(Path::new(""), &[table.to_owned()])?),
            ("files_sha256", fingerprint(folder, &files)?),
        ];
        self.options.extend(texts.map(|(name, text)| (name.to_owned(), text.into())));
        Ok(self)
    }

    /// The instances of the table.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    fn settle(&self, index: usize, goes_on: &mut dyn FnMut() -> bool) -> Result<VerifyRecord, Failure> {
        let (begin, instance) = (Instant::now(), &self.instances[index]);
        let mut record = VerifyRecord {
            index,
            network: instance.network(),
            property: instance.property.display().to_string(),
            verdict: None,
            evaluation: None,
            expected: instance.expected,
            subproblems: 0,
            depth: 0,
            root: None,
            lower: None,
            reason: None,
            witness: None,
            assignment: None,
            seconds: 0.0,
        };
        match instance.query(self.as_real) {
            Err(reason) => record.reason = Some(reason),
            Ok(query) => {
                let timeout = [instance.timeout, self.timeout].into_iter().flatten().min();
                let timeout = timeout.map(|timeout| timeout.saturating_sub(begin.elapsed()));
                let stopped = AtomicBool::new(false);
                let evaluation = self.evaluation.unwrap_or(query.evaluation);
                record.evaluation = Some(evaluation);
                let outcome = Verifier::new(&query.graph).evaluated(evaluation).verify(
                    &query.regions,
                    &|x, y| query.holds(x, y),
                    &Limits { timeout, ..Limits::default() },
                    &mut |_| {
                        let on = goes_on();
                        stopped.fetch_or(!on, Ordering::Relaxed);
                        on
                    },
                );
                // A verdict that is there is not thrown away.
                if stopped.into_inner() && !outcome.verdict.is_settled() {
                    return Err(Failure::Stopped);
                }
                record.take(&query, outcome);
            }
        }
        record.seconds = begin.elapsed().as_secs_f64();
        Ok(record)
    }
}

impl VerifyRecord {
    fn take(&mut self, query: &Query, outcome: Outcome) {
        let number = |x: f64| Some(x).filter(|x| x.is_finite());
        let open = !outcome.verdict.is_settled();
        self.verdict = Some(outcome.verdict);
        self.subproblems = outcome.progress.subproblems;
        self.depth = outcome.progress.depth;
        self.root = number(outcome.root);
        self.lower = number(outcome.progress.lower).filter(|_| open);
        self.reason = outcome.reason;
        if let Some(witness) = outcome.witness {
            self.assignment =
                (outcome.verdict == Verdict::Sat).then(|| query.assignment(&witness.x, &witness.y));
            self.witness = Some(witness.x);
        }
    }
}

impl Question for Verify {
    type Record = VerifyRecord;

    fn options(&self) -> Map<String, Value> {
        self.options.clone()
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::default()]
    }

    fn block(&self) -> usize {
        1
    }

    fn answer(&self, batch: &Batch, goes_on: &mut dyn FnMut() -> bool) -> Result<Vec<VerifyRecord>, Failure> {
        batch.indices.iter().map(|&index| self.settle(index, goes_on)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_as_they_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = folder.path().join("instances.csv");
        let read = |text: &str| {
            std::fs::write(&table, text).expect("room");
            instances(&table)
        };
        std::fs::write(folder.path().join("b.vnnlib.gz"), "").expect("room");
        let plain = read("a.onnx,b.vnnlib,116\n\na.onnx, ./c.vnnlib ,.5\n").expect("a table");
        assert_eq!(plain.len(), 2);
        assert_eq!(plain[0].property, folder.path().join("b.vnnlib.gz"));
        assert_eq!(plain[1].timeout, Some(Duration::from_millis(500)));
        let pairs = "\"[('f', 'onnx/A.onnx'), ('g', 'onnx/B.onnx')]\",./vnnlib/x.vnnlib,100";
        let pairs = read(pairs).expect("a table");
        let names: Vec<_> = pairs[0].networks.iter().map(|(name, _)| name.as_deref()).collect();
        assert_eq!(names, [Some("f"), Some("g")]);
        assert!(pairs[0].networks[1].1.ends_with("onnx/B.onnx"));
        let truth = read("onnx,vnnlib,timeout_s,verdict\na,p,3,sat\na,q,3,unsat\na,r,3,unknown\n");
        let expected: Vec<_> = truth.expect("a table").iter().map(|i| i.expected).collect();
        assert_eq!(expected, [Some(Verdict::Sat), Some(Verdict::Unsat), None]);
        for (text, line, part) in [
            ("a.onnx\n", "line 1", "1 columns"),
            ("a,b,3\na,b,soon\n", "line 2", "`soon`"),
            ("a,b,-1\n", "line 1", "`-1`"),
            ("[('f', 'x'],b,3\n", "line 1", "names no network"),
            (",b,3\n", "line 1", "names no network"),
            ("a,,3\n", "line 1", "no property"),
            ("onnx,vnnlib,timeout\n", "line 1", "no instances"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(line) && error.contains(part), "{error}");
        }
        assert!(instances(&folder.path().join("none.csv")).is_err());
    }
}
