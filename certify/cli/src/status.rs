//! `tightrope status`.

use std::path::PathBuf;

use comfy_table::{Table, presets};
use tightrope::runs::{Progress, RunLines};

use crate::merge::ranges;
use crate::output::{self, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run files, finished or not, plain or gzipped.
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Print one JSON object (a line) for each file instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut table = Table::new();
    let header = ["run", "command", "done", "missing", "which", "inputs/s", "seconds left"];
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for path in &args.run {
        let progress = Progress::new(&RunLines::read(path)?)?;
        if args.json {
            output::print(&serde_json::to_string(&progress)?)?;
            continue;
        }
        let number = |x: Option<f64>| x.map_or("unknown".into(), output::figure);
        table.add_row([
            progress.file,
            progress.command,
            format!("{} of {}", progress.done, progress.inputs),
            progress.missing.len().to_string(),
            ranges(&progress.missing),
            number(progress.inputs_per_second),
            number(progress.seconds_left),
        ]);
    }
    if args.json { Ok(()) } else { output::print(&table.to_string()) }
}
