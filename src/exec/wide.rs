//! Evaluation in f64, where the rounding of f32 matters.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::fuse::fuse;
use crate::graph::Graph;
use crate::ops::{Op, Weights};

/// Inputs that pass through the network together.
const TILE: usize = 16;

/// A network that is evaluated operator by operator in f64; several times
/// slower than a [`Plan`](super::Plan).
pub struct Wide {
    graph: Graph,
}

impl Wide {
    /// The network with scales merged, as a plan has it.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        Self { graph: fuse(graph).graph }
    }

    /// Outputs (`n x output_len`) for a batch (`n x input_len`), rounded to
    /// f32 at the end. An input's result does not depend on the others.
    ///
    /// # Panics
    /// If the inputs have not as many entries as the network's.
    #[must_use]
    pub fn run(&self, x: ArrayView2<f32>) -> Array2<f32> {
        assert_eq!(x.ncols(), self.graph.input_len(), "inputs of the network");
        let mut out = Array2::zeros((x.nrows(), self.graph.output_len()));
        let tiles = out.axis_chunks_iter_mut(Axis(0), TILE).into_par_iter();
        tiles.zip(x.axis_chunks_iter(Axis(0), TILE)).for_each(|(mut out, x)| {
            let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let values = self.output(out.nrows(), x);
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value as f32);
        });
        out
    }

    fn output(&self, batch: usize, x: Vec<f64>) -> Vec<f64> {
        let graph = &self.graph;
        let last_uses = graph.last_uses();
        let mut values = vec![x];
        let mut scratch = Vec::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            let len = graph.len(i + 1);
            let inputs: Vec<&[f64]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
            let out = match &node.op {
                Op::Elementwise(f) => {
                    let mut out = inputs[0].to_vec();
                    f.apply64(len, &mut out);
                    out
                }
                Op::Affine(op) => {
                    let mut out = vec![0.0; batch * len];
                    op.apply(Weights::exact, batch, &inputs, &mut out, &mut scratch);
                    out
                }
                Op::Product(op) => {
                    let mut out = vec![0.0; batch * len];
                    op.eval(batch, &inputs, &mut out, &mut scratch);
                    out
                }
            };
            values.push(out);
            for &v in node.inputs.iter().filter(|&&v| last_uses[v] == i) {
                values[v] = Vec::new();
            }
        }
        values.swap_remove(graph.output)
    }
}
