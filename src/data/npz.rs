//! The npz format: a zip archive of npy files, opened by the crate `zip`.
//!
//! Which array holds the images and which the labels follows from their names. An archive of one
//! array leaves no choice. Otherwise the images are the array called [`IMAGES`], the labels the
//! array called [`LABELS`], the first name in the list that is there, in upper or lower case. Of
//! files of the same name the last counts.

use std::io::{Cursor, Read};

use memchr::memmem;
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

use super::tensor::Tensor;
use super::{MAX_BYTES, ParseError, Parsed, numpy};

/// Names of an array of images, most wanted first.
pub const IMAGES: [&str; 5] = ["x", "images", "x_test", "input", "arr_0"];
/// Names of an array of labels, most wanted first.
pub const LABELS: [&str; 4] = ["y", "labels", "y_test", "arr_1"];
const ACCEPTED: &str =
    "a zip archive of stored or deflated files, as numpy.savez and numpy.savez_compressed write it";
/// How many times as long a deflated file can become.
const MAX_RATIO: u64 = 1032;

/// The most files that an archive may announce: `zip` asks memory for all of them at once.
const MAX_FILES: u64 = u16::MAX as u64;

/// Whether the bytes start like a zip archive, possibly an empty one.
pub(super) fn starts(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// Reads the images, and the labels if the archive has an array of such a name and `with_labels`.
///
/// # Errors
/// If the archive is damaged, no array or no one array is called like images, or an array cannot
/// be read.
pub fn parse(bytes: &[u8], with_labels: bool) -> Result<Parsed, ParseError> {
    let mut archive = Archive::open(bytes)?;
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
    let mut archive = Archive::open(bytes)?;
    let labels = archive.choose(&LABELS)?;
    archive.read(labels)
}

struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The arrays' names without `.npy`, and their numbers in the archive.
    arrays: Vec<(String, usize)>,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if announces_too_many(bytes) {
            let accepted = format!("archives of at most {MAX_FILES} files");
            return Err(ParseError::new("a zip archive that announces more files", accepted));
        }
        // To look for the start of the archive elsewhere could take long.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, Cursor::new(bytes))
            .map_err(|error| ParseError::new(format!("a damaged zip archive ({error})"), ACCEPTED))?;
        let array = |file| Some((zip.name_for_index(file)?.strip_suffix(".npy")?.to_owned(), file));
        let arrays = (0..zip.len()).filter_map(array).collect();
        Ok(Self { bytes, zip, arrays })
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

    fn read(&mut self, array: usize) -> Result<Tensor, ParseError> {
        let bytes = self.unpack(array, MAX_BYTES);
        bytes
            .and_then(|bytes| numpy::parse(&bytes))
            .map_err(|error| error.within(&format!("array {:?}", self.arrays[array].0)))
    }

    /// The npy file of an array, if it takes at most `limit` bytes.
    fn unpack(&mut self, array: usize, limit: u64) -> Result<Vec<u8>, ParseError> {
        let damaged = |what: String| ParseError::new(format!("a damaged file ({what})"), ACCEPTED);
        let file = self.zip.by_index(self.arrays[array].1).map_err(|error| damaged(error.to_string()))?;
        let (packed, size) = (file.compressed_size(), file.size());
        if packed > self.bytes.len() as u64 || size > packed.saturating_mul(MAX_RATIO) {
            return Err(damaged(format!("{packed} bytes in the archive are to unpack to {size}")));
        }
        if size > limit {
            return Err(ParseError::too_long("a file", limit));
        }
        let mut contents = Vec::new();
        contents
            .try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))
            .map_err(|error| damaged(error.to_string()))?;
        // One byte more shows whether there is more, and else has the checksum compared.
        file.take(size + 1).read_to_end(&mut contents).map_err(|error| damaged(error.to_string()))?;
        if contents.len() as u64 != size {
            return Err(damaged(format!("other than the {size} bytes that the archive announces")));
        }
        Ok(contents)
    }
}

