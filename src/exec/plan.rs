//! A graph compiled for evaluation: which buffer holds which value when.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::fuse::fuse;
use crate::graph::{Graph, ValueId};
use crate::ops::{Op, Weights};

/// A network ready to be evaluated on batches of inputs in `f32`.
///
/// An input's result has the same bits whatever other inputs stand in the
/// batch, and whatever the number of threads.
pub struct Plan {
    graph: Graph,
    /// The buffer of every value.
    buffers: Vec<usize>,
    /// Entries per input that each buffer must hold.
    sizes: Vec<usize>,
    tile: usize,
}

/// Buffers of one thread, reused from tile to tile.
pub struct Workspace {
    buffers: Vec<Vec<f32>>,
    scratch: Vec<f32>,
}

impl Plan {
    /// Compiles a graph.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        let graph = fuse(graph).graph;
        let last_uses = graph.last_uses();
        let mut sizes = vec![graph.input_len()];
        let mut buffers = vec![0];
        let mut free: Vec<usize> = Vec::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            let len = graph.len(i + 1);
            let dying = |v: ValueId| last_uses[v] == i;
            let buffer = if works_in_place(&node.op) && dying(node.inputs[0]) {
                buffers[node.inputs[0]]
            } else {
                let buffer = free.pop().unwrap_or(sizes.len());
                if buffer == sizes.len() {
                    sizes.push(0);
                }
                let mut released: Vec<usize> =
                    node.inputs.iter().filter(|&&v| dying(v)).map(|&v| buffers[v]).collect();
                released.sort_unstable();
                released.dedup();
                free.extend(released);
                buffer
            };
            sizes[buffer] = sizes[buffer].max(len);
            buffers.push(buffer);
            if last_uses[i + 1] == 0 {
                free.push(buffer);
            }
        }
        let largest = (0..=graph.nodes.len()).map(|v| graph.len(v)).max().unwrap_or(1);
        // Activations of a tile should stay in the second-level cache.
        let tile = ((1 << 17) / largest.max(1)).clamp(1, 64);
        Self { graph, buffers, sizes, tile }
    }

    /// Buffers for one thread.
    #[must_use]
    pub fn workspace(&self) -> Workspace {
        let buffers = self.sizes.iter().map(|size| vec![0.0; size * self.tile]).collect();
        Workspace { buffers, scratch: Vec::new() }
    }

    /// Number of inputs that are best given to [`Plan::run_tile`] at once; no
    /// more are accepted.
    #[must_use]
    pub fn tile(&self) -> usize {
        self.tile
    }

    /// Entries of one output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.graph.output_len()
    }

    /// Evaluates the network on every row of `inputs` (`n x input_len`), in
    /// parallel; returns `n x output_len`.
    ///
    /// # Panics
    /// If rows do not have the input's length.
    #[must_use]
    pub fn run(&self, inputs: ArrayView2<f32>) -> Array2<f32> {
        assert_eq!(inputs.ncols(), self.graph.input_len(), "rows are network inputs");
        let mut outputs = Array2::zeros((inputs.nrows(), self.output_len()));
        outputs
            .axis_chunks_iter_mut(Axis(0), self.tile)
            .into_par_iter()
            .zip(inputs.axis_chunks_iter(Axis(0), self.tile))
            .for_each_init(
                || self.workspace(),
                |workspace, (mut out, x)| {
                    let x = x.as_standard_layout();
                    let x = x.as_slice().expect("standard layout is contiguous");
                    let out = out.as_slice_mut().expect("rows of a fresh array are contiguous");
                    self.run_tile(workspace, x, out);
                },
            );
        outputs
    }

    /// Evaluates at most [`Plan::tile`] inputs on this thread: `x` holds
    /// `batch * input_len` entries, `out` `batch * output_len`. Does not
    /// allocate once the workspace has been used.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn run_tile(&self, workspace: &mut Workspace, x: &[f32], out: &mut [f32]) {
        let batch = x.len() / self.graph.input_len().max(1);
        assert!(batch <= self.tile && out.len() == batch * self.output_len(), "a tile fits its buffers");
        let Workspace { buffers, scratch } = workspace;
        buffers[0][..x.len()].copy_from_slice(x);
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let len = self.graph.len(i + 1);
            let target = self.buffers[i + 1];
            // Taken out so that the others can be read meanwhile.
            let mut result = std::mem::take(&mut buffers[target]);
            let y = &mut result[..batch * len];
            let value = |v: ValueId| -> &[f32] { &buffers[self.buffers[v]][..batch * self.graph.len(v)] };
            match &node.op {
                Op::Elementwise(function) => {
                    if self.buffers[node.inputs[0]] != target {
                        y.copy_from_slice(value(node.inputs[0]));
                    }
                    function.apply32(len, y);
                }
                Op::Affine(op) => with_inputs(&node.inputs, value, |inputs| {
                    op.apply(Weights::single, batch, inputs, y, scratch);
                }),
                Op::Product(op) => {
                    with_inputs(&node.inputs, value, |inputs| op.eval(batch, inputs, y, scratch));
                }
            }
            buffers[target] = result;
        }
        out.copy_from_slice(&buffers[self.buffers[self.graph.output]][..out.len()]);
    }
}

/// Whether the result may overwrite the input.
fn works_in_place(op: &Op) -> bool {
    matches!(op, Op::Elementwise(_))
}

/// Calls `f` with the slices of the inputs; only long lists are allocated.
fn with_inputs<'a>(inputs: &[ValueId], value: impl Fn(ValueId) -> &'a [f32], f: impl FnOnce(&[&[f32]])) {
    match inputs {
        [a] => f(&[value(*a)]),
        [a, b] => f(&[value(*a), value(*b)]),
        _ => f(&inputs.iter().map(|&v| value(v)).collect::<Vec<_>>()),
    }
}
