//! `tightrope report`: what runs found, as one page.

mod hardest;
mod kinds;
mod page;

use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;
use tightrope::runs::{Progress, RunLines};

use crate::curve::names;
use crate::output::{self, Result};
use crate::picture::{Axis, Chart, Line};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run files of certify, attack, smooth, tightness or verify, finished or not, plain or gzipped; those of one
    /// kind are shown side by side.
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Write the page to this file: one that needs no other.
    #[arg(long)]
    html: PathBuf,
    /// Show the hardest so many inputs of each run, if their images can be found.
    #[arg(long, default_value_t = 6)]
    pictures: usize,
}

/// One run with what the page says of it.
pub(crate) struct Shown {
    /// How the page calls it.
    name: String,
    run: RunLines,
    progress: Progress,
    /// What cannot be right, and what is worth knowing.
    findings: Vec<String>,
    notes: Vec<String>,
    /// Seconds of every record.
    seconds: Vec<f64>,
    kind: Kind,
    figures: Vec<Figure>,
    table: Table,
    hardest: Vec<hardest::Hard>,
}

/// Runs of one kind are drawn into the same figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Certify,
    Brackets,
    Smooth,
    Tightness,
    Verify,
}

/// The lines of one run in a figure that all runs of its kind share.
pub(crate) struct Figure {
    title: &'static str,
    x: (String, Axis),
    y: (&'static str, Axis),
    lines: Vec<Line>,
}

/// Rows under names of columns.
#[derive(Default)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut shown = Vec::new();
    for (path, name) in args.run.iter().zip(names(&args.run)) {
        shown.push(show(path, name, args.pictures)?);
    }
    let page = page::page(&shown).with_context(|| args.html.display().to_string())?;
    output::write_file(&args.html, &page)?;
    output::note(&format!("{}: {} runs", args.html.display(), shown.len()));
    Ok(())
}

fn show(path: &std::path::Path, name: String, pictures: usize) -> Result<Shown> {
    let run = RunLines::read(path)?;
    let progress = Progress::new(&run)?;
    let mut notes = Vec::new();
    if run.cut_off {
        notes.push("the last line is cut off and left out".to_owned());
    }
    let missing = progress.missing.len();
    if missing > 0 {
        notes.push(format!("{missing} of {} inputs are missing", progress.inputs));
    }
    let seconds = (run.records::<Value>()?.iter()).filter_map(|record| record["seconds"].as_f64()).collect();
    let found = kinds::found(&run)?;
    let (hardest, missing) = hardest::pictures(&run, &found.hardest, pictures);
    notes.extend(missing);
    notes.extend(found.notes);
    let kinds::Found { kind, figures, table, findings, .. } = found;
    Ok(Shown { name, run, progress, findings, notes, seconds, kind, figures, table, hardest })
}

/// The figures of a kind, each with the lines of all its runs.
fn charts(runs: &[&Shown]) -> Vec<Chart> {
    let mut charts: Vec<Chart> = Vec::new();
    let named = |run: &Shown, line: &str| match (runs.len() > 1, line.is_empty()) {
        (false, _) => line.to_owned(),
        (true, true) => run.name.clone(),
        (true, false) => format!("{}: {line}", run.name),
    };
    for run in runs {
        let mut seconds = run.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let share = |i: usize| (i + 1) as f64 / seconds.len().max(1) as f64;
        let line: Line = (named(run, ""), seconds.iter().enumerate().map(|(i, &s)| (share(i), s)).collect());
        let times = Figure {
            title: "Time",
            x: ("share of records, sorted".into(), Axis::Share),
            y: ("seconds", Axis::Seconds),
            lines: vec![line],
        };
        let figures = run.figures.iter().map(|figure| {
            let lines = figure.lines.iter().map(|(name, points)| (named(run, name), points.clone()));
            Figure { lines: lines.collect(), x: figure.x.clone(), ..*figure }
        });
        for figure in figures.chain([times]).filter(|f| f.lines.iter().any(|(_, points)| !points.is_empty()))
        {
            match charts.iter_mut().find(|chart| chart.title == figure.title) {
                Some(chart) => chart.lines.extend(figure.lines),
                None => charts.push(Chart {
                    title: figure.title.into(),
                    x: figure.x,
                    y: (figure.y.0.into(), figure.y.1),
                    lines: figure.lines,
                }),
            }
        }
    }
    charts
}
