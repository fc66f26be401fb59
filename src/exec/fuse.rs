//! Scales (batch normalisation, bias) merged into the dense layer or
//! convolution before them. For inference only: merged weights are rounded,
//! which bounds must not be.

use crate::graph::{Graph, Node};
use crate::ops::{Affine, Op, Periodic, Scale, Weights};

/// The same network with fewer passes over its activations.
pub(super) fn fuse(graph: &Graph) -> Graph {
    let mut uses = vec![0; graph.nodes.len() + 1];
    graph.nodes.iter().flat_map(|n| &n.inputs).for_each(|&v| uses[v] += 1);
    uses[graph.output] += 1;
    // Where each old value is found in the new graph.
    let mut place = vec![0_usize];
    let mut fused = Graph { nodes: Vec::new(), ..graph.clone() };
    for node in &graph.nodes {
        if let Op::Affine(Affine::Scale(scale)) = &node.op
            && uses[node.inputs[0]] == 1
            && let Some(producer) = place[node.inputs[0]].checked_sub(1)
            && let Some(merged) = merge(&fused.nodes[producer].op, scale)
        {
            fused.nodes[producer].op = Op::Affine(merged);
            place.push(place[node.inputs[0]]);
            continue;
        }
        let inputs = node.inputs.iter().map(|&v| place[v]).collect();
        fused.nodes.push(Node { inputs, ..node.clone() });
        place.push(fused.nodes.len());
    }
    fused.output = place[graph.output];
    fused
}

/// `scale * (A x + b) + shift` as one map, if it is constant per output channel.
fn merge(op: &Op, scale: &Scale) -> Option<Affine> {
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
    for ((b, f), s) in bias.iter_mut().zip(&factor).zip(&shift) {
        *b = *b * f + s;
    }
    let bias = Some(Periodic::new(Weights::new(bias), inner));
    let mut merged = op.clone();
    match &mut merged {
        Affine::Dense(dense) => {
            let mut weight = dense.weight.exact().to_vec();
            for row in weight.chunks_exact_mut(channels) {
                row.iter_mut().zip(&factor).for_each(|(w, f)| *w *= f);
            }
            (dense.weight, dense.bias) = (Weights::new(weight), bias);
        }
        Affine::Conv(conv) => {
            let mut weight = conv.weight.exact().to_vec();
            let taps = weight.len() / channels;
            for (kernel, f) in weight.chunks_exact_mut(taps).zip(&factor) {
                for w in kernel {
                    *w *= f;
                }
            }
            (conv.weight, conv.bias) = (Weights::new(weight), bias);
        }
        _ => return None,
    }
    Some(merged)
}
