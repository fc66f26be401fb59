//! The npy format, read by the crate `ndarray-npy`. Archives of several arrays are in [`npz`](super::npz).

use ndarray::ArrayViewD;
use ndarray_npy::npy::header::Header;
use ndarray_npy::{ViewElement, ViewNpyError, ViewNpyExt};

use super::ParseError;
use super::idx::each;
use super::mapped::Layout;
use super::tensor::{Tensor, Values, elements, mismatch};

const MAGIC: &[u8] = b"\x93NUMPY";
const HEADER: &str = "an npy header: {'descr': '<f4', 'fortran_order': False, 'shape': (10, 28, 28), }";
const TYPES: &str = "integers (i1, i2, i4, i8, u1, u2, u4, u8) and floats (f4, f8) in the byte order of \
     this machine, such as array.astype('float32') makes them";
/// The longest header, in bytes; the limit that numpy has.
const MAX_HEADER: usize = 10_000;
/// The most brackets in a header, of which a good one has 2. Its parser calls itself for each, and
/// goes over what they enclose several times, so that the time doubles with every nested one.
const MAX_BRACKETS: usize = 8;
/// The values must stand at a multiple of their size, which is this or less.
const ALIGNMENT: usize = 8;

type Read = fn(&[u8]) -> Result<Values, ViewNpyError>;
/// The element types, and how a file of each is read.
const READERS: [(&str, Read); 10] = [
    ("u1", |file| view::<u8, _>(file).map(Values::U8)),
    ("i1", |file| view::<i8, _>(file).map(Values::I32)),
    ("u2", |file| view::<u16, _>(file).map(Values::I32)),
    ("i2", |file| view::<i16, _>(file).map(Values::I32)),
    ("i4", |file| view::<i32, _>(file).map(Values::I32)),
    ("u4", |file| view::<u32, _>(file).map(Values::I64)),
    ("i8", |file| view::<i64, _>(file).map(Values::I64)),
    ("u8", |file| view::<u64, _>(file).and_then(signed)),
    ("f4", |file| view::<f32, _>(file).map(Values::F32)),
    ("f8", |file| view::<f64, _>(file).map(Values::F64)),
];

