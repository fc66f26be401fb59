//! What is known at load time: constants, shapes and arithmetic on them.

use ndarray::ArrayD;

use super::table::{Kind, Row};
use super::{Call, Lowering, NodeError, Value, shapes};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::tensor::{Data, Tensor};
use crate::ops::{Op, Weights};

/// The value of a node whose inputs are all known; `None` if they are not, or
/// if its handler works on constants itself.
pub(super) fn evaluate(call: &Call, row: &Row) -> Result<Option<Vec<Value>>, NodeError> {
    let mut tensors = Vec::new();
    for value in call.inputs.iter().flatten() {
        let Value::Constant(tensor) = value else { return Ok(None) };
        tensors.push(tensor.as_ref());
    }
    let truncated = call.op == "Mod" && call.int("fmod", 0)? != 0;
    if let Some(result) = scalar_arithmetic(if truncated { "Fmod" } else { call.op }, &tensors)? {
        return Ok(Some(vec![result]));
    }
    if row.kind == Kind::Layout || tensors.is_empty() {
        return Ok(None);
    }
    let (Some(Some(_)), Data::Float(data)) = (call.inputs.first(), &tensors[0].data) else {
        return Ok(None);
    };
    // The operator is lowered as if its first operand were the input of a
    // network of its own, which is then evaluated.
    let shape = tensors[0].shape.clone();
    let mut alone = Lowering::new(call.opset, "", shape.clone())?;
    let mut inputs = call.inputs.clone();
    inputs[0] = Some(Value::Activation { id: 0, shape });
    let results = (row.handler)(&mut alone, &Call { inputs, ..*call })?;
    let mut values = vec![data.clone()];
    let mut scratch = Vec::new();
    for node in &alone.nodes {
        let inputs: Vec<&[f64]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
        let mut out = vec![0.0; node.shape.iter().product()];
        match &node.op {
            Op::Affine(op) => op.apply(Weights::exact, 1, &inputs, &mut out, &mut scratch),
            Op::Elementwise(function) => {
                out.copy_from_slice(inputs[0]);
                function.apply64(out.len(), &mut out);
            }
            Op::Product(op) => op.eval(1, &inputs, &mut out, &mut scratch),
        }
        values.push(out);
    }
    let known = |value| match value {
        Value::Activation { id, shape } => Value::constant(shape, Data::Float(values[id].clone())),
        constant @ Value::Constant(_) => constant,
    };
    Ok(Some(results.into_iter().map(known).collect()))
}

