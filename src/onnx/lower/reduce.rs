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
    let mut x = Lowering::activation(value, 0)?;
    let minus = || Some(Periodic::constant(-1.0));
    let apply = |graph: &mut Lowering, f: Arc<dyn Function>, x: ValueId, shape: &[usize]| {
        let value = graph.push(call, Op::Elementwise(f), vec![x], shape.to_vec())?;
        Lowering::activation(&value, 0)
    };
    match call.op {
        "ReduceMax" => return Ok(vec![pool::maxima(graph, call, out, &groups)?]),
        "ReduceMean" => return Ok(vec![pool::means(graph, call, out, &groups, None)?]),
        "ReduceMin" => {
            x = Lowering::activation(&scaled(graph, call, x, shape, minus(), None)?, 0)?;
            let op = Op::Product(Product::Max { inputs: vec![total], groups: Groups::new(groups) });
            let greatest = graph.push(call, op, vec![x], out.clone())?;
            let x = Lowering::activation(&greatest, 0)?;
            return Ok(vec![scaled(graph, call, x, &out, minus(), None)?]);
        }
        "ReduceLogSumExp" => {
            let op = Op::Product(Product::LogSumExp { inputs: vec![total], groups: Groups::new(groups) });
            return Ok(vec![graph.push(call, op, vec![x], out)?]);
        }
        "ReduceL1" => x = apply(graph, Arc::new(Abs), x, shape)?,
        "ReduceL2" | "ReduceSumSquare" => x = apply(graph, Arc::new(Pow { exponent: 2.0 }), x, shape)?,
        _ => {}
    }
    let op = Sparse { inputs: vec![total], groups: Groups::new(groups), weights: None, bias: None };
    let sum = graph.affine(call, Affine::Sparse(op), x, out.clone())?;
    let x = Lowering::activation(&sum, 0)?;
    let id = match call.op {
        "ReduceL2" => {
            // So that bounds of a sum of squares, which are rounded outward, stay in the domain.
            let x = apply(graph, Arc::new(Relu), x, &out)?;
            apply(graph, Arc::new(Sqrt), x, &out)?
        }
        "ReduceLogSum" => apply(graph, Arc::new(Log), x, &out)?,
        _ => x,
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
