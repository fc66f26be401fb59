//! Addition, multiplication, division, powers, minimum and maximum: with a
//! constant an affine or elementwise map, of two activations a sum or product.

use std::sync::Arc;

use super::layout::broadcast;
use super::{Call, Lowering, NodeError, Value, shapes};
use crate::graph::ValueId;
use crate::onnx::tensor::Data;
use crate::ops::{
    Affine, Clip, Function, Groups, Op, Periodic, Pow, Product, Reciprocal, Scale, Sum, Weights,
};

type Result<T> = std::result::Result<T, NodeError>;

/// Operands in their common shape: activations as graph values, constants as
/// periodic tensors.
struct Operands {
    shape: Vec<usize>,
    activations: Vec<(usize, ValueId)>,
    constants: Vec<(usize, Periodic)>,
}

/// There is at least one activation among the results.
fn operands(graph: &mut Lowering, call: &Call) -> Result<Operands> {
    let values: Vec<&Value> = (0..call.inputs.len()).map(|i| call.input(i)).collect::<Result<_>>()?;
    let shape = shapes::broadcast(&shapes::of(&values))?;
    let (mut activations, mut constants) = (Vec::new(), Vec::new());
    for (i, value) in values.iter().enumerate() {
        match value {
            Value::Constant(tensor) => constants.push((i, shapes::periodic(tensor, i, &shape)?)),
            Value::Activation { .. } => {
                let value = broadcast(graph, call, value, &shape)?;
                activations.push((i, Lowering::activation(&value, i)?));
            }
        }
    }
    // Constants alone are evaluated before; what is left of them is of a type
    // that has no arithmetic here.
    if activations.is_empty() {
        return Err(if values.is_empty() { NodeError::MissingInput(0) } else { NodeError::Constant(0) });
    }
    Ok(Operands { shape, activations, constants })
}

/// `scale * x + shift`.
pub(super) fn scaled(
    graph: &mut Lowering,
    call: &Call,
    x: ValueId,
    shape: &[usize],
    scale: Option<Periodic>,
    shift: Option<Periodic>,
) -> Result<Value> {
    let op = Scale { len: shapes::count(shape)?, scale, shift, shift_error: 0.0 };
    graph.affine(call, Affine::Scale(op), x, shape.to_vec())
}

fn function(
    graph: &mut Lowering,
    call: &Call,
    f: impl Function + 'static,
    x: ValueId,
    shape: &[usize],
) -> Result<ValueId> {
    let value = graph.push(call, Op::Elementwise(Arc::new(f)), vec![x], shape.to_vec())?;
    Lowering::activation(&value, 0)
}

/// `Add`, `Sum` of any number, `Sub`.
pub(super) fn add(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Operands { shape, activations, constants } = operands(graph, call)?;
    let sign = |i: usize| if call.op == "Sub" && i > 0 { -1.0 } else { 1.0 };
    let signs: Vec<f64> = activations.iter().map(|&(i, _)| sign(i)).collect();
    let ids: Vec<ValueId> = activations.iter().map(|&(_, id)| id).collect();
    let mut value = Value::Activation { id: ids[0], shape: shape.clone() };
    let mut scale = (signs[0] < 0.0).then(|| Periodic::constant(-1.0));
    if ids.len() > 1 {
        let op = Sum { len: shapes::count(&shape)?, coefficients: Weights::new(signs) };
        value = graph.push(call, Op::Affine(Affine::Sum(op)), ids, shape.clone())?;
        scale = None;
    }
    if constants.is_empty() && scale.is_some() {
        return Ok(vec![scaled(graph, call, Lowering::activation(&value, 0)?, &shape, scale, None)?]);
    }
    for (i, constant) in constants {
        let shift = if sign(i) < 0.0 { map(&constant, |c| -c, 0.0) } else { constant };
        let x = Lowering::activation(&value, 0)?;
        value = scaled(graph, call, x, &shape, scale.take(), Some(shift))?;
    }
    Ok(vec![value])
}

/// A periodic constant with `f` applied to its values, which rounds by at most
/// `error` relative to the result.
fn map(constant: &Periodic, f: impl Fn(f64) -> f64, error: f64) -> Periodic {
    let values = constant.values().exact().iter().map(|&v| f(v)).collect();
    Periodic::new(Weights::rounded(values, error), constant.inner())
}

/// `Mul`. A value times itself is a square, whose bounds are exact.
pub(super) fn multiply(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Operands { shape, activations, constants } = operands(graph, call)?;
    Ok(vec![match (&activations[..], &constants[..]) {
        ([(_, x)], [(_, constant)]) => scaled(graph, call, *x, &shape, Some(constant.clone()), None)?,
        ([(_, x), (_, y)], _) if x == y => {
            graph.push(call, Op::Elementwise(Arc::new(Pow { exponent: 2.0 })), vec![*x], shape)?
        }
        ([(_, x), (_, y)], []) => graph.push(call, Op::Product(Product::Multiply), vec![*x, *y], shape)?,
        _ => return Err(NodeError::MissingInput(1)),
    }])
}

