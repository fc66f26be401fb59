//! An `.onnx` file, plain or gzipped, to a [`ModelProto`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use prost::Message;
use thiserror::Error;

use super::external::{self, ExternalError, Folder};
use super::proto::ModelProto;

/// Largest model accepted, in bytes: 4 GiB, counted after decompression and with its external
/// data.
///
/// The protobuf format itself ends at 2 GiB, so a model above this is a mistake or an attack: a
/// gzip of a few megabytes can unpack to it. It bounds the bytes that are read, not the memory of
/// the decoded model: weights take as much as in the file, but an empty node or attribute, 2 bytes
/// in a hostile file, takes about 300 once decoded.
pub const MAX_MODEL_BYTES: u64 = 4 << 30;

/// First bytes of a gzip stream. No protobuf message starts with them: 0x1f announces a wire type
/// that does not exist.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Stands for the file in errors of [`from_bytes`].
const IN_MEMORY: &str = "(model in memory)";

/// Why a file could not be read as an ONNX model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no such file.
    #[error("{}: no such file; expected an ONNX model, plain or gzipped", file.display())]
    Missing {
        /// The model's path, as given.
        file: PathBuf,
    },
    /// The path is a folder.
    #[error("{}: is a folder; expected an ONNX model, plain or gzipped", file.display())]
    Folder {
        /// The model's path, as given.
        file: PathBuf,
    },
    /// The operating system refused to read the file.
    #[error("{}: cannot be read: {cause}", file.display())]
    Unreadable {
        /// The model's path, as given.
        file: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The file has no bytes, compressed or not.
    #[error("{}: is empty; expected an ONNX model, plain or gzipped", file.display())]
    Empty {
        /// The model's path, as given.
        file: PathBuf,
    },
    /// The model is larger than [`MAX_MODEL_BYTES`].
    #[error("{}: holds more than {limit} bytes after decompression, the most accepted", file.display())]
    TooLarge {
        /// The model's path, as given.
        file: PathBuf,
        /// Most bytes accepted.
        limit: u64,
    },
    /// The file starts like a gzip stream, but does not decompress.
    #[error("{}: damaged or truncated gzip stream: {cause}", file.display())]
    Gzip {
        /// The model's path, as given.
        file: PathBuf,
        /// What the decompressor said.
        cause: io::Error,
    },
    /// The bytes are no protobuf message of the ONNX schema.
    #[error("{}: {found}; expected an ONNX model ({cause})", file.display())]
    NotOnnx {
        /// The model's path, as given.
        file: PathBuf,
        /// What the bytes look like.
        found: String,
        /// What the protobuf decoder said.
        cause: prost::DecodeError,
    },
    /// The bytes decode, but hold no graph.
    #[error("{}: {found}; expected an ONNX model with a graph, but there is none", file.display())]
    NoGraph {
        /// The model's path, as given.
        file: PathBuf,
        /// What the bytes look like.
        found: String,
    },
    /// The model does not say which operators it means.
    #[error(
        "{}: imports no operator set, so it is truncated or of 2017 or earlier; \
         expected at least one `opset_import`",
        file.display()
    )]
    NoOpset {
        /// The model's path, as given.
        file: PathBuf,
    },
    /// The values of a tensor, kept in another file, could not be loaded.
    #[error("{}: external data of tensor {tensor:?}: {problem}", file.display())]
    External {
        /// The model's path, as given.
        file: PathBuf,
        /// The tensor's name; empty if it has none.
        tensor: String,
        /// What is wrong with its data.
        problem: Box<ExternalError>,
    },
}

/// Reads the model at `path`, with its external data.
///
/// Whether the file is gzipped is told from its first bytes, not from its name. Tensors whose
/// values live in other files come back as if these values had been stored in the model; such
/// files must lie in the model's folder or below it, links followed. That folder is the one in
/// `path`, even where `path` itself is a link. The data of `training_info` is not loaded.
///
/// # Errors
///
/// A [`FileError`] if the file is missing, a folder, unreadable, empty, above
/// [`MAX_MODEL_BYTES`], damaged, or no ONNX model; or if external data is outside the model's
/// folder or does not hold the range that the model names.
pub fn read(path: impl AsRef<Path>) -> Result<ModelProto, FileError> {
    read_with_files(path.as_ref()).map(|(model, _)| model)
}

