//! Quantised arithmetic by its meaning: integers are the numbers that they are, rounding is a staircase.

use std::sync::Arc;

use super::arithmetic::scaled;
use super::{Call, Lowering, NodeError, Value, conv, functions, layout, matmul, pool, shapes};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::tensor::{Data, Tensor};
use crate::ops::{Op, Periodic, Rounding, Staircase, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// Scales, or zero points, of the entries of a value of `shape`: one, or one for each place on an axis.
fn spread(values: Vec<f64>, found: &[usize], shape: &[usize], axis: usize) -> Result<Periodic> {
    if values.len() == 1 {
        return Ok(Periodic::new(Weights::new(values), 1));
    }
    if shape.get(axis) != Some(&values.len()) || found.len() != 1 || values.is_empty() {
        return Err(NodeError::shape(&[shape, found], "one scale, or one for each place on the axis"));
    }
    Ok(Periodic::new(Weights::new(values), shape[axis + 1..].iter().product::<usize>().max(1)))
}

/// Scales and zero points: inputs `at` and `at + 1`.
fn parameters(call: &Call, at: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let scale = call.floats(at)?.to_vec();
    if let Some(bad) = scale.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
        let accepted = "finite numbers above zero";
        return Err(NodeError::Value { what: "a scale", found: bad.to_string(), accepted });
    }
    let zero = zeros(call, at + 1)?.unwrap_or_else(|| vec![0.0; scale.len()]);
    if zero.len() != scale.len() || scale.is_empty() {
        return Err(NodeError::shape(&[&[scale.len()], &[zero.len()]], "a zero point for each scale"));
    }
    Ok((scale, zero))
}

fn zeros(call: &Call, at: usize) -> Result<Option<Vec<f64>>> {
    if call.optional(at).is_none() {
        return Ok(None);
    }
    match &call.tensor(at)?.data {
        Data::Int(values) => Ok(Some(values.iter().map(|&v| v as f64).collect())),
        _ => Err(NodeError::Type { input: at, accepted: "integers" }),
    }
}

/// The least and the greatest number of the type of a zero point.
fn limits(call: &Call, zero: usize) -> Result<(f64, f64)> {
    let stated = call.int("output_dtype", 0)?;
    let kind = match call.types.get(zero).copied().filter(|kind| *kind != 0) {
        Some(kind) => kind,
        None if stated != 0 => i32::try_from(stated).unwrap_or(0),
        None if call.optional(zero).is_none() => DataType::Uint8 as i32,
        None => 0,
    };
    match DataType::try_from(kind) {
        Ok(DataType::Uint8) => Ok((0.0, 255.0)),
        Ok(DataType::Int8) => Ok((-128.0, 127.0)),
        Ok(DataType::Uint16) => Ok((0.0, 65535.0)),
        Ok(DataType::Int16) => Ok((-32768.0, 32767.0)),
        found => Err(NodeError::Value {
            what: "the type to quantise to",
            found: found.map_or("unknown".into(), |kind| kind.as_str_name().to_owned()),
            accepted: "8- and 16-bit integers, by an initializer as zero point",
        }),
    }
}

fn axis_of(call: &Call, rank: usize, scales: usize) -> Result<usize> {
    if call.int("block_size", 0)? != 0 {
        let accepted = "no blocks for values that depend on the network's input";
        return Err(NodeError::Value { what: "block_size", found: "not 0".into(), accepted });
    }
    match (scales, call.op) {
        (1, _) => Ok(0),
        (_, "QuantizeLinear" | "DequantizeLinear") => shapes::axis(call.int("axis", 1)?, rank, false),
        // An axis that is not named could be another's.
        _ => Err(NodeError::Value {
            what: "the number of scales of an activation",
            found: scales.to_string(),
            accepted: "one",
        }),
    }
}

fn quantized(graph: &mut Lowering, call: &Call, x: &Value, at: usize) -> Result<Value> {
    let (shape, (scale, zero)) = (x.shape().to_vec(), parameters(call, at)?);
    let (low, high) = limits(call, at + 1)?;
    let (axis, found) = (axis_of(call, shape.len(), scale.len())?, call.shape(at)?);
    let function = Staircase {
        rounding: Rounding::Nearest,
        scale: Some(spread(scale, found, &shape, axis)?),
        zero: spread(zero, found, &shape, axis)?,
        low,
        high,
    };
    let id = Lowering::activation(x, 0)?;
    graph.push(call, Op::Elementwise(Arc::new(function)), vec![id], shape)
}

