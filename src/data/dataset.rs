//! Images, their labels and their scale.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::file;
use super::mapped::Mapped;
use super::tensor::{Tensor, Values};
use super::{Arrangement, DataError, ParseError, pictures};

/// Where images are.
#[derive(Clone, Debug)]
enum Store {
    /// In memory, as they were stored.
    Memory(Tensor),
    /// In their file.
    File(Mapped),
}

impl Store {
    fn shape(&self) -> &[usize] {
        match self {
            Self::Memory(images) => images.shape(),
            Self::File(images) => images.shape(),
        }
    }

    /// Values of the type that is stored, perhaps none.
    fn kind(&self) -> Cow<'_, Values> {
        match self {
            Self::Memory(images) => Cow::Borrowed(images.values()),
            Self::File(images) => Cow::Owned(images.none()),
        }
    }
}

/// Images of one shape as they were stored, and their labels if there are any.
#[derive(Clone, Debug)]
pub struct Dataset {
    image_file: PathBuf,
    label_file: PathBuf,
    images: Store,
    labels: Option<Vec<usize>>,
    scale: Option<f64>,
    files: Vec<PathBuf>,
    classes: Option<Vec<String>>,
}

impl Dataset {
    /// Reads images from a file or a folder of class folders, and labels from `labels`, or else
    /// from the image file where it holds some (npz, CIFAR, folders).
    ///
    /// A pixel's value is the stored number times `scale`. Without a scale bytes are divided by
    /// 255, floats are taken as they are, and other integers are refused. With one, it is a finite
    /// factor above 0. The product is computed in `f64` and rounded to the nearest `f32`.
    ///
    /// Labels are integers, `[n]` or `[n, 1]`, one for each of the `n` images.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be, there are no images or no pixels, the
    /// scale is missing or unusable, or the labels are not one number from 0 per image.
    pub fn open(images: &Path, labels: Option<&Path>, scale: Option<f64>) -> Result<Self, DataError> {
        Self::open_with_classes(images, labels, scale, None)
    }

    /// As [`open`](Self::open), where a class folder's label is the position of its name in the file
    /// `classes`, one name a line: that of a folder that is missing stays free.
    ///
    /// # Errors
    /// As [`open`](Self::open), and for class folders that are not in the file, and files of images with
    /// one.
    pub fn open_with_classes(
        images: &Path,
        labels: Option<&Path>,
        scale: Option<f64>,
        classes: Option<&Path>,
    ) -> Result<Self, DataError> {
        let (mut files, mut names) = (vec![images.to_owned()], None);
        if let Some(path) = classes {
            if !images.is_dir() {
                let accepted = "class names with a folder of class folders only";
                return Err(ParseError::new("a file of images with class names", accepted).of(images));
            }
            let text = String::from_utf8(file::read(path)?);
            let text = text.map_err(|_| ParseError::new("bytes that are no text", "UTF-8").of(path))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            names = Some(lines.map(str::to_owned).collect::<Vec<_>>());
        }
        let read = |source| DataError::Read { file: images.to_owned(), source };
        let mapped = if images.is_dir() { None } else { Mapped::open(images).map_err(read)? };
        let (stored_images, own_labels) = if images.is_dir() {
            let folder = pictures::folder(images, names.as_deref())?;
            (files, names) = (folder.files, folder.classes);
            (Store::Memory(folder.parsed.images), folder.parsed.labels)
        } else if let Some(mapped) = mapped {
            (Store::File(mapped), None)
        } else {
            let parsed = file::parse_images(&name(images), &file::read(images)?, labels.is_none())
                .map_err(|problem| problem.of(images))?;
            (Store::Memory(parsed.images), parsed.labels)
        };
        check_images(images, &stored_images, scale)?;
        let label_file = labels.unwrap_or(images).to_owned();
        let stored = match labels {
            Some(path) => Some(
                file::parse_labels(&name(path), &file::read(path)?).map_err(|problem| problem.of(path))?,
            ),
            None => own_labels,
        };
        let labels = stored.map(|stored| class_numbers(&label_file, &stored)).transpose()?;
        let (image_file, images) = (images.to_owned(), stored_images);
        match labels.as_ref().map(Vec::len) {
            Some(labels) if labels != images.shape()[0] => {
                Err(DataError::LabelCount { image_file, images: images.shape()[0], label_file, labels })
            }
            _ => Ok(Self { image_file, label_file, images, labels, scale, files, classes: names }),
        }
    }