/// Arithmetic and comparisons that also exist on integers and truth values.
fn scalar_arithmetic(op: &str, tensors: &[&Tensor]) -> Result<Option<Value>, NodeError> {
    let overflow = || NodeError::Value {
        what: "an integer result",
        found: "out of range or undefined".into(),
        accepted: "64-bit integers",
    };
    Ok(match (op, tensors) {
        ("Not", [Tensor { shape, data: Data::Bool(x) }]) => {
            Some(Value::constant(shape.clone(), Data::Bool(x.iter().map(|b| !b).collect())))
        }
        ("Neg" | "Abs", [Tensor { shape, data: Data::Int(x) }]) => {
            let f = if op == "Neg" { i64::checked_neg } else { i64::checked_abs };
            let values = x.iter().map(|&v| f(v).ok_or_else(overflow)).collect::<Result<_, _>>()?;
            Some(Value::constant(shape.clone(), Data::Int(values)))
        }
        ("Floor" | "Ceil" | "Round", [Tensor { shape, data: Data::Float(x) }]) => {
            let f = match op {
                "Floor" => f64::floor,
                "Ceil" => f64::ceil,
                _ => f64::round_ties_even,
            };
            Some(Value::constant(shape.clone(), Data::Float(x.iter().map(|&v| f(settled(v))).collect())))
        }
        (_, [a, b]) => {
            let shape = shapes::broadcast(&[&a.shape, &b.shape]);
            let pairs = || -> Result<_, NodeError> {
                let shape = shape?;
                let left = shapes::broadcast_layout(&a.shape, &shape)?;
                let right = shapes::broadcast_layout(&b.shape, &shape)?;
                Ok((shape, left.into_iter().zip(right).collect::<Vec<_>>()))
            };
            match (&a.data, &b.data) {
                (Data::Int(x), Data::Int(y)) => {
                    if let Some(f) = compare::<i64>(op) {
                        let (shape, pairs) = pairs()?;
                        let values = pairs.iter().map(|&(i, j)| f(&x[i], &y[j])).collect();
                        return Ok(Some(Value::constant(shape, Data::Bool(values))));
                    }
                    let f: fn(i64, i64) -> Option<i64> = match op {
                        "Add" | "Sum" => i64::checked_add,
                        "Sub" => i64::checked_sub,
                        "Mul" => i64::checked_mul,
                        "Div" => i64::checked_div,
                        "Mod" => {
                            |a, b| a.checked_rem_euclid(b).map(|r| if b < 0 && r != 0 { r + b } else { r })
                        }
                        "Fmod" => i64::checked_rem,
                        "Pow" => |a, b| a.checked_pow(u32::try_from(b).ok()?),
                        "Min" => |a, b| Some(a.min(b)),
                        "Max" => |a, b| Some(a.max(b)),
                        _ => return Ok(None),
                    };
                    let (shape, pairs) = pairs()?;
                    let values = pairs
                        .iter()
                        .map(|&(i, j)| f(x[i], y[j]).ok_or_else(overflow))
                        .collect::<Result<_, _>>()?;
                    Some(Value::constant(shape, Data::Int(values)))
                }
                (Data::Float(x), Data::Float(y)) => {
                    let Some(f) = compare::<f64>(op) else { return Ok(None) };
                    let (shape, pairs) = pairs()?;
                    let values = pairs.iter().map(|&(i, j)| f(&x[i], &y[j])).collect();
                    Some(Value::constant(shape, Data::Bool(values)))
                }
                (Data::Bool(x), Data::Bool(y)) => {
                    let f: fn(bool, bool) -> bool = match op {
                        "Equal" => |a, b| a == b,
                        "And" => |a, b| a && b,
                        "Or" => |a, b| a || b,
                        "Xor" => |a, b| a != b,
                        _ => return Ok(None),
                    };
                    let (shape, pairs) = pairs()?;
                    let values = pairs.iter().map(|&(i, j)| f(x[i], y[j])).collect();
                    Some(Value::constant(shape, Data::Bool(values)))
                }
                _ => None,
            }
        }
        _ => None,
    })
}

/// A constant where it is turned into an integer. Constants are folded in
/// `f64`, but models count on `f32`, in which a number this close to an integer
/// is that integer: 0.7 (in `f32`) times 10 is 7, not 6.9999999.
pub(super) fn settled(x: f64) -> f64 {
    let integer = x.round();
    if (x - integer).abs() <= 0.5 * f64::from(f32::EPSILON) * x.abs() { integer } else { x }
}

fn compare<T: PartialOrd>(op: &str) -> Option<fn(&T, &T) -> bool> {
    Some(match op {
        "Equal" => |a, b| a == b,
        "Less" => |a, b| a < b,
        "LessOrEqual" => |a, b| a <= b,
        "Greater" => |a, b| a > b,
        "GreaterOrEqual" => |a, b| a >= b,
        _ => return None,
    })
}

/// Reached only when an operand depends on the network's input.
pub(super) fn only_constants(_: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let reason = "it is not continuous, so no bound of it shrinks with its input";
    Err(NodeError::OnlyConstants(call.op.to_owned(), reason))
}

/// `Constant` in all its numeric forms.
pub(super) fn constant(_: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let a = call.attributes;
    let tensor = if let Some(tensor) = a.tensor("value")? {
        tensor
    } else if let Some(value) = a.float("value_float")? {
        Tensor { shape: vec![], data: Data::Float(vec![value]) }
    } else if let Some(values) = a.floats("value_floats")? {
        Tensor { shape: vec![values.len()], data: Data::Float(values) }
    } else if let Some(value) = a.int("value_int")? {
        Tensor { shape: vec![], data: Data::Int(vec![value]) }
    } else if let Some(values) = a.ints("value_ints")? {
        Tensor { shape: vec![values.len()], data: Data::Int(values.to_vec()) }
    } else {
        return Err(NodeError::Value {
            what: "the constant",
            found: "no numeric value".into(),
            accepted: "value, value_float(s) or value_int(s)",
        });
    };
    Ok(vec![Value::constant(tensor.shape, tensor.data)])
}

