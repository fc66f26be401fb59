//! Matrix products: with a constant a dense layer, of two activations a product.

use super::layout::broadcast;
use super::{Call, Lowering, NodeError, Value, shapes};
use crate::ops::{Affine, Dense, Groups, MatMul, Op, Periodic, Product, Sparse, Sum, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// A constant `rows x cols` matrix, transposed.
fn transposed(w: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|i| w[(i % rows) * cols + i / rows]).collect()
}

/// The layout that exchanges the last two axes.
pub(super) fn swap_last(graph: &mut Lowering, call: &Call, value: &Value) -> Result<Value> {
    let rank = value.shape().len();
    let mut layout = shapes::identity(value.shape(), 0)?;
    layout.swap_axes(rank - 2, rank - 1);
    graph.rearrange(call, &[value], &layout, 0.0)
}

fn dense(
    graph: &mut Lowering,
    call: &Call,
    x: &Value,
    weight: Weights,
    size: [usize; 2],
    bias: Option<Periodic>,
) -> Result<Value> {
    let [inputs, outputs] = size;
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("a matrix has axes") = outputs;
    let rows = shape[..shape.len() - 1].iter().product();
    shapes::count(&shape)?;
    let op = Affine::Dense(Dense { rows, inputs, outputs, weight, bias });
    graph.affine(call, op, Lowering::activation(x, 0)?, shape)
}

/// `alpha op(A) op(B) + beta C`.
pub(super) fn gemm(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    if !alpha.is_finite() || !beta.is_finite() {
        return Err(NodeError::Value {
            what: "alpha or beta",
            found: format!("{alpha}, {beta}"),
            accepted: "finite numbers",
        });
    }
    let wrong = || NodeError::shape(&[a.shape(), b.shape()], "two matrices with a common inner dimension");
    if a.shape().len() != 2 || b.shape().len() != 2 {
        return Err(wrong());
    }
    let a = if call.int("transA", 0)? == 0 { a.clone() } else { swap_last(graph, call, a)? };
    let b = if call.int("transB", 0)? == 0 { b.clone() } else { swap_last(graph, call, b)? };
    let [m, k] = [a.shape()[0], a.shape()[1]];
    let n = b.shape()[1];
    if b.shape()[0] != k {
        return Err(wrong());
    }
    let rounding = |factor: f64| if factor.abs() == 1.0 { 0.0 } else { f64::EPSILON };
    let bias = match call.optional(2) {
        Some(Value::Constant(c)) => {
            let c = shapes::periodic(c, 2, &[m, n])?;
            let values = c.values().exact().iter().map(|v| beta * v).collect();
            Some(Periodic::new(Weights::rounded(values, rounding(beta)), c.inner()))
        }
        _ => None,
    };
    let product = if let (Value::Activation { .. }, Value::Constant(w)) = (&a, &b) {
        let w = floats(w, 1)?.iter().map(|v| alpha * v).collect();
        dense(graph, call, &a, Weights::rounded(w, rounding(alpha)), [k, n], bias)?
    } else {
        let mut product = general(graph, call, &a, &b)?;
        if alpha != 1.0 || bias.is_some() {
            let scale = (alpha != 1.0).then(|| Periodic::constant(alpha));
            let x = Lowering::activation(&product, 0)?;
            product = super::arithmetic::scaled(graph, call, x, &[m, n], scale, bias)?;
        }
        product
    };
    Ok(vec![match call.optional(2) {
        Some(c @ Value::Activation { .. }) => {
            let c = broadcast(graph, call, c, &[m, n])?;
            let ids = vec![Lowering::activation(&product, 0)?, Lowering::activation(&c, 2)?];
            let op = Sum { len: m * n, coefficients: Weights::new(vec![1.0, beta]) };
            graph.push(call, Op::Affine(Affine::Sum(op)), ids, vec![m, n])?
        }
        _ => product,
    }])
}

fn floats(tensor: &crate::onnx::tensor::Tensor, index: usize) -> Result<&[f64]> {
    match &tensor.data {
        crate::onnx::tensor::Data::Float(v) => Ok(v),
        _ => Err(NodeError::Type { input: index, accepted: "floating-point numbers" }),
    }
}

/// `FusedMatMul` of onnxruntime: `alpha op(A) op(B)`, where an operand may have its last two axes exchanged.
pub(super) fn fused(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let mut operands = Vec::new();
    for (at, flags) in [["transA", "transBatchA"], ["transB", "transBatchB"]].iter().enumerate() {
        let value = call.input(at)?;
        if call.int(flags[1], 0)? != 0 {
            return Err(NodeError::Value { what: flags[1], found: "not 0".into(), accepted: "0" });
        }
        let swap = call.int(flags[0], 0)? != 0 && value.shape().len() > 1;
        operands.push(if swap { swap_last(graph, call, value)? } else { value.clone() });
    }
    let alpha = call.float("alpha", 1.0)?;
    let y = graph.apply(call, "MatMul", operands)?;
    if alpha == 1.0 {
        return Ok(vec![y]);
    }
    let alpha = Value::constant(vec![], crate::onnx::tensor::Data::Float(vec![alpha]));
    Ok(vec![graph.apply(call, "Mul", vec![y, alpha])?])
}

