//! An array of numbers as a file stored it.

use super::ParseError;

/// The most axes an array may have.
const MAX_AXES: usize = 32;

/// The numbers of a [`Tensor`], in the type they were stored in. Narrow integers are widened to
/// `i32` (from `i8`, `i16`, `u16`) or `i64` (from `u32`, `u64`); nothing else is converted.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Bytes, the usual pixels.
    U8(Vec<u8>),
    /// Integers of up to 32 bits.
    I32(Vec<i32>),
    /// Integers of up to 64 bits.
    I64(Vec<i64>),
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

impl Values {
    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type in words, for messages: `uint8`, `int32`, `int64`, `float32` or `float64`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "uint8",
            Self::I32(_) => "int32",
            Self::I64(_) => "int64",
            Self::F32(_) => "float32",
            Self::F64(_) => "float64",
        }
    }
}

/// An array: its shape, and its values in row-major (C) order whatever the order in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Values,
}

impl Tensor {
    /// An array of the given shape over `values` in row-major order; `None` unless the shape has
    /// exactly as many entries as there are values.
    #[must_use]
    pub fn new(shape: Vec<usize>, values: Values) -> Option<Self> {
        (elements(&shape)? == values.len()).then_some(Self { shape, values })
    }

    /// An array whose shape is known to fit its values.
    pub(super) fn from_parts(shape: Vec<usize>, values: Values) -> Self {
        debug_assert_eq!(elements(&shape), Some(values.len()), "the shape fits the values");
        Self { shape, values }
    }

    /// The length of each axis.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Decodes exactly `bytes` into an array. The shape is compared with the bytes at hand before
    /// any memory is asked for, so a header cannot claim more than its file holds.
    pub(super) fn decode(
        shape: Vec<usize>,
        number: Number,
        endian: Endian,
        bytes: &[u8],
    ) -> Result<Self, ParseError> {
        if shape.len() > MAX_AXES {
            return Err(ParseError::new(
                format!("{} axes", shape.len()),
                format!("arrays of at most {MAX_AXES} axes"),
            ));
        }
        let wanted = elements(&shape).and_then(|n| n.checked_mul(number.size()));
        if wanted != Some(bytes.len()) {
            let wanted = wanted.map_or("more than can be addressed".to_owned(), |n| n.to_string());
            return Err(ParseError::new(
                format!("{} bytes of values", bytes.len()),
                format!("the {wanted} bytes that the header's shape {shape:?} of {number:?} takes"),
            ));
        }
        let values = number.decode(endian, bytes)?;
        Ok(Self { shape, values })
    }

    /// The array whose values were laid out with the first axis fastest (Fortran order).
    pub(super) fn read_as_fortran(self) -> Self {
        let Self { shape, values } = self;
        let values = match values {
            Values::U8(v) => Values::U8(row_major(&shape, &v)),
            Values::I32(v) => Values::I32(row_major(&shape, &v)),
            Values::I64(v) => Values::I64(row_major(&shape, &v)),
            Values::F32(v) => Values::F32(row_major(&shape, &v)),
            Values::F64(v) => Values::F64(row_major(&shape, &v)),
        };
        Self { shape, values }
    }
}

/// Number of entries of an array, `None` if it does not fit in `usize`.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis))
}

fn row_major<T: Copy>(shape: &[usize], fortran: &[T]) -> Vec<T> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for &axis in shape {
        strides.push(stride);
        stride *= axis;
    }
    let mut position = vec![0; shape.len()];
    let mut offset = 0;
    let mut out = Vec::with_capacity(fortran.len());
    while out.len() < fortran.len() {
        out.push(fortran[offset]);
        for axis in (0..shape.len()).rev() {
            position[axis] += 1;
            offset += strides[axis];
            if position[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            position[axis] = 0;
        }
    }
    out
}