/// `DequantizeLinear` of constants: `(x - zero point) * scale`, for all entries, along an axis, or in blocks
/// of it.
pub(super) fn dequantize(_: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let (x, scale) = (call.tensor(0)?, call.floats(1)?);
    let Data::Int(values) = &x.data else {
        return Err(NodeError::Type { input: 0, accepted: "integers" });
    };
    let zero = match call.optional(2) {
        Some(_) => call.ints(2, "")?.unwrap_or_default(),
        None => vec![0; scale.len()],
    };
    let found = [&x.shape[..], call.shape(1)?];
    let wrong = || NodeError::shape(&found, "one scale, one along the axis, or one for each block");
    if zero.len() != scale.len() || scale.is_empty() {
        return Err(wrong());
    }
    // The scale of every entry: one, along an axis, or of the whole block.
    let block = usize::try_from(call.int("block_size", 0)?).unwrap_or(0);
    let place: Vec<usize> = if scale.len() == 1 {
        vec![0; values.len()]
    } else {
        let axis = shapes::axis(call.int("axis", 1)?, x.shape.len(), false)?;
        let inner: usize = x.shape[axis + 1..].iter().product();
        let len = x.shape[axis];
        let blocks = if block == 0 { len } else { len.div_ceil(block) };
        let mut blocked = x.shape.clone();
        blocked[axis] = blocks;
        let fits = if block == 0 { found[1] == [len] } else { found[1] == blocked };
        if !fits {
            return Err(wrong());
        }
        let entry = |i: usize| {
            let (outer, at, r) = (i / (len * inner), i / inner % len, i % inner);
            at.checked_div(block).map_or(at, |in_block| (outer * blocks + in_block) * inner + r)
        };
        (0..values.len()).map(entry).collect()
    };
    // Exact: the difference is an integer of few bits.
    let number = |(&v, &p): (&i64, &usize)| v.checked_sub(zero[p]).map(|d| d as f64 * scale[p]);
    let values = values.iter().zip(&place).map(number).collect::<Option<_>>().ok_or_else(wrong)?;
    Ok(vec![Value::constant(x.shape.clone(), Data::Float(values))])
}

/// `Shape` (with its optional range) and `Size`.
pub(super) fn shape(_: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let shape: Vec<i64> = call.shape(0)?.iter().map(|&d| d as i64).collect();
    if call.op == "Size" {
        return Ok(vec![Value::constant(vec![], Data::Int(vec![shape.iter().product()]))]);
    }
    let rank = shape.len() as i64;
    let clamp = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (clamp(call.int("start", 0)?), clamp(call.int("end", rank)?));
    let part = shape[start..end.max(start)].to_vec();
    Ok(vec![Value::constant(vec![part.len()], Data::Int(part))])
}

/// `ConstantOfShape`.
pub(super) fn constant_of_shape(_: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let shape = call.ints(0, "shape")?.ok_or(NodeError::MissingInput(0))?;
    let shape: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or(NodeError::Value {
        what: "the shape",
        found: "negative".into(),
        accepted: "lengths of axes",
    })?;
    let n = shapes::count(&shape)?;
    let one = call.attributes.tensor("value")?;
    let data = match one.map(|t| t.data) {
        None => Data::Float(vec![0.0; n]),
        Some(Data::Float(v)) if v.len() == 1 => Data::Float(vec![v[0]; n]),
        Some(Data::Int(v)) if v.len() == 1 => Data::Int(vec![v[0]; n]),
        Some(Data::Bool(v)) if v.len() == 1 => Data::Bool(vec![v[0]; n]),
        Some(other) => {
            return Err(NodeError::Value {
                what: "value",
                found: format!("{} values", other.len()),
                accepted: "one value",
            });
        }
    };
    Ok(vec![Value::constant(shape, data)])
}

