//! Interval bound propagation (IBP): a box for every value of the network, one
//! rule per kind of operator.

use std::ops::Range;

use crate::graph::{Graph, ValueId};
use crate::kernels::{BOXES, Balls, Gather, Kernel, choose, dispatch};
use crate::ops::{Affine, Op, Weights};
use crate::rounding::{Evaluation, centres_radii, outward, underflow};

use super::float32::{self, Costs};

/// Bounds of one value for a batch of inputs: `batch * len` entries each.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// Lower bounds.
    pub lower: Vec<f64>,
    /// Upper bounds.
    pub upper: Vec<f64>,
}

impl Intervals {
    /// The greatest absolute value in each interval.
    pub(super) fn magnitudes(&self) -> Vec<f64> {
        self.lower.iter().zip(&self.upper).map(|(l, u)| l.abs().max(u.abs())).collect()
    }

    fn unknown(len: usize) -> Self {
        Self { lower: vec![f64::NEG_INFINITY; len], upper: vec![f64::INFINITY; len] }
    }
}

/// Bounds on the values of the network for `batch` input boxes. Only those of
/// the output and of values for which `keep` is true are kept; others are empty.
///
/// Soundness: for every input in its box, each entry of each value computed in
/// exact arithmetic lies in its interval; see [`propagate_evaluated`] for f32. Where the network may have no value
/// (a logarithm of zero, a pole), or where bounds overflow, both ends are NaN,
/// and stay so in all that depends on it: no comparison with them succeeds.
#[must_use]
pub fn propagate(
    graph: &Graph,
    batch: usize,
    input: Intervals,
    keep: impl Fn(ValueId) -> bool,
) -> Vec<Intervals> {
    propagate_evaluated(Evaluation::Real, graph, batch, input, keep)
}

/// [`propagate`] for a network that is evaluated in this arithmetic: in f32, for every input of f32 in its box
/// and every order of evaluation, each entry as computed lies in its interval. Both ends are NaN also where
/// an evaluation may overflow.
#[must_use]
pub fn propagate_evaluated(
    evaluation: Evaluation,
    graph: &Graph,
    batch: usize,
    mut input: Intervals,
    keep: impl Fn(ValueId) -> bool,
) -> Vec<Intervals> {
    float32::read(evaluation, &mut input);
    let last_uses = graph.last_uses();
    let kept: Vec<bool> = (0..=graph.nodes.len()).map(|v| v == graph.output || keep(v)).collect();
    let mut memory = Memory::new(evaluation);
    let mut values = vec![Intervals::default(); kept.len()];
    for v in (1..kept.len()).filter(|&v| kept[v]) {
        values[v] = Intervals::unknown(batch * graph.len(v));
    }
    for first in (0..batch).step_by(BOXES) {
        let mut tile = vec![beside(&input, graph.input_len(), first..batch.min(first + BOXES))];
        for (index, node) in graph.nodes.iter().enumerate() {
            tile.push(node_beside(graph, index, &tile, &mut memory).bounds);
            for &v in node.inputs.iter().filter(|&&v| last_uses[v] == index && !kept[v]) {
                tile[v] = Intervals::default();
            }
        }
        for v in (1..kept.len()).filter(|&v| kept[v]) {
            let rows = first * graph.len(v)..batch.min(first + BOXES) * graph.len(v);
            one_after_another(&tile[v].lower, &mut values[v].lower[rows.clone()]);
            one_after_another(&tile[v].upper, &mut values[v].upper[rows]);
        }
    }
    values[0] = if kept[0] { input } else { Intervals::default() };
    values
}

/// What [`node_beside`] works with.
pub(super) struct Memory {
    /// The arithmetic of the network.
    evaluation: Evaluation,
    entries: Vec<Balls>,
    live: Vec<bool>,
    results: Vec<Balls>,
    scratch: Vec<f64>,
}

