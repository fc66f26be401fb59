//! `cargo xtask bench --peers`: timings beside `PyTorch`, onnxruntime and `auto_LiRPA`.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::install::{command, environment};

/// What the peers need. The release of `auto_LiRPA` asks for a `PyTorch` of its time, hence apart.
const PACKAGES: [&str; 11] = [
    "torch",
    "onnxruntime",
    "onnx",
    "numpy<2",
    "appdirs",
    "graphviz",
    "packaging",
    "pyyaml",
    "setuptools",
    "sortedcontainers",
    "tqdm",
];
const LIRPA: &str = "auto-lirpa==0.3";

/// Builds the release, sets up the peers under `target/peers` and writes benches/RESULTS.md.
/// `arguments` go on to benches/peers.py.
pub(crate) fn peers(root: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let python = environment(&root.join("target/peers"))?;
    let pip = |packages: &[&str]| {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
        command(&mut pip)
    };
    pip(&PACKAGES)?;
    pip(&["--no-deps", LIRPA])?;
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).arg("--locked").current_dir(root);
        cargo
    };
    command(&mut cargo(&["build", "--release", "--package", "tightrope-cli"]))?;
    let peak = cargo(&["bench", "--quiet", "--bench", "peak"]).output()?;
    if !peak.status.success() {
        return Err("the peak was not measured: `cargo bench --bench peak` failed".into());
    }
    let mut run = Command::new(&python);
    run.arg("benches/peers.py").arg("--binary").arg(root.join("target/release/tightrope"));
    run.arg("--peak").args(String::from_utf8(peak.stdout)?.split_whitespace());
    if !arguments.contains(&"--only") {
        run.args(["--out", "benches/RESULTS.md"]);
    }
    command(run.args(arguments).current_dir(root).env("OMP_WAIT_POLICY", "PASSIVE"))?;
    Ok("measured".into())
}
