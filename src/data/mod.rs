//! Images and labels from files.
//!
//! [`Dataset::open`] reads
//!
//! - npy and npz arrays, of any integer type or of 32 or 64-bit floats, in this machine's
//!   byte order ([`numpy`], [`npz`]),
//! - idx files such as MNIST's ([`idx`]),
//! - CIFAR-10 and CIFAR-100 binary files ([`cifar`]),
//! - PNG and JPEG pictures, one by one or in class folders ([`pictures`]),
//!
//! told apart by their bytes and, where those leave a doubt, by their names. Each may be packed with
//! gzip. The first axis of an array counts the images. Images of uncompressed npy and idx files are read
//! when they are asked for; no other file may have, or unpack to, more than [`MAX_BYTES`].
//!
//! Pixels stay in memory as they were stored; [`Dataset::image`] scales them, narrows them to
//! `f32` and brings them into the order of a model's input.

mod arrange;
pub mod cifar;
mod dataset;
#[cfg(test)]
mod dataset_tests;
mod error;
mod file;
#[cfg(test)]
mod hostile;
pub mod idx;
mod mapped;
pub mod npz;
pub mod numpy;
pub mod pictures;
#[cfg(test)]
mod samples;
mod tensor;

pub use arrange::Arrangement;
pub use dataset::Dataset;
pub use error::{DataError, ParseError};
pub use file::{MAX_BYTES, Parsed, parse_bytes, parse_labels};
pub use tensor::{Tensor, Values};