/// `MatMul` as in numpy: vectors are promoted, leading axes broadcast.
pub(super) fn matmul(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let promoted = |value: &Value, at_front: bool| -> Result<Value> {
        let mut shape = value.shape().to_vec();
        match shape.len() {
            0 => {
                return Err(NodeError::shape(&[a.shape(), b.shape()], "vectors, matrices or stacks of them"));
            }
            1 if at_front => shape.insert(0, 1),
            1 => shape.push(1),
            _ => {}
        }
        Ok(with_shape(value, shape))
    };
    let product = general(graph, call, &promoted(a, true)?, &promoted(b, false)?)?;
    let mut shape = product.shape().to_vec();
    if b.shape().len() == 1 {
        shape.pop();
    }
    if a.shape().len() == 1 {
        shape.remove(shape.len() - if b.shape().len() == 1 { 1 } else { 2 });
    }
    Ok(vec![with_shape(&product, shape)])
}

/// The same entries under another shape.
pub(super) fn with_shape(value: &Value, shape: Vec<usize>) -> Value {
    match value {
        Value::Activation { id, .. } => Value::Activation { id: *id, shape },
        Value::Constant(tensor) => Value::constant(shape, tensor.data.clone()),
    }
}

/// The product of two values of at least two axes, at least one of them an
/// activation.
fn general(graph: &mut Lowering, call: &Call, a: &Value, b: &Value) -> Result<Value> {
    let (left, right) = (a.shape(), b.shape());
    let (stack_a, [m, k]) = split(left);
    let (stack_b, [inner, n]) = split(right);
    if inner != k {
        return Err(NodeError::shape(&[left, right], "a common inner dimension"));
    }
    let single = |stack: &[usize]| stack.iter().all(|&d| d == 1);
    match (a, b) {
        (Value::Activation { .. }, Value::Constant(w))
            if single(stack_b) && stack_b.len() <= stack_a.len() =>
        {
            return dense(graph, call, a, Weights::new(floats(w, 1)?.to_vec()), [k, n], None);
        }
        (Value::Constant(w), Value::Activation { .. })
            if single(stack_a) && stack_a.len() <= stack_b.len() =>
        {
            let weight = Weights::new(transposed(floats(w, 0)?, m, k));
            let x = swap_last(graph, call, b)?;
            let y = dense(graph, call, &x, weight, [k, m], None)?;
            return swap_last(graph, call, &y);
        }
        _ => {}
    }
    // Which matrix of each operand every product of the stack takes.
    let stack = shapes::broadcast(&[stack_a, stack_b])?;
    let of_a = shapes::broadcast_layout(stack_a, &stack)?;
    let of_b = shapes::broadcast_layout(stack_b, &stack)?;
    let shape = [&stack[..], &[m, n]].concat();
    let len = shapes::count(&shape)?;
    shapes::count(&[len, k])?;
    let pairs: Vec<[usize; 2]> = of_a.iter().zip(&of_b).map(|(&i, &j)| [i, j]).collect();
    if let (Value::Activation { id: x, .. }, Value::Activation { id: y, .. }) = (a, b) {
        let matrices = [shapes::count(stack_a)?, shapes::count(stack_b)?];
        let stack = pairs.iter().map(|p| p.map(|i| i as u32)).collect();
        let op = Op::Product(Product::MatMul(MatMul { size: [m, k, n], stack, matrices }));
        return graph.push(call, op, vec![*x, *y], shape);
    }
    // A different constant for every matrix of the stack: entry by entry.
    let entries = |pair: [usize; 2], i: usize, j: usize, p: usize| {
        [pair[0] * m * k + i * k + p, pair[1] * k * n + p * n + j]
    };
    let outputs = || pairs.iter().flat_map(move |&pair| (0..m * n).map(move |o| (pair, o / n, o % n)));
    let (x, w, active, index) = match (a, b) {
        (Value::Activation { id, .. }, Value::Constant(w)) => (*id, w, 0, 1),
        (Value::Constant(w), Value::Activation { id, .. }) => (*id, w, 1, 0),
        _ => return Err(NodeError::Constant(0)),
    };
    let w = floats(w, index)?;
    let weights =
        outputs().flat_map(|(pair, i, j)| (0..k).map(move |p| w[entries(pair, i, j, p)[index]])).collect();
    let groups =
        Groups::new(outputs().map(|(pair, i, j)| (0..k).map(move |p| entries(pair, i, j, p)[active])));
    let inputs = vec![if active == 0 { shapes::count(left)? } else { shapes::count(right)? }];
    let op = Sparse { inputs, groups, weights: Some(Weights::new(weights)), bias: None };
    graph.affine(call, Affine::Sparse(op), x, shape)
}

/// The leading axes of a stack of matrices, and the matrices' size.
fn split(shape: &[usize]) -> (&[usize], [usize; 2]) {
    let (stack, size) = shape.split_at(shape.len() - 2);
    (stack, [size[0], size[1]])
}