/// `Div`, as multiplication with the reciprocal of the divisor.
pub(super) fn divide(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Operands { shape, activations, constants } = operands(graph, call)?;
    Ok(vec![match (&activations[..], &constants[..]) {
        ([(0, x)], [(_, divisor)]) => {
            if let Some(bad) = divisor.values().exact().iter().find(|d| !(d.abs() > 0.0 && d.is_finite())) {
                return Err(NodeError::Value {
                    what: "a divisor",
                    found: bad.to_string(),
                    accepted: "finite numbers other than zero",
                });
            }
            scaled(graph, call, *x, &shape, Some(map(divisor, |d| 1.0 / d, f64::EPSILON)), None)?
        }
        ([(_, x)], [(_, dividend)]) => {
            let x = function(graph, call, Reciprocal, *x, &shape)?;
            scaled(graph, call, x, &shape, Some(dividend.clone()), None)?
        }
        ([(_, x), (_, y)], []) => {
            let y = function(graph, call, Reciprocal, *y, &shape)?;
            graph.push(call, Op::Product(Product::Multiply), vec![*x, y], shape)?
        }
        _ => return Err(NodeError::MissingInput(1)),
    }])
}

pub(super) fn negate(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let shape = call.shape(0)?.to_vec();
    let x = Lowering::activation(call.input(0)?, 0)?;
    Ok(vec![scaled(graph, call, x, &shape, Some(Periodic::constant(-1.0)), None)?])
}

/// `Pow` with one constant exponent.
pub(super) fn power(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let x = call.input(0)?;
    let exponents: Vec<f64> = match &call.tensor(1)?.data {
        Data::Float(v) => v.clone(),
        Data::Int(v) => v.iter().map(|&e| e as f64).collect(),
        Data::Bool(_) => vec![],
    };
    let exponent = match exponents.first() {
        Some(&e) if e.is_finite() && exponents.iter().all(|&other| other == e) => e,
        _ => {
            return Err(NodeError::Value {
                what: "the exponent",
                found: format!("{} values", exponents.len()),
                accepted: "one finite value for all entries",
            });
        }
    };
    let shape = shapes::broadcast(&[x.shape(), call.shape(1)?])?;
    let x = broadcast(graph, call, x, &shape)?;
    if exponent == 1.0 {
        return Ok(vec![x]);
    }
    let x = Lowering::activation(&x, 0)?;
    Ok(vec![graph.push(call, Op::Elementwise(Arc::new(Pow { exponent })), vec![x], shape)?])
}

/// `Min` and `Max` of any number: constants clip, activations are joined by a
/// maximum (a minimum is the negated maximum of the negated).
pub(super) fn extremum(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Operands { shape, activations, constants } = operands(graph, call)?;
    let mut ids: Vec<ValueId> = activations.iter().map(|&(_, id)| id).collect();
    let len = shapes::count(&shape)?;
    let minus = || Some(Periodic::constant(-1.0));
    let negative = |graph: &mut Lowering, x: ValueId| -> Result<ValueId> {
        Lowering::activation(&scaled(graph, call, x, &shape, minus(), None)?, 0)
    };
    let joined = ids.len() > 1;
    if joined {
        if call.op == "Min" {
            ids = ids.into_iter().map(|x| negative(graph, x)).collect::<Result<_>>()?;
        }
        let n = ids.len();
        shapes::count(&[len, n])?;
        let groups = Groups::new((0..len).map(|i| (0..n).map(move |k| k * len + i)));
        let op = Op::Product(Product::Max { inputs: vec![len; n], groups });
        let mut id = Lowering::activation(&graph.push(call, op, ids, shape.clone())?, 0)?;
        if call.op == "Min" {
            id = negative(graph, id)?;
        }
        ids = vec![id];
    }
    let mut id = ids[0];
    for (_, limit) in constants {
        if limit.values().exact().iter().any(|v| v.is_nan()) {
            return Err(NodeError::Value { what: "a limit", found: "NaN".into(), accepted: "numbers" });
        }
        let none = |sign: f64| Periodic::constant(sign * f64::INFINITY);
        let clip = if call.op == "Max" {
            Clip { low: limit, high: none(1.0) }
        } else {
            Clip { low: none(-1.0), high: limit }
        };
        id = function(graph, call, clip, id, &shape)?;
    }
    Ok(vec![Value::Activation { id, shape }])
}

/// `Mean` of any number.
pub(super) fn mean(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let values = (0..call.inputs.len()).map(|i| call.input(i).cloned()).collect::<Result<Vec<_>>>()?;
    let share = Value::constant(vec![], Data::Float(vec![1.0 / values.len().max(1) as f64]));
    let sum = graph.apply(call, "Sum", values)?;
    Ok(vec![graph.apply(call, "Mul", vec![sum, share])?])
}
