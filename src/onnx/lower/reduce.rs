//! Sums, means, extrema and norms over axes.

use super::{Call, Lowering, NodeError, Value, pool, shapes};
use std::sync::Arc;

use super::arithmetic::scaled;
use crate::graph::ValueId;
use crate::ops::{Abs, Affine, Function, Groups, Log, Op, Periodic, Pow, Product, Relu, Sparse, Sqrt};

/// The reductions, but for `ReduceProd`.
pub(super) fn reduce(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let value = call.input(0)?;
    let shape = value.shape();
    let axes = call.ints(1, "axes")?.filter(|a| !a.is_empty());
    let axes = match axes {
        None if call.int("noop_with_empty_axes", 0)? != 0 => {
            if matches!(call.op, "ReduceL1" | "ReduceL2" | "ReduceSumSquare" | "ReduceLogSum") {
                return Err(NodeError::Value {
                    what: "noop_with_empty_axes",
                    found: "1 without axes".into(),
                    accepted: "axes, since runtimes disagree on what is done without",
                });
            }
            return Ok(vec![value.clone()]);
        }
        None => (0..shape.len()).collect(),
        Some(axes) => {
            axes.iter().map(|&a| shapes::axis(a, shape.len(), false)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let kept: Vec<usize> = (0..shape.len()).map(|a| if axes.contains(&a) { 1 } else { shape[a] }).collect();
    let (total, len) = (shapes::count(shape)?, shapes::count(&kept)?);
    if total == 0 {
        return Err(NodeError::shape(&[shape], "a value that is not empty"));
    }
    let mut groups = vec![Vec::new(); len];
    for (entry, target) in shapes::broadcast_layout(&kept, shape)?.iter().enumerate() {
        groups[*target].push(entry);
    }
    let out = if call.int("keepdims", 1)? != 0 {
        kept
    } else {
        (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]).collect()
    };
    let x = Lowering::activation(value, 0)?;
    let minus = || Some(Periodic::constant(-1.0));
    match call.op {
        "ReduceMax" => Ok(vec![pool::maxima(graph, call, out, &groups)?]),
        "ReduceMean" => Ok(vec![pool::means(graph, call, out, &groups, None)?]),
        "ReduceMin" => {
            let x = Lowering::activation(&scaled(graph, call, x, shape, minus(), None)?, 0)?;
            let op = Op::Product(Product::Max { inputs: vec![total], groups: Groups::new(groups) });
            let greatest = graph.push(call, op, vec![x], out.clone())?;
            let x = Lowering::activation(&greatest, 0)?;
            Ok(vec![scaled(graph, call, x, &out, minus(), None)?])
        }
        "ReduceLogSumExp" => {
            let op = Op::Product(Product::LogSumExp { inputs: vec![total], groups: Groups::new(groups) });
            Ok(vec![graph.push(call, op, vec![x], out)?])
        }
        "ReduceL1" => norms(graph, call, value, groups, out, 1),
        "ReduceL2" => norms(graph, call, value, groups, out, 2),
        "ReduceSumSquare" => {
            let x = apply(graph, call, Pow { exponent: 2.0 }, x, shape)?;
            Ok(vec![sums(graph, call, x, groups, out)?])
        }
        op => {
            let sum = sums(graph, call, x, groups, out.clone())?;
            if op != "ReduceLogSum" {
                return Ok(vec![sum]);
            }
            let id = apply(graph, call, Log, Lowering::activation(&sum, 0)?, &out)?;
            Ok(vec![Value::Activation { id, shape: out }])
        }
    }
}

fn apply(
    graph: &mut Lowering,
    call: &Call,
    f: impl Function + 'static,
    x: ValueId,
    shape: &[usize],
) -> Result<ValueId, NodeError> {
    let value = graph.push(call, Op::Elementwise(Arc::new(f)), vec![x], shape.to_vec())?;
    Lowering::activation(&value, 0)
}

/// The sum of each group.
fn sums(
    graph: &mut Lowering,
    call: &Call,
    x: ValueId,
    groups: Vec<Vec<usize>>,
    out: Vec<usize>,
) -> Result<Value, NodeError> {
    let op = Sparse { inputs: vec![graph.lens[x]], groups: Groups::new(groups), weights: None, bias: None };
    graph.affine(call, Affine::Sparse(op), x, out)
}

/// The l1 or l2 norm of each group.
pub(super) fn norms(
    graph: &mut Lowering,
    call: &Call,
    value: &Value,
    groups: Vec<Vec<usize>>,
    out: Vec<usize>,
    p: i64,
) -> Result<Vec<Value>, NodeError> {
    let (x, shape) = (Lowering::activation(value, 0)?, value.shape());
    let id = match p {
        1 => {
            let x = apply(graph, call, Abs, x, shape)?;
            return Ok(vec![sums(graph, call, x, groups, out)?]);
        }
        2 => {
            let x = apply(graph, call, Pow { exponent: 2.0 }, x, shape)?;
            let sum = sums(graph, call, x, groups, out.clone())?;
            // So that bounds of a sum of squares, which are rounded outward, stay in the domain.
            let x = apply(graph, call, Relu, Lowering::activation(&sum, 0)?, &out)?;
            apply(graph, call, Sqrt, x, &out)?
        }
        other => return Err(NodeError::Value { what: "p", found: other.to_string(), accepted: "1 or 2" }),
    };
    Ok(vec![Value::Activation { id, shape: out }])
}

/// `TopK`: its values, in order.
pub(super) fn top(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let value = call.input(0)?;
    let shape = value.shape();
    let axis = shapes::axis(call.int("axis", -1)?, shape.len(), false)?;
    let k = if call.opset < 10 {
        call.int("k", -1)?
    } else {
        call.ints(1, "")?.and_then(|k| k.first().copied()).ok_or(NodeError::MissingInput(1))?
    };
    let (n, sorted) = (shape[axis], call.int("sorted", 1)? != 0);
    let Some(k) = usize::try_from(k).ok().filter(|k| (1..=n).contains(k) && sorted) else {
        let found = format!("{k} of {n} entries, sorted: {sorted}");
        return Err(NodeError::Value { what: "k", found, accepted: "some of the entries, sorted" });
    };
    let smallest = call.int("largest", 1)? == 0;
    let mut out = shape.to_vec();
    out[axis] = k;
    let inner: usize = shape[axis + 1..].iter().product();
    let len = shapes::count(&out)?;
    shapes::count(&[len, n])?;
    let (mut groups, mut ranks) = (Vec::with_capacity(len), Vec::with_capacity(len));
    for o in 0..len {
        let (outer, place, r) = (o / (k * inner), o / inner % k, o % inner);
        groups.push((0..n).map(move |m| (outer * n + m) * inner + r));
        ranks.push(if smallest { n - 1 - place } else { place } as u32);
    }
    let op = Product::Rank { inputs: vec![shapes::count(shape)?], groups: Groups::new(groups), ranks };
    Ok(vec![graph.push(call, Op::Product(op), vec![Lowering::activation(value, 0)?], out)?])
}
