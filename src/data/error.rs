//! What can go wrong with data files.

use std::io;
use std::path::{Path, PathBuf};

/// Why bytes are not a file that can be read: what was found, and what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}; accepted: {accepted}")]
pub struct ParseError {
    /// What the bytes hold.
    pub found: String,
    /// What should stand there.
    pub accepted: String,
}

impl ParseError {
    pub(super) fn new(found: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self { found: found.into(), accepted: accepted.into() }
    }

    /// The error for a file that starts like none that is `accepted`.
    pub(super) fn start(bytes: &[u8], accepted: &str) -> Self {
        let start = &bytes[..bytes.len().min(8)];
        Self::new(format!("{} bytes of unknown format that start with {start:02x?}", bytes.len()), accepted)
    }

    /// The error for something longer than `limit` bytes.
    pub(super) fn too_long(what: &str, limit: u64) -> Self {
        Self::new(format!("{what} of more than {limit} bytes"), format!("at most {limit} bytes"))
    }

    /// The same error, about a file.
    pub(super) fn of(self, file: &Path) -> DataError {
        DataError::Content { file: file.to_owned(), problem: self }
    }

    /// The same error, naming the part of the file it is about.
    pub(super) fn within(self, part: &str) -> Self {
        Self { found: format!("in {part} {}", self.found), ..self }
    }
}

/// Why a data set cannot be used. Every message names the file, what was found and what would be
/// accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read from disk.
    #[error("{file}: cannot be read: {source}; accepted: a readable file or folder of images")]
    Read {
        /// The file or folder.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file's bytes, or a folder's files, are not what they should be.
    #[error("{file}: {problem}")]
    Content {
        /// The file or folder.
        file: PathBuf,
        /// What was found and what would be accepted.
        problem: ParseError,
    },
    /// There are no images, or images without pixels.
    #[error(
        "{file}: found an empty array of shape {shape:?}; accepted: at least one image of at least one pixel"
    )]
    Empty {
        /// The image file.
        file: PathBuf,
        /// The shape of the whole array, images first.
        shape: Vec<usize>,
    },
    /// The scale is not a usable factor, or is needed and missing.
    #[error("{file}: found {type_name} pixels with {}; accepted: {accepted}", match scale {
        Some(scale) => format!("scale {scale}"),
        None => "no scale".to_owned(),
    })]
    Scale {
        /// The image file.
        file: PathBuf,
        /// The type of the stored pixels.
        type_name: &'static str,
        /// The scale that was asked for.
        scale: Option<f64>,
        /// Which scales would do.
        accepted: &'static str,
    },
    /// There are not as many labels as images.
    #[error(
        "{label_file}: found {labels} labels for the {images} images of {image_file}; \
         accepted: one label per image"
    )]
    LabelCount {
        /// The image file.
        image_file: PathBuf,
        /// How many images it holds.
        images: usize,
        /// The label file.
        label_file: PathBuf,
        /// How many labels it holds.
        labels: usize,
    },
    /// A label is negative.
    #[error("{file}: found label {label} for image {index}; accepted: class numbers from 0")]
    NegativeLabel {
        /// The label file.
        file: PathBuf,
        /// Which image, from 0.
        index: usize,
        /// The label.
        label: i64,
    },
    /// A label is not one of the model's classes.
    #[error(
        "{file}: found label {label} for image {index}; accepted: class numbers from 0 and below {classes}"
    )]
    LabelRange {
        /// The label file.
        file: PathBuf,
        /// Which image, from 0.
        index: usize,
        /// The label.
        label: usize,
        /// How many classes the model tells apart.
        classes: usize,
    },
    /// The images cannot be brought into the shape of the model's input.
    #[error(
        "{file}: found {images} images of shape {stored:?}, which do not fit the model's input of shape \
         {model:?}; accepted: the same shape up to axes of length 1, channels first instead of last or \
         the reverse, or either side flat with as many values"
    )]
    Shape {
        /// The image file.
        file: PathBuf,
        /// How many images it holds.
        images: usize,
        /// The shape of one stored image.
        stored: Vec<usize>,
        /// The shape of the model's input.
        model: Vec<usize>,
    },
    /// The arrangement was made for images of another shape.
    #[error(
        "{file}: found images of shape {stored:?}; accepted by this arrangement: images of shape {arranged:?}"
    )]
    OtherArrangement {
        /// The image file.
        file: PathBuf,
        /// The shape of one stored image.
        stored: Vec<usize>,
        /// The shape of the images that the arrangement was made for.
        arranged: Vec<usize>,
    },
    /// An image beyond the last was asked for.
    #[error(
        "{file}: found {images} images and no image {index}; \
         accepted: image numbers from 0 and below {images}"
    )]
    NoSuchImage {
        /// The image file.
        file: PathBuf,
        /// The image asked for, from 0.
        index: usize,
        /// How many images there are.
        images: usize,
    },
    /// A pixel, once scaled, is not a finite `f32`.
    #[error(
        "{file}: found {value} in image {index} at position {position:?} of shape {stored:?}; \
         accepted: finite values within the range of 32-bit floats"
    )]
    Pixel {
        /// The image file.
        file: PathBuf,
        /// Which image, from 0.
        index: usize,
        /// Where in the image, one coordinate per stored axis.
        position: Vec<usize>,
        /// The shape of one stored image.
        stored: Vec<usize>,
        /// The value after scaling, before narrowing to `f32`.
        value: f64,
    },
}
