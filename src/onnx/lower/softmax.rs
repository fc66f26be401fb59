//! Softmax and its logarithm, by the operators of the three kinds.

use std::sync::Arc;

use ndarray::ArrayD;

use super::{Call, Lowering, NodeError, Value, arithmetic, shapes};
use crate::ops::{Affine, Exp, Groups, Op, Periodic, Product, Sparse, Weights};

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
    Ok(vec![along(graph, call, value, [members, inner], |_| true)?])
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
