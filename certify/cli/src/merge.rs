//! `tightrope merge`.

use std::path::PathBuf;

use anyhow::anyhow;
use tightrope::report::cohen_tsv;
use tightrope::runs::{MergedRun, RunLines, SmoothRecord};

use crate::output::{self, Failure, Result};
use crate::session::write_new;

/// Most ranges of missing inputs that are named.
const MOST_RANGES: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run files that differ in --shard and --indices only, plain or gzipped.
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Write the merged run to this file.
    #[arg(long)]
    out: PathBuf,
    /// Write what there is even if inputs are missing.
    #[arg(long)]
    partial: bool,
    /// Write the table that the field's scripts read (runs of smooth only).
    #[arg(long)]
    tsv: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut runs = Vec::new();
    for path in &args.run {
        let run = RunLines::read(path)?;
        if run.cut_off {
            output::note(&format!("{}: the last line is cut off and left out", path.display()));
        }
        runs.push(run);
    }
    let merged = MergedRun::new(&runs)?;
    let whole = RunLines {
        file: args.out.clone(),
        header: merged.header.clone(),
        records: merged.records.clone(),
        cut_off: false,
    };
    let table = match &args.tsv {
        None => None,
        Some(path) if whole.header["command"] == "smooth" => {
            Some((path, cohen_tsv(&whole.records::<SmoothRecord>()?)))
        }
        Some(_) => return Err(anyhow!("--tsv: found runs of certify; accepted: runs of smooth").into()),
    };
    let out = args.out.display();
    let missing = missing(&merged);
    if let (Some(missing), false) = (&missing, args.partial) {
        let text = anyhow!("{missing}; with --partial {out} is written without them");
        return Err(Failure::Output(text));
    }
    write_new(&args.out, &merged.header, &merged.records).map_err(Failure::from_run)?;
    if let Some((path, text)) = table {
        output::write_file(path, &text)?;
    }
    if let Some(missing) = missing {
        output::note(&format!("{out}: {missing}"));
    }
    // Not to stdout, which --out may be.
    output::note(&format!("{out}: {} records of {} files", merged.records.len(), runs.len()));
    Ok(())
}

/// What is missing, if anything is.
fn missing(merged: &MergedRun) -> Option<String> {
    let (count, inputs) = (merged.missing.len(), ranges(&merged.missing));
    let shards = merged.missing_shards.as_ref().filter(|(shards, _)| !shards.is_empty());
    let shards = shards.map(|(shards, n)| format!(" (of shards {} of {n})", ranges(shards)));
    (count > 0).then(|| format!("{count} inputs are missing: {inputs}{}", shards.unwrap_or_default()))
}

/// `3, 5..9, ...`, ends not included.
pub(crate) fn ranges(indices: &[usize]) -> String {
    let pieces: Vec<&[usize]> = indices.chunk_by(|a, b| a + 1 == *b).collect();
    let mut names: Vec<String> = pieces
        .iter()
        .take(MOST_RANGES)
        .map(|piece| match piece {
            [one] => one.to_string(),
            piece => format!("{}..{}", piece[0], piece[piece.len() - 1] + 1),
        })
        .collect();
    if pieces.len() > MOST_RANGES {
        names.push("...".into());
    }
    names.join(", ")
}