impl Memory {
    pub(super) fn new(evaluation: Evaluation) -> Self {
        let (entries, live, results, scratch) = Default::default();
        Self { evaluation, entries, live, results, scratch }
    }
}

/// A node's result.
#[derive(Default)]
pub(super) struct Computed {
    /// Bounds on its entries.
    pub(super) bounds: Intervals,
    /// How far an entry may lie from the exact function of the inputs as they were computed; empty if
    /// nothing rounds, as in real arithmetic, and for affine maps, whose errors follow from [`Computed::sums`].
    pub(super) errors: Vec<f64>,
    /// For an affine map, `|A|` times the greatest absolute values in the intervals, if they are asked for.
    pub(super) sums: Vec<f64>,
}

/// Rows of values of `len` entries, each entry of [`BOXES`] of them side by side; those that are not there
/// repeat the last.
fn beside(values: &Intervals, len: usize, rows: Range<usize>) -> Intervals {
    let side = |ends: &[f64]| numbers_beside(ends, len, rows.clone());
    Intervals { lower: side(&values.lower), upper: side(&values.upper) }
}

fn numbers_beside(numbers: &[f64], len: usize, rows: Range<usize>) -> Vec<f64> {
    let row = |lane: usize| &numbers[(rows.start + lane).min(rows.end - 1) * len..][..len];
    let rows: [&[f64]; BOXES] = std::array::from_fn(row);
    let mut out = vec![[0.0; BOXES]; len];
    for (i, out) in out.iter_mut().enumerate() {
        for lane in 0..BOXES {
            out[lane] = rows[lane][i];
        }
    }
    out.into_flattened()
}

/// The reverse of [`beside`], for as many rows as `out` holds.
fn one_after_another(ends: &[f64], out: &mut [f64]) {
    turn::<BOXES>(ends, out);
}

/// From numbers of `B` boxes side by side to rows.
fn turn<const B: usize>(ends: &[f64], out: &mut [f64]) {
    let (ends, _) = ends.as_chunks::<B>();
    for (lane, row) in out.chunks_exact_mut(ends.len().max(1)).enumerate() {
        for (out, ends) in row.iter_mut().zip(ends) {
            *out = ends[lane];
        }
    }
}

/// [`node_bounds`] of [`BOXES`] inputs, with the bounds of each entry side by side.
fn node_beside(graph: &Graph, index: usize, values: &[Intervals], memory: &mut Memory) -> Computed {
    let (node, len) = (&graph.nodes[index], graph.len(index + 1));
    let first = node.inputs[0];
    match &node.op {
        Op::Elementwise(_) => return elementwise(graph, index, BOXES, values, memory.evaluation),
        Op::Affine(op) => {
            let costs = Costs::new(op, memory.evaluation, || float32::largest(&[&values[first]]));
            if let Some(map) = op.boxes(graph.len(first)).filter(|_| !costs.overflow) {
                let bounds = boxes(map, &costs, &values[first], len, memory);
                return Computed { bounds, ..Computed::default() };
            }
        }
        Op::Product(_) => (),
    }
    let mut rows = vec![Intervals::default(); values.len()];
    for &v in &node.inputs {
        rows[v] = Intervals::unknown(values[v].lower.len());
        one_after_another(&values[v].lower, &mut rows[v].lower);
        one_after_another(&values[v].upper, &mut rows[v].upper);
    }
    let Computed { bounds, errors, .. } = node_bounds(graph, index, BOXES, &rows, memory);
    let errors = if errors.is_empty() { errors } else { numbers_beside(&errors, len, 0..BOXES) };
    Computed { bounds: beside(&bounds, len, 0..BOXES), errors, ..Computed::default() }
}

