//! The Python package: built, installed and tested in an environment of its own.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::install::{apt_get, command, environment, succeeds};

/// Installs the package with what its tests need under `target/python`, and runs them. The commands
/// of the workspace must have been built before.
pub(crate) fn run(root: &Path) -> Result<(), Box<dyn Error>> {
    let python = environment(&root.join("target/python"))?;
    // Opens the page of a report; without one that test is skipped.
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    if !browsers.iter().any(|browser| succeeds(browser, &["--version"]))
        && let Err(reason) = apt_get(&["chromium"])
    {
        eprintln!("== no browser opens the report: {reason}");
    }
    let pip = || {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        // The profile of the Rust tests, so that most is built already.
        pip.arg("--config-settings=build-args=--profile dev --locked");
        pip
    };
    command(pip().args(["--force-reinstall", "--no-deps"]).arg(root.join("certify/python")))?;
    command(pip().arg(format!("{}[test]", root.join("certify/python").display())))?;
    command(
        Command::new(&python)
            .args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"])
            .current_dir(root.join("certify/python"))
            .env("TIGHTROPE", root.join("target/debug/tightrope"))
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
}
