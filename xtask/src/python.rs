//! The Python package: built, installed and tested in an environment of its own.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::install::{apt_get, command, succeeds};

/// Installs the package with what its tests need under `target/python`, and runs them. The commands
/// of the workspace must have been built before.
pub(crate) fn run(root: &Path) -> Result<(), Box<dyn Error>> {
    let environment = root.join("target/python");
    let pip = environment.join("bin/pip");
    if !pip.exists() {
        if !succeeds("python3", &["-c", "import venv, ensurepip"]) {
            apt_get(&["python3", "python3-venv", "python3-pip"]).map_err(|reason| {
                format!("python3 with venv and pip is needed, and {reason}; install Python 3.10 or newer")
            })?;
        }
        command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    }
    // The profile of the Rust tests, so that most is built already.
    command(
        Command::new(&pip)
            .args(["install", "--quiet", "--disable-pip-version-check", "--force-reinstall", "--no-deps"])
            .arg("--config-settings=build-args=--profile dev --locked")
            .arg(root.join("certify/python")),
    )?;
    command(
        Command::new(&pip)
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg("--config-settings=build-args=--profile dev --locked")
            .arg(format!("{}[test]", root.join("certify/python").display())),
    )?;
    command(
        Command::new(environment.join("bin/python"))
            .args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"])
            .current_dir(root.join("certify/python"))
            .env("TIGHTROPE", root.join("target/debug/tightrope"))
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
}