/// Through an elementwise function, each entry as many times `beside` itself as there are boxes side by side.
fn elementwise(
    graph: &Graph,
    index: usize,
    beside: usize,
    values: &[Intervals],
    evaluation: Evaluation,
) -> Computed {
    let (node, len) = (&graph.nodes[index], graph.len(index + 1));
    let Op::Elementwise(function) = &node.op else { unreachable!("asked of functions") };
    let input = &values[node.inputs[0]];
    let mut bounds = input.clone();
    function.ranges(len, beside, &mut bounds.lower, &mut bounds.upper);
    let mut errors = Vec::new();
    if evaluation == Evaluation::Float32 {
        errors = float32::function_errors(&**function, input, &bounds);
        float32::widen(&mut bounds, &errors);
    }
    Computed { bounds, errors, ..Computed::default() }
}

/// Bounds on the result of one node from those of the values before it.
fn node_bounds(
    graph: &Graph,
    index: usize,
    batch: usize,
    values: &[Intervals],
    memory: &mut Memory,
) -> Computed {
    let node = &graph.nodes[index];
    let mut bounds = Intervals::unknown(batch * graph.len(index + 1));
    let mut errors = Vec::new();
    match &node.op {
        Op::Affine(op) => {
            let inputs: Vec<_> = node.inputs.iter().map(|&v| &values[v]).collect();
            affine(op, batch, &inputs, &mut bounds, memory);
        }
        Op::Elementwise(_) => return elementwise(graph, index, 1, values, memory.evaluation),
        Op::Product(op) => {
            let inputs: Vec<_> =
                node.inputs.iter().map(|&v| (&values[v].lower[..], &values[v].upper[..])).collect();
            op.interval(batch, &inputs, &mut bounds.lower, &mut bounds.upper, &mut memory.scratch);
            if memory.evaluation == Evaluation::Float32 {
                errors = op.single_errors(batch, &inputs, &bounds.magnitudes());
                float32::widen(&mut bounds, &errors);
            }
        }
    }
    Computed { bounds, errors, ..Computed::default() }
}

/// [`node_bounds`] of `B` boxes, with the bounds of each entry side by side, and for an affine node `|A|`
/// times the greatest absolute values in the intervals, a sum of as many terms.
pub(super) fn node_bounds_and_sizes<const B: usize>(
    graph: &Graph,
    index: usize,
    values: &[Intervals],
    memory: &mut Memory,
) -> Computed {
    let mut computed = sized::<B>(graph, index, values, memory);
    if let (Op::Affine(op), Evaluation::Float32) = (&graph.nodes[index].op, memory.evaluation) {
        let inputs: Vec<_> = graph.nodes[index].inputs.iter().map(|&v| &values[v]).collect();
        computed.errors = float32::affine_errors::<B>(op, &inputs, &computed.sums);
    }
    computed
}

fn sized<const B: usize>(graph: &Graph, index: usize, values: &[Intervals], memory: &mut Memory) -> Computed {
    let (node, len) = (&graph.nodes[index], graph.len(index + 1));
    let bounds = |memory: &mut Memory| match B {
        BOXES => node_beside(graph, index, values, memory),
        _ => node_bounds(graph, index, B, values, memory),
    };
    let Op::Affine(op) = &node.op else { return bounds(memory) };
    let sizes: Vec<Vec<f64>> = node.inputs.iter().map(|&v| values[v].magnitudes()).collect();
    if let Some(map) = op.boxes(graph.len(node.inputs[0])) {
        if B == 1 {
            let x = &values[node.inputs[0]];
            let costs = Costs::new(op, memory.evaluation, || float32::largest(&[x]));
            let mut computed = box_and_sizes(map, &costs, x, len);
            if costs.overflow {
                float32::overflow(op, 1, &[x], &mut computed.bounds, &mut memory.scratch);
            }
            return computed;
        }
        let computed = bounds(memory);
        let Memory { entries, live, results, .. } = memory;
        entries.resize(sizes[0].len() / BOXES, Balls::default());
        live.resize(entries.len(), false);
        results.resize(len, Balls::default());
        for ((ball, live), size) in
            entries.iter_mut().zip(live.iter_mut()).zip(sizes[0].as_chunks::<BOXES>().0)
        {
            *ball = Balls { centre: [0.0; BOXES], radius: *size };
            *live = *ball != Balls::default();
        }
        map.boxes(entries, live, results);
        return Computed { sums: results.iter().flat_map(|ball| ball.radius).collect(), ..computed };
    }
    let mut rows: Vec<Vec<f64>> = sizes.iter().map(|sizes| vec![0.0; sizes.len()]).collect();
    for (row, sizes) in rows.iter_mut().zip(&sizes) {
        turn::<B>(sizes, row);
    }
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let (mut sums, mut out) = (vec![0.0; B * len], vec![0.0; B * len]);
    op.linear(Weights::absolute, B, &rows, &mut sums, &mut memory.scratch);
    for (b, row) in sums.chunks_exact(len.max(1)).enumerate() {
        row.iter().enumerate().for_each(|(i, sum)| out[i * B + b] = *sum);
    }
    Computed { sums: out, ..bounds(memory) }
}

