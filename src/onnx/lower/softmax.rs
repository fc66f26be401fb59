//! Softmax and its logarithm, by the operators of the three kinds.

use std::sync::Arc;

use super::{Call, Lowering, NodeError, Value, arithmetic, shapes};
use crate::ops::{Affine, Exp, Groups, Op, Periodic, Product, Sparse, Weights};

/// `log softmax(x)_i = -ln sum_j e^(x_j - x_i)`, and softmax its exponential.
///
/// Written with differences, interval bounds are the exact range of each
/// score, and nothing overflows: an affine map, a log-sum-exp, a negation.
pub(super) fn softmax(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let value = call.input(0)?;
    let shape = value.shape().to_vec();
    // Before opset 13 all axes from `axis` on are one.
    let old = call.opset < 13;
    let axis = shapes::axis(call.int("axis", if old { 1 } else { -1 })?, shape.len(), old)?;
    let outer: usize = shape[..axis].iter().product();
    let (members, inner) = match &shape[axis..] {
        rest if old => (rest.iter().product(), 1),
        [] => (1, 1),
        [members, rest @ ..] => (*members, rest.iter().product::<usize>()),
    };
    let len = outer * members * inner;
    shapes::count(&[len, members])?;
    if len == 0 {
        return Err(NodeError::shape(&[&shape], "a value that is not empty"));
    }
    // Entry i and the members of its group, in order.
    let group = |i: usize| {
        let (o, r) = (i / (members * inner), i % inner);
        (0..members).map(move |m| (o * members + m) * inner + r)
    };
    let pairs = || (0..len).flat_map(|i| group(i).map(move |j| (i, j)));
    let differences = Sparse {
        inputs: vec![len],
        groups: Groups::new(pairs().map(|(i, j)| if i == j { vec![] } else { vec![j, i] })),
        weights: Some(Weights::new(pairs().filter(|(i, j)| i != j).flat_map(|_| [1.0, -1.0]).collect())),
        bias: None,
    };
    let x = Lowering::activation(value, 0)?;
    let spread = graph.affine(call, Affine::Sparse(differences), x, vec![len, members])?;
    let groups = Groups::new((0..len).map(|i| i * members..(i + 1) * members));
    let op = Op::Product(Product::LogSumExp { inputs: vec![len * members], groups });
    let sums = graph.push(call, op, vec![Lowering::activation(&spread, 0)?], shape.clone())?;
    let minus = Some(Periodic::constant(-1.0));
    let log = arithmetic::scaled(graph, call, Lowering::activation(&sums, 0)?, &shape, minus, None)?;
    if call.op == "LogSoftmax" {
        return Ok(vec![log]);
    }
    let input = vec![Lowering::activation(&log, 0)?];
    Ok(vec![graph.push(call, Op::Elementwise(Arc::new(Exp)), input, shape)?])
}
