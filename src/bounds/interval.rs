//! Interval bound propagation (IBP): a box for every value of the network, one
//! rule per kind of operator.

use super::rounding::{centre_radius, gamma, outward, underflow};
use crate::graph::{Graph, ValueId};
use crate::kernels::{BOXES, Balls, Gather, Kernel, dispatch};
use crate::ops::{Affine, Op, Weights};

/// Bounds of one value for a batch of inputs: `batch * len` entries each.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// Lower bounds.
    pub lower: Vec<f64>,
    /// Upper bounds.
    pub upper: Vec<f64>,
}

impl Intervals {
    fn unknown(len: usize) -> Self {
        Self { lower: vec![f64::NEG_INFINITY; len], upper: vec![f64::INFINITY; len] }
    }
}

/// Bounds on the values of the network for `batch` input boxes; values for
/// which `keep` is false are dropped (left empty) after their last use.
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
    let mut values = vec![input];
    let mut scratch = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        values.push(node_bounds(graph, index, batch, &values, &mut scratch));
        for &v in &node.inputs {
            if last_uses[v] == index && !keep(v) {
                values[v] = Intervals::default();
            }
        }
    }
    values
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
        function.ranges(graph.len(index + 1), &mut out.lower, &mut out.upper);
        return out;
    }
    let mut out = Intervals::unknown(batch * graph.len(index + 1));
    match &node.op {
        Op::Affine(op) => {
            let inputs: Vec<_> = node.inputs.iter().map(|&v| &values[v]).collect();
            match op.boxes(graph.len(node.inputs[0])) {
                Some(map) => boxes(op, map, batch, inputs[0], &mut out),
                None => affine(op, batch, &inputs, &mut out, scratch),
            }
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
    let terms = op.terms();
    let error = gamma(terms) + 2.0 * op.relative_error();
    let (centres, radii): (Vec<Vec<f64>>, Vec<Vec<f64>>) = inputs
        .iter()
        .map(|x| x.lower.iter().zip(&x.upper).map(|(&l, &u)| enlarged(l, u, error)).unzip())
        .unzip();
    let centres: Vec<&[f64]> = centres.iter().map(Vec::as_slice).collect();
    let radii: Vec<&[f64]> = radii.iter().map(Vec::as_slice).collect();
    op.apply(Weights::exact, batch, &centres, &mut out.lower, scratch);
    op.linear(Weights::absolute, batch, &radii, &mut out.upper, scratch);
    let floor = op.bias_error() * (1.0 + f64::EPSILON) + underflow(terms);
    for (low, high) in out.lower.iter_mut().zip(&mut out.upper) {
        (*low, *high) = result(*low, *high, floor);
    }
}

/// Centre and radius of an entry, the radius with what it is charged for rounding.
#[inline(always)]
fn enlarged(lower: f64, upper: f64, error: f64) -> (f64, f64) {
    let (c, r) = centre_radius(lower, upper);
    // An entry that is exactly zero contributes no error.
    let floor = if c == 0.0 && r == 0.0 { 0.0 } else { underflow(0) };
    (c, r + error * (c.abs() + r) + floor)
}

/// The interval of an affine map's result; its bias was added with one more rounding.
#[inline(always)]
fn result(centre: f64, radius: f64, floor: f64) -> (f64, f64) {
    outward(centre, radius + f64::EPSILON * centre.abs() + floor)
}

/// As [`affine`], for dense layers and convolutions: several boxes side by side.
fn boxes(op: &Affine, map: &Gather<f64>, batch: usize, x: &Intervals, out: &mut Intervals) {
    let terms = op.terms();
    let error = gamma(terms) + 2.0 * op.relative_error();
    let floor = op.bias_error() * (1.0 + f64::EPSILON) + underflow(terms);
    let [from, to] = [&x.lower, &out.lower].map(|ends| ends.len() / batch.max(1));
    let (mut balls, mut results) = (vec![Balls::default(); from], vec![Balls::default(); to]);
    let mut live = vec![false; from];
    for first in (0..batch).step_by(BOXES) {
        let count = BOXES.min(batch - first);
        // Boxes that are not there repeat the last one.
        let row = |lane: usize, len: usize| {
            let at = (first + lane.min(count - 1)) * len;
            at..at + len
        };
        let lower: [&[f64]; BOXES] = std::array::from_fn(|lane| &x.lower[row(lane, from)]);
        let upper: [&[f64]; BOXES] = std::array::from_fn(|lane| &x.upper[row(lane, from)]);
        dispatch(Enter { lower, upper, error, balls: &mut balls, live: &mut live });
        map.boxes(&balls, &live, &mut results);
        for lane in 0..count {
            let (lower, upper) = (&mut out.lower[row(lane, to)], &mut out.upper[row(lane, to)]);
            dispatch(Leave { results: &results, lane, floor, lower, upper });
        }
    }
}

/// Intervals to centres and enlarged radii, side by side.
struct Enter<'a> {
    lower: [&'a [f64]; BOXES],
    upper: [&'a [f64]; BOXES],
    error: f64,
    balls: &'a mut [Balls],
    live: &'a mut [bool],
}

impl Kernel for Enter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (i, (ball, live)) in self.balls.iter_mut().zip(self.live).enumerate() {
            for lane in 0..BOXES {
                (ball.centre[lane], ball.radius[lane]) =
                    enlarged(self.lower[lane][i], self.upper[lane][i], self.error);
            }
            *live = *ball != Balls::default();
        }
    }
}

/// Results of one lane to intervals.
struct Leave<'a> {
    results: &'a [Balls],
    lane: usize,
    floor: f64,
    lower: &'a mut [f64],
    upper: &'a mut [f64],
}

impl Kernel for Leave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let ends = self.lower.iter_mut().zip(self.upper);
        for (ball, (low, high)) in self.results.iter().zip(ends) {
            (*low, *high) = result(ball.centre[self.lane], ball.radius[self.lane], self.floor);
        }
    }
}