/// Through `y = A x + b`: the centre goes through `A`, the radius through
/// `|A|`. The radius first takes up `gamma |c|`, which pays for the rounding of
/// both products, and the uncertainty of the coefficients.
fn affine(op: &Affine, batch: usize, inputs: &[&Intervals], out: &mut Intervals, memory: &mut Memory) {
    let Memory { evaluation, scratch, .. } = memory;
    if op.is_selection() {
        let ends =
            |side: fn(&Intervals) -> &[f64]| -> Vec<&[f64]> { inputs.iter().map(|x| side(x)).collect() };
        op.apply(Weights::exact, batch, &ends(|x| &x.lower), &mut out.lower, scratch);
        op.apply(Weights::exact, batch, &ends(|x| &x.upper), &mut out.upper, scratch);
        return;
    }
    let largest = |b: usize| {
        let of = |ends: &[f64]| {
            let n = ends.len() / batch;
            ends[b * n..(b + 1) * n].iter().fold(0.0, |most: f64, end| most.max(end.abs()))
        };
        inputs.iter().fold(0.0, |most: f64, x| most.max(of(&x.lower)).max(of(&x.upper)))
    };
    let costs: Vec<Costs<1>> = (0..batch).map(|b| Costs::new(op, *evaluation, || [largest(b)])).collect();
    let (Some(error), len) = (costs.first().map(|c| c.relative), out.lower.len() / batch.max(1)) else {
        return;
    };
    let (centres, radii): (Vec<Vec<f64>>, Vec<Vec<f64>>) = inputs
        .iter()
        .map(|x| {
            let balls = x.lower.iter().zip(&x.upper).map(|(&l, &u)| enlarged([l], [u], error));
            balls.map(|([centre], [radius])| (centre, radius)).unzip()
        })
        .unzip();
    let centres: Vec<&[f64]> = centres.iter().map(Vec::as_slice).collect();
    let radii: Vec<&[f64]> = radii.iter().map(Vec::as_slice).collect();
    op.apply(Weights::exact, batch, &centres, &mut out.lower, scratch);
    op.linear(Weights::absolute, batch, &radii, &mut out.upper, scratch);
    for (i, (low, high)) in out.lower.iter_mut().zip(&mut out.upper).enumerate() {
        ([*low], [*high]) = results([*low], [*high], costs[i / len].floor);
    }
    if costs.iter().any(|costs| costs.overflow) {
        float32::overflow(op, batch, inputs, out, scratch);
    }
}

/// Centres and radii of intervals side by side, the radii with what they are charged for rounding.
#[inline(always)]
fn enlarged<const N: usize>(lower: [f64; N], upper: [f64; N], error: f64) -> ([f64; N], [f64; N]) {
    let (centre, mut radius) = centres_radii(lower, upper);
    for i in 0..N {
        let size = centre[i].abs() + radius[i];
        // An entry that is exactly zero contributes no error.
        radius[i] += error * size + choose(size == 0.0, 0.0, underflow(0));
    }
    (centre, radius)
}