/// Whether the bytes start like an npy file.
pub(super) fn starts(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads an npy file (format versions 1 to 3) into an array of the shape it declares, in row-major
/// order whatever the order in the file. Integers of 8 to 64 bits and floats of 32 and 64 bits are
/// read, in the byte order of this machine only.
///
/// # Errors
/// If the header is not one, is of another element type or byte order, or does not declare exactly
/// the values that follow.
pub fn parse(bytes: &[u8]) -> Result<Tensor, ParseError> {
    let (header, data) = split(bytes)?;
    let shown = &header[..header.len().min(200)];
    let shown = format!("the header {:?}", String::from_utf8_lossy(shown).trim_end());
    let brackets = header.iter().filter(|&byte| b"([{".contains(byte)).count();
    if header.len() > MAX_HEADER || brackets > MAX_BRACKETS {
        return Err(ParseError::new(shown, HEADER));
    }
    let Ok(Header { type_descriptor, shape, .. }) = Header::from_reader(&mut &*bytes) else {
        return Err(ParseError::new(shown, HEADER));
    };
    // A view of an empty array of too many entries would panic.
    if elements(&shape).is_none() {
        return Err(mismatch(data.len(), &shape, None));
    }
    let other = || ParseError::new(format!("values of another type: {shown}"), TYPES);
    let named = |kind| type_descriptor.as_string().is_some_and(|name| name.ends_with(kind));
    let (_, read) = READERS.into_iter().find(|&(kind, _)| named(kind)).ok_or_else(other)?;
    let before = bytes.len() - data.len();
    let values = if data.as_ptr().addr().is_multiple_of(ALIGNMENT) {
        read(bytes)
    } else {
        let mut copy = vec![0; bytes.len() + ALIGNMENT];
        let at = (copy.as_ptr().addr() + before).wrapping_neg() % ALIGNMENT;
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        read(&copy[at..at + bytes.len()])
    };
    let values = values.map_err(|error| match error {
        ViewNpyError::NonNativeEndian => {
            ParseError::new(format!("values in the byte order of other machines: {shown}"), TYPES)
        }
        ViewNpyError::WrongDescriptor(_) => other(),
        ViewNpyError::MissingBytes(more) => mismatch(data.len(), &shape, Some(data.len() + more)),
        ViewNpyError::ExtraBytes(less) => mismatch(data.len(), &shape, Some(data.len() - less)),
        ViewNpyError::LengthOverflow => mismatch(data.len(), &shape, None),
        ViewNpyError::InvalidData(found) => {
            ParseError::new(found.to_string(), format!("integers up to {}", i64::MAX))
        }
        error => ParseError::new(format!("{shown} ({error})"), HEADER),
    })?;
    Ok(Tensor { shape, values })
}

/// Where the values of a row-major array of bytes or floats stand in a file with this start.
pub(super) fn layout(start: &[u8]) -> Option<Layout> {
    let (header, data) = split(start).ok()?;
    let brackets = header.iter().filter(|&byte| b"([{".contains(byte)).count();
    if header.len() > MAX_HEADER || brackets > MAX_BRACKETS || !cfg!(target_endian = "little") {
        return None;
    }
    let Header { type_descriptor, shape, layout } = Header::from_reader(&mut &*start).ok()?;
    let (size, read): (_, fn(&[u8]) -> Values) = match type_descriptor.as_string()?.as_str() {
        "|u1" => (1, |bytes| Values::U8(bytes.to_vec())),
        "<f4" => (4, |bytes| Values::F32(each(bytes, f32::from_le_bytes))),
        "<f8" => (8, |bytes| Values::F64(each(bytes, f64::from_le_bytes))),
        _ => return None,
    };
    (layout == ndarray_npy::npy::header::Layout::Standard).then(|| Layout {
        shape,
        offset: start.len() - data.len(),
        size,
        read,
    })
}

/// The text of the header and the bytes of the values. What the header's length claims is checked,
/// which `ndarray-npy` would ask memory for.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    let cut = || {
        ParseError::new(format!("an npy header cut off after {} bytes", bytes.len()), "a complete npy file")
    };
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(ParseError::start(bytes, "an npy file, which starts with \\x93NUMPY"));
    };
    let (length, rest) = match *rest {
        [1, 0, a, b, ref rest @ ..] => (u32::from_le_bytes([a, b, 0, 0]), rest),
        [2 | 3, 0, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]), rest),
        [1..=3, 0, ..] | [] | [_] => return Err(cut()),
        [major, minor, ..] => {
            return Err(ParseError::new(format!("npy version {major}.{minor}"), "versions 1.0, 2.0 and 3.0"));
        }
    };
    usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)).ok_or_else(cut)
}

/// The values of a file of type `S`, in row-major order.
fn view<S: ViewElement + Copy, T: From<S>>(file: &[u8]) -> Result<Vec<T>, ViewNpyError> {
    let array = ArrayViewD::<S>::view_npy(file)?;
    Ok(match array.as_slice() {
        Some(values) => values.iter().map(|&value| value.into()).collect(),
        None => array.iter().map(|&value| value.into()).collect(),
    })
}

fn signed(values: Vec<u64>) -> Result<Values, ViewNpyError> {
    let narrow = |(at, value)| {
        i64::try_from(value).map_err(|_| ViewNpyError::InvalidData(format!("{value} at entry {at}").into()))
    };
    values.into_iter().enumerate().map(narrow).collect::<Result<_, _>>().map(Values::I64)
}

#[cfg(test)]
mod tests {
    use super::super::samples::npy;
    use super::*;
    use ndarray::{Array, ShapeBuilder};
    use ndarray_npy::WriteNpyExt;

    fn problem(header: &str, data: &[u8]) -> String {
        let length = u16::try_from(header.len() + 1).unwrap().to_le_bytes();
        let file = [MAGIC, &[1, 0], &length, header.as_bytes(), b"\n", data].concat();
        parse(&file).unwrap_err().to_string()
    }

    fn told(descr: &str, shape: &str, data: &[u8], says: &str) {
        let header = format!("{{'descr': {descr}, 'fortran_order': True, 'shape': {shape}}}");
        let error = problem(&header, data);
        assert!(error.contains(says) && error.contains("accepted"), "{error}");
    }

    fn written(array: &impl WriteNpyExt) -> Tensor {
        let file = npy(array);
        let tensor = parse(&file).unwrap();
        // Wherever the values stand, they are read.
        for shift in 1..ALIGNMENT {
            let shifted = [&vec![0; shift], &file[..]].concat();
            assert_eq!(parse(&shifted[shift..]).unwrap(), tensor);
        }
        tensor
    }

