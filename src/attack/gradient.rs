//! Gradients of a network in `f32`, by the adjoints of its operators.

use crate::graph::Graph;
use crate::ops::{Function, Op, Weights};

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
                op.gradient(batch, &inputs, &values[index + 1], &y, &mut parts);
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
    if let Some(slope) = function.guide(i, x) {
        return slope as f32;
    }
    let h = 1e-5 * x.abs().max(1.0);
    let slope = (function.eval(i, x + h) - function.eval(i, x - h)) / (2.0 * h);
    if slope.is_finite() { slope as f32 } else { 0.0 }
}
