//! The C library: its header, and the C tests.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{apt_get, command, succeeds};

const LICENCE: &str = "/* Tightrope: certifies the robustness of neural networks. Apache-2.0.
 *
 * Made from certify/capi/src by `cargo xtask header`. */";

fn path(root: &Path) -> PathBuf {
    root.join("certify/capi/include/tightrope.h")
}

/// The header that the sources stand for.
fn generate(root: &Path) -> Result<String, Box<dyn Error>> {
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(LICENCE.to_owned()),
        include_guard: Some("TIGHTROPE_H".to_owned()),
        cpp_compat: true,
        usize_is_size_t: true,
        documentation_style: cbindgen::DocumentationStyle::C99,
        style: cbindgen::Style::Both,
        ..cbindgen::Config::default()
    };
    // Statuses and verdicts are named by their constants.
    config.enumeration.prefix_with_name = false;
    config.line_length = 110;
    // Numbers that stand in structures; nothing else mentions these enumerations.
    let named =
        ["tightrope_norm", "tightrope_method", "tightrope_verdict", "tightrope_answer", "tightrope_noise"];
    config.export.include = named.map(str::to_owned).to_vec();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in ["status", "network", "certify", "verify", "smooth", "statistics"] {
        builder = builder.with_src(root.join(format!("certify/capi/src/{file}.rs")));
    }
    let mut header = Vec::new();
    builder.generate()?.write(&mut header);
    Ok(String::from_utf8(header)?)
}

/// Writes the header.
pub(crate) fn write(root: &Path) -> Result<String, Box<dyn Error>> {
    std::fs::write(path(root), generate(root)?)?;
    Ok(format!("wrote {}", path(root).display()))
}

/// Fails if the committed header is not that of the sources.
pub(crate) fn check(root: &Path) -> Result<String, Box<dyn Error>> {
    if std::fs::read_to_string(path(root))? == generate(root)? {
        return Ok("the header is that of the sources".into());
    }
    Err(format!("{} is not what the sources say; run `cargo xtask header`", path(root).display()).into())
}

/// Builds the library, and runs the C tests and the example against its static and its shared form,
/// the tests under valgrind.
pub(crate) fn run(root: &Path) -> Result<(), Box<dyn Error>> {
    check(root)?;
    for (program, package) in [("cc", "gcc"), ("valgrind", "valgrind")] {
        if !succeeds(program, &["--version"]) {
            apt_get(&[package]).map_err(|reason| format!("{program} is needed, and {reason}"))?;
        }
    }
    let target = root.join("target/debug");
    command(
        Command::new(env!("CARGO")).args(["build", "-p", "tightrope-capi", "--locked"]).current_dir(root),
    )?;
    let programs = [("tests/test.c", "static"), ("tests/test.c", "shared"), ("examples/certify.c", "shared")];
    for (source, form) in programs {
        let program = target.join(format!("c-{form}"));
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g"]);
        cc.arg(root.join("certify/capi").join(source)).arg("-I").arg(root.join("certify/capi/include"));
        match form {
            "static" => cc.arg(target.join("libtightrope.a")).args(["-lpthread", "-ldl"]),
            _ => cc.arg("-L").arg(&target).arg("-ltightrope").arg(format!("-Wl,-rpath,{}", target.display())),
        };
        command(cc.arg("-lm").arg("-o").arg(&program))?;
        let mut run = if source.starts_with("tests") && form == "shared" {
            let mut valgrind = Command::new("valgrind");
            valgrind.args([
                "--quiet",
                "--error-exitcode=9",
                "--leak-check=full",
                "--show-leak-kinds=definite",
                "--errors-for-leak-kinds=definite",
            ]);
            valgrind.arg(&program);
            valgrind
        } else {
            Command::new(&program)
        };
        let argument = if source.starts_with("tests") { "models" } else { "models/mnist-mlp-noise25.onnx" };
        command(run.arg(argument).current_dir(root))?;
    }
    Ok(())
}
