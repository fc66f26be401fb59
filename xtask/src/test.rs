//! `cargo xtask test`: everything that must pass before a change lands.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Name and arguments of every step, run in order by cargo.
const STEPS: [(&str, &[&str]); 6] = [
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    ("generated code", &["xtask", "proto", "--check"]),
    (
        "unit, property and command-line tests",
        &["test", "--workspace", "--lib", "--bins", "--tests", "--locked"],
    ),
    ("documentation tests", &["test", "--workspace", "--doc", "--locked"]),
    ("documentation", &["doc", "--workspace", "--no-deps", "--locked"]),
];

/// Runs all steps in the repository at `root`; stops at the first that fails.
pub(crate) fn run(root: &Path) -> Result<String, Box<dyn Error>> {
    let begin = Instant::now();
    for (name, arguments) in STEPS {
        let start = Instant::now();
        eprintln!("== {name}: cargo {}", arguments.join(" "));
        let mut cargo = Command::new(env!("CARGO"));
        let status = cargo.args(arguments).current_dir(root).env("RUSTDOCFLAGS", "-D warnings").status()?;
        if !status.success() {
            return Err(format!("{name} failed").into());
        }
        eprintln!("== {name}: passed in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(format!("all passed in {:.0} s", begin.elapsed().as_secs_f64()))
}
