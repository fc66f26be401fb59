//! `tightrope merge`.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use tightrope::report::{MergedRun, RunError, RunFile, RunLines, SmoothRecord, cohen_tsv};

use crate::output::{self, Failure, Result};

/// Most ranges of missing inputs that are named.
const MOST_RANGES: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run files of smooth or certify that differ in --shard and --indices only, plain or gzipped.
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Write the merged run to this file.
    #[arg(long)]
    out: PathBuf,
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
    write(&args.out, &merged).map_err(Failure::from_run)?;
    if let Some((path, text)) = table {
        output::write_file(path, &text)?;
    }
    let out = args.out.display();
    if !merged.missing.is_empty() {
        let (count, missing) = (merged.missing.len(), ranges(&merged.missing));
        output::note(&format!("{out}: {count} inputs are missing: {missing}"));
    }
    // Not to stdout, which --out may be.
    output::note(&format!("{out}: {} records of {} files", merged.records.len(), runs.len()));
    Ok(())
}

/// Writes a new run file; what cannot be written to the end does not stay.
fn write(path: &Path, merged: &MergedRun) -> std::result::Result<(), RunError> {
    let (mut file, _) = RunFile::open::<serde_json::Value>(path, &merged.header, false)?;
    file.append_lines(&merged.records).inspect_err(|_| {
        if path.is_file() {
            // The failure to write is what is reported.
            let _ = std::fs::remove_file(path);
        }
    })
}

/// `3, 5..9, ...`, ends not included.
fn ranges(indices: &[usize]) -> String {
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
