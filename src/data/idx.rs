//! The idx format of MNIST: two zero bytes, a type byte, the number of axes, one big-endian 32-bit
//! length per axis, then the values, big-endian and row-major.

use super::ParseError;
use super::tensor::{Endian, Number, Tensor, elements};

const ACCEPTED: &str =
    "an idx file: 0 0, a type (8, 9, 11, 12, 13 or 14), the number of axes and their lengths";

/// Whether the bytes start like an idx file.
pub(super) fn starts(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, kind, axes, ..] if number(*kind).is_some() && *axes > 0)
}

/// Whether the bytes start like an idx file and are exactly as long as it says.
pub(super) fn fits(bytes: &[u8]) -> bool {
    header(bytes).is_ok_and(|(number, shape, data)| {
        elements(&shape).and_then(|n| n.checked_mul(number.size())) == Some(data.len())
    })
}

/// Reads an uncompressed idx file into an array of the shape it declares.
///
/// # Errors
/// If the header is not one, or does not declare exactly the values that follow.
pub fn parse(bytes: &[u8]) -> Result<Tensor, ParseError> {
    let (number, shape, data) = header(bytes)?;
    Tensor::decode(shape, number, Endian::Big, data)
}

fn number(kind: u8) -> Option<Number> {
    Some(match kind {
        0x08 => Number::U8,
        0x09 => Number::I8,
        0x0b => Number::I16,
        0x0c => Number::I32,
        0x0d => Number::F32,
        0x0e => Number::F64,
        _ => return None,
    })
}

fn header(bytes: &[u8]) -> Result<(Number, Vec<usize>, &[u8]), ParseError> {
    let &[0, 0, kind, axes, ref rest @ ..] = bytes else {
        let start = &bytes[..bytes.len().min(4)];
        return Err(ParseError::new(format!("a file that starts with {start:02x?}"), ACCEPTED));
    };
    let Some(number) = number(kind) else {
        return Err(ParseError::new(format!("idx type {kind}"), ACCEPTED));
    };
    if axes == 0 {
        return Err(ParseError::new("an idx array without axes", ACCEPTED));
    }
    let Some((lengths, data)) = rest.split_at_checked(4 * usize::from(axes)) else {
        return Err(ParseError::new(
            format!("an idx header cut off after {} bytes", bytes.len()),
            format!("{} bytes for {axes} axes", 4 + 4 * usize::from(axes)),
        ));
    };
    let length = |&b: &[u8; 4]| {
        let length = u32::from_be_bytes(b);
        usize::try_from(length).map_err(|_| ParseError::new(format!("an axis of {length}"), "shorter axes"))
    };
    let shape = lengths.as_chunks::<4>().0.iter().map(length).collect::<Result<_, _>>()?;
    Ok((number, shape, data))
}

#[cfg(test)]
mod tests {
    use super::super::Values;
    use super::*;

    #[test]
    fn bytes_and_big_endian_values() {
        let tensor = parse(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(tensor, Tensor::new(vec![2, 3], Values::U8(vec![1, 2, 3, 4, 5, 6])).unwrap());
        let tensor = parse(&[0, 0, 12, 1, 0, 0, 0, 1, 0, 0, 1, 2]).unwrap();
        assert_eq!(tensor.values(), &Values::I32(vec![258]));
        let mut file = vec![0, 0, 13, 1, 0, 0, 0, 2];
        file.extend([0.25_f32, -1.0].into_iter().flat_map(f32::to_be_bytes));
        assert_eq!(parse(&file).unwrap().values(), &Values::F32(vec![0.25, -1.0]));
        let mut file = vec![0, 0, 14, 1, 0, 0, 0, 1];
        file.extend(0.1_f64.to_be_bytes());
        assert_eq!(parse(&file).unwrap().values(), &Values::F64(vec![0.1]));
    }

    #[test]
    fn false_claims_are_errors_before_memory_is_asked_for() {
        let mut file = vec![0, 0, 14, 4];
        file.extend([0xff; 16]);
        file.resize(100, 0);
        let error = parse(&file).unwrap_err().to_string();
        assert!(
            error.contains("80 bytes of values") && error.contains("more than can be addressed"),
            "{error}"
        );
        let mut file = vec![0, 0, 8, 3, 0x10, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0x80, 0];
        file.resize(100, 0);
        let error = parse(&file).unwrap_err().to_string();
        assert!(error.contains("found 84 bytes") && error.contains("288230376151711744"), "{error}");
    }

    #[test]
    fn malformed_files_say_what_they_hold() {
        for (file, says) in [
            (&[][..], "starts with []"),
            (&[0, 0, 8], "[00, 00, 08]"),
            (&[1, 0, 8, 1, 0, 0, 0, 0], "[01, 00, 08, 01]"),
            (&[0, 0, 10, 1, 0, 0, 0, 0], "idx type 10"),
            (&[0, 0, 8, 0], "without axes"),
            (&[0, 0, 8, 2, 0, 0, 0, 1], "cut off after 8 bytes; accepted: 12 bytes for 2 axes"),
            (&[0, 0, 8, 1, 0, 0, 0, 2, 7], "found 1 bytes of values; accepted: the 2 bytes"),
            (&[0, 0, 8, 1, 0, 0, 0, 1, 7, 7], "found 2 bytes of values; accepted: the 1 bytes"),
        ] {
            let error = parse(file).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