    #[test]
    fn every_type_is_read() {
        let array = |values| Tensor { shape: vec![2], values };
        assert_eq!(written(&Array::from(vec![200_u8, 1])), array(Values::U8(vec![200, 1])));
        assert_eq!(written(&Array::from(vec![-1_i8, 1])), array(Values::I32(vec![-1, 1])));
        assert_eq!(written(&Array::from(vec![0xff01_u16, 1])), array(Values::I32(vec![0xff01, 1])));
        assert_eq!(written(&Array::from(vec![-2_i16, 1])), array(Values::I32(vec![-2, 1])));
        assert_eq!(written(&Array::from(vec![-3_i32, 1])), array(Values::I32(vec![-3, 1])));
        assert_eq!(written(&Array::from(vec![1_u32 << 31, 1])), array(Values::I64(vec![1 << 31, 1])));
        assert_eq!(written(&Array::from(vec![-4_i64, 1])), array(Values::I64(vec![-4, 1])));
        assert_eq!(written(&Array::from(vec![1_u64 << 60, 1])), array(Values::I64(vec![1 << 60, 1])));
        assert_eq!(written(&Array::from(vec![1.5_f32, 1.0])), array(Values::F32(vec![1.5, 1.0])));
        assert_eq!(written(&Array::from(vec![-0.1_f64, 1.0])), array(Values::F64(vec![-0.1, 1.0])));
        let text = b"{'shape': (1, 1), 'descr': '|u1', 'fortran_order': True}\n";
        let version_two = [MAGIC, &[2, 0, 57, 0, 0, 0], text, &[9]].concat();
        assert_eq!(parse(&version_two).unwrap(), Tensor { shape: vec![1, 1], values: Values::U8(vec![9]) });
    }

    #[test]
    fn fortran_order_becomes_row_major() {
        let entry = |(i, j, k)| u8::try_from(100 * i + 10 * j + k).unwrap();
        let tensor = written(&Array::from_shape_fn((2, 3, 2).f(), entry));
        let values = vec![0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121];
        assert_eq!(tensor, Tensor { shape: vec![2, 3, 2], values: Values::U8(values) });
    }

    #[test]
    fn malformed_files_say_what_they_hold() {
        told("'<f2'", "(1,)", &[0; 2], "another type: the header \"{'descr': '<f2'");
        told("'|b1'", "(1,)", &[0], "another type");
        told("'|f4'", "(1,)", &[0; 4], "another type");
        told("[('a', '<f4')]", "(1,)", &[0; 4], "another type: the header \"{'descr': [('a', '<f4')]");
        told("'>f4'", "(1,)", &[0; 4], "byte order of other machines");
        told("'<f4'", "(1)", &[0; 4], "found the header");
        told("'<f4'", "(-1,)", &[], "found the header");
        told("'<f4', 'more': 1", "(1,)", &[0; 4], "found the header");
        told("'<f4'", "(2,)", &[0; 7], "found 7 bytes of values; accepted: the 8 bytes");
        told("'<f4'", "(1,)", &[0; 5], "found 5 bytes of values; accepted: the 4 bytes");
        told("'<u8'", "()", &[255; 8], "found 18446744073709551615 at entry 0");
        assert!(problem("{'descr': '<f4', 'fortran_order': False}", &[]).contains("found the header"));
        for (file, says) in [
            (&b"NUMPY"[..], "start with"),
            (b"\x93NUMPY\x09\x01", "version 9.1"),
            (b"\x93NUMPY\x02\x00\xff\xff", "cut off after 10"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "cut off"),
        ] {
            assert!(parse(file).unwrap_err().to_string().contains(says));
        }
    }

    #[test]
    fn false_claims_are_errors_before_memory_is_asked_for() {
        told("'<f8'", "(1152921504606846975,)", &[0; 100], "the 9223372036854775800 bytes");
        told("'<f8'", "(1152921504606846976,)", &[0; 100], "entries as can be addressed");
        told("'<f8'", "(4294967296, 4294967296, 4294967296)", &[0; 100], "entries as can be addressed");
        told("'<f8'", "(0, 4294967296, 4294967296)", &[], "entries as can be addressed");
        told("'<f8'", "(99999999999999999999999,)", &[], "found the header");
        told("'<f8'", &format!("({})", "1, ".repeat(64)), &[0; 8], "found 64 axes [1, 1, 1");
        for nested in ["(", "[", "{", "{1: ", "[1, ", " "] {
            for times in [MAX_BRACKETS, MAX_BRACKETS + 1, 50_000 / nested.len()] {
                assert!(problem(&nested.repeat(times), &[]).len() < 500);
            }
        }
    }
}
