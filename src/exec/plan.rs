//! A graph compiled for evaluation: which buffer holds which value when.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::fuse::fuse;
use super::steps::{Scratch, Step, steps};
use crate::graph::{Graph, ValueId};
use crate::kernels::{Aligned, NARROW, WIDE, one_by_one, side_by_side};

/// A network ready to be evaluated on batches of inputs in `f32`.
///
/// An input's result has the same bits whatever other inputs stand in the
/// batch, and whatever the number of threads.
pub struct Plan {
    graph: Graph,
    steps: Vec<Step>,
    /// The buffer of every value that is kept.
    buffers: Vec<usize>,
    /// Entries per input that each buffer must hold.
    sizes: Vec<usize>,
}

/// Buffers of one thread, reused from tile to tile.
pub struct Workspace {
    buffers: Vec<Aligned>,
    scratch: Scratch,
}

impl Plan {
    /// Compiles a graph; every output is a plain sum, whose rounding
    /// [`crate::lipschitz`] bounds.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        Self::compile(graph, false)
    }

    /// Compiles a graph with minimal filtering of convolutions where it
    /// pays: several times faster, with a few times the rounding.
    #[must_use]
    pub fn fast(graph: &Graph) -> Self {
        Self::compile(graph, true)
    }

    fn compile(graph: &Graph, fast: bool) -> Self {
        let graph = fuse(graph).graph;
        let steps = steps(&graph, fast);
        let mut last_uses = vec![0; graph.nodes.len() + 1];
        for (i, step) in steps.iter().enumerate() {
            step.inputs.iter().for_each(|&v| last_uses[v] = i);
        }
        last_uses[graph.output] = usize::MAX;
        let mut sizes = vec![graph.input_len()];
        let mut buffers = vec![0; graph.nodes.len() + 1];
        let mut free: Vec<usize> = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            let dying = |v: ValueId| last_uses[v] == i;
            let buffer = if step.works_in_place() && dying(step.inputs[0]) {
                buffers[step.inputs[0]]
            } else {
                let buffer = free.pop().unwrap_or(sizes.len());
                if buffer == sizes.len() {
                    sizes.push(0);
                }
                let mut released: Vec<usize> =
                    step.inputs.iter().filter(|&&v| dying(v)).map(|&v| buffers[v]).collect();
                released.sort_unstable();
                released.dedup();
                free.extend(released);
                buffer
            };
            sizes[buffer] = sizes[buffer].max(graph.len(step.output));
            buffers[step.output] = buffer;
            if last_uses[step.output] == 0 {
                free.push(buffer);
            }
        }
        Self { graph, steps, buffers, sizes }
    }

    /// Buffers for one thread.
    #[must_use]
    pub fn workspace(&self) -> Workspace {
        let buffers = self.sizes.iter().map(|size| Aligned::zeros(size * WIDE)).collect();
        Workspace { buffers, scratch: Scratch::default() }
    }

    /// Number of inputs that are best given to [`Plan::run_tile`] at once; no
    /// more are accepted.
    #[must_use]
    pub fn tile(&self) -> usize {
        WIDE
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
            .axis_chunks_iter_mut(Axis(0), WIDE)
            .into_par_iter()
            .zip(inputs.axis_chunks_iter(Axis(0), WIDE))
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
    /// allocate for dense layers, convolutions and sums.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn run_tile(&self, workspace: &mut Workspace, x: &[f32], out: &mut [f32]) {
        let batch = x.len() / self.graph.input_len().max(1);
        assert!(batch <= WIDE && out.len() == batch * self.output_len(), "a tile fits its buffers");
        if batch <= NARROW {
            self.run_lanes::<NARROW>(workspace, batch, x, out);
        } else {
            self.run_lanes::<WIDE>(workspace, batch, x, out);
        }
    }

    fn run_lanes<const LANES: usize>(
        &self,
        workspace: &mut Workspace,
        batch: usize,
        x: &[f32],
        out: &mut [f32],
    ) {
        let Workspace { buffers, scratch } = workspace;
        let graph = &self.graph;
        side_by_side::<LANES>(x, graph.input_len(), &mut buffers[0]);
        for step in &self.steps {
            let target = self.buffers[step.output];
            // Taken out so that the others can be read meanwhile.
            let mut result = std::mem::take(&mut buffers[target]);
            let value = |&v: &ValueId| &buffers[self.buffers[v]][..LANES * graph.len(v)];
            let y = &mut result[..LANES * graph.len(step.output)];
            if step.works_in_place() && self.buffers[step.inputs[0]] == target {
                step.run::<LANES>(graph, batch, &[], y, scratch);
            } else {
                match &step.inputs[..] {
                    [a] => step.run::<LANES>(graph, batch, &[value(a)], y, scratch),
                    [a, b] => step.run::<LANES>(graph, batch, &[value(a), value(b)], y, scratch),
                    all => step.run::<LANES>(
                        graph,
                        batch,
                        &all.iter().map(value).collect::<Vec<_>>(),
                        y,
                        scratch,
                    ),
                }
            }
            buffers[target] = result;
        }
        one_by_one::<LANES>(&buffers[self.buffers[graph.output]], graph.output_len(), out);
    }
}
