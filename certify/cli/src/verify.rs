//! `tightrope verify`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use tightrope::bounds::Evaluation;
use tightrope::onnx::{LoadOptions, load_with_files};
use tightrope::query::{Property, Query};
use tightrope::runs::provenance::fingerprint;
use tightrope::runs::selection::{Shard, shard};
use tightrope::runs::{QueryCertificate, Range};
use tightrope::verify::{Limits, Outcome, Progress, Verdict, Verifier};

use crate::args::{EvaluationName, seconds};
use crate::input::pool;
use crate::instances::{self, Asked};
use crate::output::{self, Failure, Result};
use crate::session::RunArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A network and a property (`NET.onnx PROPERTY.vnnlib`), or a property whose networks --network names;
    /// each plain or gzipped.
    #[arg(required_unless_present = "instances", num_args = 1..=2, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The model file of a network that the property declares; once for each.
    #[arg(long = "network", value_name = "NAME=FILE", value_parser = network)]
    networks: Vec<(String, PathBuf)>,
    /// A table of instances instead: lines NETWORK,PROPERTY,SECONDS, files relative to its folder.
    #[arg(long, value_name = "CSV", conflicts_with_all = ["files", "networks", "serialise_assignments"])]
    instances: Option<PathBuf>,
    /// Of the table only these instances: A..B, the end not included.
    #[arg(long, requires = "instances")]
    indices: Option<Range>,
    /// Of the table only part I (from 0) of N parts, to be put together by merge
    /// [default: all; in a Slurm job array the task's part].
    #[arg(long, value_name = "I/N", value_parser = shard, requires = "instances")]
    shard: Option<Shard>,
    /// Draw the instances that are solved within a time.
    #[arg(long, value_name = "FILE", requires = "instances")]
    svg: Option<PathBuf>,
    /// Give up after so many seconds; of a table, each instance.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// The arithmetic of the networks that `unsat` speaks of [default: that of the property's types].
    #[arg(long, value_enum, conflicts_with = "real")]
    evaluation: Option<EvaluationName>,
    /// Take variables of floating-point types for real numbers: what is proved is proved in real arithmetic.
    #[arg(long)]
    real: bool,
    /// Write the assignment after `sat` to a file in this folder too.
    #[arg(long, value_name = "FOLDER", visible_alias = "serialize-assignments")]
    serialise_assignments: Option<PathBuf>,
    /// Write what proves the verdict to a file, for tightrope-check.
    #[arg(long, value_name = "FILE", conflicts_with = "instances")]
    certificate: Option<PathBuf>,
    /// Threads [default: all cores]. Verdicts do not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    run: RunArgs,
}

fn network(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let pair = text.split_once('=').filter(|(name, file)| !name.is_empty() && !file.is_empty());
    let (name, file) = pair.ok_or_else(|| format!("`{text}` is not NAME=FILE"))?;
    Ok((name.into(), file.into()))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let pool = pool(args.threads)?;
    output::catch_interrupts()?;
    if let Some(table) = &args.instances {
        let Args { indices, shard, real, timeout, run, .. } = args;
        let evaluation = args.evaluation.map(Evaluation::from);
        let (indices, shard, real, timeout, svg) = (*indices, *shard, *real, *timeout, args.svg.as_deref());
        return pool.install(|| {
            instances::run(&Asked { table, indices, shard, real, evaluation, timeout, svg, run })
        });
    }
    if args.run.out.is_some() {
        return Err(anyhow!("--out keeps the records of --instances, which is not given").into());
    }
    pool.install(|| one(args))
}

/// One property.
fn one(args: &Args) -> Result<()> {
    let begin = Instant::now();
    let query = query(args)?;
    let evaluation = args.evaluation.map_or(query.evaluation, Evaluation::from);
    if args.certificate.is_some() {
        let file = query.property().file.display();
        QueryCertificate::check(&query).map_err(|e| anyhow!("{file}: {e}"))?;
    }
    let limits = Limits {
        timeout: args.timeout.map(|timeout| timeout.saturating_sub(begin.elapsed())),
        prove: args.certificate.is_some(),
        ..Limits::default()
    };
    let mut shown = Instant::now();
    let outcome = Verifier::new(&query.graph).evaluated(evaluation).verify(
        &query.regions,
        &|x, y| query.holds(x, y),
        &limits,
        &mut |progress| {
            if !args.run.quiet && shown.elapsed() > Duration::from_secs(5) {
                shown = Instant::now();
                output::note(&status(progress, begin.elapsed()));
            }
            !output::interrupted()
        },
    );
    if output::interrupted() {
        return Err(Failure::Interrupted(outcome.reason.unwrap_or_default()));
    }
    if let Some(path) = &args.certificate {
        certificate(args, (&query, evaluation), &outcome, path)?;
    }
    report(args, (&query, evaluation), &outcome, begin.elapsed())
}

