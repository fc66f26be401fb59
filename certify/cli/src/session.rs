//! A question asked by a command: options of its run, run file, progress, and how it ends.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};
use tightrope::runs::{
    Failure as RunFailure, Finished, Inputs, Question, RunError, RunFile, Selection, answer, provenance,
};

use crate::output::{self, Failure, Result};

/// What all commands are told that ask something of many inputs.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct RunArgs {
    /// Write one JSON line for every result to this file.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Continue the run in --out.
    #[arg(long, requires = "out")]
    pub(crate) resume: bool,
    /// Print one JSON object (a line) for each network instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing of the progress.
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say what is run, and the progress in lines every second even where there is a terminal.
    #[arg(short, long)]
    verbose: bool,
}

/// Seconds between two lines of progress where there is no terminal.
const BETWEEN_LINES: f64 = 10.0;

/// What a question is asked of.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    /// What was read and how.
    pub(crate) header: Map<String, Value>,
    pub(crate) selection: &'a Selection,
    pub(crate) inputs: Inputs<'a>,
}

/// Asks a question of all inputs. The records so far come back however it ends; the caller reports them,
/// then returns what ended it.
pub(crate) fn ask<Q: Question>(
    question: &Q,
    subject: Subject,
    args: &RunArgs,
) -> Result<(Vec<Q::Record>, Result<()>)> {
    let Subject { name, header, selection, inputs } = subject;
    let header = provenance::header(header, selection, question);
    let (mut file, mut earlier) = (None, Vec::new());
    if let Some(path) = &args.out {
        let (run, found) = RunFile::open(path, &header, args.resume).map_err(Failure::from_run)?;
        (file, earlier) = (Some(run), found);
    }
    let total = inputs.indices().len();
    if args.verbose {
        output::note(&format!("{name}: {total} inputs, {} threads", rayon::current_num_threads()));
        output::note(&format!("{name}: {header}"));
    }
    let mut progress = Progress::new(args, total, name);
    let Finished { records, ended } = answer(question, &inputs, file, earlier, &mut |done| {
        progress.show(done);
        !output::interrupted()
    });
    progress.bar.finish_and_clear();
    let ended = ended.map_err(|failure| match failure {
        RunFailure::Stopped => Failure::interrupted(args.out.as_deref()),
        RunFailure::File(error) => Failure::from_run(error),
        RunFailure::Output(cause) => Failure::Output(anyhow::anyhow!("{cause}")),
        RunFailure::Data(error) => error.into(),
        other => anyhow::anyhow!("{name}: {other}").into(),
    });
    if ended.is_err() && !records.is_empty() {
        let done = records.len() / question.parts().len().max(1);
        output::note(&format!("{name}: results of {done} of {total} inputs"));
    }
    Ok((records, ended))
}

/// A bar on a terminal, lines elsewhere.
struct Progress<'a> {
    bar: ProgressBar,
    /// Seconds between two lines, where there are lines.
    every: Option<f64>,
    name: &'a str,
    total: usize,
    begun: Instant,
    /// How many inputs were done at the beginning.
    first: Option<usize>,
    lines: u32,
}

impl<'a> Progress<'a> {
    fn new(args: &RunArgs, total: usize, name: &'a str) -> Self {
        let terminal = io::stderr().is_terminal() && !args.verbose;
        let target =
            if terminal && !args.quiet { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta} left";
        let bar = ProgressBar::with_draw_target(Some(total as u64), target)
            .with_style(ProgressStyle::with_template(style).expect("a valid template"))
            .with_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        let every = if args.verbose { 1.0 } else { BETWEEN_LINES };
        let every = (!terminal && !args.quiet).then_some(every);
        Self { bar, every, name, total, begun: Instant::now(), first: None, lines: 0 }
    }

    fn show(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        let first = *self.first.get_or_insert(done);
        let seconds = self.begun.elapsed().as_secs_f64();
        if self.every.is_none_or(|every| seconds < every * f64::from(self.lines + 1)) {
            return;
        }
        self.lines = (seconds / self.every.unwrap_or(BETWEEN_LINES)) as u32;
        let Self { name, total, .. } = self;
        let rate = (done - first) as f64 / seconds;
        let left = (*total - done) as f64 / rate;
        let left = if left.is_finite() { format!(", {left:.0} s left") } else { String::new() };
        output::note(&format!("{name}: {done} of {total} inputs, {rate:.3}/s{left}"));
    }
}

/// Opens a new run file for records that are there already.
pub(crate) fn write_new(
    path: &std::path::Path,
    header: &serde_json::Value,
    lines: &[String],
) -> std::result::Result<(), RunError> {
    let (mut file, _) = RunFile::open::<serde_json::Value>(path, header, false)?;
    file.append_lines(lines).inspect_err(|_| {
        if path.is_file() {
            // The failure to write is what is reported.
            let _ = std::fs::remove_file(path);
        }
    })
}