/// Whether there is an end of the directory, of the kind with 64-bit fields, of too many files.
fn announces_too_many(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"PK\x06\x06").any(|at| {
        let field = |offset| bytes[at..].get(offset..)?.first_chunk().copied().map(u64::from_le_bytes);
        // Other bytes that happen to look like it do not give it a length that fits.
        field(4).is_some_and(|size| size < bytes.len() as u64) && field(32) > Some(MAX_FILES)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Values, samples};
    use super::*;
    use ndarray::Array1;
    use std::io::Write;
    use zip::CompressionMethod::{self, Deflated, Stored};
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn npy(value: u8) -> Vec<u8> {
        samples::npy(&Array1::from_elem(3, value))
    }

    fn archive(method: CompressionMethod, arrays: &[(&str, u8)]) -> Vec<u8> {
        let arrays: Vec<_> = arrays.iter().map(|&(name, value)| (name, npy(value))).collect();
        samples::npz(SimpleFileOptions::default().compression_method(method), &arrays)
    }

    fn stored(arrays: &[(&str, u8)]) -> Vec<u8> {
        archive(Stored, arrays)
    }

    fn threes(value: u8) -> Tensor {
        Tensor::new(vec![3], Values::U8(vec![value; 3])).unwrap()
    }

    #[test]
    fn arrays_are_chosen_by_name_unless_there_is_one() {
        for (arrays, images, labels) in [
            (&[("y_train", 0), ("y_test", 1), ("x_train", 2), ("x_test", 3)][..], 3, Some(1)),
            (&[("arr_0", 4), ("arr_1", 5)], 4, Some(5)),
            (&[("notes", 9), ("X", 4), ("arr_0", 5)], 4, None),
            (&[("y", 7)], 7, None),
        ] {
            for method in [Stored, Deflated] {
                let bytes = archive(method, arrays);
                let parsed = Parsed { images: threes(images), labels: labels.map(threes) };
                assert_eq!(parse(&bytes, true), Ok(parsed), "{method}");
                assert_eq!(parse(&bytes, false), Ok(Parsed { images: threes(images), labels: None }));
            }
        }
        assert_eq!(parse_labels(&stored(&[("x", 6), ("y", 7)])), Ok(threes(7)));
        let error = parse(&stored(&[("one", 1), ("two", 2)]), true).unwrap_err().to_string();
        assert!(error.contains("2 arrays called [\"one\", \"two\"]") && error.contains("x_test"), "{error}");
        let error = parse_labels(&stored(&[])).unwrap_err().to_string();
        assert!(error.contains("0 arrays") && error.contains("y, labels, y_test, arr_1"), "{error}");
    }

    #[test]
    fn archives_with_long_fields_or_written_as_a_stream_are_read() {
        let large = samples::npz(SimpleFileOptions::default().large_file(true), &[("x", npy(8))]);
        assert_eq!(parse_labels(&large), Ok(threes(8)));
        let mut stream = ZipWriter::new_stream(Vec::new());
        stream.start_file("y.npy", SimpleFileOptions::default()).unwrap();
        stream.write_all(&npy(8)).unwrap();
        stream.set_comment("a comment");
        assert_eq!(parse_labels(&stream.finish().unwrap().into_inner()), Ok(threes(8)));
    }

    #[test]
    fn damage_and_false_claims_are_noticed() {
        for method in [Stored, Deflated] {
            let bytes = archive(method, &[("x", 1)]);
            let long = Archive::open(&bytes).unwrap().unpack(0, 100).unwrap_err().to_string();
            assert!(long.contains("a file of more than 100 bytes"), "{long}");
        }
        let bytes = stored(&[("x", 1)]);
        let at = |pattern: &[u8]| bytes.windows(pattern.len()).position(|w| w == pattern).unwrap();
        let (directory, end) = (at(b"PK\x01\x02"), at(b"PK\x05\x06"));
        for (at, new, says) in [
            (at(&[1, 1, 1]), &[2][..], "in array \"x\" a damaged file (Invalid checksum)"),
            (directory, &[0], "damaged zip archive"),
            (directory + 8, &[1], "Password required"),
            (directory + 10, &[12], "Compression method not supported"),
            (directory + 20, &[0, 0, 0, 1], "16777216 bytes in the archive are to unpack to 131"),
            (directory + 24, &[0, 0, 0, 1], "131 bytes in the archive are to unpack to 16777216"),
            (directory + 24, &[130], "other than the 130 bytes"),
            (directory + 24, &[132], "other than the 132 bytes"),
            (end + 8, &[2], "damaged zip archive"),
        ] {
            let mut bytes = bytes.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            let error = parse(&bytes, true).expect_err(says).to_string();
            assert!(error.contains(says) && error.contains("numpy.savez"), "{error}");
        }
        assert!(parse(&bytes[..bytes.len() - 1], true).unwrap_err().to_string().contains("damaged zip"));
        let end = [&b"PK\x06\x06"[..], &44_u64.to_le_bytes(), &[0; 20], &70_000_u64.to_le_bytes()].concat();
        let error = parse(&[&bytes[..], &end].concat(), true).unwrap_err().to_string();
        assert!(error.contains("announces more files; accepted: archives of at most 65535"), "{error}");
    }
}
