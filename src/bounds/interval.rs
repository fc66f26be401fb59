//! Interval bound propagation (IBP): a box for every value of the network, one
//! rule per kind of operator.

use super::rounding::{centre_radius, gamma, outward, underflow};
use crate::graph::{Graph, ValueId};
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
    let mut out = Intervals::unknown(batch * graph.len(index + 1));
    match &node.op {
        Op::Affine(op) => {
            let inputs: Vec<_> = node.inputs.iter().map(|&v| &values[v]).collect();
            affine(op, batch, &inputs, &mut out, scratch);
        }
        Op::Elementwise(function) => {
            let x = &values[node.inputs[0]];
            let len = graph.len(index + 1).max(1);
            let ends = x.lower.iter().zip(&x.upper).zip(out.lower.iter_mut().zip(&mut out.upper));
            for (i, ((&l, &u), (low, high))) in ends.enumerate() {
                (*low, *high) = function.range(i % len, l, u);
            }
        }
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
        .map(|x| {
            x.lower
                .iter()
                .zip(&x.upper)
                .map(|(&l, &u)| {
                    let (c, r) = centre_radius(l, u);
                    // An entry that is exactly zero contributes no error.
                    let floor = if c == 0.0 && r == 0.0 { 0.0 } else { underflow(0) };
                    (c, r + error * (c.abs() + r) + floor)
                })
                .unzip()
        })
        .unzip();
    let centres: Vec<&[f64]> = centres.iter().map(Vec::as_slice).collect();
    let radii: Vec<&[f64]> = radii.iter().map(Vec::as_slice).collect();
    op.apply(Weights::exact, batch, &centres, &mut out.lower, scratch);
    op.linear(Weights::absolute, batch, &radii, &mut out.upper, scratch);
    let floor = op.bias_error() * (1.0 + f64::EPSILON) + underflow(terms);
    for (low, high) in out.lower.iter_mut().zip(&mut out.upper) {
        let (centre, radius) = (*low, *high);
        // The bias is added with one more rounding.
        (*low, *high) = outward(centre, radius + f64::EPSILON * centre.abs() + floor);
    }
}
