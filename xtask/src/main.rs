//! Maintenance commands of the repository, run as `cargo xtask COMMAND`.
//!
//! One file per command; this one only chooses between them.

#![expect(clippy::print_stderr, reason = "a command-line tool reports to the terminal")]

mod bench;
mod capi;
mod install;
mod proto;
mod python;
mod test;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

commands:
  test            run all checks: format, lints, generated code, tests, documentation, Python, C
  test --all      the same with what takes longer: every repetition of the tests that kill processes,
                  every certificate of the corpus where there is one
  python          only the Python package: build, install in target/python, test
  bench --peers   timings beside PyTorch, onnxruntime and auto_LiRPA, to benches/RESULTS.md;
                  with --only TITLE just some, to the terminal; --rounds N; --lirpa FOLDER
  c               only the C library: header, build, C tests under valgrind
  install-capi P  build the C library and install it under P: lib, include, pkg-config
  header          regenerate certify/capi/include/tightrope.h from certify/capi/src
  proto           regenerate src/onnx/proto.rs from src/onnx/onnx.proto
  proto --check   fail if src/onnx/proto.rs differs from what would be generated";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(report) => {
            eprintln!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command named by `arguments` and returns the line to report.
fn run(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    match arguments {
        ["test"] => test::run(&repository()),
        ["test", "--all"] => test::all(&repository()),
        ["bench", "--peers", rest @ ..] => bench::peers(&repository(), rest),
        ["python"] => python::run(&repository()).map(|()| "passed".to_owned()),
        ["c"] => capi::run(&repository()).map(|()| "passed".to_owned()),
        ["install-capi", prefix] => capi::install(&repository(), Path::new(prefix)),
        ["header"] => capi::write(&repository()),
        ["proto"] => proto::write(&repository()),
        ["proto", "--check"] => proto::check(&repository()),
        ["help" | "--help" | "-h"] => Ok(USAGE.to_owned()),
        [] => Err(format!("no command given\n\n{USAGE}").into()),
        _ => Err(format!("unknown command `{}`\n\n{USAGE}", arguments.join(" ")).into()),
    }
}

/// The root of the repository: the folder that holds this crate.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
