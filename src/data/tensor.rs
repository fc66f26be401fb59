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
    /// As many entries as there are values.
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

impl Tensor {
    /// An array of the given shape over `values` in row-major order; `None` unless the shape has
    /// exactly as many entries as there are values.
    #[must_use]
    pub fn new(shape: Vec<usize>, values: Values) -> Option<Self> {
        (elements(&shape)? == values.len()).then_some(Self { shape, values })
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
}

/// Number of entries of an array; `None` if its axes are more than [`MAX_AXES`] or those longer than
/// 0 make more entries than can be addressed.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    let full = shape.iter().filter(|&&axis| axis > 0).try_fold(1_usize, |n, &axis| n.checked_mul(axis))?;
    let count = if shape.contains(&0) { 0 } else { full };
    (shape.len() <= MAX_AXES && isize::try_from(full).is_ok()).then_some(count)
}

/// The error for values of `bytes` bytes in a file whose header claims `shape`, for which there
/// should be `wanted` bytes.
pub(super) fn mismatch(bytes: usize, shape: &[usize], wanted: Option<usize>) -> ParseError {
    match wanted {
        Some(wanted) => ParseError::new(
            format!("{bytes} bytes of values"),
            format!("the {wanted} bytes that the header's shape {shape:?} takes"),
        ),
        None => ParseError::new(
            format!("{} axes {:?}", shape.len(), &shape[..shape.len().min(MAX_AXES)]),
            format!("at most {MAX_AXES} axes, and as many entries as can be addressed"),
        ),
    }
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
}