    /// The number of images, at least 1.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.shape()[0]
    }

    /// Whether there are no images, which [`open`](Self::open) refuses: `false`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of each image as stored, such as `[28, 28]`, `[3, 32, 32]` or `[32, 32, 3]`.
    #[must_use]
    pub fn image_shape(&self) -> &[usize] {
        &self.images.shape()[1..]
    }

    /// The class number of each image, if the data set is labelled.
    #[must_use]
    pub fn labels(&self) -> Option<&[usize]> {
        self.labels.as_deref()
    }

    /// The files that the images were read from: one, or the pictures of a folder in their order.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The names of the classes by their labels, where labels are positions of names of class folders.
    #[must_use]
    pub fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// The factor of stored pixels.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let usual = if matches!(*self.images.kind(), Values::U8(_)) { 1.0 / 255.0 } else { 1.0 };
        self.scale.unwrap_or(usual)
    }

    /// The range that scaled pixels have: that of 8-bit pixels; unknown for other types.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let bytes = matches!(*self.images.kind(), Values::U8(_));
        let most = self.scale.map_or(1.0, |scale| f64::from(narrow(255.0 * scale)));
        bytes.then_some((0.0, most))
    }

    /// Decides how the images go into a model's input of shape `model`, a batch axis of 1
    /// included or not. The first that applies:
    ///
    /// 1. The shapes are equal up to axes of length 1: the stored order.
    /// 2. One of them is flat, that is, has at most one axis longer than 1, and both have as many
    ///    values: the stored order, row-major in the stored axes. Stored channels stay where they
    ///    are, first or last, in the flat order.
    /// 3. Both have three axes, after leading axes of 1, and are equal once an axis of 1, 3 or 4
    ///    channels is moved from last to first or from first to last: that move.
    ///
    /// # Errors
    /// If none applies; the error names both shapes.
    pub fn arrange(&self, model: &[usize]) -> Result<Arrangement, DataError> {
        Arrangement::decide(self.image_shape(), model).ok_or_else(|| DataError::Shape {
            file: self.image_file.clone(),
            images: self.len(),
            stored: self.image_shape().to_vec(),
            model: model.to_vec(),
        })
    }

    /// Image number `index`, from 0: its scaled pixels in the row-major order of the model's input
    /// that `arrangement` was made for.
    ///
    /// # Errors
    /// If there is no such image, a scaled pixel is not finite in `f32`, or the arrangement was
    /// made for images of another shape.
    pub fn image(&self, index: usize, arrangement: &Arrangement) -> Result<Vec<f32>, DataError> {
        if index >= self.len() {
            let file = self.image_file.clone();
            return Err(DataError::NoSuchImage { file, index, images: self.len() });
        }
        if arrangement.stored_shape() != self.image_shape() {
            return Err(DataError::OtherArrangement {
                file: self.image_file.clone(),
                stored: self.image_shape().to_vec(),
                arranged: arrangement.stored_shape().to_vec(),
            });
        }
        let size: usize = self.image_shape().iter().product();
        let mut pixels = Vec::with_capacity(size);
        let (values, first) = match &self.images {
            Store::Memory(images) => (Cow::Borrowed(images.values()), index * size),
            Store::File(images) => {
                let read = |source| DataError::Read { file: self.image_file.clone(), source };
                (Cow::Owned(images.image(index).map_err(read)?), 0)
            }
        };
        for source in arrangement.sources() {
            let pixel = self.pixel(&values, first + source);
            if !pixel.is_finite() {
                return Err(self.not_finite(index, source, self.wide_pixel(&values, first + source)));
            }
            pixels.push(pixel);
        }
        Ok(pixels)
    }

    /// Checks that every label is one of `classes` classes. A data set without labels passes.
    ///
    /// # Errors
    /// If a label is not below `classes`.
    pub fn check_labels(&self, classes: usize) -> Result<(), DataError> {
        let labels = self.labels().unwrap_or_default();
        match labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
            None => Ok(()),
            Some((index, &label)) => {
                Err(DataError::LabelRange { file: self.label_file.clone(), index, label, classes })
            }
        }
    }

    fn pixel(&self, values: &Values, at: usize) -> f32 {
        match (values, self.scale) {
            // The nearest f32 to the quotient, as float32 division elsewhere gives it.
            (Values::U8(v), None) => f32::from(v[at]) / 255.0,
            (Values::F32(v), None) => v[at],
            _ => narrow(self.wide_pixel(values, at)),
        }
    }

    /// The scaled pixel before it is rounded to `f32`.
    fn wide_pixel(&self, values: &Values, at: usize) -> f64 {
        let stored = match values {
            Values::U8(v) => f64::from(v[at]),
            Values::I32(v) => f64::from(v[at]),
            Values::I64(v) => nearest(v[at]),
            Values::F32(v) => f64::from(v[at]),
            Values::F64(v) => v[at],
        };
        stored * self.scale()
    }

    fn not_finite(&self, index: usize, source: usize, value: f64) -> DataError {
        let mut rest = source;
        let mut position: Vec<usize> = Vec::new();
        for &axis in self.image_shape().iter().rev() {
            position.push(rest % axis);
            rest /= axis;
        }
        position.reverse();
        DataError::Pixel {
            file: self.image_file.clone(),
            index,
            position,
            stored: self.image_shape().to_vec(),
            value,
        }
    }
}

