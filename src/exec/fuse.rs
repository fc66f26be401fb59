//! Scales (batch normalisation, bias) merged into the dense layer or
//! convolution before them. Merged coefficients are rounded; the bounds on
//! their errors are kept, so that what is said of the merged network also
//! covers the network as the model gives it.

use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Affine, Op, Periodic, Scale, Weights};

/// A network with fewer passes over its activations.
pub(crate) struct Fused {
    /// The network.
    pub(crate) graph: Graph,
    /// For each of its values, the value of the original network that it is.
    pub(crate) original: Vec<ValueId>,
    /// For each node, a bound on the absolute error of every entry of its bias.
    pub(crate) bias_error: Vec<f64>,
}

/// The same network with fewer passes over its activations.
pub(crate) fn fuse(graph: &Graph) -> Fused {
    let mut uses = vec![0; graph.nodes.len() + 1];
    graph.nodes.iter().flat_map(|n| &n.inputs).for_each(|&v| uses[v] += 1);
    uses[graph.output] += 1;
    // Where each old value is found in the new graph.
    let mut place = vec![0_usize];
    let (mut original, mut bias_error) = (vec![0], Vec::new());
    let mut fused = Graph { nodes: Vec::new(), ..graph.clone() };
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Op::Affine(Affine::Scale(scale)) = &node.op
            && uses[node.inputs[0]] == 1
            && let Some(producer) = place[node.inputs[0]].checked_sub(1)
            && let Some((merged, error)) = merge(&fused.nodes[producer].op, bias_error[producer], scale)
        {
            fused.nodes[producer].op = Op::Affine(merged);
            (bias_error[producer], original[producer + 1]) = (error, index + 1);
            place.push(place[node.inputs[0]]);
            continue;
        }
        let inputs = node.inputs.iter().map(|&v| place[v]).collect();
        bias_error.push(if let Op::Affine(op) = &node.op { op.bias_error() } else { 0.0 });
        original.push(index + 1);
        fused.nodes.push(Node { inputs, ..node.clone() });
        place.push(fused.nodes.len());
    }
    fused.output = place[graph.output];
    Fused { graph: fused, original, bias_error }
}

/// `scale * (A x + b) + shift` as one map, if it is constant per output
/// channel, with a bound on the error of its bias; `error` is that of `b`.
fn merge(op: &Op, error: f64, scale: &Scale) -> Option<(Affine, f64)> {
    let Op::Affine(op) = op else { return None };
    let (channels, inner) = match op {
        Affine::Dense(dense) => (dense.outputs, 1),
        Affine::Conv(conv) if !conv.transposed => (conv.channels[1], conv.window.positions()),
        _ => return None,
    };
    let per_channel = |constant: Option<&Periodic>, default: f64| match constant {
        None => Some(vec![default; channels]),
        Some(p) if p.values().exact().len() == 1 => Some(vec![p.at(0); channels]),
        Some(p) if p.values().exact().len() == channels && p.inner() == inner => {
            Some(p.values().exact().to_vec())
        }
        Some(_) => None,
    };
    let factor = per_channel(scale.scale.as_ref(), 1.0)?;
    let shift = per_channel(scale.shift.as_ref(), 0.0)?;
    let mut bias = per_channel(op.bias(), 0.0)?;
    // Of the factors, the weights, and the product of the two, with slack for
    // the rounding of these bounds.
    let of_factor = scale.scale.as_ref().map_or(0.0, |s| s.values().relative_error());
    let of_shift = Affine::Scale(scale.clone()).bias_error();
    let of_weight = op.relative_error();
    let of_product = 2.0 * f64::EPSILON + 1.01 * (of_factor + of_weight);
    let mut bias_error = 0.0_f64;
    for ((b, f), s) in bias.iter_mut().zip(&factor).zip(&shift) {
        let size = (b.abs() + error) * f.abs();
        let here = error * f.abs() + of_factor * size + of_shift + 4.0 * f64::EPSILON * (size + s.abs());
        bias_error = bias_error.max(1.01 * here + f64::MIN_POSITIVE);
        *b = *b * f + s;
    }
    let bias = Some(Periodic::new(Weights::new(bias), inner));
    let mut merged = op.clone();
    let weight = match &merged {
        Affine::Dense(dense) => dense.weight.exact(),
        Affine::Conv(conv) => conv.weight.exact(),
        _ => return None,
    };
    let taps = weight.len() / channels;
    let channel = |i: usize| if matches!(op, Affine::Dense(_)) { i % channels } else { i / taps };
    // Below the normal range an error is not relative any more.
    let product = |(i, &w): (usize, &f64)| {
        let (f, p) = (factor[channel(i)], w * factor[channel(i)]);
        (w == 0.0 || f == 0.0 || !(p.abs() < f64::MIN_POSITIVE)).then_some(p)
    };
    let weight: Vec<f64> = weight.iter().enumerate().map(product).collect::<Option<_>>()?;
    if of_product > 1e-3 {
        return None;
    }
    match &mut merged {
        Affine::Dense(dense) => {
            (dense.weight, dense.bias) = (Weights::rounded(weight, of_product), bias);
        }
        Affine::Conv(conv) => {
            (conv.weight, conv.bias) = (Weights::rounded(weight, of_product), bias);
        }
        _ => return None,
    }
    Some((merged, bias_error))
}
