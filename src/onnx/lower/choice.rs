//! Comparisons, choices between values, and rounding to integers.

use std::sync::Arc;

use super::{Call, Lowering, NodeError, Value, layout, shapes};
use crate::graph::ValueId;
use crate::onnx::tensor::Data;
use crate::ops::{Affine, Chain, Choice, Link, Op, Periodic, Rounding, Staircase, Step, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// A truth value that is a comparison of an activation with a constant.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    base: ValueId,
    step: Step,
    negated: bool,
}

/// `Greater`, `Less` and so on of values that depend on the network's input: 1 where they hold, else 0.
pub(super) fn compare(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (mut greater, mut inclusive) = match call.op {
        "Greater" => (true, false),
        "GreaterOrEqual" => (true, true),
        "Less" => (false, false),
        "LessOrEqual" => (false, true),
        _ => {
            let other = differs(graph, call, call.input(0)?, call.input(1)?)?;
            return Ok(vec![negation(graph, call, &other)?]);
        }
    };
    let (a, b) = (call.input(0)?, call.input(1)?);
    let shape = shapes::broadcast(&[a.shape(), b.shape()])?;
    let (x, threshold) = match (a, b) {
        (x, Value::Constant(constant)) => (x.clone(), shapes::periodic(constant, 1, &shape)?),
        (Value::Constant(constant), x) => {
            greater = !greater;
            (x.clone(), shapes::periodic(constant, 0, &shape)?)
        }
        // The sign of a difference is that of the comparison, in f32, too.
        _ => (graph.apply(call, "Sub", vec![a.clone(), b.clone()])?, Periodic::constant(0.0)),
    };
    if threshold.values().exact().iter().any(|c| c.is_nan()) {
        return Err(NodeError::Value { what: "a threshold", found: "NaN".into(), accepted: "numbers" });
    }
    let x = layout::broadcast(graph, call, &x, &shape)?;
    let base = Lowering::activation(&x, 0)?;
    // Not greater is less or equal.
    inclusive ^= !greater;
    let step = Step { threshold, inclusive };
    let value = graph.push(call, Op::Elementwise(Arc::new(step.clone())), vec![base], shape)?;
    let id = Lowering::activation(&value, 0)?;
    graph.truths.insert(id);
    graph.conditions.insert(id, Condition { base, step, negated: false });
    if greater { Ok(vec![value]) } else { Ok(vec![negation(graph, call, &value)?]) }
}

/// Whether a value is another: greater, or less.
pub(super) fn differs(graph: &mut Lowering, call: &Call, a: &Value, b: &Value) -> Result<Value> {
    let greater = graph.apply(call, "Greater", vec![a.clone(), b.clone()])?;
    let less = graph.apply(call, "Less", vec![a.clone(), b.clone()])?;
    let result = graph.apply(call, "Add", vec![greater, less])?;
    graph.truths.insert(Lowering::activation(&result, 0)?);
    Ok(result)
}

fn negation(graph: &mut Lowering, call: &Call, value: &Value) -> Result<Value> {
    let one = Value::constant(vec![], Data::Float(vec![1.0]));
    let known = graph.conditions.get(&Lowering::activation(value, 0)?).cloned();
    let result = graph.apply(call, "Sub", vec![one, value.clone()])?;
    let id = Lowering::activation(&result, 0)?;
    graph.truths.insert(id);
    if let Some(condition) = known {
        let negated = !condition.negated;
        graph.conditions.insert(id, Condition { negated, ..condition });
    }
    Ok(result)
}

/// Truth values as numbers; constants are converted.
fn number(value: &Value) -> Value {
    match value {
        Value::Constant(tensor) => match &tensor.data {
            Data::Bool(x) => Value::constant(
                tensor.shape.clone(),
                Data::Float(x.iter().map(|&b| f64::from(u8::from(b))).collect()),
            ),
            _ => value.clone(),
        },
        Value::Activation { .. } => value.clone(),
    }
}

/// `Not`, `And`, `Or` of comparisons.
pub(super) fn logic(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    for value in call.inputs.iter().flatten() {
        if matches!(value, Value::Activation { id, .. } if !graph.truths.contains(id)) {
            let reason = "it is defined on truth values only";
            return Err(NodeError::OnlyConstants(call.op.to_owned(), reason));
        }
    }
    let a = number(call.input(0)?);
    if call.op == "Not" {
        return Ok(vec![negation(graph, call, &a)?]);
    }
    let b = number(call.input(1)?);
    let both = graph.apply(call, "Mul", vec![a.clone(), b.clone()])?;
    let result = if call.op == "And" {
        both
    } else {
        // One of both, less both.
        let sum = graph.apply(call, "Add", vec![a, b])?;
        let either = graph.apply(call, "Sub", vec![sum, both.clone()])?;
        // Not both.
        if call.op == "Xor" { graph.apply(call, "Sub", vec![either, both])? } else { either }
    };
    graph.truths.insert(Lowering::activation(&result, 0)?);
    Ok(vec![result])
}

