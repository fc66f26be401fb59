//! A [`TensorProto`] to a shape and its values.

use thiserror::Error;

use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType};

/// A constant of the model: its values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Length of each axis; empty for a scalar. The product of the non-zero lengths fits in
    /// `isize`.
    pub shape: Vec<usize>,
    /// As many values as the product of `shape`.
    pub data: Data,
}

/// The values of a [`Tensor`], in the widest type of their kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// 16-, 32- and 64-bit floats, each widened exactly; infinities and NaN included.
    Float(Vec<f64>),
    /// Signed and unsigned integers of 8 to 64 bits.
    Int(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// Why a [`TensorProto`] is not a valid [`Tensor`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The element type is none of those accepted.
    #[error(
        "tensor {tensor:?}: element type {found}; accepted are FLOAT, DOUBLE, FLOAT16, BFLOAT16, \
         INT8 to INT64, UINT8 to UINT64 and BOOL"
    )]
    Type {
        /// The tensor's name; empty if it has none.
        tensor: String,
        /// The element type by its ONNX name, or by its number if that has none.
        found: String,
    },
    /// A dimension is negative.
    #[error("tensor {tensor:?}: dimension {axis} is {found}; expected zero or more")]
    NegativeDimension {
        /// The tensor's name; empty if it has none.
        tensor: String,
        /// Which dimension, from 0.
        axis: usize,
        /// Its value.
        found: i64,
    },
    /// The shape has more elements than memory has addresses.
    #[error("tensor {tensor:?}: shape {shape} has more elements than can be addressed")]
    TooManyElements {
        /// The tensor's name; empty if it has none.
        tensor: String,
        /// The dimensions.
        shape: String,
    },
    /// The shape and the data differ in size.
    #[error("tensor {tensor:?}: `{field}` holds {found}; expected {expected}")]
    Length {
        /// The tensor's name; empty if it has none.
        tensor: String,
        /// The field with the data.
        field: &'static str,
        /// How many values or bytes it holds.
        found: usize,
        /// How many it should hold, and for which shape.
        expected: String,
    },
    /// Data is in a field that the element type does not use, or in two fields.
    #[error("tensor {tensor:?}: data in {found}; {data_type} accepts one of `raw_data` and `{accepted}`")]
    Field {
        /// The tensor's name; empty if it has none.
        tensor: String,
        /// The fields with data.
        found: String,
        /// The field of this element type.
        accepted: &'static str,
        /// The element type.
        data_type: &'static str,
    },
    /// A stored value does not belong to the element type, or does not fit an `i64`.
    #[error("tensor {tensor:?}: element {index} is {found}; {data_type} accepts {accepted}")]
    Value {
        /// The tensor's name; empty if it has none.
        tensor: String,
        /// Which element, from 0 in row-major order.
        index: usize,
        /// The stored value.
        found: String,
        /// The element type.
        data_type: &'static str,
        /// Which values are accepted.
        accepted: &'static str,
    },
    /// The values are in another file and have not been loaded.
    #[error("tensor {tensor:?}: values are external and not loaded; expected them in the model")]
    External {
        /// The tensor's name; empty if it has none.
        tensor: String,
    },
    /// The tensor is one chunk of a larger one.
    #[error("tensor {tensor:?}: is a segment of a larger tensor; expected a whole one")]
    Segment {
        /// The tensor's name; empty if it has none.
        tensor: String,
    },
}

impl Tensor {
    /// Converts `proto`, exactly.
    ///
    /// The shape is checked against the data before anything is allocated, so that memory use
    /// follows the data that is there, at most eight bytes for each of its bytes.
    ///
    /// # Errors
    ///
    /// A [`TensorError`] if the element type is not numeric or boolean, or is narrower than eight
    /// bits; if the shape is negative, overflows or disagrees with the data; if the data is in a
    /// field that the element type does not use; if a value is outside its type, or an unsigned
    /// one above `i64::MAX`; if the data is external and has not been loaded.
    pub fn from_proto(proto: &TensorProto) -> Result<Self, TensorError> {
        let tensor = || proto.name().to_owned();
        let number = proto.data_type.unwrap_or(0);
        let Ok(data_type) = DataType::try_from(number) else {
            return Err(TensorError::Type {
                tensor: tensor(),
                found: format!("number {number}, which is not in the schema"),
            });
        };
        if proto.segment.is_some() {
            return Err(TensorError::Segment { tensor: tensor() });
        }
        if proto.data_location() == DataLocation::External {
            return Err(TensorError::External { tensor: tensor() });
        }
        let (shape, count) = shape(proto)?;
        let data = values::read(proto, data_type, count)?;
        Ok(Self { shape, data })
    }
}

impl Data {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Whether there are no values, as in a tensor with a dimension of zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The checked dimensions and their product.
fn shape(proto: &TensorProto) -> Result<(Vec<usize>, usize), TensorError> {
    let too_many =
        || TensorError::TooManyElements { tensor: proto.name().to_owned(), shape: shape_text(proto) };
    let mut shape = Vec::with_capacity(proto.dims.len());
    // Zeros are left out of the bound: strides are products of the other dimensions.
    let mut bound = 1usize;
    for (axis, &found) in proto.dims.iter().enumerate() {
        if found < 0 {
            return Err(TensorError::NegativeDimension { tensor: proto.name().to_owned(), axis, found });
        }
        let length = usize::try_from(found).map_err(|_| too_many())?;
        bound = bound
            .checked_mul(length.max(1))
            .filter(|&bound| isize::try_from(bound).is_ok())
            .ok_or_else(too_many)?;
        shape.push(length);
    }
    let count = if shape.contains(&0) { 0 } else { bound };
    Ok((shape, count))
}

/// The dimensions for an error message, which must not grow with a hostile rank.
fn shape_text(proto: &TensorProto) -> String {
    const SHOWN: usize = 8;
    match proto.dims.get(..SHOWN) {
        Some(first) if proto.dims.len() > SHOWN => {
            format!("{first:?} and {} more", proto.dims.len() - SHOWN)
        }
        _ => format!("{:?}", proto.dims),
    }
}

#[cfg(test)]
mod tests;
mod values;