/// The intervals of an affine map's results; its bias was added with one more rounding.
#[inline(always)]
fn results<const N: usize>(centre: [f64; N], mut radius: [f64; N], floor: [f64; N]) -> ([f64; N], [f64; N]) {
    for i in 0..N {
        radius[i] += f64::EPSILON * centre[i].abs() + floor[i];
    }
    outward(centre, radius)
}

/// One box, and beside it `|A|` times its greatest absolute values.
fn box_and_sizes(map: &Gather<f64>, costs: &Costs<1>, x: &Intervals, len: usize) -> Computed {
    let entries: Vec<Balls> = (x.lower.iter().zip(&x.upper).zip(x.magnitudes()))
        .map(|((&lower, &upper), size)| {
            let ([centre], [radius]) = enlarged([lower], [upper], costs.relative);
            let mut ball = Balls::default();
            (ball.centre[0], ball.radius[0], ball.radius[1]) = (centre, radius, size);
            ball
        })
        .collect();
    let live: Vec<bool> = entries.iter().map(|ball| *ball != Balls::default()).collect();
    let mut balls = vec![Balls::default(); len];
    map.boxes(&entries, &live, &mut balls);
    let ends = balls.iter().map(|ball| results([ball.centre[0]], [ball.radius[0]], costs.floor));
    let (lower, upper) = ends.map(|([lower], [upper])| (lower, upper)).unzip();
    let sums = balls.iter().map(|ball| ball.radius[1]).collect();
    Computed { bounds: Intervals { lower, upper }, sums, ..Computed::default() }
}

/// As [`affine`], for dense layers and convolutions of boxes side by side.
fn boxes(
    map: &Gather<f64>,
    costs: &Costs<BOXES>,
    x: &Intervals,
    len: usize,
    memory: &mut Memory,
) -> Intervals {
    let &Costs { relative: error, floor, .. } = costs;
    let Memory { entries, live, results, .. } = memory;
    let (lower, _) = x.lower.as_chunks();
    let (upper, _) = x.upper.as_chunks();
    entries.resize(lower.len(), Balls::default());
    live.resize(lower.len(), false);
    results.resize(len, Balls::default());
    dispatch(Enter { lower, upper, error, entries, live });
    map.boxes(entries, live, results);
    let [mut lower, mut upper] = [(); 2].map(|()| vec![[0.0; BOXES]; len]);
    dispatch(Leave { balls: results, floor, lower: &mut lower, upper: &mut upper });
    Intervals { lower: lower.into_flattened(), upper: upper.into_flattened() }
}

/// Intervals to centres and enlarged radii.
struct Enter<'a> {
    lower: &'a [[f64; BOXES]],
    upper: &'a [[f64; BOXES]],
    error: f64,
    entries: &'a mut [Balls],
    live: &'a mut [bool],
}

impl Kernel for Enter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let ends = self.lower.iter().zip(self.upper);
        for ((ball, live), (lower, upper)) in self.entries.iter_mut().zip(self.live).zip(ends) {
            (ball.centre, ball.radius) = enlarged(*lower, *upper, self.error);
            *live = *ball != Balls::default();
        }
    }
}

/// Centres and radii of results to intervals.
struct Leave<'a> {
    balls: &'a [Balls],
    floor: [f64; BOXES],
    lower: &'a mut [[f64; BOXES]],
    upper: &'a mut [[f64; BOXES]],
}

impl Kernel for Leave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (ball, (lower, upper)) in self.balls.iter().zip(self.lower.iter_mut().zip(self.upper)) {
            (*lower, *upper) = results(ball.centre, ball.radius, self.floor);
        }
    }
}
