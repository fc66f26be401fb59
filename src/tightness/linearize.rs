//! The linear network that stands in for a piecewise-linear one.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounds::Intervals;
use crate::graph::Graph;
use crate::ops::{Function, Op, Weights};

/// Which linear network stands for the given one: how every activation is
/// replaced by a diagonal of slopes.
///
/// A maximum (max pooling) always selects its arg-max at the reference point:
/// the centre of the box under [`Mask::Center`], else the input itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// The slopes at the input.
    #[default]
    Local,
    /// The slopes at the centre of the box.
    Center,
    /// Slope 1 everywhere: every activation taken as the identity.
    Identity,
    /// The slope where interval bounds prove that the whole box lies in one
    /// linear piece, and 1 elsewhere: of relus, only those that are proved
    /// inactive are masked.
    Stable,
}

/// An operator that has no linear stand-in.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "node `{node}` ({origin}): {what} is not piecewise linear; tightness accepts affine maps, \
     relu, leaky relu, clip, abs and maxima"
)]
pub struct Unsupported {
    /// The node's name.
    pub node: String,
    /// The ONNX operator that it comes from.
    pub origin: String,
    /// What it computes.
    pub what: String,
}

/// What a node does to small changes of its inputs, for a batch of inputs.
pub(super) enum Action {
    /// No path leads from it to the output.
    Unused,
    /// An affine map, the same for all inputs.
    Affine,
    /// Changes pass as they are.
    Identity,
    /// Entry by entry a factor: `batch * len`.
    Slopes(Vec<f64>),
    /// Every entry of the result follows one entry of the concatenated
    /// inputs: `batch * len`.
    Choose(Vec<u32>),
}

/// For every node, whether the output depends on it.
///
/// # Errors
/// [`Unsupported`] for one of these that is not piecewise linear.
pub(super) fn used_nodes(graph: &Graph) -> Result<Vec<bool>, Unsupported> {
    let mut needed = vec![false; graph.nodes.len() + 1];
    needed[graph.output] = true;
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if !needed[i + 1] {
            continue;
        }
        if !node.op.is_piecewise_linear() {
            let what = match &node.op {
                Op::Elementwise(function) => function.name().to_owned(),
                Op::Product(product) => product.name().to_owned(),
                Op::Affine(_) => continue,
            };
            return Err(Unsupported { node: node.name.clone(), origin: node.origin.clone(), what });
        }
        node.inputs.iter().for_each(|&v| needed[v] = true);
    }
    needed.remove(0);
    Ok(needed)
}

/// All values of the network in `f64` for `batch` inputs.
pub(super) fn evaluate(graph: &Graph, batch: usize, input: Vec<f64>) -> Vec<Vec<f64>> {
    let mut values = vec![input];
    let mut scratch = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<&[f64]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
        let len = graph.len(i + 1);
        let mut out = vec![0.0; batch * len];
        match &node.op {
            Op::Affine(op) => match op.boxes(graph.len(node.inputs[0])) {
                Some(map) => {
                    let zeros = vec![0.0; inputs[0].len()];
                    map.rows(batch, [inputs[0], &zeros], [&mut out, &mut vec![0.0; batch * len]]);
                }
                None => op.apply(Weights::exact, batch, &inputs, &mut out, &mut scratch),
            },
            Op::Elementwise(function) => {
                out.copy_from_slice(inputs[0]);
                function.apply64(len, &mut out);
            }
            Op::Product(op) => op.eval(batch, &inputs, &mut out, &mut scratch),
        }
        values.push(out);
    }
    values
}

/// The slope of the one linear piece that holds the whole interval, if there is one.
pub(super) fn piece(function: &dyn Function, i: usize, lower: f64, upper: f64) -> Option<f64> {
    let slope = function.slope(i, lower).filter(|s| Some(*s) == function.slope(i, upper))?;
    // A clip has slope 0 on two sides.
    let one = slope != 0.0 || function.eval(i, lower) == function.eval(i, upper);
    (one && lower <= upper).then_some(slope)
}

impl Mask {
    /// Where slopes and arg-maxima are read off: for each of a batch of inputs `x` with boxes `ends`.
    pub(super) fn reference(self, x: Vec<f64>, ends: &Intervals) -> Vec<f64> {
        match self {
            Self::Center => ends.lower.iter().zip(&ends.upper).map(|(l, u)| 0.5 * l + 0.5 * u).collect(),
            _ => x,
        }
    }

    /// What node `i` does, from the `values` before it at the reference points and, for
    /// [`Mask::Stable`], their interval bounds.
    pub(super) fn action(
        self,
        graph: &Graph,
        i: usize,
        batch: usize,
        values: &[Vec<f64>],
        boxes: &[Intervals],
    ) -> Action {
        let node = &graph.nodes[i];
        let (read, len) = (node.inputs[0], graph.len(i + 1).max(1));
        match &node.op {
            Op::Affine(_) => Action::Affine,
            Op::Elementwise(_) if self == Self::Identity => Action::Identity,
            Op::Elementwise(function) if self == Self::Stable => {
                let ends = (0..len).cycle().zip(boxes[read].lower.iter().zip(&boxes[read].upper));
                let slope = |(j, (&l, &u)): (usize, (&f64, &f64))| piece(&**function, j, l, u).unwrap_or(1.0);
                Action::Slopes(ends.map(slope).collect())
            }
            Op::Elementwise(function) => {
                let slope = |(j, &x): (usize, &f64)| function.slope(j, x).unwrap_or(f64::NAN);
                Action::Slopes((0..len).cycle().zip(&values[read]).map(slope).collect())
            }
            Op::Product(product) => {
                let sources: Vec<&[f64]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
                product.selection(batch, &sources).map_or(Action::Unused, Action::Choose)
            }
        }
    }
}
