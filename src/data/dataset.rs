//! Images, their labels and their scale.

use std::path::{Path, PathBuf};

use super::file;
use super::tensor::{Tensor, Values};
use super::{Arrangement, DataError, ParseError, pictures};

/// Images of one shape, in memory as they were stored, and their labels if there are any.
#[derive(Clone, Debug)]
pub struct Dataset {
    image_file: PathBuf,
    label_file: PathBuf,
    images: Tensor,
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
        let parsed = if images.is_dir() {
            let folder = pictures::folder(images, names.as_deref())?;
            (files, names) = (folder.files, folder.classes);
            folder.parsed
        } else {
            file::parse_images(&name(images), &file::read(images)?, labels.is_none())
                .map_err(|problem| problem.of(images))?
        };
        check_images(images, &parsed.images, scale)?;
        let label_file = labels.unwrap_or(images).to_owned();
        let stored = match labels {
            Some(path) => Some(
                file::parse_labels(&name(path), &file::read(path)?).map_err(|problem| problem.of(path))?,
            ),
            None => parsed.labels,
        };
        let labels = stored.map(|stored| class_numbers(&label_file, &stored)).transpose()?;
        let (image_file, images) = (images.to_owned(), parsed.images);
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
        let usual = if matches!(self.images.values(), Values::U8(_)) { 1.0 / 255.0 } else { 1.0 };
        self.scale.unwrap_or(usual)
    }

    /// The range that scaled pixels have: that of 8-bit pixels; unknown for other types.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let bytes = matches!(self.images.values(), Values::U8(_));
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
        for source in arrangement.sources() {
            let pixel = self.pixel(index * size + source);
            if !pixel.is_finite() {
                return Err(self.not_finite(index, source, size));
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

    fn pixel(&self, at: usize) -> f32 {
        match (self.images.values(), self.scale) {
            // The nearest f32 to the quotient, as float32 division elsewhere gives it.
            (Values::U8(v), None) => f32::from(v[at]) / 255.0,
            (Values::F32(v), None) => v[at],
            _ => narrow(self.wide_pixel(at)),
        }
    }

    /// The scaled pixel before it is rounded to `f32`.
    fn wide_pixel(&self, at: usize) -> f64 {
        let stored = match self.images.values() {
            Values::U8(v) => f64::from(v[at]),
            Values::I32(v) => f64::from(v[at]),
            Values::I64(v) => nearest(v[at]),
            Values::F32(v) => f64::from(v[at]),
            Values::F64(v) => v[at],
        };
        stored * self.scale()
    }

    fn not_finite(&self, index: usize, source: usize, size: usize) -> DataError {
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
            value: self.wide_pixel(index * size + source),
        }
    }
}

fn narrow(value: f64) -> f32 {
    value as f32
}

fn nearest(value: i64) -> f64 {
    value as f64
}

fn check_images(file: &Path, images: &Tensor, scale: Option<f64>) -> Result<(), DataError> {
    if images.values().is_empty() {
        return Err(DataError::Empty { file: file.to_owned(), shape: images.shape().to_vec() });
    }
    if images.shape().len() < 2 {
        let found = format!("an array of shape {:?}", images.shape());
        let accepted = "images with the number of images as first axis, such as [n, 28, 28]";
        return Err(ParseError::new(found, accepted).of(file));
    }
    let accepted = match (images.values(), scale) {
        (_, Some(scale)) if !(scale.is_finite() && scale > 0.0) => "a finite scale above 0",
        (Values::I32(_) | Values::I64(_), None) => "uint8 or floating-point pixels, or a scale",
        _ => return Ok(()),
    };
    let type_name = images.values().type_name();
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
