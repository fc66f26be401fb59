//! The binary files of CIFAR-10 and CIFAR-100: records of label bytes and 3 x 32 x 32 pixel bytes,
//! red before green before blue.
//!
//! The files carry no mark of their own. A CIFAR-10 record is one label and the pixels, 3073
//! bytes; a CIFAR-100 record is a coarse label, a fine label and the pixels, 3074 bytes, of which
//! the fine label is used. The length of the file and the range of every label decide.

use super::tensor::{Tensor, Values};
use super::{ParseError, Parsed};

const PIXELS: usize = 3 * 32 * 32;
const TEN: usize = PIXELS + 1;
const HUNDRED: usize = PIXELS + 2;
const ACCEPTED: &str = "CIFAR-10 records of 3073 bytes (a label below 10, 3 x 32 x 32 pixels) \
     or CIFAR-100 records of 3074 bytes (a label below 20, a label below 100, pixels)";

/// Whether a file of this many bytes could hold whole records.
pub(super) fn fits(bytes: usize) -> bool {
    bytes > 0 && (bytes.is_multiple_of(TEN) || bytes.is_multiple_of(HUNDRED))
}

/// Reads an uncompressed file of records into images `[n, 3, 32, 32]` and labels `[n]`.
///
/// # Errors
/// If the file is empty, is not made of whole records, holds labels that the format does not
/// have, or could be either of the two formats.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let (mut parsed, mut problem) = (None, format!("{} bytes", bytes.len()));
    for limits in [&[10][..], &[20, 100]] {
        if !fits(bytes.len()) || !bytes.len().is_multiple_of(limits.len() + PIXELS) {
            continue;
        }
        match split(bytes, limits) {
            Ok(_) if parsed.is_some() => {
                let found = format!("{} bytes that fit both formats", bytes.len());
                return Err(ParseError::new(found, ACCEPTED));
            }
            Ok(split) => parsed = Some(split),
            Err(label) => problem = label,
        }
    }
    parsed.ok_or_else(|| ParseError::new(problem, ACCEPTED))
}

/// Reads records with a label below each of `limits`; the error describes a label that is not.
fn split(bytes: &[u8], limits: &[u8]) -> Result<Parsed, String> {
    let (mut pixels, mut labels) = (Vec::with_capacity(bytes.len()), Vec::new());
    for (index, record) in bytes.chunks_exact(limits.len() + PIXELS).enumerate() {
        let (classes, image) = record.split_at(limits.len());
        if let Some((label, _)) = classes.iter().zip(limits).find(|(label, limit)| label >= limit) {
            return Err(format!("label {label} in record {index} of {} bytes", record.len()));
        }
        labels.extend(classes.last());
        pixels.extend_from_slice(image);
    }
    let count = labels.len();
    Ok(Parsed {
        images: Tensor { shape: vec![count, 3, 32, 32], values: Values::U8(pixels) },
        labels: Some(Tensor { shape: vec![count], values: Values::U8(labels) }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(labels: &[u8], first_pixel: u8) -> Vec<u8> {
        let mut record = labels.to_vec();
        record.push(first_pixel);
        record.resize(labels.len() + PIXELS, 5);
        record
    }

    #[test]
    fn records_are_split_and_the_last_label_is_used() {
        for (bytes, labels) in [
            ([record(&[9], 77), record(&[0], 78)].concat(), vec![9, 0]),
            ([record(&[19, 99], 77), record(&[3, 42], 78)].concat(), vec![99, 42]),
        ] {
            let parsed = parse(&bytes).unwrap();
            assert_eq!(parsed.images.shape(), [2, 3, 32, 32]);
            assert_eq!(parsed.labels.unwrap().values(), &Values::U8(labels));
            let Values::U8(pixels) = parsed.images.values() else { panic!("bytes stay bytes") };
            assert_eq!([pixels[0], pixels[1], pixels[PIXELS]], [77, 5, 78]);
        }
    }

    #[test]
    fn other_lengths_and_labels_are_refused() {
        for (bytes, says) in [
            (vec![], "found 0 bytes"),
            (vec![0; 3072], "found 3072 bytes"),
            ([record(&[9], 0), record(&[10], 0)].concat(), "label 10 in record 1 of 3073 bytes"),
            (record(&[20, 0], 0), "label 20 in record 0 of 3074 bytes"),
            (vec![0; TEN * HUNDRED], "fit both formats"),
        ] {
            let error = parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("CIFAR-100 records of 3074"), "{error}");
        }
        // Of a length that fits both, and told by its labels.
        assert_eq!(parse(&record(&[15, 50], 200).repeat(TEN)).unwrap().images.shape()[0], TEN);
    }
}
