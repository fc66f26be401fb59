//! The operators of a graph as steps over samples that stand side by side.

use crate::graph::{Graph, ValueId};
use crate::kernels::{Aligned, Finish, Gather, Winograd, one_by_one, side_by_side};
use crate::ops::{Affine, Conv, Op, Weights};

/// What is computed from which values.
pub(super) struct Step {
    pub(super) inputs: Vec<ValueId>,
    pub(super) output: ValueId,
    work: Work,
}

enum Work {
    /// A dense layer or convolution; a second input is added, and negative
    /// results become zero, as asked.
    Map { map: Map, relu: bool },
    /// A linear combination.
    Sum { coefficients: Vec<f32> },
    /// The same function of every entry, in place or not.
    Uniform,
    /// Anything else: one sample after the other.
    Rows,
}

enum Map {
    Direct(Gather),
    Filtering(Winograd),
}

/// The steps of a graph, with minimal filtering where it pays if `fast`. Residual sums and `ReLU`s that
/// follow a dense layer or convolution, and are its only readers, become part of it.
pub(super) fn steps(graph: &Graph, fast: bool) -> Vec<Step> {
    let mut uses = vec![0; graph.nodes.len() + 1];
    graph.nodes.iter().flat_map(|n| &n.inputs).for_each(|&v| uses[v] += 1);
    uses[graph.output] += 1;
    let mut steps: Vec<Step> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (inputs, output) = (node.inputs.clone(), index + 1);
        match &node.op {
            Op::Affine(Affine::Sum(op)) => {
                // The last step can take up the sum if nothing else reads its
                // result and the other value is there already.
                if let (
                    Some(Step { inputs: before, output: last, work: Work::Map { relu: false, .. } }),
                    [a, b],
                ) = (steps.last_mut(), &inputs[..])
                    && op.coefficients.exact() == [1.0, 1.0]
                    && uses[*last] == 1
                    && before.len() == 1
                    && (a == last) != (b == last)
                {
                    before.push(if a == last { *b } else { *a });
                    *last = output;
                } else {
                    let work = Work::Sum { coefficients: op.coefficients.single().to_vec() };
                    steps.push(Step { inputs, output, work });
                }
            }
            Op::Affine(Affine::Dense(op)) => {
                let map = Map::Direct(op.gather(Weights::single));
                steps.push(Step { inputs, output, work: Work::Map { map, relu: false } });
            }
            Op::Affine(Affine::Conv(op)) => {
                let filtering = if fast { filtering(op, graph.len(node.inputs[0])) } else { None };
                let direct = || Map::Direct(op.gather(Weights::single, graph.len(node.inputs[0])));
                let map = filtering.map_or_else(direct, Map::Filtering);
                steps.push(Step { inputs, output, work: Work::Map { map, relu: false } });
            }
            Op::Elementwise(function) if function.is_uniform() => {
                if let Some(Step { output: last, work: Work::Map { relu: relu @ false, .. }, .. }) =
                    steps.last_mut()
                    && function.name() == "relu"
                    && *last == inputs[0]
                    && uses[inputs[0]] == 1
                {
                    (*last, *relu) = (output, true);
                } else {
                    steps.push(Step { inputs, output, work: Work::Uniform });
                }
            }
            _ => steps.push(Step { inputs, output, work: Work::Rows }),
        }
    }
    steps
}

/// A convolution by minimal filtering, where it is of the kind and it pays;
/// `len` counts the entries of the input.
fn filtering(op: &Conv, len: usize) -> Option<Winograd> {
    let (window, [inputs, outputs]) = (&op.window, op.channels);
    let step = window.stride[0];
    let kernel = Winograd::KERNELS.get(step.wrapping_sub(1)).copied().unwrap_or(0);
    let fits = window.kernel == [kernel; 2] && window.stride == [step; 2] && window.dilation == [1, 1];
    let one = op.groups == 1 && !op.transposed && len == inputs * window.pixels();
    if !fits || !one || !Winograd::pays(op.channels, step, window.out) {
        return None;
    }
    let weights = op.weight.single();
    let weight = |output, input, tap| weights[(output * inputs + input) * kernel * kernel + tap];
    let bias = |output| op.bias.as_ref().map_or(0.0, |bias| bias.at(output * window.positions()) as f32);
    Some(Winograd::new([inputs, outputs], step, [window.image, window.pad, window.out], weight, bias))
}

impl Step {
    /// Whether the result may overwrite the first input.
    pub(super) fn works_in_place(&self) -> bool {
        matches!(self.work, Work::Uniform)
    }

    /// Computes `y` from the values `x` of the inputs, each with `LANES`
    /// samples side by side, of which `samples` count. If the step works in
    /// place, `y` may hold the first input already, and there is no `x`.
    pub(super) fn run<const LANES: usize>(
        &self,
        graph: &Graph,
        samples: usize,
        x: &[&[f32]],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let len = graph.len(self.output);
        let node = &graph.nodes[self.output - 1];
        match &self.work {
            Work::Map { map, relu } => {
                let finish = Finish { add: x.get(1).copied(), relu: *relu };
                match map {
                    Map::Direct(map) => map.apply::<LANES>(x[0], y, finish),
                    Map::Filtering(map) => map.apply::<LANES>(x[0], y, finish, &mut scratch.points),
                }
            }
            Work::Sum { coefficients } => {
                for (i, (x, &c)) in x.iter().zip(coefficients).enumerate() {
                    for (y, &x) in y.iter_mut().zip(*x) {
                        *y = if i == 0 { c * x } else { *y + c * x };
                    }
                }
            }
            Work::Uniform => {
                let Op::Elementwise(function) = &node.op else { unreachable!("the step of a function") };
                if let [x] = x {
                    y.copy_from_slice(x);
                }
                function.apply32(y.len(), y);
            }
            Work::Rows => {
                let Scratch { inputs, output, working, .. } = scratch;
                inputs.resize_with(x.len().max(inputs.len()), Vec::new);
                for ((rows, x), &v) in inputs.iter_mut().zip(x).zip(&self.inputs) {
                    rows.resize(samples * graph.len(v), 0.0);
                    one_by_one::<LANES>(x, graph.len(v), rows);
                }
                let inputs: Vec<&[f32]> = inputs[..x.len()].iter().map(Vec::as_slice).collect();
                output.resize(samples * len, 0.0);
                match &node.op {
                    Op::Affine(op) => op.apply(Weights::single, samples, &inputs, output, working),
                    Op::Product(op) => op.eval(samples, &inputs, output, working),
                    Op::Elementwise(function) => {
                        output.copy_from_slice(inputs[0]);
                        function.apply32(len, output);
                    }
                }
                side_by_side::<LANES>(output, len, y);
            }
        }
    }
}

/// Working memory of steps.
#[derive(Default)]
pub(super) struct Scratch {
    inputs: Vec<Vec<f32>>,
    output: Vec<f32>,
    working: Vec<f32>,
    points: Aligned,
}
