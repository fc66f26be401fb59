//! Interval bound propagation (IBP): a box for every value of the network, one
//! rule per kind of operator.

use std::ops::Range;

use crate::graph::{Graph, ValueId};
use crate::kernels::{BOXES, Balls, Gather, Kernel, choose, dispatch};
use crate::ops::{Affine, Op, Weights};
use crate::rounding::{centres_radii, gamma, outward, underflow};

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
/// exact arithmetic lies in its interval. Where the network may have no value
/// (a logarithm of zero, a pole), or where bounds overflow, both ends are NaN,
/// and stay so in all that depends on it: no comparison with them succeeds.
#[must_use]
pub fn propagate(
    graph: &Graph,
    batch: usize,
    input: Intervals,
    keep: impl Fn(ValueId) -> bool,
) -> Vec<Intervals> {
    let last_uses = graph.last_uses();
    let kept: Vec<bool> = (0..=graph.nodes.len()).map(|v| v == graph.output || keep(v)).collect();
    let mut memory = Memory::default();
    let mut values = vec![Intervals::default(); kept.len()];
    for v in (1..kept.len()).filter(|&v| kept[v]) {
        values[v] = Intervals::unknown(batch * graph.len(v));
    }
    for first in (0..batch).step_by(BOXES) {
        let mut tile = vec![beside(&input, graph.input_len(), first..batch.min(first + BOXES))];
        for (index, node) in graph.nodes.iter().enumerate() {
            tile.push(node_beside(graph, index, &tile, &mut memory));
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
#[derive(Default)]
pub(super) struct Memory {
    entries: Vec<Balls>,
    live: Vec<bool>,
    results: Vec<Balls>,
    scratch: Vec<f64>,
}

/// Rows of values of `len` entries, each entry of [`BOXES`] of them side by side; those that are not there
/// repeat the last.
fn beside(values: &Intervals, len: usize, rows: Range<usize>) -> Intervals {
    let side = |ends: &[f64]| {
        let row = |lane: usize| &ends[(rows.start + lane).min(rows.end - 1) * len..][..len];
        let rows: [&[f64]; BOXES] = std::array::from_fn(row);
        let mut out = vec![[0.0; BOXES]; len];
        for (i, out) in out.iter_mut().enumerate() {
            for lane in 0..BOXES {
                out[lane] = rows[lane][i];
            }
        }
        out.into_flattened()
    };
    Intervals { lower: side(&values.lower), upper: side(&values.upper) }
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
fn node_beside(graph: &Graph, index: usize, values: &[Intervals], memory: &mut Memory) -> Intervals {
    let (node, len) = (&graph.nodes[index], graph.len(index + 1));
    let first = node.inputs[0];
    match &node.op {
        Op::Elementwise(function) => {
            let mut out = values[first].clone();
            function.ranges(len, BOXES, &mut out.lower, &mut out.upper);
            return out;
        }
        Op::Affine(op) => {
            if let Some(map) = op.boxes(graph.len(first)) {
                return boxes(op, map, &values[first], len, memory);
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
    beside(&node_bounds(graph, index, BOXES, &rows, &mut memory.scratch), len, 0..BOXES)
}

/// Bounds on the result of one node from those of the values before it.
pub(super) fn node_bounds(
    graph: &Graph,
    index: usize,
    batch: usize,
    values: &[Intervals],
    scratch: &mut Vec<f64>,
) -> Intervals {
    let node = &graph.nodes[index];
    if let Op::Elementwise(function) = &node.op {
        let mut out = values[node.inputs[0]].clone();
        function.ranges(graph.len(index + 1), 1, &mut out.lower, &mut out.upper);
        return out;
    }
    let mut out = Intervals::unknown(batch * graph.len(index + 1));
    match &node.op {
        Op::Affine(op) => {
            let inputs: Vec<_> = node.inputs.iter().map(|&v| &values[v]).collect();
            affine(op, batch, &inputs, &mut out, scratch);
        }
        Op::Elementwise(_) => unreachable!("done above"),
        Op::Product(op) => {
            let inputs: Vec<_> =
                node.inputs.iter().map(|&v| (&values[v].lower[..], &values[v].upper[..])).collect();
            op.interval(batch, &inputs, &mut out.lower, &mut out.upper, scratch);
        }
    }
    out
}

/// [`node_bounds`] of `B` boxes, with the bounds of each entry side by side, and for an affine node `|A|`
/// times the greatest absolute values in the intervals, a sum of as many terms.
pub(super) fn node_bounds_and_sizes<const B: usize>(
    graph: &Graph,
    index: usize,
    values: &[Intervals],
    memory: &mut Memory,
) -> (Intervals, Vec<f64>) {
    let (node, len) = (&graph.nodes[index], graph.len(index + 1));
    let bounds = |memory: &mut Memory| match B {
        BOXES => node_beside(graph, index, values, memory),
        _ => node_bounds(graph, index, B, values, &mut memory.scratch),
    };
    let Op::Affine(op) = &node.op else { return (bounds(memory), Vec::new()) };
    let sizes: Vec<Vec<f64>> = node.inputs.iter().map(|&v| values[v].magnitudes()).collect();
    if let Some(map) = op.boxes(graph.len(node.inputs[0])) {
        if B == 1 {
            return box_and_sizes(op, map, &values[node.inputs[0]], len);
        }
        let bounds = bounds(memory);
        let Memory { entries, live, results, .. } = memory;
        for ((ball, live), size) in
            entries.iter_mut().zip(live.iter_mut()).zip(sizes[0].as_chunks::<BOXES>().0)
        {
            *ball = Balls { centre: [0.0; BOXES], radius: *size };
            *live = *ball != Balls::default();
        }
        map.boxes(entries, live, results);
        return (bounds, results.iter().flat_map(|ball| ball.radius).collect());
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
    (bounds(memory), out)
}

/// Through `y = A x + b`: the centre goes through `A`, the radius through
/// `|A|`. The radius first takes up `gamma |c|`, which pays for the rounding of
/// both products, and the uncertainty of the coefficients.
fn affine(op: &Affine, batch: usize, inputs: &[&Intervals], out: &mut Intervals, scratch: &mut Vec<f64>) {
    if op.is_selection() {
        let ends =
            |side: fn(&Intervals) -> &[f64]| -> Vec<&[f64]> { inputs.iter().map(|x| side(x)).collect() };
        op.apply(Weights::exact, batch, &ends(|x| &x.lower), &mut out.lower, scratch);
        op.apply(Weights::exact, batch, &ends(|x| &x.upper), &mut out.upper, scratch);
        return;
    }
    let (error, floor) = costs(op);
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
    for (low, high) in out.lower.iter_mut().zip(&mut out.upper) {
        ([*low], [*high]) = results([*low], [*high], floor);
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
fn results<const N: usize>(centre: [f64; N], mut radius: [f64; N], floor: f64) -> ([f64; N], [f64; N]) {
    for i in 0..N {
        radius[i] += f64::EPSILON * centre[i].abs() + floor;
    }
    outward(centre, radius)
}

/// What rounding and uncertain coefficients cost a radius: relative to the inputs, and absolute.
fn costs(op: &Affine) -> (f64, f64) {
    let relative = gamma(op.terms()) + 2.0 * op.relative_error();
    (relative, op.bias_error() * (1.0 + f64::EPSILON) + underflow(op.terms()))
}

/// One box, and beside it `|A|` times its greatest absolute values.
fn box_and_sizes(op: &Affine, map: &Gather<f64>, x: &Intervals, len: usize) -> (Intervals, Vec<f64>) {
    let (error, floor) = costs(op);
    let entries: Vec<Balls> = (x.lower.iter().zip(&x.upper).zip(x.magnitudes()))
        .map(|((&lower, &upper), size)| {
            let ([centre], [radius]) = enlarged([lower], [upper], error);
            let mut ball = Balls::default();
            (ball.centre[0], ball.radius[0], ball.radius[1]) = (centre, radius, size);
            ball
        })
        .collect();
    let live: Vec<bool> = entries.iter().map(|ball| *ball != Balls::default()).collect();
    let mut balls = vec![Balls::default(); len];
    map.boxes(&entries, &live, &mut balls);
    let ends = balls.iter().map(|ball| results([ball.centre[0]], [ball.radius[0]], floor));
    let (lower, upper) = ends.map(|([lower], [upper])| (lower, upper)).unzip();
    (Intervals { lower, upper }, balls.iter().map(|ball| ball.radius[1]).collect())
}

/// As [`affine`], for dense layers and convolutions of boxes side by side.
fn boxes(op: &Affine, map: &Gather<f64>, x: &Intervals, len: usize, memory: &mut Memory) -> Intervals {
    let (error, floor) = costs(op);
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
    floor: f64,
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