/// `Where`: of a constant condition a choice of entries; of a comparison a function of what is compared where
/// both branches are, else the sum of both branches times the condition and its opposite.
pub(super) fn select(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let condition = match call.input(0)?.clone() {
        Value::Constant(_) => return layout::select(graph, call),
        condition @ Value::Activation { .. } => condition,
    };
    let (a, b) = (call.input(1)?.clone(), call.input(2)?.clone());
    let id = Lowering::activation(&condition, 0)?;
    if !graph.truths.contains(&id) {
        return Err(NodeError::Type { input: 0, accepted: "truth values" });
    }
    let shape = shapes::broadcast(&[condition.shape(), a.shape(), b.shape()])?;
    if let Some(Condition { base, step, negated }) = graph.conditions.get(&id).cloned()
        && condition.shape() == shape
        && let (Some(a), Some(b)) = (chain(graph, &a, base, &shape)?, chain(graph, &b, base, &shape)?)
    {
        let (above, below) = if negated { (b, a) } else { (a, b) };
        let function = Arc::new(Choice { step, above, below });
        return Ok(vec![graph.push(call, Op::Elementwise(function), vec![base], shape)?]);
    }
    for value in [&a, &b] {
        if let Value::Constant(tensor) = value
            && let Data::Float(x) = &tensor.data
            && x.iter().any(|x| !x.is_finite())
        {
            let accepted = "finite numbers; to mask scores, a large negative one such as -1e9";
            return Err(NodeError::Value {
                what: "a constant",
                found: "infinite or not a number".into(),
                accepted,
            });
        }
    }
    let opposite = negation(graph, call, &condition)?;
    let a = graph.apply(call, "Mul", vec![condition, a])?;
    let b = graph.apply(call, "Mul", vec![opposite, b])?;
    Ok(vec![graph.apply(call, "Add", vec![a, b])?])
}

/// A value as functions of single entries of `base` one after the other, if it is: a constant is one, too.
fn chain(graph: &Lowering, value: &Value, base: ValueId, shape: &[usize]) -> Result<Option<Chain>> {
    let mut id = match value {
        Value::Constant(tensor) => {
            let constant = shapes::periodic(tensor, 1, shape)?;
            let finite = constant.values().exact().iter().all(|x| x.is_finite());
            let links = vec![Link::Scale(Some(Box::new(Periodic::constant(0.0))), Some(Box::new(constant)))];
            return Ok(finite.then_some(Chain(links)));
        }
        Value::Activation { id, .. } => *id,
    };
    let mut links = Vec::new();
    while id != base {
        // What comes before the base is not made of it.
        let Some(node) = id.checked_sub(1).filter(|_| id > base).map(|at| &graph.nodes[at]) else {
            return Ok(None);
        };
        links.push(match &node.op {
            Op::Elementwise(function) => Link::Function(Arc::clone(function)),
            Op::Affine(Affine::Scale(op)) if op.shift_error == 0.0 => {
                Link::Scale(op.scale.clone().map(Box::new), op.shift.clone().map(Box::new))
            }
            _ => return Ok(None),
        });
        id = node.inputs[0];
    }
    links.reverse();
    Ok((shapes::count(value.shape())? == shapes::count(shape)?).then_some(Chain(links)))
}

/// `Floor`, `Ceil`, `Round` of values that depend on the network's input.
pub(super) fn integer(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let rounding = match call.op {
        "Floor" => Rounding::Floor,
        "Ceil" => Rounding::Ceil,
        _ => Rounding::Nearest,
    };
    let x = call.input(0)?.clone();
    Ok(vec![stairs(graph, call, &x, rounding, (f64::NEG_INFINITY, f64::INFINITY))?])
}

/// A value rounded to integers, within limits.
pub(super) fn stairs(
    graph: &mut Lowering,
    call: &Call,
    x: &Value,
    rounding: Rounding,
    (low, high): (f64, f64),
) -> Result<Value> {
    let zero = Periodic::new(Weights::new(vec![0.0]), 1);
    let function = Staircase { rounding, scale: None, zero, low, high };
    let (id, shape) = (Lowering::activation(x, 0)?, x.shape().to_vec());
    graph.push(call, Op::Elementwise(Arc::new(function)), vec![id], shape)
}
