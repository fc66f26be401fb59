//! The npz format: a zip archive of npy files.
//!
//! Which array holds the images and which the labels follows from their names. An archive of one
//! array leaves no choice. Otherwise the images are the array called [`IMAGES`], the labels the
//! array called [`LABELS`], the first name in the list that is there, in upper or lower case.

use super::tensor::Tensor;
use super::{MAX_BYTES, ParseError, Parsed, numpy, zip};

/// Names of an array of images, most wanted first.
pub const IMAGES: [&str; 5] = ["x", "images", "x_test", "input", "arr_0"];
/// Names of an array of labels, most wanted first.
pub const LABELS: [&str; 4] = ["y", "labels", "y_test", "arr_1"];

/// Reads the images, and the labels if the archive has an array of such a name and `with_labels`.
///
/// # Errors
/// If the archive is damaged, no array or no one array is called like images, or an array cannot
/// be read.
pub fn parse(bytes: &[u8], with_labels: bool) -> Result<Parsed, ParseError> {
    let archive = Archive::open(bytes)?;
    let images = archive.choose(&IMAGES)?;
    let labels = archive.named(&LABELS).filter(|&labels| with_labels && labels != images);
    Ok(Parsed {
        images: archive.read(images)?,
        labels: labels.map(|labels| archive.read(labels)).transpose()?,
    })
}

/// Reads the labels.
///
/// # Errors
/// If the archive is damaged, no array or no one array is called like labels, or the array cannot
/// be read.
pub fn parse_labels(bytes: &[u8]) -> Result<Tensor, ParseError> {
    let archive = Archive::open(bytes)?;
    let labels = archive.choose(&LABELS)?;
    archive.read(labels)
}

struct Archive<'a> {
    /// The arrays and their names without `.npy`.
    arrays: Vec<(String, zip::Entry<'a>)>,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let array = |entry: zip::Entry<'a>| Some((entry.name.strip_suffix(".npy")?.to_owned(), entry));
        Ok(Self { arrays: zip::entries(bytes)?.into_iter().filter_map(array).collect() })
    }

    /// The array that goes by one of `names`, as an index into `arrays`.
    fn named(&self, names: &[&str]) -> Option<usize> {
        let find = |name: &&str| self.arrays.iter().position(|(array, _)| array.eq_ignore_ascii_case(name));
        names.iter().find_map(find)
    }

    /// The only array or the one that goes by one of `names`.
    fn choose(&self, names: &[&str]) -> Result<usize, ParseError> {
        if self.arrays.len() == 1 {
            return Ok(0);
        }
        self.named(names).ok_or_else(|| {
            let there: Vec<&str> = self.arrays.iter().take(20).map(|(name, _)| name.as_str()).collect();
            ParseError::new(
                format!("{} arrays called {there:?}", self.arrays.len()),
                format!("a single array or one called {}", names.join(", ")),
            )
        })
    }

    fn read(&self, array: usize) -> Result<Tensor, ParseError> {
        let (name, entry) = &self.arrays[array];
        numpy::parse(&entry.unpack(MAX_BYTES)?).map_err(|error| error.within(&format!("array {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Values;
    use super::*;
    use ::zip::CompressionMethod;
    use ::zip::write::SimpleFileOptions;
    use ndarray::Array1;
    use ndarray_npy::NpzWriter;
    use std::io::Cursor;

    fn archive(method: CompressionMethod, arrays: &[(&str, u8)]) -> Vec<u8> {
        let options = SimpleFileOptions::default().compression_method(method);
        let mut npz = NpzWriter::new_with_options(Cursor::new(Vec::new()), options);
        for (name, value) in arrays {
            npz.add_array(*name, &Array1::from_elem(3, *value)).unwrap();
        }
        npz.finish().unwrap().into_inner()
    }

    fn stored(arrays: &[(&str, u8)]) -> Vec<u8> {
        archive(CompressionMethod::Stored, arrays)
    }

    fn threes(value: u8) -> Tensor {
        Tensor::new(vec![3], Values::U8(vec![value; 3])).unwrap()
    }

    #[test]
    fn arrays_are_chosen_by_name() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let both = archive(method, &[("y_train", 0), ("y_test", 1), ("x_train", 2), ("x_test", 3)]);
            assert_eq!(
                parse(&both, true).unwrap(),
                Parsed { images: threes(3), labels: Some(threes(1)) },
                "{method}"
            );
            assert_eq!(parse(&both, false).unwrap().labels, None);
            assert_eq!(parse_labels(&both).unwrap(), threes(1));
        }
        let unnamed = parse(&stored(&[("arr_0", 4), ("arr_1", 5)]), true).unwrap();
        assert_eq!(unnamed, Parsed { images: threes(4), labels: Some(threes(5)) });
        let capital = parse(&stored(&[("notes", 9), ("X", 4), ("arr_0", 5)]), true).unwrap();
        assert_eq!(capital, Parsed { images: threes(4), labels: None });
    }

    #[test]
    fn a_single_array_may_have_any_name() {
        let single = stored(&[("y", 7)]);
        assert_eq!(parse(&single, true).unwrap(), Parsed { images: threes(7), labels: None });
        assert_eq!(parse_labels(&single).unwrap(), threes(7));
    }

    #[test]
    fn other_archives_are_refused_by_what_they_hold() {
        let error = parse(&stored(&[("one", 1), ("two", 2)]), true).unwrap_err().to_string();
        assert!(error.contains("2 arrays called [\"one\", \"two\"]") && error.contains("x_test"), "{error}");
        let error = parse_labels(&stored(&[("one", 1), ("x", 2)])).unwrap_err().to_string();
        assert!(error.contains("y, labels, y_test, arr_1"), "{error}");
        assert!(parse(&stored(&[]), true).unwrap_err().to_string().contains("0 arrays"));
        let mut cut = stored(&[("x", 1)]);
        cut.truncate(60);
        assert!(parse(&cut, true).unwrap_err().to_string().contains("without a directory"));
        let mut flipped = stored(&[("x", 1)]);
        let value = flipped.windows(3).position(|w| w == [1, 1, 1]).unwrap();
        flipped[value] = 2;
        assert!(parse(&flipped, true).unwrap_err().to_string().contains("a damaged file \"x.npy\""));
    }
}
