//! Tensors whose values live in a file beside the model.
//!
//! The location is written in the model, which is untrusted: it must not make this program read a
//! file that its author could not have shipped with the model.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use super::proto::tensor_proto::DataLocation;
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, StringStringEntryProto, TensorProto,
};

/// Why the values of a tensor could not be loaded from the file that the model names.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// The model came as bytes, without a folder.
    #[error("a model in memory has no folder to load it from; store the values in the model")]
    NoFolder,
    /// `external_data` does not say which file.
    #[error("no `location`; expected a path relative to the model's folder")]
    NoLocation,
    /// A key of `external_data` appears twice.
    #[error("`{key}` appears more than once; expected at most one")]
    RepeatedKey {
        /// The key.
        key: &'static str,
    },
    /// `offset` or `length` is not a number.
    #[error("`{key}` is {value:?}; expected a decimal number of bytes")]
    NotANumber {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// The tensor also has values inside the model.
    #[error("`raw_data` holds {bytes} bytes as well; expected values in one place")]
    InlineToo {
        /// Length of `raw_data`.
        bytes: usize,
    },
    /// The location leaves the model's folder, by its text or through a symbolic link.
    #[error("location {location:?} leaves the model's folder; expected a path inside it")]
    Outside {
        /// The location, as the model has it.
        location: String,
    },
    /// The operating system refused to read the file.
    #[error("{} cannot be read: {cause}", file.display())]
    Unreadable {
        /// The file with the values.
        file: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The location is a folder, a pipe or a device.
    #[error("{} is not a regular file", file.display())]
    NotAFile {
        /// What the location names.
        file: PathBuf,
    },
    /// The file ends before the range does.
    #[error(
        "{} has {size} bytes; the tensor names offset {offset} and {}",
        file.display(),
        length.map_or("the rest".to_owned(), |length| format!("length {length}"))
    )]
    Range {
        /// The file with the values.
        file: PathBuf,
        /// First byte of the tensor.
        offset: u64,
        /// Number of bytes of the tensor; `None` for the rest of the file.
        length: Option<u64>,
        /// Number of bytes of the file.
        size: u64,
    },
    /// The model and its external data together exceed [`super::file::MAX_MODEL_BYTES`].
    #[error(
        "{} would add {length} bytes; {remaining} remain of the most accepted for a model with \
         its external data",
        file.display()
    )]
    TooLarge {
        /// The file with the values.
        file: PathBuf,
        /// Number of bytes of the tensor.
        length: u64,
        /// Number of bytes that would have been accepted.
        remaining: u64,
    },
}

/// Where external data may be.
pub(super) enum Folder {
    /// Nowhere: the model is not a file.
    None,
    /// In this folder or below it.
    At(PathBuf),
}

/// Moves the values of every external tensor of `model` into its `raw_data`, `budget` bytes at
/// most, and says which files they were in. An error comes with the tensor's name.
pub(super) fn load(
    model: &mut ModelProto,
    folder: Folder,
    budget: u64,
) -> Result<Vec<PathBuf>, (String, ExternalError)> {
    let mut loader = Loader { folder, budget, files: Vec::new() };
    model.graph.iter_mut().try_for_each(|graph| loader.graph(graph))?;
    for function in &mut model.functions {
        loader.nodes(&mut function.node)?;
        loader.attributes(&mut function.attribute_proto)?;
    }
    let mut files = loader.files;
    files.sort();
    files.dedup();
    Ok(files)
}

/// Visits every tensor of a model. The nesting of graphs in attributes is as deep as the protobuf
/// decoder allows, 100 messages, so recursion is bounded.
struct Loader {
    folder: Folder,
    /// Bytes that may still be loaded. Without it, a small model could name the same large range
    /// in each of a million tensors.
    budget: u64,
    /// What was read.
    files: Vec<PathBuf>,
}

type Outcome = Result<(), (String, ExternalError)>;

impl Loader {
    fn graph(&mut self, graph: &mut GraphProto) -> Outcome {
        self.tensors(&mut graph.initializer)?;
        self.sparse(&mut graph.sparse_initializer)?;
        self.nodes(&mut graph.node)
    }

    fn nodes(&mut self, nodes: &mut [NodeProto]) -> Outcome {
        nodes.iter_mut().try_for_each(|node| self.attributes(&mut node.attribute))
    }

