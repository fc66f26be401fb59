//! What is wrong with a property.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::onnx::LoadError;

/// Why a property cannot be asked. Every message names the file, and the line
/// where there is one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {cause}; accepted: a VNN-LIB property, plain or gzipped", file.display())]
    Unreadable {
        /// The property's path.
        file: PathBuf,
        /// What the operating system or the decompressor said.
        cause: io::Error,
    },
    /// The text is not a property.
    #[error("{}, line {line}: {found}; accepted: {accepted}", file.display())]
    Syntax {
        /// The property's path.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// The property does not fit the networks, or cannot be answered.
    #[error("{}: {found}; accepted: {accepted}", file.display())]
    Unanswerable {
        /// The property's path.
        file: PathBuf,
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A network cannot be loaded.
    #[error(transparent)]
    Network(#[from] LoadError),
}
