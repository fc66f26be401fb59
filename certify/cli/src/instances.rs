//! `tightrope verify --instances`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use comfy_table::{Table, presets};
use ndarray::Array2;
use serde::Serialize;
use tightrope::bounds::Evaluation;
use tightrope::runs::selection::Shard;
use tightrope::runs::verify::instances;
use tightrope::runs::{Inputs, Pixels, Range, Selection, Verify, VerifyRecord};
use tightrope::verify::Verdict;

use crate::input::shard_of;
use crate::output::{self, Result};
use crate::picture;
use crate::session::{RunArgs, Subject, ask};

/// What is told of a table of instances.
pub(crate) struct Asked<'a> {
    pub(crate) table: &'a Path,
    pub(crate) indices: Option<Range>,
    pub(crate) shard: Option<Shard>,
    pub(crate) real: bool,
    pub(crate) evaluation: Option<Evaluation>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) svg: Option<&'a Path>,
    pub(crate) run: &'a RunArgs,
}

/// The verdicts of the instances of one network, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    instances: usize,
    unsat: usize,
    sat: usize,
    unknown: usize,
    timed_out: usize,
    /// Questions that could not be asked.
    errors: usize,
    /// Verdicts that contradict those of the table.
    contradictions: usize,
    /// Over the instances that are settled.
    median_seconds: Option<f64>,
    greatest_seconds: Option<f64>,
    /// Over all instances.
    total_seconds: f64,
}

/// What [`Counts::row`] has.
pub(crate) const COLUMNS: [&str; 11] = [
    "network",
    "instances",
    "unsat",
    "sat",
    "unknown",
    "timed out",
    "errors",
    "contradictions",
    "median s",
    "greatest s",
    "total s",
];

impl Counts {
    pub(crate) fn new<'r>(records: impl Iterator<Item = &'r VerifyRecord>) -> Self {
        let (mut counts, mut seconds) = (Self::default(), Vec::new());
        for record in records {
            counts.instances += 1;
            counts.total_seconds += record.seconds;
            *match record.verdict {
                Some(Verdict::Unsat) => &mut counts.unsat,
                Some(Verdict::Sat) => &mut counts.sat,
                Some(Verdict::Unknown) => &mut counts.unknown,
                Some(Verdict::TimedOut) => &mut counts.timed_out,
                None => &mut counts.errors,
            } += 1;
            if is_settled(record) {
                seconds.push(record.seconds);
                let known = record.expected.is_some_and(|expected| Some(expected) != record.verdict);
                counts.contradictions += usize::from(known);
            }
        }
        seconds.sort_by(f64::total_cmp);
        counts.median_seconds = seconds.get(seconds.len().saturating_sub(1) / 2).copied();
        counts.greatest_seconds = seconds.last().copied();
        counts
    }

    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        let seconds = |s: Option<f64>| s.map_or(String::new(), |s| format!("{s:.3}"));
        let counts = [
            self.instances,
            self.unsat,
            self.sat,
            self.unknown,
            self.timed_out,
            self.errors,
            self.contradictions,
        ];
        let mut row = vec![name.to_owned()];
        row.extend(counts.map(|n| n.to_string()));
        row.extend([seconds(self.median_seconds), seconds(self.greatest_seconds)]);
        row.push(format!("{:.1}", self.total_seconds));
        row
    }
}

fn is_settled(record: &VerifyRecord) -> bool {
    record.verdict.is_some_and(Verdict::is_settled)
}

pub(crate) fn run(asked: &Asked) -> Result<()> {
    let table = asked.table;
    let question = Verify::new(instances(table)?, (asked.real, asked.evaluation), asked.timeout);
    let question = question.of_table(table).map_err(output::Failure::from_run)?;
    let len = question.instances().len();
    let selection = Selection::new(asked.indices.unwrap_or_default(), 1, shard_of(asked.shard)?, len);
    let selection = selection.map_err(|e| anyhow!("--{e}"))?;
    let indices: Vec<usize> = selection.iter().collect();
    // Instances bring inputs of their own.
    let none = Array2::zeros((indices.len(), 0));
    let name = table.file_stem().unwrap_or_default().to_string_lossy();
    let subject = Subject {
        name: &name,
        header: serde_json::Map::new(),
        selection: &selection,
        inputs: Inputs::new(indices, None, Pixels::Rows(none.view())),
    };
    let (records, ended) = ask(&question, subject, asked.run)?;
    if records.is_empty() {
        return ended;
    }
    for record in records.iter().filter(|record| record.verdict.is_none()) {
        output::note(&format!("instance {}: {}", record.index, record.reason.as_deref().unwrap_or_default()));
    }
    let mut groups: BTreeMap<&str, Vec<&VerifyRecord>> = BTreeMap::new();
    for record in &records {
        groups.entry(&record.network).or_default().push(record);
    }
    let networks: Vec<(&str, Counts)> =
        groups.into_iter().map(|(network, records)| (network, Counts::new(records.into_iter()))).collect();
    let all = Counts::new(records.iter());
    let contradictions = all.contradictions;
    output::print(&if asked.run.json {
        let networks: BTreeMap<&str, &Counts> =
            networks.iter().map(|(name, counts)| (*name, counts)).collect();
        serde_json::json!({"instances": table.display().to_string(), "all": all, "networks": networks})
            .to_string()
    } else {
        show(&networks, &all)
    })?;
    if let Some(path) = asked.svg {
        let solved = vec![(String::new(), settled_seconds(&records))];
        output::write_file(path, &picture::solved(solved, records.len()).svg()?)?;
    }
    if ended.is_ok() && contradictions > 0 {
        return Err(output::Failure::Output(anyhow!(
            "{contradictions} verdicts contradict those of the table"
        )));
    }
    ended
}

pub(crate) fn settled_seconds(records: &[VerifyRecord]) -> Vec<f64> {
    let mut seconds: Vec<f64> = records.iter().filter(|r| is_settled(r)).map(|r| r.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// A row for each network, and one for all where there are several.
fn show(networks: &[(&str, Counts)], all: &Counts) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(COLUMNS);
    for (network, counts) in networks {
        let name = Path::new(network)
            .file_name()
            .map_or((*network).to_owned(), |n| n.to_string_lossy().into_owned());
        table.add_row(counts.row(&name));
    }
    if networks.len() > 1 {
        table.add_row(all.row("all"));
    }
    output::right(&mut table, 1);
    table.to_string()
}
