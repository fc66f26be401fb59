//! Gradients of a network in `f32`, by the adjoints of its operators.

use crate::graph::Graph;
use crate::ops::{Function, MatMul, Op, Product, Weights};

/// Values of all nodes for `batch` inputs (`batch x input_len`), unfused.
pub(super) fn forward(graph: &Graph, batch: usize, x: Vec<f32>) -> Vec<Vec<f32>> {
    let mut values = vec![x];
    let mut scratch = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let len = graph.len(index + 1);
        let inputs: Vec<&[f32]> = node.inputs.iter().map(|&v| values[v].as_slice()).collect();
        let mut out = vec![0.0; batch * len];
        match &node.op {
            Op::Affine(op) => op.apply(Weights::single, batch, &inputs, &mut out, &mut scratch),
            Op::Elementwise(function) => {
                out.copy_from_slice(inputs[0]);
                function.apply32(len, &mut out);
            }
            Op::Product(op) => op.eval(batch, &inputs, &mut out, &mut scratch),
        }
        values.push(out);
    }
    values
}

/// Gradient with respect to the inputs of `sum seed . output` over the batch.
/// Where the network has no derivative, one that points somewhere: it steers a
/// search and proves nothing.
pub(super) fn backward(graph: &Graph, batch: usize, values: &[Vec<f32>], seed: Vec<f32>) -> Vec<f32> {
    let mut pending: Vec<Option<Vec<f32>>> = (0..values.len()).map(|_| None).collect();
    pending[graph.output] = Some(seed);
    let mut scratch = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        let Some(y) = pending[index + 1].take() else { continue };
        let mut parts: Vec<Vec<f32>> = node.inputs.iter().map(|&v| vec![0.0; values[v].len()]).collect();
        match &node.op {
            Op::Affine(op) => {
                let mut parts: Vec<&mut [f32]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
                op.adjoint(Weights::single, batch, &y, &mut parts, &mut scratch);
            }
            Op::Elementwise(function) => {
                let len = graph.len(index + 1);
                for (k, (part, (&y, &x))) in
                    parts[0].iter_mut().zip(y.iter().zip(&values[node.inputs[0]])).enumerate()
                {
                    if y != 0.0 {
                        *part = y * derivative(function.as_ref(), k % len, x);
                    }
                }
            }
            Op::Product(op) => {
                let inputs: Vec<&[f32]> = node.inputs.iter().map(|&v| values[v].as_slice()).collect();
                product(op, batch, &inputs, &values[index + 1], &y, &mut parts);
            }
        }
        for (&v, part) in node.inputs.iter().zip(parts) {
            match &mut pending[v] {
                None => pending[v] = Some(part),
                Some(sum) => sum.iter_mut().zip(part).for_each(|(s, p)| *s += p),
            }
        }
    }
    pending[0].take().unwrap_or_else(|| vec![0.0; values[0].len()])
}

/// The slope of a function around `x`, by a central difference.
fn derivative(function: &dyn Function, i: usize, x: f32) -> f32 {
    let x = f64::from(x);
    let h = 1e-5 * x.abs().max(1.0);
    let slope = (function.eval(i, x + h) - function.eval(i, x - h)) / (2.0 * h);
    if slope.is_finite() { slope as f32 } else { 0.0 }
}

fn product(op: &Product, batch: usize, inputs: &[&[f32]], out: &[f32], y: &[f32], parts: &mut [Vec<f32>]) {
    match op {
        Product::Multiply => {
            for side in 0..2 {
                for (part, (y, other)) in parts[side].iter_mut().zip(y.iter().zip(inputs[1 - side])) {
                    *part += y * other;
                }
            }
        }
        Product::MatMul(op) => matrix_product(op, batch, inputs, y, parts),
        Product::Max { inputs: lens, groups } | Product::LogSumExp { inputs: lens, groups } => {
            let places: Vec<(usize, usize)> =
                lens.iter().enumerate().flat_map(|(v, &len)| (0..len).map(move |j| (v, j))).collect();
            let soft = matches!(op, Product::LogSumExp { .. });
            for b in 0..batch {
                for (i, (_, group)) in groups.iter().enumerate() {
                    let k = b * groups.len() + i;
                    let members =
                        group.iter().map(|&j| places[j as usize]).map(|(v, j)| (v, b * lens[v] + j));
                    if soft {
                        for (v, at) in members {
                            parts[v][at] += y[k] * (inputs[v][at] - out[k]).exp();
                        }
                    } else if let Some((v, at)) = members.into_iter().find(|&(v, at)| inputs[v][at] == out[k])
                    {
                        parts[v][at] += y[k];
                    }
                }
            }
        }
    }
}

fn matrix_product(op: &MatMul, batch: usize, inputs: &[&[f32]], y: &[f32], parts: &mut [Vec<f32>]) {
    let [m, k, n] = op.size;
    for b in 0..batch {
        for (s, &[left, right]) in op.stack.iter().enumerate() {
            let left = (b * op.matrices[0] + left as usize) * m * k;
            let right = (b * op.matrices[1] + right as usize) * k * n;
            let y = &y[(b * op.stack.len() + s) * m * n..][..m * n];
            for i in 0..m {
                for j in 0..n {
                    for p in 0..k {
                        parts[0][left + i * k + p] += y[i * n + j] * inputs[1][right + p * n + j];
                        parts[1][right + p * n + j] += y[i * n + j] * inputs[0][left + i * k + p];
                    }
                }
            }
        }
    }
}