/// The byte order of numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// The number types that files may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Number {
    /// Bytes of one number.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    fn decode(self, endian: Endian, bytes: &[u8]) -> Result<Values, ParseError> {
        let big = endian == Endian::Big;
        Ok(match self {
            Self::U8 => Values::U8(bytes.to_vec()),
            Self::I8 => Values::I32(each(bytes, |[b]| i8::from_ne_bytes([b]).into())),
            Self::U16 if big => Values::I32(each(bytes, |b| u16::from_be_bytes(b).into())),
            Self::U16 => Values::I32(each(bytes, |b| u16::from_le_bytes(b).into())),
            Self::I16 if big => Values::I32(each(bytes, |b| i16::from_be_bytes(b).into())),
            Self::I16 => Values::I32(each(bytes, |b| i16::from_le_bytes(b).into())),
            Self::I32 if big => Values::I32(each(bytes, i32::from_be_bytes)),
            Self::I32 => Values::I32(each(bytes, i32::from_le_bytes)),
            Self::U32 if big => Values::I64(each(bytes, |b| u32::from_be_bytes(b).into())),
            Self::U32 => Values::I64(each(bytes, |b| u32::from_le_bytes(b).into())),
            Self::I64 if big => Values::I64(each(bytes, i64::from_be_bytes)),
            Self::I64 => Values::I64(each(bytes, i64::from_le_bytes)),
            Self::U64 if big => Values::I64(signed(&each(bytes, u64::from_be_bytes))?),
            Self::U64 => Values::I64(signed(&each(bytes, u64::from_le_bytes))?),
            Self::F32 if big => Values::F32(each(bytes, f32::from_be_bytes)),
            Self::F32 => Values::F32(each(bytes, f32::from_le_bytes)),
            Self::F64 if big => Values::F64(each(bytes, f64::from_be_bytes)),
            Self::F64 => Values::F64(each(bytes, f64::from_le_bytes)),
        })
    }
}

fn each<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| from(chunk)).collect()
}

fn signed(values: &[u64]) -> Result<Vec<i64>, ParseError> {
    let narrow = |(at, &value)| {
        i64::try_from(value)
            .map_err(|_| ParseError::new(format!("{value} at entry {at}"), format!("at most {}", i64::MAX)))
    };
    values.iter().enumerate().map(narrow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_values_must_agree() {
        assert!(Tensor::new(vec![2, 3], Values::U8(vec![0; 6])).is_some());
        assert!(Tensor::new(vec![2, 3], Values::U8(vec![0; 5])).is_none());
        assert!(Tensor::new(vec![usize::MAX, 2], Values::U8(vec![0; 6])).is_none());
    }

    #[test]
    fn fortran_order_becomes_row_major() {
        // Entry (i, j, k) is worth 100 i + 10 j + k.
        let fortran = vec![0, 100, 10, 110, 20, 120, 1, 101, 11, 111, 21, 121];
        let tensor = Tensor::new(vec![2, 3, 2], Values::I32(fortran)).unwrap().read_as_fortran();
        assert_eq!(tensor.values(), &Values::I32(vec![0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121]));
    }

    #[test]
    fn every_number_type_decodes_in_both_byte_orders() {
        let both = |number: Number, little: &[u8]| {
            let big: Vec<u8> = little.iter().rev().copied().collect();
            let from_little = number.decode(Endian::Little, little).unwrap();
            assert_eq!(from_little, number.decode(Endian::Big, &big).unwrap());
            assert_eq!(number.size(), little.len());
            from_little
        };
        assert_eq!(both(Number::U8, &[200]), Values::U8(vec![200]));
        assert_eq!(both(Number::I8, &[0xff]), Values::I32(vec![-1]));
        assert_eq!(both(Number::U16, &[1, 0xff]), Values::I32(vec![0xff01]));
        assert_eq!(both(Number::I16, &[0xfe, 0xff]), Values::I32(vec![-2]));
        assert_eq!(both(Number::U32, &[1, 0, 0, 0x80]), Values::I64(vec![0x8000_0001]));
        assert_eq!(both(Number::I32, &[0xfd, 0xff, 0xff, 0xff]), Values::I32(vec![-3]));
        assert_eq!(both(Number::U64, &[1, 0, 0, 0, 0, 0, 0, 0x10]), Values::I64(vec![0x1000_0000_0000_0001]));
        assert_eq!(both(Number::I64, &(-4_i64).to_le_bytes()), Values::I64(vec![-4]));
        assert_eq!(both(Number::F32, &1.5_f32.to_le_bytes()), Values::F32(vec![1.5]));
        assert_eq!(both(Number::F64, &(-0.1_f64).to_le_bytes()), Values::F64(vec![-0.1]));
        let huge = Number::U64.decode(Endian::Little, &u64::MAX.to_le_bytes()).unwrap_err();
        assert!(huge.to_string().contains("18446744073709551615 at entry 0"), "{huge}");
    }
}
