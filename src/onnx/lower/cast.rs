//! Changes of the element type.

use super::constants::settled;
use super::{Call, Lowering, NodeError, Value, choice};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::tensor::Data;
use crate::ops::Rounding;

/// What a value is cast to.
#[derive(Clone, Copy)]
enum Kind {
    /// Numbers with so many significant bits, down to this exponent, up to this size.
    Float(i32, i32, f64),
    Int,
    Bool,
}

impl Kind {
    const DOUBLE: Self = Self::Float(53, -1022, f64::MAX);

    /// The nearest number of a floating-point type.
    fn round(self, x: f64) -> f64 {
        let Self::Float(bits, least, greatest) = self else { return x };
        if x == 0.0 || !x.is_finite() {
            return x;
        }
        let unit = libm::ldexp(1.0, libm::ilogb(x).max(least) + 1 - bits);
        let rounded = (x / unit).round_ties_even() * unit;
        if rounded.abs() > greatest { f64::INFINITY.copysign(x) } else { rounded }
    }
}

fn cast_to(call: &Call) -> Result<Kind, NodeError> {
    if call.op == "CastLike" {
        return Ok(match call.input(1)? {
            Value::Constant(tensor) => match &tensor.data {
                Data::Float(_) => Kind::DOUBLE,
                Data::Int(_) => Kind::Int,
                Data::Bool(_) => Kind::Bool,
            },
            Value::Activation { .. } => Kind::DOUBLE,
        });
    }
    let to = call.int("to", 0)?;
    Ok(match i32::try_from(to).ok().and_then(|t| DataType::try_from(t).ok()) {
        Some(DataType::Double) => Kind::DOUBLE,
        Some(DataType::Float) => Kind::Float(24, -126, f32::MAX.into()),
        Some(DataType::Float16) => Kind::Float(11, -14, 65504.0),
        Some(DataType::Bfloat16) => Kind::Float(8, -126, 3.389_531_389_251_535_5e38),
        Some(DataType::Bool) => Kind::Bool,
        Some(
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Uint8
            | DataType::Uint16
            | DataType::Uint32
            | DataType::Uint64,
        ) => Kind::Int,
        _ => {
            return Err(NodeError::Value {
                what: "the type to cast to",
                found: to.to_string(),
                accepted: "floating-point, integer or boolean",
            });
        }
    })
}

/// The numbers that a cast of an activation to integers may give. What lies outside of the type is undefined.
fn integer_limits(call: &Call) -> Result<(f64, f64), NodeError> {
    let to = call.int("to", 0)?;
    match i32::try_from(to).ok().and_then(|t| DataType::try_from(t).ok()) {
        // No activation leaves these in a network that is of use; narrower types would wrap around.
        Some(DataType::Int32 | DataType::Int64) => Ok((f64::NEG_INFINITY, f64::INFINITY)),
        _ => Err(NodeError::Value {
            what: "the type to cast an activation to",
            found: to.to_string(),
            accepted: "floating-point, INT32 or INT64",
        }),
    }
}

/// `Cast`: between numbers for constants; activations stay floating-point, and
/// are exact whatever their type.
pub(super) fn cast(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let kind = cast_to(call)?;
    let value = call.input(0)?;
    let tensor = match value {
        Value::Activation { .. } if matches!(kind, Kind::Float(..)) => return Ok(vec![value.clone()]),
        Value::Activation { .. } if matches!(kind, Kind::Int) => {
            let limits = integer_limits(call)?;
            return Ok(vec![choice::stairs(graph, call, value, Rounding::Truncate, limits)?]);
        }
        Value::Activation { .. } => {
            let zero = Value::constant(vec![], Data::Float(vec![0.0]));
            return Ok(vec![choice::differs(graph, call, value, &zero)?]);
        }
        Value::Constant(tensor) => tensor,
    };
    let data = match (&tensor.data, kind) {
        (Data::Float(v), Kind::Int) => Data::Int(v.iter().map(|&x| settled(x) as i64).collect()),
        (Data::Float(v), Kind::Bool) => Data::Bool(v.iter().map(|&x| x != 0.0).collect()),
        (Data::Float(v), Kind::Float(..)) => Data::Float(v.iter().map(|&x| kind.round(x)).collect()),
        (Data::Int(v), Kind::Float(..)) => Data::Float(v.iter().map(|&x| kind.round(x as f64)).collect()),
        (Data::Int(v), Kind::Bool) => Data::Bool(v.iter().map(|&x| x != 0).collect()),
        (Data::Bool(v), Kind::Float(..)) => Data::Float(v.iter().map(|&x| f64::from(x)).collect()),
        (Data::Bool(v), Kind::Int) => Data::Int(v.iter().map(|&x| i64::from(x)).collect()),
        (same, _) => same.clone(),
    };
    Ok(vec![Value::constant(tensor.shape.clone(), data)])
}
