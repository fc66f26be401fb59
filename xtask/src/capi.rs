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

/// Builds the library and lays it under `prefix`: header, shared and static library, and what pkg-config reads.
pub(crate) fn install(root: &Path, prefix: &Path) -> Result<String, Box<dyn Error>> {
    let build = ["build", "--release", "-p", "tightrope-capi", "--locked"];
    command(Command::new(env!("CARGO")).args(build).current_dir(root))?;
    std::fs::create_dir_all(prefix)?;
    let prefix = prefix.canonicalize()?;
    lay(root, &root.join("target/release"), &prefix)?;
    Ok(format!("libtightrope is under {}", prefix.display()))
}

/// Lays what is in the folder `built` under `prefix`.
fn lay(root: &Path, built: &Path, prefix: &Path) -> Result<(), Box<dyn Error>> {
    let version = env!("CARGO_PKG_VERSION");
    let name = version.rsplit_once('.').map_or(version, |(name, _)| name);
    let (include, lib) = (prefix.join("include"), prefix.join("lib"));
    std::fs::create_dir_all(&include)?;
    std::fs::create_dir_all(lib.join("pkgconfig"))?;
    std::fs::copy(path(root), include.join("tightrope.h"))?;
    std::fs::copy(built.join("libtightrope.a"), lib.join("libtightrope.a"))?;
    let whole = format!("libtightrope.so.{version}");
    std::fs::copy(built.join("libtightrope.so"), lib.join(&whole))?;
    // The name that programs ask for at run time, and the one that linkers look for.
    for link in [format!("libtightrope.so.{name}"), "libtightrope.so".to_owned()] {
        let link = lib.join(link);
        if link.is_symlink() {
            std::fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(&whole, link)?;
    }
    let text = format!(
        "prefix={}\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\n\
         Name: tightrope\nDescription: Certifies the robustness of neural networks\nVersion: {version}\n\
         Cflags: -I${{includedir}}\nLibs: -L${{libdir}} -ltightrope\nLibs.private: -lpthread -ldl -lm\n",
        prefix.display()
    );
    std::fs::write(lib.join("pkgconfig/tightrope.pc"), text)?;
    Ok(())
}

/// What pkg-config says of the library under `libraries`.
fn flags(libraries: &Path, fixed: bool) -> Result<String, Box<dyn Error>> {
    let mut asked = Command::new("pkg-config");
    asked.args(["--cflags", "--libs"]).args(fixed.then_some("--static")).arg("tightrope");
    let found = asked.env("PKG_CONFIG_PATH", libraries.join("pkgconfig")).output()?;
    if !found.status.success() {
        return Err(String::from_utf8_lossy(&found.stderr).into_owned().into());
    }
    let flags = String::from_utf8(found.stdout)?;
    // The shared library would be taken where both are.
    Ok(if fixed { flags.replace("-ltightrope", "") } else { flags })
}

/// Builds the library, and runs the C tests and the example against its static and its shared form,
/// the tests under valgrind.
pub(crate) fn run(root: &Path) -> Result<(), Box<dyn Error>> {
    check(root)?;
    for (program, package) in [("cc", "gcc"), ("valgrind", "valgrind"), ("pkg-config", "pkg-config")] {
        if !succeeds(program, &["--version"]) {
            apt_get(&[package]).map_err(|reason| format!("{program} is needed, and {reason}"))?;
        }
    }
    let (target, installed) = (root.join("target/debug"), root.join("target/capi"));
    command(
        Command::new(env!("CARGO")).args(["build", "-p", "tightrope-capi", "--locked"]).current_dir(root),
    )?;
    lay(root, &target, &installed)?;
    let libraries = installed.join("lib");
    let programs = [("tests/test.c", "static"), ("tests/test.c", "shared"), ("examples/certify.c", "shared")];
    for (source, form) in programs {
        let program = target.join(format!("c-{form}"));
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g"]);
        cc.arg(root.join("certify/capi").join(source));
        cc.args(flags(&libraries, form == "static")?.split_whitespace());
        match form {
            "static" => cc.arg("-Wl,-Bstatic,-ltightrope,-Bdynamic"),
            _ => cc.arg(format!("-Wl,-rpath,{}", libraries.display())),
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
