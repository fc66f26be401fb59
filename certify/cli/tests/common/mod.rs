//! Running the command, for all tests of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

pub(crate) fn tightrope(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("tightrope"));
    command.current_dir(models()).args(arguments);
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    tightrope(arguments).output().expect("the command starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The error text of a command that must fail with exit code `code`.
pub(crate) fn refused(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The records of a run file without their times, and its first line.
pub(crate) fn records(path: &Path) -> (Value, Vec<Value>) {
    let text = std::fs::read_to_string(path).expect("a run file");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let header = lines.next().expect("a first line");
    let strip = |mut record: Value| {
        record.as_object_mut().expect("an object").remove("seconds").expect("seconds");
        record
    };
    (header, lines.map(strip).collect())
}
