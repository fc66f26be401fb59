//! The values of a [`TensorProto`], from whichever field holds them.

use std::fmt::Display;

use super::super::half;
use super::super::proto::TensorProto;
use super::super::proto::tensor_proto::DataType;
use super::{Data, TensorError, shape_text};

/// The `count` values of `proto`.
pub(super) fn read(proto: &TensorProto, data_type: DataType, count: usize) -> Result<Data, TensorError> {
    let reader = Reader { proto, data_type, count };
    reader.data()
}

/// Reads the values of a tensor whose type and shape are known.
struct Reader<'a> {
    proto: &'a TensorProto,
    data_type: DataType,
    count: usize,
}

impl Reader<'_> {
    fn data(&self) -> Result<Data, TensorError> {
        use DataType as D;
        let p = self.proto;
        let f32s = ("float_data", p.float_data.as_slice());
        let f64s = ("double_data", p.double_data.as_slice());
        let i32s = ("int32_data", p.int32_data.as_slice());
        let i64s = ("int64_data", p.int64_data.as_slice());
        let u64s = ("uint64_data", p.uint64_data.as_slice());
        Ok(match self.data_type {
            D::Float => Data::Float(self.read(f32s, f32::from_le_bytes, wide)?),
            D::Double => Data::Float(self.read(f64s, f64::from_le_bytes, wide)?),
            D::Float16 => Data::Float(self.read(i32s, u16::from_le_bytes, |v| Some(half::f16(v)))?),
            D::Bfloat16 => Data::Float(self.read(i32s, u16::from_le_bytes, |v| Some(half::bf16(v)))?),
            D::Int8 => Data::Int(self.read(i32s, i8::from_le_bytes, wide)?),
            D::Int16 => Data::Int(self.read(i32s, i16::from_le_bytes, wide)?),
            D::Int32 => Data::Int(self.read(i32s, i32::from_le_bytes, wide)?),
            D::Int64 => Data::Int(self.read(i64s, i64::from_le_bytes, wide)?),
            D::Uint8 => Data::Int(self.read(i32s, u8::from_le_bytes, wide)?),
            D::Uint16 => Data::Int(self.read(i32s, u16::from_le_bytes, wide)?),
            D::Uint32 => Data::Int(self.read(u64s, u32::from_le_bytes, wide)?),
            D::Uint64 => Data::Int(self.read(u64s, u64::from_le_bytes, |v| v.try_into().ok())?),
            D::Bool => Data::Bool(self.read(i32s, u8::from_le_bytes, |v| match v {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            })?),
            // Listed one by one, so that a type new in the schema is not refused unseen.
            D::Undefined
            | D::String
            | D::Complex64
            | D::Complex128
            | D::Float8e4m3fn
            | D::Float8e4m3fnuz
            | D::Float8e5m2
            | D::Float8e5m2fnuz
            | D::Uint4
            | D::Int4
            | D::Float4e2m1
            | D::Float8e8m0
            | D::Uint2
            | D::Int2
            | D::Float6e2m3
            | D::Float6e3m2 => {
                return Err(TensorError::Type {
                    tensor: self.name(),
                    found: self.data_type.as_str_name().to_owned(),
                });
            }
        })
    }

    /// The values, from `raw_data` or from the field of their type. They are stored as `Field`,
    /// belong to the type `Stored` of `WIDTH` bytes, and are returned as `Value`.
    fn read<Field, Stored, Value, const WIDTH: usize>(
        &self,
        (name, field): (&'static str, &[Field]),
        from_bytes: fn([u8; WIDTH]) -> Stored,
        convert: impl Fn(Stored) -> Option<Value>,
    ) -> Result<Vec<Value>, TensorError>
    where
        Field: Copy + Display,
        Stored: Copy + Display + TryFrom<Field>,
    {
        let raw = self.proto.raw_data();
        self.check_fields(name)?;
        // Room is made only once the data is known to be there.
        let mut values = Vec::new();
        if raw.is_empty() {
            self.check_length(name, "values", field.len(), Some(self.count))?;
            values.reserve_exact(self.count);
            for (index, &value) in field.iter().enumerate() {
                let stored = Stored::try_from(value).ok();
                let value_error = || self.value_error(index, &value);
                values.push(stored.and_then(&convert).ok_or_else(value_error)?);
            }
        } else {
            let expected = self.count.checked_mul(WIDTH);
            self.check_length("raw_data", "bytes", raw.len(), expected)?;
            let (elements, _) = raw.as_chunks::<WIDTH>();
            values.reserve_exact(self.count);
            for (index, &bytes) in elements.iter().enumerate() {
                let stored = from_bytes(bytes);
                let value_error = || self.value_error(index, &stored);
                values.push(convert(stored).ok_or_else(value_error)?);
            }
        }
        Ok(values)
    }

    /// Data must be in `raw_data` or in the field `accepted`, in one of them only.
    fn check_fields(&self, accepted: &'static str) -> Result<(), TensorError> {
        let p = self.proto;
        let filled = [
            ("raw_data", !p.raw_data().is_empty()),
            ("float_data", !p.float_data.is_empty()),
            ("double_data", !p.double_data.is_empty()),
            ("int32_data", !p.int32_data.is_empty()),
            ("int64_data", !p.int64_data.is_empty()),
            ("uint64_data", !p.uint64_data.is_empty()),
            ("string_data", !p.string_data.is_empty()),
        ];
        let filled = filled.iter().filter(|(_, filled)| *filled);
        let filled: Vec<&str> = filled.map(|(name, _)| *name).collect();
        match filled.as_slice() {
            [] | ["raw_data"] => Ok(()),
            [only] if *only == accepted => Ok(()),
            _ => Err(TensorError::Field {
                tensor: self.name(),
                found: format!("`{}`", filled.join("` and `")),
                accepted,
                data_type: self.data_type.as_str_name(),
            }),
        }
    }

    /// `expected` is `None` if the number overflows.
    fn check_length(
        &self,
        field: &'static str,
        unit: &'static str,
        found: usize,
        expected: Option<usize>,
    ) -> Result<(), TensorError> {
        if expected == Some(found) {
            return Ok(());
        }
        let expected = expected.map_or("more".to_owned(), |number| number.to_string());
        Err(TensorError::Length {
            tensor: self.name(),
            field,
            found,
            expected: format!(
                "{expected} {unit} for shape {} of {}",
                shape_text(self.proto),
                self.data_type.as_str_name()
            ),
        })
    }

    fn value_error(&self, index: usize, found: &dyn Display) -> TensorError {
        TensorError::Value {
            tensor: self.name(),
            index,
            found: found.to_string(),
            data_type: self.data_type.as_str_name(),
            accepted: match self.data_type {
                DataType::Bool => "0 and 1",
                DataType::Int8 => "-128 to 127",
                DataType::Uint8 => "0 to 255",
                DataType::Int16 => "-32768 to 32767",
                DataType::Uint16 => "0 to 65535",
                DataType::Float16 | DataType::Bfloat16 => "bit patterns of 0 to 65535",
                DataType::Uint32 => "0 to 4294967295",
                DataType::Uint64 => "0 to 9223372036854775807",
                _ => "every value",
            },
        }
    }

    fn name(&self) -> String {
        self.proto.name().to_owned()
    }
}

/// The conversions that cannot fail.
#[expect(clippy::unnecessary_wraps, reason = "stands where conversions that can fail also stand")]
fn wide<Stored, Value: From<Stored>>(value: Stored) -> Option<Value> {
    Some(value.into())
}