/// Writes what proves the verdict.
fn certificate(
    args: &Args,
    (query, evaluation): (&Query, Evaluation),
    outcome: &Outcome,
    path: &Path,
) -> Result<()> {
    let property = &query.property().file;
    let certificate = QueryCertificate::new(query, evaluation, outcome);
    let certificate = certificate.map_err(|e| anyhow!("{}: {e}", property.display()))?;
    let model =
        args.files.first().filter(|_| args.files.len() > 1).or(args.networks.first().map(|(_, file)| file));
    let (Some(certificate), Some(model)) = (certificate, model) else { return Ok(()) };
    let digest = |root: &Path, files: &[PathBuf]| fingerprint(root, files).map_err(Failure::from_run);
    let one = |file: &PathBuf| digest(Path::new(""), std::slice::from_ref(file));
    let (_, weights) = load_with_files(model, &LoadOptions::default())?;
    let folder = model.canonicalize()?.parent().map(Path::to_owned).unwrap_or_default();
    let weights = if weights.is_empty() { None } else { Some(digest(&folder, &weights)?) };
    let saved = certificate.save(path, &one(model)?, weights.as_deref(), &one(property)?);
    saved.with_context(|| path.display().to_string()).map_err(Failure::Output)
}

fn status(progress: &Progress, time: Duration) -> String {
    let Progress { subproblems, open, lower, depth } = progress;
    let rate = *subproblems as f64 / time.as_secs_f64();
    format!("{subproblems} subproblems, {rate:.0}/s, {open} open, least bound {lower:.3e}, depth {depth}")
}

/// The question of the files.
fn query(args: &Args) -> anyhow::Result<Query> {
    let (model, property) = match &args.files[..] {
        [property] => (None, property),
        [model, property, ..] => (Some(model), property),
        [] => bail!("no files"),
    };
    let property = Property::read(property)?;
    let declared: Vec<&str> = property.networks.iter().map(|n| n.name.as_str()).collect();
    let mut files: Vec<&Path> = Vec::new();
    if let Some(model) = model {
        if !args.networks.is_empty() {
            bail!("a model and --network; give one or the other");
        }
        if declared.len() != 1 {
            bail!(
                "{} declares {}; give each with --network NAME=FILE",
                property.file.display(),
                declared.join(", ")
            );
        }
        files.push(model);
    } else {
        for (name, file) in &args.networks {
            if !declared.contains(&name.as_str()) {
                bail!("--network {name}={}: the property declares {}", file.display(), declared.join(", "));
            }
        }
        for name in &declared {
            let mut own = args.networks.iter().filter(|(n, _)| n == name);
            match (own.next(), own.next()) {
                (Some((_, file)), None) => files.push(file),
                (None, _) => bail!("no file for the network {name}; give --network {name}=FILE"),
                _ => bail!("--network {name} twice; give each once"),
            }
        }
    }
    let as_real = args.real || matches!(args.evaluation, Some(EvaluationName::Real));
    Ok(Query::load(property, &files, as_real)?)
}

fn report(
    args: &Args,
    (query, evaluation): (&Query, Evaluation),
    outcome: &Outcome,
    time: Duration,
) -> Result<()> {
    let verdict = serde_json::to_value(outcome.verdict)?;
    let found = outcome.witness.as_ref().filter(|_| outcome.verdict == Verdict::Sat);
    let assignment = found.map(|witness| query.assignment(&witness.x, &witness.y));
    if let (Some(folder), Some(assignment)) = (&args.serialise_assignments, &assignment) {
        let stem = query.property().file.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem.trim_end_matches(".vnnlib").to_owned();
        std::fs::create_dir_all(folder)
            .with_context(|| folder.display().to_string())
            .map_err(Failure::Output)?;
        output::write_file(&folder.join(format!("{stem}.counterexample")), assignment)?;
    }
    if args.run.json {
        let Progress { subproblems, open, lower, depth } = outcome.progress;
        let number = |x: f64| if x.is_finite() { Some(x) } else { None };
        return output::print(&serde_json::to_string(&serde_json::json!({
            "verdict": verdict, "evaluation": evaluation, "seconds": time.as_secs_f64(), "subproblems": subproblems, "open": open,
            "depth": depth, "lower": number(lower), "root": number(outcome.root), "reason": outcome.reason,
            "witness": outcome.witness.as_ref().map(|w| &w.x),
        }))?);
    }
    if let (Some(reason), false) = (&outcome.reason, args.run.quiet) {
        output::note(reason);
    }
    let verdict = verdict.as_str().ok_or_else(|| anyhow!("a verdict is a word"))?;
    let text = assignment.map_or(String::new(), |assignment| format!("\n{}", assignment.trim_end()));
    output::print(&format!("{verdict}{text}"))
}