fn narrow(value: f64) -> f32 {
    value as f32
}

fn nearest(value: i64) -> f64 {
    value as f64
}

fn check_images(file: &Path, images: &Store, scale: Option<f64>) -> Result<(), DataError> {
    if images.shape().contains(&0) {
        return Err(DataError::Empty { file: file.to_owned(), shape: images.shape().to_vec() });
    }
    if images.shape().len() < 2 {
        let found = format!("an array of shape {:?}", images.shape());
        let accepted = "images with the number of images as first axis, such as [n, 28, 28]";
        return Err(ParseError::new(found, accepted).of(file));
    }
    let kind = images.kind();
    let accepted = match (&*kind, scale) {
        (_, Some(scale)) if !(scale.is_finite() && scale > 0.0) => "a finite scale above 0",
        (Values::I32(_) | Values::I64(_), None) => "uint8 or floating-point pixels, or a scale",
        _ => return Ok(()),
    };
    let type_name = kind.type_name();
    Err(DataError::Scale { file: file.to_owned(), type_name, scale, accepted })
}

/// Labels as class numbers.
fn class_numbers(file: &Path, stored: &Tensor) -> Result<Vec<usize>, DataError> {
    let wide: Vec<i64> = match (stored.values(), stored.shape()) {
        (Values::U8(v), [_] | [_, 1]) => v.iter().copied().map(i64::from).collect(),
        (Values::I32(v), [_] | [_, 1]) => v.iter().copied().map(i64::from).collect(),
        (Values::I64(v), [_] | [_, 1]) => v.clone(),
        (values, shape) => {
            let found = format!("labels of type {} and shape {shape:?}", values.type_name());
            return Err(ParseError::new(found, "integers of shape [n] or [n, 1]").of(file));
        }
    };
    let number = |(index, label)| {
        usize::try_from(label).map_err(|_| DataError::NegativeLabel { file: file.to_owned(), index, label })
    };
    wide.into_iter().enumerate().map(number).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
