//! The npy format: a magic string, a version, a header that is the text of a Python dictionary,
//! then the values. Archives of several arrays (npz) are in the `npz` module.
//!
//! The header is read here, strictly, so that its shape can be held against the bytes that follow
//! before memory is asked for.

use super::ParseError;
use super::tensor::{Endian, Number, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";
const HEADER: &str = "an npy header: {'descr': '<f4', 'fortran_order': False, 'shape': (10, 28, 28), }";

/// Whether the bytes start like an npy file.
pub(super) fn starts(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads an npy file (format versions 1 to 3) into an array of the shape it declares, in row-major
/// order whatever the order in the file. Integers of 8 to 64 bits and floats of 32 and 64 bits are
/// read in either byte order.
///
/// # Errors
/// If the header is not one, is of another element type, or does not declare exactly the values
/// that follow.
pub fn parse(bytes: &[u8]) -> Result<Tensor, ParseError> {
    let (text, data) = split(bytes)?;
    let Some(header) = Literal(text).header() else {
        let shown = String::from_utf8_lossy(&text[..text.len().min(200)]);
        return Err(ParseError::new(format!("the header {:?}", shown.trim_end()), HEADER));
    };
    let (number, endian) = element(header.descr)?;
    let tensor = Tensor::decode(header.shape, number, endian, data)?;
    Ok(if header.fortran_order { tensor.read_as_fortran() } else { tensor })
}

/// The text of the header and the bytes of the values.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    let cut = || {
        ParseError::new(format!("an npy header cut off after {} bytes", bytes.len()), "a complete npy file")
    };
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        let start = &bytes[..bytes.len().min(6)];
        return Err(ParseError::new(
            format!("a file that starts with {start:02x?}"),
            "an npy file, which starts with \\x93NUMPY",
        ));
    };
    let (length, rest) = match *rest {
        [1, 0, a, b, ref rest @ ..] => (u32::from(u16::from_le_bytes([a, b])), rest),
        [2 | 3, 0, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]), rest),
        [1..=3, 0, ..] | [] | [_] => return Err(cut()),
        [major, minor, ..] => {
            return Err(ParseError::new(format!("npy version {major}.{minor}"), "versions 1.0, 2.0 and 3.0"));
        }
    };
    usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)).ok_or_else(cut)
}

/// The element type that a `descr` such as `<f4` or `|u1` names.
fn element(descr: &[u8]) -> Result<(Number, Endian), ParseError> {
    let number = descr.get(1..).and_then(|code| match code {
        b"u1" => Some(Number::U8),
        b"i1" => Some(Number::I8),
        b"u2" => Some(Number::U16),
        b"i2" => Some(Number::I16),
        b"u4" => Some(Number::U32),
        b"i4" => Some(Number::I32),
        b"u8" => Some(Number::U64),
        b"i8" => Some(Number::I64),
        b"f4" => Some(Number::F32),
        b"f8" => Some(Number::F64),
        _ => None,
    });
    let endian = match descr.first() {
        Some(b'<') => Some(Endian::Little),
        Some(b'>') => Some(Endian::Big),
        // One-byte types have no byte order.
        Some(b'|') if number.is_some_and(|number| number.size() == 1) => Some(Endian::Little),
        _ => None,
    };
    number.zip(endian).ok_or_else(|| {
        ParseError::new(
            format!("values of type {:?}", String::from_utf8_lossy(descr)),
            "integers (i1, i2, i4, i8, u1, u2, u4, u8) and floats (f4, f8) with byte order < or >",
        )
    })
}

struct Header<'a> {
    descr: &'a [u8],
    fortran_order: bool,
    shape: Vec<usize>,
}

/// The part of a Python literal still to be read.
struct Literal<'a>(&'a [u8]);

