//! `cargo xtask test`: everything that must pass before a change lands.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::install::apt_get;
use crate::{capi, python};

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
        step(root, name, arguments)?;
    }
    lapack(root)?;
    other("C library", || capi::run(root))?;
    other("Python package", || python::run(root))?;
    // Ratios of times, and so no matter how fast the machine is or what else it does.
    step(root, "costs of the kernels", &["bench", "--quiet", "--bench", "costs", "--locked"])?;
    Ok(format!("all passed in {:.0} s", begin.elapsed().as_secs_f64()))
}

/// Runs all steps with what takes longer, which the tests are told by a variable.
pub(crate) fn all(root: &Path) -> Result<String, Box<dyn Error>> {
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo.args(["xtask", "test"]).current_dir(root).env("TIGHTROPE_ALL", "1").status()?;
    if status.success() { Ok("with all that takes longer".to_owned()) } else { Err("a step failed".into()) }
}

fn step(root: &Path, name: &str, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    eprintln!("== {name}: cargo {}", arguments.join(" "));
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo.args(arguments).current_dir(root).env("RUSTDOCFLAGS", "-D warnings").status()?;
    if !status.success() {
        return Err(format!("{name} failed").into());
    }
    eprintln!("== {name}: passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// A step that is not one call of cargo.
fn other(name: &str, run: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    eprintln!("== {name}");
    run().map_err(|error| format!("{name}: {error}"))?;
    eprintln!("== {name}: passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Tests what feature `lapack` adds, where `libopenblas` is there or can be installed.
fn lapack(root: &Path) -> Result<(), Box<dyn Error>> {
    let name = "singular values by LAPACK";
    if !links_openblas(root) {
        if let Err(reason) = apt_get(&["libopenblas-dev"]) {
            eprintln!("== {name}: SKIPPED: no OpenBLAS to link with, and {reason}; install libopenblas-dev");
            return Ok(());
        }
        if !links_openblas(root) {
            return Err("libopenblas-dev is installed, but nothing links with -lopenblas".into());
        }
    }
    let lints = ["clippy", "-p", "tightrope", "--lib", "--tests", "--features", "lapack", "--locked"];
    step(root, "lints with LAPACK", &[&lints[..], &["--", "-D", "warnings"]].concat())?;
    step(root, name, &["test", "-p", "tightrope", "--lib", "--features", "lapack", "--locked", "lipschitz"])
}

/// Whether the C compiler, which also links Rust, finds the library.
fn links_openblas(root: &Path) -> bool {
    let mut compiler = Command::new("cc");
    compiler.args(["-x", "c", "-", "-lopenblas", "-o"]).arg(root.join("target/openblas-probe"));
    let started = compiler.stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = started else { return false };
    let written =
        child.stdin.take().is_some_and(|mut pipe| pipe.write_all(b"int main(void){return 0;}").is_ok());
    written && child.wait().is_ok_and(|status| status.success())
}
