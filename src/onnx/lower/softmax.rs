//! Softmax and its logarithm, by the operators of the three kinds.

use std::sync::Arc;

use ndarray::ArrayD;

use super::{Call, Lowering, NodeError, Value, arithmetic, shapes};
use crate::onnx::tensor::Data;
use crate::ops::{Affine, Clip, Exp, Groups, Op, Periodic, Product, Sparse, Weights};

/// `Softmax` and `LogSoftmax`.
pub(super) fn softmax(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let value = call.input(0)?;
    let shape = value.shape();
    // Before opset 13 all axes from `axis` on are one.
    let old = call.opset < 13;
    let axis = shapes::axis(call.int("axis", if old { 1 } else { -1 })?, shape.len(), old)?;
    let (members, inner) = match &shape[axis..] {
        rest if old => (rest.iter().product(), 1),
        [] => (1, 1),
        [members, rest @ ..] => (*members, rest.iter().product::<usize>()),
    };
    let hidden = Lowering::activation(value, 0).ok().and_then(|id| graph.hidden.get(&id).cloned());
    if let Some(hidden) = hidden {
        return Ok(vec![along(graph, call, value, [members, inner], |i| !hidden[i])?]);
    }
    if shapes::count(&[shapes::count(shape)?, members]).is_err() {
        return Ok(vec![over_sums(graph, call, axis)?]);
    }
    Ok(vec![along(graph, call, value, [members, inner], |_| true)?])
}

/// As [`along`], for more entries than have differences: from the log-sum-exp of each group, with bounds that
/// do not know that it depends on the entry.
fn over_sums(graph: &mut Lowering, call: &Call, axis: usize) -> Result<Value, NodeError> {
    let value = call.input(0)?.clone();
    let end = if call.opset < 13 { value.shape().len() } else { axis + 1 };
    let axes = (axis..end).map(|axis| axis as i64).collect();
    let axes = Value::constant(vec![end - axis], Data::Int(axes));
    let sums = graph.apply(call, "ReduceLogSumExp", vec![value.clone(), axes])?;
    let log = graph.apply(call, "Sub", vec![value, sums])?;
    let below = Clip { low: Periodic::constant(f64::NEG_INFINITY), high: Periodic::constant(0.0) };
    let (shape, id) = (log.shape().to_vec(), Lowering::activation(&log, 0)?);
    let log = graph.push(call, Op::Elementwise(Arc::new(below)), vec![id], shape)?;
    if call.op == "LogSoftmax" { Ok(log) } else { graph.apply(call, "Exp", vec![log]) }
}

/// `log softmax(x)_i = -ln sum_j e^(x_j - x_i)` over groups of `members` entries that stand `inner` apart, and
/// unless that is asked for, softmax its exponential. Entries that are not kept have no part in it and become 0.
///
/// Written with differences, interval bounds are the exact range of each
/// score, and nothing overflows: an affine map, a log-sum-exp, a negation.
pub(super) fn along(
    graph: &mut Lowering,
    call: &Call,
    value: &Value,
    [members, inner]: [usize; 2],
    kept: impl Fn(usize) -> bool,
) -> Result<Value, NodeError> {
    let shape = value.shape().to_vec();
    let len = shapes::count(&shape)?;
    shapes::count(&[len, members])?;
    if len == 0 {
        return Err(NodeError::shape(&[&shape], "a value that is not empty"));
    }
    let entries: Vec<usize> = (0..len).filter(|&i| kept(i)).collect();
    if (0..len / members)
        .any(|g| (0..members).all(|m| !kept(g / inner * members * inner + m * inner + g % inner)))
    {
        return Err(NodeError::Value {
            what: "the mask",
            found: "minus infinity for all scores of a group".into(),
            accepted: "at least one score, since runtimes disagree on what none gives",
        });
    }
    // Entry i and the members of its group, in order.
    let group = |i: usize| {
        let (o, r) = (i / (members * inner), i % inner);
        (0..members).map(move |m| (o * members + m) * inner + r).filter(|&j| kept(j))
    };
    let pairs = || entries.iter().flat_map(|&i| group(i).map(move |j| (i, j)));
    let differences = Sparse {
        inputs: vec![len],
        groups: Groups::new(pairs().map(|(i, j)| if i == j { vec![] } else { vec![j, i] })),
        weights: Some(Weights::new(pairs().filter(|(i, j)| i != j).flat_map(|_| [1.0, -1.0]).collect())),
        bias: None,
    };
    let x = Lowering::activation(value, 0)?;
    let total = pairs().count();
    let spread = graph.affine(call, Affine::Sparse(differences), x, vec![total])?;
    let mut end = 0;
    let groups = Groups::new(entries.iter().map(|&i| {
        let start = end;
        end += group(i).count();
        start..end
    }));
    let op = Op::Product(Product::LogSumExp { inputs: vec![total], groups });
    let all = entries.len() == len;
    let of_kept = if all { shape.clone() } else { vec![entries.len()] };
    let sums = graph.push(call, op, vec![Lowering::activation(&spread, 0)?], of_kept.clone())?;
    let minus = Some(Periodic::constant(-1.0));
    let log = arithmetic::scaled(graph, call, Lowering::activation(&sums, 0)?, &of_kept, minus, None)?;
    if call.op == "LogSoftmax" {
        return Ok(log);
    }
    let input = vec![Lowering::activation(&log, 0)?];
    let scores = graph.push(call, Op::Elementwise(Arc::new(Exp)), input, of_kept)?;
    if all {
        return Ok(scores);
    }
    let mut layout = ArrayD::from_elem(shape, shapes::FILL);
    let mut next = 0;
    for (_, place) in layout.iter_mut().enumerate().filter(|(i, _)| kept(*i)) {
        (*place, next) = (next, next + 1);
    }
    graph.rearrange(call, &[&scores], &layout, 0.0)
}
