//! The operators of a graph as steps over samples that stand side by side.

use crate::graph::{Graph, ValueId};
use crate::kernels::{Finish, Gather, Layout, Neighbours, one_by_one, side_by_side};
use crate::ops::{Affine, Conv, Dense, Op, Periodic, Weights};

/// What is computed from which values.
pub(super) struct Step {
    pub(super) inputs: Vec<ValueId>,
    pub(super) output: ValueId,
    work: Work,
}

enum Work {
    /// A dense layer or convolution; a second input is added, and negative
    /// results become zero, as asked.
    Gather { map: Gather, relu: bool },
    /// A linear combination.
    Sum { coefficients: Vec<f32> },
    /// The same function of every entry, in place or not.
    Uniform,
    /// Anything else: one sample after the other.
    Rows,
}

/// The steps of a graph. Residual sums and `ReLU`s that follow a dense layer or
/// convolution, and are its only readers, become part of it.
pub(super) fn steps(graph: &Graph) -> Vec<Step> {
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
                    Some(Step { inputs: before, output: last, work: Work::Gather { relu: false, .. } }),
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
                steps.push(Step { inputs, output, work: Work::Gather { map: dense(op), relu: false } });
            }
            Op::Affine(Affine::Conv(op)) => {
                steps.push(Step {
                    inputs,
                    output,
                    work: Work::Gather { map: conv(op, graph.len(node.inputs[0])), relu: false },
                });
            }
            // A function without constants, or with one, is the same for all entries.
            Op::Elementwise(function) if function.parameters() <= 1 => {
                if let Some(Step { output: last, work: Work::Gather { relu: relu @ false, .. }, .. }) =
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

/// The constant of each output channel, or zeros.
fn bias(op: Option<&Periodic>, i: usize) -> f32 {
    op.map_or(0.0, |bias| bias.at(i) as f32)
}

fn dense(op: &Dense) -> Gather {
    let (terms, outputs) = (op.inputs, op.outputs);
    // A group for every row, so that outputs stand in order.
    let layout = Layout { terms, outputs, groups: 1, repeats: op.rows, inputs: terms };
    let weights = op.weight.single();
    let weight = |_, o, k| weights[k * op.outputs + o];
    let all = (0..op.inputs as u32).map(|k| [k, k]).collect();
    Gather::new(layout, weight, |row, o| bias(op.bias.as_ref(), row * op.outputs + o), vec![all], &[[0, 0]])
}

/// `len` counts the entries of the input, which may hold several images.
fn conv(op: &Conv, len: usize) -> Gather {
    let window = &op.window;
    let [ins, outs] = op.channels.map(|c| c / op.groups);
    let taps = window.taps();
    // The channels and places that are read and written.
    let (from, to, size) =
        if op.transposed { (outs, ins, window.positions()) } else { (ins, outs, window.pixels()) };
    let Neighbours { lists, places } = window.neighbours(op.transposed);
    let list = |list: Vec<[usize; 2]>| {
        let of = |channel: usize| {
            let term = move |&[tap, place]: &[usize; 2]| {
                [(channel * taps + tap) as u32, (channel * size + place) as u32]
            };
            list.iter().map(term).collect::<Vec<_>>()
        };
        (0..from).flat_map(of).collect()
    };
    let weights = op.weight.single();
    let weight = |group: usize, output: usize, term: usize| {
        let (channel, tap) = (term / taps, term % taps);
        let [i, o] = if op.transposed { [output, channel] } else { [channel, output] };
        weights[((group * outs + o) * ins + i) * taps + tap]
    };
    let (inputs, groups) = (from * size, op.groups);
    let repeats = len / (groups * inputs).max(1);
    let layout = Layout { terms: from * taps, outputs: to, groups, repeats, inputs };
    let stride = places.len();
    let bias = |group: usize, output: usize| bias(op.bias.as_ref(), (group * to + output) * stride);
    Gather::new(layout, weight, bias, lists.into_iter().map(list).collect(), &places)
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
            Work::Gather { map, relu } => {
                map.apply::<LANES>(x[0], y, Finish { add: x.get(1).copied(), relu: *relu });
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
                let Scratch { inputs, output, working } = scratch;
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
}
