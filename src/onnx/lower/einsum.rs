//! `Einsum` of one or two activations and any number of constants.

use super::{Call, Lowering, NodeError, Value, shapes};
use crate::onnx::tensor::Data;
use crate::ops::{Affine, Groups, Op, Product, Sparse, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// The terms of the equation: for every operand, and last for the result, its labels.
fn labels(equation: &str, operands: usize) -> Result<Vec<Vec<char>>> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let wrong = || NodeError::Value {
        what: "the equation",
        found: equation.into(),
        accepted: "one term of letters for every operand, without `...`, such as bij,jk->bik",
    };
    let (left, right) = text.split_once("->").map_or((&text[..], None), |(l, r)| (l, Some(r)));
    let mut terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    let all: Vec<char> = terms.concat();
    let result: Vec<char> = if let Some(right) = right {
        right.chars().collect()
    } else {
        // By default the labels that appear once, in alphabetical order.
        let mut once = all.clone();
        once.retain(|c| all.iter().filter(|other| *other == c).count() == 1);
        once.sort_unstable();
        once
    };
    let distinct = result.iter().enumerate().all(|(i, c)| !result[..i].contains(c) && all.contains(c));
    if terms.len() != operands || !distinct || !all.iter().all(char::is_ascii_alphabetic) {
        return Err(wrong());
    }
    terms.push(result);
    Ok(terms)
}

pub(super) fn einsum(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let values: Vec<&Value> = (0..call.inputs.len()).map(|i| call.input(i)).collect::<Result<_>>()?;
    let equation = call.attributes.string("equation")?.unwrap_or_default();
    let terms = labels(equation, values.len())?;
    let (operands, result) = (&terms[..values.len()], &terms[values.len()]);
    // Labels with their lengths: those of the result first, then those that are summed over.
    let mut order = result.clone();
    for c in operands.iter().flatten() {
        if !order.contains(c) {
            order.push(*c);
        }
    }
    let mut lens = vec![0; order.len()];
    let mut strides = vec![vec![0; order.len()]; values.len()];
    for ((value, term), strides) in values.iter().zip(operands).zip(&mut strides) {
        let fit =
            || NodeError::shape(&shapes::of(&values), "axes as in the equation, of one length for a label");
        if term.len() != value.shape().len() || value.shape().contains(&0) {
            return Err(fit());
        }
        let mut stride = 1;
        for (c, &len) in term.iter().zip(value.shape()).rev() {
            let at = order.iter().position(|other| other == c).expect("all labels are there");
            if lens[at] != 0 && lens[at] != len {
                return Err(fit());
            }
            lens[at] = len;
            strides[at] += stride;
            stride *= len;
        }
    }
    let total = shapes::count(&lens)?;
    let shape = lens[..result.len()].to_vec();
    let len: usize = shape.iter().product();
    let terms_each = total / len;
    // The entry of an operand that belongs to a point of the whole index space.
    let entry = |operand: usize, mut point: usize| {
        let mut at = 0;
        for (&len, &stride) in lens.iter().zip(&strides[operand]).rev() {
            at += point % len * stride;
            point /= len;
        }
        at
    };
    let mut weights = vec![1.0; total];
    let (mut activations, mut constants) = (Vec::new(), 0);
    for (i, value) in values.iter().enumerate() {
        match value {
            Value::Activation { id, .. } => activations.push((i, *id)),
            Value::Constant(tensor) => {
                let Data::Float(data) = &tensor.data else {
                    return Err(NodeError::Type { input: i, accepted: "floating-point numbers" });
                };
                constants += 1;
                weights.iter_mut().enumerate().for_each(|(p, w)| *w *= data[entry(i, p)]);
            }
        }
    }
    // One constant stands as it is.
    let error = if constants > 1 { f64::EPSILON * f64::from(constants) } else { 0.0 };
    let weights = (constants > 0).then(|| Weights::rounded(weights, error));
    let sum = |graph: &mut Lowering, id, inputs: usize, entry: &dyn Fn(usize) -> usize| {
        let groups = Groups::new((0..len).map(|o| (0..terms_each).map(move |t| entry(o * terms_each + t))));
        let op = Sparse { inputs: vec![inputs], groups, weights: weights.clone(), bias: None };
        graph.affine(call, Affine::Sparse(op), id, shape.clone())
    };
    Ok(vec![match activations[..] {
        [(i, id)] => sum(graph, id, graph.lens[id], &|p| entry(i, p))?,
        [(i, x), (j, y)] => {
            let mut spread = |operand: usize, id| {
                let source = (0..total).map(|p| entry(operand, p));
                let op = Affine::Sparse(Sparse::select(vec![graph.lens[id]], source));
                Lowering::activation(&graph.affine(call, op, id, vec![total])?, 0)
            };
            let factors = vec![spread(i, x)?, spread(j, y)?];
            let product = graph.push(call, Op::Product(Product::Multiply), factors, vec![total])?;
            sum(graph, Lowering::activation(&product, 0)?, total, &|p| p)?
        }
        [] => return Err(NodeError::Constant(0)),
        _ => return Err(NodeError::shape(&shapes::of(&values), "at most two activations")),
    }])
}
