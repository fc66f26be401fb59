//! What goes to stdout and stderr, and how the command ends.

use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tightrope::report::RunError;

/// How a command fails.
pub(crate) enum Failure {
    /// Wrong usage or input: exit code 2.
    Input(anyhow::Error),
    /// A result cannot be written: exit code 1.
    Output(anyhow::Error),
    /// Ctrl-C: exit code 130. Says where finished results are.
    Interrupted(String),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Input(error.into())
    }
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Output(_) => 1,
            Self::Input(_) => 2,
            Self::Interrupted(_) => 130,
        }
    }

    /// What the operating system refuses is not the user's input.
    pub(crate) fn from_run(error: RunError) -> Self {
        match error {
            RunError::Io { .. } => Self::Output(anyhow::Error::new(error).context("results are not written")),
            _ => error.into(),
        }
    }

    /// Ctrl-C in a run whose results go to `out`.
    pub(crate) fn interrupted(out: Option<&Path>) -> Self {
        Self::Interrupted(match out {
            Some(out) => format!("finished results are in {}; continue with --resume", out.display()),
            None => "nothing was kept; with --out FILE a run can be continued".into(),
        })
    }

    pub(crate) fn print(&self) {
        let text = match self {
            Self::Input(error) | Self::Output(error) => format!("error: {error:#}"),
            Self::Interrupted(kept) => format!("interrupted: {kept}"),
        };
        // There is nowhere left to report a failure of stderr.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Says something on stderr that is worth knowing.
pub(crate) fn note(text: &str) {
    // As above.
    let _ = writeln!(io::stderr(), "note: {text}");
}

/// Writes a file that people asked for beside the results.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    let written = std::fs::write(path, text);
    written.with_context(|| path.display().to_string()).map_err(Failure::Output)
}

/// Writes text and a newline to stdout. A reader that went away is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Output(anyhow::Error::new(cause).context("stdout")))
        }
        _ => Ok(()),
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C is remembered instead of ending the process; a second
/// one ends it.
pub(crate) fn catch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// Whether Ctrl-C was pressed.
pub(crate) fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// A progress bar on stderr with rate and time left; hidden if stderr is not a
/// terminal.
pub(crate) fn progress(total: usize, what: &str) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta} left";
    let bar = ProgressBar::with_draw_target(Some(total as u64), target)
        .with_style(ProgressStyle::with_template(style).expect("a valid template"))
        .with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Ranges of inputs between two looks at Ctrl-C and two writes of results. They grow while one takes less
/// than a twentieth of a second, so that threads rarely wait for each other.
pub(crate) struct Blocks {
    rest: Range<usize>,
    size: usize,
    begun: Option<Instant>,
}

/// More inputs than this would only take memory.
const LARGEST_BLOCK: usize = 512;

/// Blocks of `total` inputs, of `size` at first.
pub(crate) fn blocks(total: usize, size: usize) -> Blocks {
    Blocks { rest: 0..total, size, begun: None }
}

impl Iterator for Blocks {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.begun.is_some_and(|begun| begun.elapsed() < Duration::from_millis(50)) {
            self.size = (2 * self.size).min(LARGEST_BLOCK);
        }
        self.begun = Some(Instant::now());
        let Range { start, end } = self.rest;
        self.rest.start = end.min(start + self.size);
        (start < end).then_some(start..self.rest.start)
    }
}

/// `x` with four decimals, rounded down: a printed bound must still hold.
pub(crate) fn down(x: f64) -> String {
    let scaled = (x * 1e4).floor() / 1e4;
    if scaled.is_finite() { format!("{scaled:.4}") } else { format!("{x:.3e}") }
}

/// `x >= 0` with four decimals, rounded up.
pub(crate) fn up(x: f64) -> String {
    if x < 1e9 {
        let ceiling = (x * 1e4).ceil();
        // The product was rounded; the fused one has the exact sign.
        let ceiling = if x.mul_add(1e4, -ceiling) > 0.0 { ceiling + 1.0 } else { ceiling };
        return format!("{:.4}", ceiling / 1e4);
    }
    // More than what rounding to four digits can take off.
    format!("{:.3e}", x * 1.0006)
}

/// A share in percent, rounded down to one decimal.
pub(crate) fn percent(part: usize, whole: usize) -> String {
    let tenths = 1000 * part / whole.max(1);
    format!("{}.{} %", tenths / 10, tenths % 10)
}