    fn attributes(&mut self, attributes: &mut [AttributeProto]) -> Outcome {
        for attribute in attributes {
            if let Some(tensor) = &mut attribute.t {
                self.tensor(tensor)?;
            }
            self.tensors(&mut attribute.tensors)?;
            if let Some(sparse) = &mut attribute.sparse_tensor {
                self.sparse(std::slice::from_mut(&mut **sparse))?;
            }
            self.sparse(&mut attribute.sparse_tensors)?;
            if let Some(graph) = &mut attribute.g {
                self.graph(graph)?;
            }
            attribute.graphs.iter_mut().try_for_each(|graph| self.graph(graph))?;
        }
        Ok(())
    }

    fn sparse(&mut self, tensors: &mut [SparseTensorProto]) -> Outcome {
        tensors
            .iter_mut()
            .flat_map(|sparse| [&mut sparse.values, &mut sparse.indices])
            .flatten()
            .try_for_each(|tensor| self.tensor(tensor))
    }

    fn tensors(&mut self, tensors: &mut [TensorProto]) -> Outcome {
        tensors.iter_mut().try_for_each(|tensor| self.tensor(tensor))
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Outcome {
        if tensor.data_location() != DataLocation::External {
            return Ok(());
        }
        let values = self.values(tensor).map_err(|problem| (tensor.name().to_owned(), problem))?;
        tensor.raw_data = Some(values);
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    }

    /// The bytes that `tensor` names.
    fn values(&mut self, tensor: &TensorProto) -> Result<Vec<u8>, ExternalError> {
        let Folder::At(folder) = &self.folder else {
            return Err(ExternalError::NoFolder);
        };
        if !tensor.raw_data().is_empty() {
            return Err(ExternalError::InlineToo { bytes: tensor.raw_data().len() });
        }
        let location = entry(tensor, "location")?.filter(|location| !location.is_empty());
        let location = location.ok_or(ExternalError::NoLocation)?;
        let offset = number(tensor, "offset")?.unwrap_or(0);
        let length = number(tensor, "length")?;

        let file = resolve(folder, location)?;
        let unreadable = |cause| ExternalError::Unreadable { file: file.clone(), cause };
        let metadata = fs::metadata(&file).map_err(unreadable)?;
        // Opening a pipe would wait for ever.
        if !metadata.is_file() {
            return Err(ExternalError::NotAFile { file });
        }
        let size = metadata.len();
        let available = size.checked_sub(offset);
        let fits = |&available: &u64| length.is_none_or(|length| length <= available);
        let Some(available) = available.filter(fits) else {
            return Err(ExternalError::Range { file, offset, length, size });
        };
        let length = length.unwrap_or(available);
        let too_large = || ExternalError::TooLarge { file: file.clone(), length, remaining: self.budget };
        let remaining = self.budget.checked_sub(length).ok_or_else(too_large)?;
        let bytes = usize::try_from(length).map_err(|_| too_large())?;

        let mut reader = File::open(&file).map_err(unreadable)?;
        reader.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        let mut values = vec![0; bytes];
        reader.read_exact(&mut values).map_err(unreadable)?;
        self.budget = remaining;
        self.files.push(file);
        Ok(values)
    }
}

/// The value of `key` in the tensor's `external_data`.
fn entry<'a>(tensor: &'a TensorProto, key: &'static str) -> Result<Option<&'a str>, ExternalError> {
    let mut values = tensor.external_data.iter().filter(|entry| entry.key() == key);
    let value = values.next().map(StringStringEntryProto::value);
    match values.next() {
        Some(_) => Err(ExternalError::RepeatedKey { key }),
        None => Ok(value),
    }
}

/// The value of `key` in the tensor's `external_data`, as a number of bytes.
fn number(tensor: &TensorProto, key: &'static str) -> Result<Option<u64>, ExternalError> {
    let parse =
        |value: &str| value.parse().map_err(|_| ExternalError::NotANumber { key, value: value.to_owned() });
    entry(tensor, key)?.map(parse).transpose()
}

/// The file that `location` names, if it lies in `folder` or below it.
fn resolve(folder: &Path, location: &str) -> Result<PathBuf, ExternalError> {
    let outside = || ExternalError::Outside { location: location.to_owned() };
    let stays = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if !Path::new(location).components().all(stays) {
        return Err(outside());
    }
    let canonical =
        |file: PathBuf| file.canonicalize().map_err(|cause| ExternalError::Unreadable { file, cause });
    // A symbolic link inside the folder may still lead out of it.
    let file = canonical(folder.join(location))?;
    if file.starts_with(canonical(folder.to_owned())?) { Ok(file) } else { Err(outside()) }
}

#[cfg(test)]
mod tests;
