//! What goes to stdout and stderr, and how the command ends.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use comfy_table::{CellAlignment, Table};
use tightrope::runs::RunError;

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
            None => "with --out FILE a run can be continued".into(),
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

/// Aligns the columns from this one on to the right.
pub(crate) fn right(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Four significant digits.
pub(crate) fn figure(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{x:.3e}"),
        size => format!("{x:.*}", (3 - size.log10().floor() as i32).clamp(0, 6) as usize),
    }
}

/// The range that perturbed inputs do not leave.
pub(crate) fn clip(range: Option<(f64, f64)>) -> String {
    range.map_or("none".into(), |(low, high)| format!("{low}..{high}"))
}
