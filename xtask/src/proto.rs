//! `cargo xtask proto`: the Rust types of the ONNX schema.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use prost_build::{Config, Module};
use protox::prost_reflect::prost_types::FileDescriptorProto;

/// The schema, and the folder its imports would be looked up in.
const SCHEMA: &str = "onnx.proto";
const FOLDER: &str = "src/onnx";
/// The generated file, relative to the repository.
const GENERATED: &str = "src/onnx/proto.rs";

/// Fields of `AttributeProto` that hold a whole message in place. Boxed, because otherwise every
/// integer attribute would carry the empty space of a tensor and a graph.
const BOXED: [&str; 4] = ["t", "g", "sparse_tensor", "tp"];

const HEADER: &str = "\
// Generated from onnx.proto by `cargo xtask proto`; edits are lost.
// SPDX-License-Identifier: Apache-2.0
";

/// Regenerates the committed file.
pub(crate) fn write(repository: &Path) -> Result<String, Box<dyn Error>> {
    let path = repository.join(GENERATED);
    fs::write(&path, generate(repository)?)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(format!("wrote {GENERATED}"))
}

/// Fails if the committed file differs from what [`write()`] would put there.
pub(crate) fn check(repository: &Path) -> Result<String, Box<dyn Error>> {
    let path = repository.join(GENERATED);
    let committed =
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let fresh = generate(repository)?;
    if committed == fresh {
        return Ok(format!("{GENERATED} is up to date"));
    }
    let line = committed.lines().zip(fresh.lines()).take_while(|(old, new)| old == new).count() + 1;
    Err(format!(
        "{GENERATED} differs from its schema, first at line {line}\n\
         hint: run `cargo xtask proto` and commit the result"
    )
    .into())
}

/// The formatted source text of the types in the schema.
fn generate(repository: &Path) -> Result<String, Box<dyn Error>> {
    let folder = repository.join(FOLDER);
    let mut requests = Vec::new();
    for mut file in protox::compile([folder.join(SCHEMA)], [folder])?.file {
        tidy_comments(&mut file);
        requests.push((Module::from_protobuf_package_name(file.package()), file));
    }

    let mut config = Config::new();
    for field in BOXED {
        config.boxed(format!(".onnx.AttributeProto.{field}"));
    }
    let sources = config.generate(requests)?;
    let text: String = sources.into_values().collect();
    rustfmt(&format!("{HEADER}{text}"), repository)
}

/// Makes the schema's comments readable as Rust documentation.
///
/// Its indented lines would be taken for code, compiled and run as tests, and its `<name>` for an
/// HTML tag.
fn tidy_comments(file: &mut FileDescriptorProto) {
    let Some(info) = &mut file.source_code_info else {
        return;
    };
    let tidy = |text: &mut String| {
        let lines = text.lines().map(|line| line.trim().replace('<', "\\<"));
        *text = lines.fold(String::new(), |text, line| text + " " + &line + "\n");
    };
    for location in &mut info.location {
        // Comments that belong to no item: section headings and removed fields.
        location.leading_detached_comments.clear();
        location.leading_comments.iter_mut().for_each(tidy);
        location.trailing_comments.iter_mut().for_each(tidy);
    }
}

/// Formats `source` with the repository's own formatter settings.
fn rustfmt(source: &str, repository: &Path) -> Result<String, Box<dyn Error>> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout"])
        .current_dir(repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run rustfmt: {error}"))?;
    let mut input = child.stdin.take().ok_or("rustfmt has no input")?;
    // The formatter reads all of its input before it writes, so this cannot stall.
    input.write_all(source.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("rustfmt failed: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