/// `(x - zero point) * scale` of a value that depends on the network's input.
fn dequantized(graph: &mut Lowering, call: &Call, x: &Value, at: usize) -> Result<Value> {
    let (shape, (scale, zero)) = (x.shape().to_vec(), parameters(call, at)?);
    let (axis, found) = (axis_of(call, shape.len(), scale.len())?, call.shape(at)?);
    let mut id = Lowering::activation(x, 0)?;
    if zero.iter().any(|z| *z != 0.0) {
        // First, as implementations do: a difference of integers is exact.
        let shift = spread(zero.iter().map(|z| -z).collect(), found, &shape, axis)?;
        id = Lowering::activation(&scaled(graph, call, id, &shape, None, Some(shift))?, 0)?;
    }
    scaled(graph, call, id, &shape, Some(spread(scale, found, &shape, axis)?), None)
}

/// Constant integers less their zero points, times their scales, where there are any: one, or one for each
/// place on `axis`.
fn real(tensor: &Tensor, scale: &[f64], zero: &[f64], axis: usize) -> Result<Value> {
    let Data::Int(values) = &tensor.data else {
        return Err(NodeError::Type { input: 1, accepted: "integers" });
    };
    let inner: usize = tensor.shape.get(axis + 1..).unwrap_or_default().iter().product();
    let of = |all: &[f64], i: usize| all[if all.len() == 1 { 0 } else { i / inner % all.len() }];
    let fits = |all: &[f64]| all.len() == 1 || tensor.shape.get(axis) == Some(&all.len());
    if !fits(scale) || !fits(zero) {
        let found = [&tensor.shape[..], &[scale.len()], &[zero.len()]];
        return Err(NodeError::shape(&found, "one scale, or one for each place on the axis"));
    }
    let number = |(i, &v): (usize, &i64)| (v as f64 - of(zero, i)) * of(scale, i);
    let values = values.iter().enumerate().map(number).collect();
    Ok(Value::constant(tensor.shape.clone(), Data::Float(values)))
}

/// `QuantizeLinear`.
pub(super) fn quantize(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let x = call.input(0)?.clone();
    let Value::Constant(tensor) = &x else { return Ok(vec![quantized(graph, call, &x, 1)?]) };
    // Weights that an exporter left as they were trained.
    let mut alone = Lowering::new(call.opset, "", tensor.shape.clone())?;
    let input = Value::Activation { id: 0, shape: tensor.shape.clone() };
    quantized(&mut alone, call, &input, 1)?;
    let (Some(Op::Elementwise(function)), Data::Float(values)) =
        (alone.nodes.pop().map(|node| node.op), &tensor.data)
    else {
        return Err(NodeError::Type { input: 0, accepted: "floating-point numbers" });
    };
    let mut values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    function.apply32(values.len(), &mut values);
    let values = values.into_iter().map(|x| x as i64).collect();
    Ok(vec![Value::constant(tensor.shape.clone(), Data::Int(values))])
}

/// `DequantizeLinear` of such a value; constants are folded.
pub(super) fn dequantize(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    match call.input(0)?.clone() {
        Value::Constant(_) => super::constants::dequantize(graph, call),
        x @ Value::Activation { .. } => Ok(vec![dequantized(graph, call, &x, 1)?]),
    }
}

/// `QLinearMatMul`: both operands as real numbers, their product, rounded.
pub(super) fn product(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let operand = |graph: &mut Lowering, at: usize| match call.input(at)?.clone() {
        Value::Constant(tensor) => {
            let (scale, zero) = parameters(call, at + 1)?;
            // Of the first operand each row may have a scale, of the second each column.
            real(&tensor, &scale, &zero, tensor.shape.len().saturating_sub(if at == 0 { 2 } else { 1 }))
        }
        x @ Value::Activation { .. } => dequantized(graph, call, &x, at + 1),
    };
    let (a, b) = (operand(graph, 0)?, operand(graph, 3)?);
    let product = graph.apply(call, "MatMul", vec![a, b])?;
    Ok(vec![quantized(graph, call, &product, 6)?])
}

/// `QLinearConv`: input, weights and bias as real numbers, their convolution, rounded.
pub(super) fn convolution(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (scale, _) = parameters(call, 1)?;
    let (weights, zero) = parameters(call, 4)?;
    let x = dequantized(graph, call, &call.input(0)?.clone(), 1)?;
    let w = real(call.tensor(3)?, &weights, &zero, 0)?;
    let mut inputs = vec![Some(x), Some(w)];
    if call.optional(8).is_some() {
        let products: Vec<f64> = weights.iter().map(|w| w * scale[0]).collect();
        inputs.push(Some(real(call.tensor(8)?, &products, &[0.0], 0)?));
    }
    let y = conv::conv(graph, &Call { op: "Conv", inputs, ..*call })?;
    Ok(vec![quantized(graph, call, &y[0], 6)?])
}

