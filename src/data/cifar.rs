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
    if !fits(bytes.len()) {
        return Err(ParseError::new(format!("{} bytes", bytes.len()), ACCEPTED));
    }
    let ten = check::<1>(bytes, [10]);
    let hundred = check::<2>(bytes, [20, 100]);
    match (ten, hundred) {
        (Ok(()), Ok(())) => {
            Err(ParseError::new(format!("{} bytes that fit both formats", bytes.len()), ACCEPTED))
        }
        (Ok(()), Err(_)) => Ok(split::<1>(bytes)),
        (Err(_), Ok(())) => Ok(split::<2>(bytes)),
        (Err(ten), Err(hundred)) => {
            let found = ten.or(hundred).unwrap_or_else(|| format!("{} bytes", bytes.len()));
            Err(ParseError::new(found, ACCEPTED))
        }
    }
}

/// Whether the file is made of records of `LABELS` label bytes below `limits`; if the length fits
/// but a label does not, the error describes it.
fn check<const LABELS: usize>(bytes: &[u8], limits: [u8; LABELS]) -> Result<(), Option<String>> {
    let record = LABELS + PIXELS;
    if !bytes.len().is_multiple_of(record) {
        return Err(None);
    }
    for (index, record) in bytes.chunks_exact(record).enumerate() {
        for (label, limit) in record.iter().zip(limits) {
            if *label >= limit {
                return Err(Some(format!("label {label} in record {index} of {} bytes", record.len())));
            }
        }
    }
    Ok(())
}

fn split<const LABELS: usize>(bytes: &[u8]) -> Parsed {
    let records = bytes.chunks_exact(LABELS + PIXELS);
    let count = records.len();
    let mut pixels = Vec::with_capacity(count * PIXELS);
    let mut labels = Vec::with_capacity(count);
    for record in records {
        labels.push(record[LABELS - 1]);
        pixels.extend_from_slice(&record[LABELS..]);
    }
    Parsed {
        images: Tensor::from_parts(vec![count, 3, 32, 32], Values::U8(pixels)),
        labels: Some(Tensor::from_parts(vec![count], Values::U8(labels))),
    }
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
    fn ten_classes() {
        let parsed = parse(&[record(&[9], 77), record(&[0], 78)].concat()).unwrap();
        assert_eq!(parsed.images.shape(), [2, 3, 32, 32]);
        assert_eq!(parsed.labels.unwrap().values(), &Values::U8(vec![9, 0]));
        let Values::U8(pixels) = parsed.images.values() else { panic!("bytes stay bytes") };
        assert_eq!([pixels[0], pixels[1], pixels[PIXELS]], [77, 5, 78]);
    }

    #[test]
    fn hundred_classes_use_the_fine_label() {
        let parsed = parse(&[record(&[19, 99], 1), record(&[3, 42], 2)].concat()).unwrap();
        assert_eq!(parsed.images.shape(), [2, 3, 32, 32]);
        assert_eq!(parsed.labels.unwrap().values(), &Values::U8(vec![99, 42]));
        let Values::U8(pixels) = parsed.images.values() else { panic!("bytes stay bytes") };
        assert_eq!([pixels[0], pixels[PIXELS]], [1, 2]);
    }

    #[test]
    fn other_lengths_and_labels_are_refused() {
        let error = parse(&vec![0; 3072]).unwrap_err().to_string();
        assert!(error.contains("found 3072 bytes") && error.contains("3073"), "{error}");
        assert!(parse(&[]).is_err());
        let error = parse(&[record(&[9], 0), record(&[10], 0)].concat()).unwrap_err().to_string();
        assert!(error.contains("label 10 in record 1 of 3073 bytes"), "{error}");
        let error = parse(&record(&[20, 0], 0)).unwrap_err().to_string();
        assert!(error.contains("label 20 in record 0 of 3074 bytes"), "{error}");
    }

    #[test]
    fn a_length_that_fits_both_is_decided_by_the_labels_or_refused() {
        let both = TEN * HUNDRED;
        let error = parse(&vec![0; both]).unwrap_err().to_string();
        assert!(error.contains("fit both formats"), "{error}");
        let hundred = record(&[15, 50], 200).repeat(TEN);
        assert_eq!(parse(&hundred).unwrap().images.shape()[0], TEN);
    }
}
