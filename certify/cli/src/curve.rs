//! `tightrope curve`.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use comfy_table::{CellAlignment, Table, presets};
use tightrope::report::{CurveSummary, Results, TableOptions, usual_radii};
use tightrope::smoothing::noise::Norm;
use tightrope::smoothing::quantity::{Alpha, Scale};

use crate::output::{self, Result};
use crate::picture;

/// Most faults of a file that are printed.
const MOST_FINDINGS: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Results of randomized smoothing: run files of smooth, or tables with the columns
    /// idx, label, predict, radius, correct, time. Plain or gzipped.
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Draw the curves into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Radii to list [default: 0, 0.25, ... up to the largest].
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    radii: Vec<f64>,
    /// Print one JSON object for each file instead of tables.
    #[arg(long)]
    json: bool,
    /// For tables, which do not tell: the probability with which a certificate may be false.
    #[arg(long, default_value_t = 0.001, allow_hyphen_values = true)]
    alpha: f64,
    /// For tables: samples for the estimation.
    #[arg(short, long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// For tables: standard deviation of the Gaussian noise. Radii above what n and alpha allow (without
    /// knowledge of Lipschitz constants) are faults then.
    #[arg(long, allow_hyphen_values = true)]
    sigma: Option<f64>,
    /// Probability with which the accuracy that allows for false certificates may be too high.
    #[arg(long, default_value_t = 0.001, allow_hyphen_values = true)]
    rho: f64,
    /// Only warn of what cannot be right in a file.
    #[arg(long)]
    lenient: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(radius) = args.radii.iter().find(|r| !(**r >= 0.0 && r.is_finite())) {
        return Err(anyhow!("--radii: found {radius}; accepted: numbers of at least 0").into());
    }
    let options = TableOptions {
        sigma: args.sigma.map(Scale::new).transpose().context("--sigma")?,
        n: args.n,
        alpha: Alpha::new(args.alpha).context("--alpha")?,
    };
    let rho = Alpha::new(args.rho).context("--rho")?;
    let runs = args
        .run
        .iter()
        .map(|file| Results::read(file, &options))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let files = names(&args.run).into_iter().zip(&runs);
    let names: Vec<String> =
        files.flat_map(|(name, levels)| levels.iter().map(move |run| run.name(&name))).collect();
    let runs = runs.concat();
    let radii = if args.radii.is_empty() { usual_radii(&runs) } else { args.radii.clone() };
    let summaries: Vec<CurveSummary> = runs.iter().map(|run| run.summary(&radii, rho)).collect();
    report(&runs, &summaries, args.lenient)?;
    if let Some(path) = &args.svg {
        let picture = picture::curves(&runs, &names).svg().with_context(|| path.display().to_string())?;
        output::write_file(path, &picture)?;
    }
    if args.json {
        let lines =
            summaries.iter().map(serde_json::to_string).collect::<std::result::Result<Vec<_>, _>>()?;
        return output::print(&lines.join("\n"));
    }
    output::print(&tables(&summaries, &names, &radii, args.rho))
}

/// Says what was noticed, and ends the command where something cannot be right.
fn report(runs: &[Results], summaries: &[CurveSummary], lenient: bool) -> Result<()> {
    for run in runs {
        for note in &run.notes {
            output::note(&format!("{}: {note}", run.file.display()));
        }
    }
    let norm = |norm| runs.iter().find(|run| run.norm == Some(norm)).map(|run| run.file.display());
    if let (Some(l1), Some(l2)) = (norm(Norm::L1), norm(Norm::L2)) {
        output::note(&format!("the radii in {l1} are l1 and those in {l2} are l2: they do not compare"));
    }
    let mut lines = Vec::new();
    for summary in summaries {
        lines.extend(summary.findings.iter().take(MOST_FINDINGS).cloned());
        if let Some(more @ 1..) = summary.findings.len().checked_sub(MOST_FINDINGS) {
            lines.push(format!("{}: {more} more", summary.file));
        }
    }
    if lines.is_empty() {
        Ok(())
    } else if lenient {
        for line in &lines {
            output::note(line);
        }
        Ok(())
    } else {
        let lines = lines.join("\n  ");
        Err(anyhow!("what follows cannot be right (--lenient only warns of it):\n  {lines}").into())
    }
}

/// File names without folder and ending where that tells them apart, else whole paths.
pub(crate) fn names(files: &[PathBuf]) -> Vec<String> {
    let short = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        [".jsonl", ".tsv"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let names: Vec<String> = files.iter().map(short).collect();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    if distinct.len() == names.len() {
        names
    } else {
        files.iter().map(|f| f.display().to_string()).collect()
    }
}

fn tables(summaries: &[CurveSummary], names: &[String], radii: &[f64], rho: f64) -> String {
    let table = |head: &str| {
        let mut table = Table::new();
        let head = std::iter::once(head.to_owned()).chain(names.iter().cloned());
        table.load_preset(presets::ASCII_MARKDOWN).set_header(head.collect::<Vec<_>>());
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    };
    let row = |table: &mut Table, head: String, cell: &dyn Fn(&CurveSummary) -> String| {
        let row: Vec<String> = std::iter::once(head).chain(summaries.iter().map(cell)).collect();
        table.add_row(row);
    };
    let (mut measured, mut allowed) = (table("radius"), table("radius"));
    for (i, radius) in radii.iter().enumerate() {
        let head = format!("{radius:.2}").parse() == Ok(*radius);
        let head = if head && *radius < 1e6 { format!("{radius:.2}") } else { format!("{radius:?}") };
        row(&mut measured, head.clone(), &|s| output::percent(s.results[i].certified, s.inputs));
        row(&mut allowed, head, &|s| {
            format!("{:.1} %", (s.results[i].high_probability_accuracy * 1000.0).floor() / 10.0)
        });
    }
    row(&mut measured, "average radius".into(), &|s| output::down(s.average_certified_radius));
    row(&mut measured, "abstentions".into(), &|s| s.abstentions.to_string());
    row(&mut measured, "inputs".into(), &|s| s.inputs.to_string());
    format!(
        "certified accuracy\n\n{measured}\n\nat least this, with probability {} over all noise\n\n{allowed}",
        1.0 - rho
    )
}
