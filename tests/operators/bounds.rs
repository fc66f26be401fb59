//! Interval bounds against the reference and against the network in `f64`.

use tightrope::Graph;
use tightrope::bounds::{Intervals, propagate};
use tightrope::graph::Node;
use tightrope::ops::{Op, Weights};

use super::cases::Case;

/// Points of a box that are evaluated beside the recorded ones.
const SAMPLES: usize = 24;
/// Relative rounding error of the evaluation in `f64`, generously.
const ROUNDING: f64 = 1e-11;
/// Steps over a box in which the range of a function is looked for.
const STEPS: usize = 400;
/// How far bounds may exceed the range found so, relative to its width.
const NEAR: f64 = 5e-3;
/// Relative width of the bounds of a single point: rounding only.
const TIGHT: f64 = 1e-9;

/// The network at one point, in `f64`.
fn evaluate(graph: &Graph, x: &[f64]) -> Vec<f64> {
    let mut values = vec![x.to_vec()];
    let mut scratch = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<&[f64]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
        let mut out = vec![0.0; graph.len(i + 1)];
        match &node.op {
            Op::Affine(op) => op.apply(Weights::exact, 1, &inputs, &mut out, &mut scratch),
            Op::Elementwise(function) => {
                out.copy_from_slice(inputs[0]);
                function.apply64(out.len(), &mut out);
            }
            Op::Product(op) => op.eval(1, &inputs, &mut out, &mut scratch),
        }
        values.push(out);
    }
    values.swap_remove(graph.output)
}

fn output_bounds(graph: &Graph, lower: Vec<f64>, upper: Vec<f64>) -> Intervals {
    propagate(graph, 1, Intervals { lower, upper }, |v| v == graph.output).swap_remove(graph.output)
}

/// Whether all values lie in the bounds up to `slack`. Bounds that are NaN say
/// that there may be no value, which must be so where there is none.
fn inside(
    bounds: &Intervals,
    values: impl Iterator<Item = f64>,
    slack: f64,
    what: &str,
) -> Result<(), String> {
    for (entry, ((value, &l), &u)) in values.zip(&bounds.lower).zip(&bounds.upper).enumerate() {
        let undefined = l.is_nan() && u.is_nan();
        let holds = undefined || (l - slack <= value && value <= u + slack);
        if !holds {
            return Err(format!("{what}: entry {entry} is {value}, bounds are [{l}, {u}]"));
        }
    }
    Ok(())
}

fn wide(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().map(|&y| y.into())
}

/// Numbers in [-1, 1] that look random; every fourth sample is a corner.
fn direction(sample: usize, entry: usize) -> f64 {
    let mut bits = (sample as u64) << 32 | entry as u64;
    for _ in 0..3 {
        bits = (bits ^ (bits >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    }
    let number = (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    if sample.is_multiple_of(4) { number.signum() } else { number }
}

/// Bounds over a box hold the reference's outputs and what the network gives at
/// sampled points.
pub(crate) fn check_box(case: &Case, graph: &Graph) -> Result<(), String> {
    let centre = case.centre();
    let shifted = |by: f64| -> Vec<f64> { centre.iter().map(|x| x + by).collect() };
    let bounds = output_bounds(graph, shifted(-case.radius), shifted(case.radius));
    for point in 0..case.points {
        inside(&bounds, wide(case.at(point)), case.slack(point), &format!("reference at point {point}"))?;
    }
    for sample in 0..SAMPLES {
        let moved = centre.iter().enumerate().map(|(i, x)| x + case.radius * direction(sample, i));
        let y = evaluate(graph, &moved.collect::<Vec<_>>());
        let scale = y.iter().filter(|y| y.is_finite()).fold(0.0f64, |m, y| m.max(y.abs()));
        inside(&bounds, y.into_iter(), ROUNDING * scale, &format!("sample {sample}"))?;
    }
    check_range(graph, &bounds, &shifted(-case.radius), &shifted(case.radius))
}

/// Bounds of a network of one elementwise function are reached.
fn check_range(graph: &Graph, bounds: &Intervals, lower: &[f64], upper: &[f64]) -> Result<(), String> {
    let [Node { op: Op::Elementwise(function), .. }] = &graph.nodes[..] else { return Ok(()) };
    for (entry, (&l, &u)) in bounds.lower.iter().zip(&bounds.upper).enumerate() {
        let at = |t: f64| function.eval(entry, lower[entry] + t * (upper[entry] - lower[entry]));
        let values = (0..=STEPS).map(|k| at(k as f64 / STEPS as f64));
        let (least, greatest) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, u), y| (l.min(y), u.max(y)));
        let slack = NEAR * (greatest - least).max(1e-6 * greatest.abs()) + f64::MIN_POSITIVE;
        if least - l > slack || u - greatest > slack {
            return Err(format!("entry {entry} takes [{least}, {greatest}], bounds are [{l}, {u}]"));
        }
    }
    Ok(())
}

/// Bounds of a single point are as wide as rounding only, and at the reference.
pub(crate) fn check_point(case: &Case, graph: &Graph) -> Result<(), String> {
    let bounds = output_bounds(graph, case.centre(), case.centre());
    inside(&bounds, wide(case.at(0)), case.slack(0), "reference")?;
    // Of the input too: a result may be small by cancellation.
    let scale = wide(case.at(0)).chain(case.centre()).filter(|y| y.is_finite());
    let scale = scale.fold(0.0f64, |m, y| m.max(y.abs()));
    let ends = bounds.lower.iter().zip(&bounds.upper).zip(case.at(0));
    for (entry, ((&l, &u), y)) in ends.enumerate() {
        if y.is_finite() && case.continuous && !(u - l <= TIGHT * scale + f64::MIN_POSITIVE) {
            return Err(format!("entry {entry} is {y}, bounds are [{l}, {u}], {:.1e} wide", u - l));
        }
    }
    Ok(())
}
