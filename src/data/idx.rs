//! The idx format of MNIST: two zero bytes, a type byte, the number of axes, one big-endian 32-bit
//! length per axis, then the values, big-endian and row-major.

use super::ParseError;
use super::mapped::Layout;
use super::tensor::{Tensor, Values, elements, mismatch};

const ACCEPTED: &str =
    "an idx file: 0 0, a type (8, 9, 11, 12, 13 or 14), the number of axes and their lengths";

/// Whether the bytes start like an idx file.
pub(super) fn starts(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, kind, axes, ..] if size(*kind).is_some() && *axes > 0)
}

/// Whether the bytes start like an idx file and are exactly as long as it says.
pub(super) fn fits(bytes: &[u8]) -> bool {
    header(bytes).is_ok_and(|header| header.wanted == Some(header.data.len()))
}

/// Reads an uncompressed idx file into an array of the shape it declares.
///
/// # Errors
/// If the header is not one, or does not declare exactly the values that follow.
pub fn parse(bytes: &[u8]) -> Result<Tensor, ParseError> {
    let Header { kind, shape, wanted, data } = header(bytes)?;
    if wanted != Some(data.len()) {
        return Err(mismatch(data.len(), &shape, wanted));
    }
    let values = match kind {
        0x08 => Values::U8(data.to_vec()),
        0x09 => Values::I32(each(data, |[byte]| byte.cast_signed().into())),
        0x0b => Values::I32(each(data, |bytes| i16::from_be_bytes(bytes).into())),
        0x0c => Values::I32(each(data, i32::from_be_bytes)),
        0x0d => Values::F32(each(data, f32::from_be_bytes)),
        _ => Values::F64(each(data, f64::from_be_bytes)),
    };
    Ok(Tensor { shape, values })
}

/// Where the values of an array of bytes or floats stand in a file with this start.
pub(super) fn layout(start: &[u8]) -> Option<Layout> {
    let Header { kind, shape, data, .. } = header(start).ok()?;
    let read: fn(&[u8]) -> Values = match kind {
        0x08 => |bytes| Values::U8(bytes.to_vec()),
        0x0d => |bytes| Values::F32(each(bytes, f32::from_be_bytes)),
        0x0e => |bytes| Values::F64(each(bytes, f64::from_be_bytes)),
        _ => return None,
    };
    Some(Layout { shape, offset: start.len() - data.len(), size: size(kind)?, read })
}

/// Values of `N` bytes each.
pub(super) fn each<const N: usize, T>(data: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|&bytes| from(bytes)).collect()
}

/// The bytes that a value of a type takes.
fn size(kind: u8) -> Option<usize> {
    match kind {
        0x08 | 0x09 => Some(1),
        0x0b => Some(2),
        0x0c | 0x0d => Some(4),
        0x0e => Some(8),
        _ => None,
    }
}

struct Header<'a> {
    kind: u8,
    shape: Vec<usize>,
    /// How many bytes the values should take, if that can be addressed.
    wanted: Option<usize>,
    data: &'a [u8],
}

fn header(bytes: &[u8]) -> Result<Header<'_>, ParseError> {
    let &[0, 0, kind, axes, ref rest @ ..] = bytes else {
        return Err(ParseError::start(bytes, ACCEPTED));
    };
    let Some(size) = size(kind) else {
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
    // Where a length is longer than addresses are, no data can be as long either.
    let shape: Vec<_> = each(lengths, |b| usize::try_from(u32::from_be_bytes(b)).unwrap_or(usize::MAX));
    let wanted = elements(&shape).and_then(|count| count.checked_mul(size));
    Ok(Header { kind, shape, wanted, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read() {
        let file = |kind: u8, data: &[u8]| [&[0, 0, kind, 1, 0, 0, 0, 1], data].concat();
        for (bytes, values) in [
            (file(8, &[200]), Values::U8(vec![200])),
            (file(9, &[0xff]), Values::I32(vec![-1])),
            (file(11, &[0xff, 0xfe]), Values::I32(vec![-2])),
            (file(12, &[0, 0, 1, 2]), Values::I32(vec![258])),
            (file(13, &0.25_f32.to_be_bytes()), Values::F32(vec![0.25])),
            (file(14, &(-0.1_f64).to_be_bytes()), Values::F64(vec![-0.1])),
        ] {
            assert_eq!(parse(&bytes), Ok(Tensor { shape: vec![1], values }));
        }
        let tensor = parse(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(tensor, Tensor { shape: vec![2, 3], values: Values::U8(vec![1, 2, 3, 4, 5, 6]) });
    }

    #[test]
    fn malformed_files_say_what_they_hold() {
        for (file, says) in [
            (&[][..], "start with []"),
            (&[0, 0, 8], "start with [00, 00, 08]"),
            (&[1, 0, 8, 1, 0, 0, 0, 0], "start with [01, 00, 08"),
            (&[0, 0, 10, 1, 0, 0, 0, 0], "idx type 10"),
            (&[0, 0, 8, 0], "without axes"),
            (&[0, 0, 8, 2, 0, 0, 0, 1], "cut off after 8 bytes; accepted: 12 bytes for 2 axes"),
            (&[0, 0, 8, 1, 0, 0, 0, 2, 7], "found 1 bytes of values; accepted: the 2 bytes"),
            (&[0, 0, 8, 1, 0, 0, 0, 1, 7, 7], "found 2 bytes of values; accepted: the 1 bytes"),
            (&[0, 0, 8, 2, 16, 0, 0, 0, 0, 1, 0, 0, 9], "accepted: the 17592186044416 bytes"),
            (&[[0, 0, 8, 4].as_slice(), &[255; 16]].concat(), "found 4 axes [4294967295, "),
        ] {
            let error = parse(file).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