/// `QGemm` of onnxruntime: `alpha op(A) op(B) + C` of real numbers, rounded where a scale for it is given.
pub(super) fn gemm(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let ((a_scale, _), (b_scale, b_zero)) = (parameters(call, 1)?, parameters(call, 4)?);
    let a = dequantized(graph, call, &call.input(0)?.clone(), 1)?;
    let columns = usize::from(call.int("transB", 0)? == 0);
    let b = real(call.tensor(3)?, &b_scale, &b_zero, columns)?;
    let mut inputs = vec![Some(a), Some(b)];
    if call.optional(6).is_some() {
        let alpha = call.float("alpha", 1.0)?;
        let products: Vec<f64> = b_scale.iter().map(|b| alpha * b * a_scale[0]).collect();
        let bias = call.tensor(6)?;
        inputs.push(Some(real(bias, &products, &[0.0], bias.shape.len().saturating_sub(1))?));
    }
    let y = matmul::gemm(graph, &Call { op: "Gemm", inputs, ..*call })?.remove(0);
    Ok(vec![if call.optional(7).is_some() { quantized(graph, call, &y, 7)? } else { y }])
}

/// `QLinearAdd` and `QLinearMul` of onnxruntime: of real numbers, rounded.
pub(super) fn arithmetic(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let operand = |graph: &mut Lowering, at: usize| match call.input(at)?.clone() {
        Value::Constant(tensor) => {
            let (scale, zero) = parameters(call, at + 1)?;
            real(&tensor, &scale, &zero, 0)
        }
        x @ Value::Activation { .. } => dequantized(graph, call, &x, at + 1),
    };
    let (a, b) = (operand(graph, 0)?, operand(graph, 3)?);
    let y = graph.apply(call, if call.op == "QLinearAdd" { "Add" } else { "Mul" }, vec![a, b])?;
    Ok(vec![quantized(graph, call, &y, 6)?])
}

/// `QLinearSigmoid`, `QLinearLeakyRelu`, `QLinearAveragePool` and `QLinearGlobalAveragePool` of onnxruntime: of
/// real numbers, rounded.
pub(super) fn single(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    if call.int("channels_last", 0)? != 0 {
        return Err(NodeError::Value { what: "channels_last", found: "not 0".into(), accepted: "0" });
    }
    let x = dequantized(graph, call, &call.input(0)?.clone(), 1)?;
    let op = call.op.strip_prefix("QLinear").unwrap_or(call.op);
    let part = Call { op, inputs: vec![Some(x)], ..*call };
    let y = match op {
        "AveragePool" => pool::average(graph, &part)?,
        "GlobalAveragePool" => pool::global(graph, &part)?,
        _ => functions::function(graph, &part)?,
    };
    Ok(vec![quantized(graph, call, &y[0], 3)?])
}

/// `QLinearConcat` of onnxruntime: the result's scale and zero point, then each operand with its own.
pub(super) fn concat(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let mut inputs = Vec::new();
    for at in (2..call.inputs.len()).step_by(3) {
        inputs.push(Some(match call.input(at)?.clone() {
            Value::Constant(tensor) => {
                let (scale, zero) = parameters(call, at + 1)?;
                real(&tensor, &scale, &zero, 0)?
            }
            x @ Value::Activation { .. } => dequantized(graph, call, &x, at + 1)?,
        }));
    }
    let y = layout::concat(graph, &Call { op: "Concat", inputs, ..*call })?;
    Ok(vec![quantized(graph, call, &y[0], 0)?])
}

/// `MatMulInteger` and `ConvInteger`: products of integers less their zero points, which 32 bits hold.
pub(super) fn integers(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let convolves = call.op == "ConvInteger";
    let operand = |graph: &mut Lowering, at: usize, axis: usize| -> Result<Value> {
        let zero = zeros(call, at + 2)?.unwrap_or_else(|| vec![0.0]);
        match call.input(at)?.clone() {
            Value::Constant(tensor) => real(&tensor, &[1.0], &zero, axis),
            Value::Activation { .. } if convolves && zero.len() > 1 => {
                let found = [call.shape(at)?, &[zero.len()]];
                Err(NodeError::shape(&found, "one zero point of the input"))
            }
            x @ Value::Activation { .. } => {
                let shift = zero.iter().map(|z| -z).collect();
                let shift = spread(shift, &[zero.len()], x.shape(), axis)?;
                let (id, shape) = (Lowering::activation(&x, at)?, x.shape().to_vec());
                scaled(graph, call, id, &shape, None, Some(shift))
            }
        }
    };
    let ranks = [call.shape(0)?.len(), call.shape(1)?.len()];
    let a = operand(graph, 0, ranks[0].saturating_sub(2))?;
    let b = operand(graph, 1, if convolves { 0 } else { ranks[1].saturating_sub(1) })?;
    if convolves {
        return conv::conv(graph, &Call { op: "Conv", inputs: vec![Some(a), Some(b)], ..*call });
    }
    Ok(vec![graph.apply(call, "MatMul", vec![a, b])?])
}