/// The model at `path`, and the files of its external data.
pub(super) fn read_with_files(path: &Path) -> Result<(ModelProto, Vec<PathBuf>), FileError> {
    let bytes = load(path, MAX_MODEL_BYTES)?;
    decode(path, &bytes, MAX_MODEL_BYTES, || {
        // The parent of a bare file name is the empty path.
        let parent = path.parent().filter(|folder| *folder != Path::new(""));
        Folder::At(parent.unwrap_or(Path::new(".")).to_owned())
    })
}

/// Reads a model from the bytes of its file, plain or gzipped.
///
/// # Errors
///
/// As [`read`]; a tensor with external data is an error, since there is no folder to look in.
pub fn from_bytes(bytes: &[u8]) -> Result<ModelProto, FileError> {
    let name = Path::new(IN_MEMORY);
    if exceeds(bytes.len(), MAX_MODEL_BYTES) {
        return Err(too_large(name, MAX_MODEL_BYTES));
    }
    decode(name, bytes, MAX_MODEL_BYTES, || Folder::None).map(|(model, _)| model)
}

/// All bytes of the file at `path`, at most `limit`.
fn load(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = path.to_owned();
    let unreadable = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => FileError::Missing { file: file.clone() },
        _ => FileError::Unreadable { file: file.clone(), cause },
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(FileError::Folder { file });
    }
    if metadata.len() > limit {
        return Err(too_large(path, limit));
    }
    let reader = File::open(path).map_err(unreadable)?;
    // The size is only a hint: a pipe has none, and a file may grow.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    if exceeds(bytes.len(), limit) {
        return Err(too_large(path, limit));
    }
    Ok(bytes)
}

/// The model in `bytes`, plain or gzipped. `folder` says where its external data may be, and is
/// asked only once the bytes have proved to be a model. Comes with the files of external data.
fn decode(
    file: &Path,
    bytes: &[u8],
    limit: u64,
    folder: impl FnOnce() -> Folder,
) -> Result<(ModelProto, Vec<PathBuf>), FileError> {
    let file = file.to_owned();
    let unpacked;
    let bytes = if bytes.starts_with(&GZIP_MAGIC) {
        unpacked = gunzip(&file, bytes, limit)?;
        unpacked.as_slice()
    } else {
        bytes
    };
    if bytes.is_empty() {
        return Err(FileError::Empty { file });
    }
    let mut model = match ModelProto::decode(bytes) {
        Ok(model) => model,
        Err(cause) => {
            let found = describe(bytes);
            return Err(FileError::NotOnnx { file, found, cause });
        }
    };
    if model.graph.is_none() {
        let found = describe(bytes);
        return Err(FileError::NoGraph { file, found });
    }
    if model.opset_import.is_empty() {
        return Err(FileError::NoOpset { file });
    }
    let budget = limit - limit.min(bytes.len() as u64);
    match external::load(&mut model, folder(), budget) {
        Ok(files) => Ok((model, files)),
        Err((tensor, problem)) => Err(FileError::External { file, tensor, problem: Box::new(problem) }),
    }
}

/// Decompresses `bytes` to at most `limit` bytes.
fn gunzip(file: &Path, bytes: &[u8], limit: u64) -> Result<Vec<u8>, FileError> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(limit + 1)
        .read_to_end(&mut unpacked)
        .map_err(|cause| FileError::Gzip { file: file.to_owned(), cause })?;
    if exceeds(unpacked.len(), limit) {
        return Err(too_large(file, limit));
    }
    Ok(unpacked)
}

fn exceeds(bytes: usize, limit: u64) -> bool {
    u64::try_from(bytes).is_ok_and(|bytes| bytes > limit)
}

fn too_large(file: &Path, limit: u64) -> FileError {
    FileError::TooLarge { file: file.to_owned(), limit }
}

/// What bytes that are no model look like: the usual mix-ups by name.
fn describe(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 4] = [
        (b"version https://git-lfs", "is a Git LFS pointer"),
        (b"PK\x03\x04", "is a zip archive, as PyTorch saves"),
        (b"\x89HDF", "is an HDF5 file, as Keras saves"),
        (b"<", "is a web page or XML"),
    ];
    match known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("is truncated or of another kind ({} bytes)", bytes.len()),
    }
}

#[cfg(test)]
mod tests;
