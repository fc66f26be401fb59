//! From a file's bytes to arrays: unpacks gzip, recognises the format, calls its reader.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::tensor::Tensor;
use super::{DataError, ParseError, cifar, idx, npz, numpy, pictures};

/// The most bytes a file, an unpacked gzip file, an array in an npz archive or the pixels of a
/// folder of pictures may have: 4 GiB.
pub const MAX_BYTES: u64 = 4 << 30;

const ACCEPTED: &str = "npy, npz, idx, CIFAR binary, PNG or JPEG, plain or packed with gzip";

/// The arrays of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The images, or the only array of the file. The first axis counts the images.
    pub images: Tensor,
    /// The labels that come with the images, where the format has them.
    pub labels: Option<Tensor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Npy,
    Npz,
    Idx,
    Cifar,
    Picture,
}

/// Reads the bytes of one image file, with the labels that it holds: npy, npz, idx, CIFAR binary,
/// PNG or JPEG, possibly packed with gzip. The format follows from the bytes; `name`, the file's
/// name, decides where they leave a doubt between idx and CIFAR. Never panics, whatever the bytes.
/// What a header claims is held against the bytes before memory is taken for it; only a picture's
/// pixels cannot be counted beforehand, and its size is limited ([`pictures::MAX_SIDE`]).
///
/// # Errors
/// If the format is not recognised or the file is damaged, or if it unpacks to more than
/// [`MAX_BYTES`].
pub fn parse_bytes(name: &str, bytes: &[u8]) -> Result<Parsed, ParseError> {
    parse_images(name, bytes, true)
}

/// Like [`parse_bytes`], but arrays of labels that stand beside the images in an npz archive are
/// only read `with_labels`.
pub(super) fn parse_images(name: &str, bytes: &[u8], with_labels: bool) -> Result<Parsed, ParseError> {
    let bytes = unpack(bytes, MAX_BYTES)?;
    let images = match recognise(name, &bytes)? {
        Format::Npy => numpy::parse(&bytes)?,
        Format::Npz => return npz::parse(&bytes, with_labels),
        Format::Idx => idx::parse(&bytes)?,
        Format::Cifar => return cifar::parse(&bytes),
        Format::Picture => pictures::parse(&bytes)?,
    };
    Ok(Parsed { images, labels: None })
}

/// Reads the labels out of the bytes of one file: the array of an npy or idx file, the array of an
/// npz archive that is called like labels, or the labels of CIFAR records; possibly packed with
/// gzip. Never panics, whatever the bytes.
///
/// # Errors
/// As [`parse_bytes`], and for pictures, which hold no labels.
pub fn parse_labels(name: &str, bytes: &[u8]) -> Result<Tensor, ParseError> {
    let bytes = unpack(bytes, MAX_BYTES)?;
    let none = || ParseError::new("a picture", "labels as npy, npz, idx or CIFAR binary");
    match recognise(name, &bytes)? {
        Format::Npy => numpy::parse(&bytes),
        Format::Npz => npz::parse_labels(&bytes),
        Format::Idx => idx::parse(&bytes),
        Format::Cifar => cifar::parse(&bytes)?.labels.ok_or_else(none),
        Format::Picture => Err(none()),
    }
}

fn recognise(name: &str, bytes: &[u8]) -> Result<Format, ParseError> {
    let name = Path::new(name);
    let has = |name: &Path, extension| name.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    let called_bin =
        has(name, "bin") || has(name, "gz") && name.file_stem().is_some_and(|n| has(n.as_ref(), "bin"));
    if numpy::starts(bytes) {
        Ok(Format::Npy)
    } else if npz::starts(bytes) {
        Ok(Format::Npz)
    } else if pictures::starts(bytes).is_some() {
        Ok(Format::Picture)
    } else if idx::fits(bytes) {
        Ok(Format::Idx)
    } else if cifar::fits(bytes.len()) && (called_bin || !idx::starts(bytes)) {
        // A CIFAR record may start like an idx file: a label 0 and nearly black pixels.
        Ok(Format::Cifar)
    } else if idx::starts(bytes) {
        Ok(Format::Idx)
    } else if called_bin {
        Ok(Format::Cifar)
    } else {
        Err(ParseError::start(bytes, ACCEPTED))
    }
}

/// The bytes themselves, or what they unpack to if they are a gzip file.
fn unpack(bytes: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, ParseError> {
    if !bytes.starts_with(b"\x1f\x8b") {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(limit + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| ParseError::new(format!("a damaged gzip file ({error})"), "a complete gzip file"))?;
    if unpacked.len() as u64 > limit {
        return Err(ParseError::too_long("a gzip file", limit));
    }
    Ok(Cow::Owned(unpacked))
}

/// Reads a whole file of at most [`MAX_BYTES`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let read = || {
        let file = File::open(path)?;
        let size = file.metadata()?.len().min(MAX_BYTES + 1);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(size).unwrap_or(0))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > MAX_BYTES => {
            Err(ParseError::too_long("a file", MAX_BYTES).of(path))
        }
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(DataError::Read { file: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Values;
    use super::super::samples::gzip;
    use super::*;

    const IDX: [u8; 11] = [0, 0, 8, 1, 0, 0, 0, 3, 4, 5, 6];

    #[test]
    fn gzip_is_unpacked_whatever_the_name() {
        let images = Tensor { shape: vec![3], values: Values::U8(vec![4, 5, 6]) };
        assert_eq!(parse_labels("labels.gz", &gzip(&IDX)).as_ref(), Ok(&images));
        for bytes in [&IDX[..], &gzip(&IDX), &[gzip(&IDX[..5]), gzip(&IDX[5..])].concat()] {
            assert_eq!(parse_bytes("labels", bytes), Ok(Parsed { images: images.clone(), labels: None }));
        }
        let bomb = gzip(&vec![0; 1 << 20]);
        assert_eq!(unpack(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        let error = unpack(&bomb, (1 << 20) - 1).unwrap_err().to_string();
        assert!(error.contains("more than 1048575 bytes"), "{error}");
        let cut = unpack(&bomb[..bomb.len() / 2], 1 << 20).unwrap_err().to_string();
        assert!(cut.contains("damaged gzip"), "{cut}");
    }

    #[test]
    fn doubt_between_idx_and_cifar_is_settled() {
        let mut record = vec![0; 3073];
        record[2] = 8;
        record[3] = 1;
        // Starts like idx, does not fit it, and is one CIFAR record long: the name decides.
        assert_eq!(recognise("batch.bin", &record), Ok(Format::Cifar));
        assert_eq!(recognise("BATCH.BIN.GZ", &record), Ok(Format::Cifar));
        assert_eq!(recognise("labels-idx1-ubyte", &record), Ok(Format::Idx));
        // A fitting idx header is no coincidence.
        record[4..8].copy_from_slice(&3065_u32.to_be_bytes());
        assert_eq!(recognise("batch.bin", &record), Ok(Format::Idx));
        record[0] = 1;
        assert_eq!(recognise("batch", &record), Ok(Format::Cifar));
        assert_eq!(recognise("cut.bin", &record[..3000]), Ok(Format::Cifar));
    }

    #[test]
    fn unknown_bytes_are_shown() {
        for (bytes, says) in [
            (&b"hello"[..], "5 bytes of unknown format that start with [68, 65, 6c, 6c, 6f]"),
            (b"", "start with []"),
            (&gzip(&gzip(&IDX)), "[1f, 8b"),
        ] {
            let error = parse_bytes("x.npy", bytes).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("npy, npz, idx, CIFAR"), "{error}");
        }
    }
}