/// `EyeLike`: ones on a diagonal.
pub(super) fn eye(_: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let [rows, columns] = *call.shape(0)? else {
        return Err(NodeError::shape(&[call.shape(0)?], "a matrix"));
    };
    let (shift, kind) = (call.int("k", 0)?, call.int("dtype", DataType::Float as i64)?);
    let on = |i: usize| (i % columns) as i64 == ((i / columns) as i64).saturating_add(shift);
    let places = 0..shapes::count(&[rows, columns])?;
    let data = match i32::try_from(kind).ok().and_then(|kind| DataType::try_from(kind).ok()) {
        Some(DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16) => {
            Data::Float(places.map(|i| f64::from(on(i))).collect())
        }
        Some(DataType::Bool) => Data::Bool(places.map(on).collect()),
        Some(DataType::Int32 | DataType::Int64) => Data::Int(places.map(|i| on(i).into()).collect()),
        _ => {
            let accepted = "floating-point numbers, INT32, INT64 or BOOL";
            return Err(NodeError::Value { what: "dtype", found: kind.to_string(), accepted });
        }
    };
    Ok(vec![Value::constant(vec![rows, columns], data)])
}

/// `Range` over integers or floats.
pub(super) fn range(_: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let wrong = |found: String| NodeError::Value {
        what: "the range",
        found,
        accepted: "start, limit and a non-zero step, one number each",
    };
    let parts = [call.tensor(0)?, call.tensor(1)?, call.tensor(2)?];
    Ok(vec![match parts.map(|t| &t.data) {
        [Data::Int(a), Data::Int(b), Data::Int(c)] => {
            let ([start], [limit], [step]) = (&a[..], &b[..], &c[..]) else {
                return Err(wrong("not of three scalars".into()));
            };
            let span = limit.checked_sub(*start).filter(|_| *step != 0);
            let span = span.ok_or_else(|| wrong(format!("{start}..{limit} by {step}")))?;
            let n =
                if (span > 0) == (*step > 0) { span.unsigned_abs().div_ceil(step.unsigned_abs()) } else { 0 };
            let n = shapes::count(&[n as usize])?;
            let values = (0..n as i64).map(|i| start.wrapping_add(i.wrapping_mul(*step))).collect();
            Value::constant(vec![n], Data::Int(values))
        }
        [Data::Float(a), Data::Float(b), Data::Float(c)] => {
            let ([start], [limit], [step]) = (&a[..], &b[..], &c[..]) else {
                return Err(wrong("not of three scalars".into()));
            };
            let n = ((limit - start) / step).ceil();
            if !n.is_finite() {
                return Err(wrong(format!("{start}..{limit} by {step}")));
            }
            let n = shapes::count(&[n.max(0.0) as usize])?;
            Value::constant(vec![n], Data::Float((0..n).map(|i| start + i as f64 * step).collect()))
        }
        _ => return Err(wrong("of mixed types".into())),
    }])
}

/// A constant made of entries of other constants.
pub(super) fn rearrange(values: &[&Value], layout: &ArrayD<usize>, fill: f64) -> Result<Value, NodeError> {
    fn pick<T: Copy>(parts: Vec<&[T]>, layout: &ArrayD<usize>, fill: T) -> Vec<T> {
        let all = parts.concat();
        layout.iter().map(|&i| if i == shapes::FILL { fill } else { all[i] }).collect()
    }
    let (mut floats, mut ints, mut bools) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        let Value::Constant(tensor) = value else { return Err(NodeError::NotConstant(0)) };
        match &tensor.data {
            Data::Float(v) => floats.push(&v[..]),
            Data::Int(v) => ints.push(&v[..]),
            Data::Bool(v) => bools.push(&v[..]),
        }
    }
    let data = match (floats.len(), ints.len(), bools.len()) {
        (_, 0, 0) => Data::Float(pick(floats, layout, fill)),
        (0, _, 0) => Data::Int(pick(ints, layout, fill as i64)),
        (0, 0, _) => Data::Bool(pick(bools, layout, fill != 0.0)),
        _ => return Err(NodeError::Type { input: 0, accepted: "one element type for all" }),
    };
    Ok(Value::constant(layout.shape().to_vec(), data))
}
