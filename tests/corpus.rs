//! Tests against the corpus of other people's networks and reference results,
//! which is not part of the repository: in the folder `TIGHTROPE_CORPUS`, or
//! else `../shared`. Without it they pass and say so.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "says what was compared or skipped")]

#[path = "corpus/bounds.rs"]
mod bounds;
#[path = "corpus/forward.rs"]
mod forward;
#[path = "corpus/operators.rs"]
mod operators;
#[path = "corpus/smoothing.rs"]
mod smoothing;
#[path = "corpus/tightness.rs"]
mod tightness;
#[path = "corpus/vnnlib.rs"]
mod vnnlib;

use std::path::{Path, PathBuf};

/// The corpus, if there is one.
fn corpus() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = std::env::var_os("TIGHTROPE_CORPUS").map_or(default, PathBuf::from);
    let found = path.join("reference").is_dir();
    if !found {
        eprintln!("skipped: no corpus at {} (set TIGHTROPE_CORPUS)", path.display());
    }
    found.then_some(path)
}