impl<'a> Literal<'a> {
    /// A dictionary of the three entries, each once, in any order, and nothing after it.
    fn header(mut self) -> Option<Header<'a>> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.take(b"{")?;
        while self.take(b"}").is_none() {
            let key = self.string()?;
            self.take(b":")?;
            let new = match key {
                b"descr" => descr.replace(self.string()?).is_none(),
                b"fortran_order" => fortran_order.replace(self.boolean()?).is_none(),
                b"shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !new {
                return None;
            }
            if self.take(b",").is_none() {
                self.take(b"}")?;
                break;
            }
        }
        if !self.0.trim_ascii().is_empty() {
            return None;
        }
        Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }

    /// Goes past `word` and the space before it if it comes next.
    fn take(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.trim_ascii_start().strip_prefix(word)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let quote = if self.take(b"'").is_some() {
            b'\''
        } else {
            self.take(b"\"")?;
            b'"'
        };
        let end = self.0.iter().position(|&b| b == quote)?;
        let string = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(string)
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.take(b"True").is_some() { Some(true) } else { self.take(b"False").map(|()| false) }
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        let mut shape = Vec::new();
        self.take(b"(")?;
        while self.take(b")").is_none() {
            shape.push(self.integer()?);
            if self.take(b",").is_none() {
                self.take(b")")?;
                // `(5)` is a number in Python, not a tuple.
                return (shape.len() != 1).then_some(shape);
            }
        }
        Some(shape)
    }

    fn integer(&mut self) -> Option<usize> {
        let text = self.0.trim_ascii_start();
        let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let number = str::from_utf8(&text[..end]).ok()?.parse().ok()?;
        // Python 2 wrote long integers with an L.
        self.0 = text[end..].strip_prefix(b"L").unwrap_or(&text[end..]);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Values;
    use super::*;
    use ndarray::{Array, ShapeBuilder};
    use ndarray_npy::WriteNpyExt;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat()
    }

    #[test]
    fn files_of_another_writer_are_read() {
        let write = |array: &dyn Fn(&mut Vec<u8>)| {
            let mut file = Vec::new();
            array(&mut file);
            parse(&file).unwrap()
        };
        let u8s = Array::from_shape_fn((2, 3, 4), |(i, j, k)| u8::try_from(12 * i + 4 * j + k).unwrap());
        let tensor = write(&|file| u8s.write_npy(file).unwrap());
        assert_eq!(tensor, Tensor::new(vec![2, 3, 4], Values::U8((0..24).collect())).unwrap());
        let mut fortran = Array::zeros((2, 3, 4).f());
        fortran.assign(&u8s.mapv(f64::from));
        assert!(!fortran.is_standard_layout());
        let tensor = write(&|file| fortran.write_npy(file).unwrap());
        assert_eq!(tensor.shape(), [2, 3, 4]);
        assert_eq!(tensor.values(), &Values::F64((0..24).map(f64::from).collect()));
        let labels = Array::from(vec![3_i64, -1]);
        let tensor = write(&|file| labels.write_npy(file).unwrap());
        assert_eq!(tensor, Tensor::new(vec![2], Values::I64(vec![3, -1])).unwrap());
    }

    #[test]
    fn headers_as_python_may_write_them() {
        for header in [
            "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }  \n",
            "{'shape':(2L,),'fortran_order':False,'descr':\">f4\"}",
        ] {
            let tensor = parse(&file(header, &[0x3f, 0x80, 0, 0, 0, 0, 0, 0])).unwrap();
            assert_eq!(tensor, Tensor::new(vec![2], Values::F32(vec![1.0, 0.0])).unwrap());
        }
        let scalar = parse(&file("{'descr': '|u1', 'fortran_order': True, 'shape': (), }", &[9])).unwrap();
        assert_eq!(scalar.shape(), [0; 0]);
        let text = b"{'descr': '<i2', 'fortran_order': True, 'shape': (1, 1)}\n";
        let version_two = [MAGIC, &[2, 0, 57, 0, 0, 0], text, &[1, 2]].concat();
        assert_eq!(parse(&version_two).unwrap(), Tensor::new(vec![1, 1], Values::I32(vec![513])).unwrap());
    }

    #[test]
    fn malformed_files_say_what_they_hold() {
        for (header, data, says) in [
            ("{'descr': '<f2', 'fortran_order': False, 'shape': (1,)}", &[0, 0][..], "type \"<f2\""),
            ("{'descr': '|b1', 'fortran_order': False, 'shape': (1,)}", &[0], "type \"|b1\""),
            ("{'descr': '|f4', 'fortran_order': False, 'shape': (0,)}", &[], "type \"|f4\""),
            ("{'descr': '', 'fortran_order': False, 'shape': (0,)}", &[], "type \"\""),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[], "[('a', '<f4')]"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1)}", &[0; 4], "found the header"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", &[], "found the header"),
            ("{'descr': '<f4', 'fortran_order': False}", &[0; 4], "found the header"),
            (
                "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}",
                &[0; 4],
                "found the header",
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", &[0; 4], "found the header"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", &[0; 7], "found 7 bytes of values"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", &[0; 5], "found 5 bytes of values"),
        ] {
            let error = parse(&file(header, data)).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("accepted"), "{error}");
        }
        assert!(parse(b"NUMPY").unwrap_err().to_string().contains("starts with"));
        assert!(parse(b"\x93NUMPY\x09\x01").unwrap_err().to_string().contains("version 9.1"));
        assert!(parse(b"\x93NUMPY\x02\x00\xff\xff").unwrap_err().to_string().contains("cut off after 10"));
        assert!(parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").unwrap_err().to_string().contains("cut off"));
    }

    #[test]
    fn false_claims_are_errors_before_memory_is_asked_for() {
        for (shape, says) in [
            ("(1152921504606846976,)", "9223372036854775808"),
            ("(4294967296, 4294967296, 4294967296)", "more than can be addressed"),
            ("(4294967296, 4294967296, 0)", "more than can be addressed"),
            ("(99999999999999999999999,)", "found the header"),
        ] {
            let header = format!("{{'descr': '<f8', 'fortran_order': True, 'shape': {shape}}}");
            let error = parse(&file(&header, &[0; 100])).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let header = format!("{{'descr': '|u1', 'fortran_order': True, 'shape': ({})}}", "1, ".repeat(64));
        assert!(parse(&file(&header, &[0])).unwrap_err().to_string().contains("64 axes"));
        let nested = "(".repeat(60_000);
        assert!(parse(&file(&nested, &[])).unwrap_err().to_string().len() < 500);
    }
}
