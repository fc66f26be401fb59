//! No evaluation in f32, in whatever order, ever leaves the bounds that are said to hold for it.

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::bounds::{Evaluation, InputBox, Intervals, MarginBounds, propagate_evaluated};
use tightrope::graph::Graph;
use tightrope::ops::*;

use crate::adversarial::METHODS;
use crate::bounds::sample;
use crate::networks::{Random, network};
use crate::single::{Way, rows};

/// Points of f32 in a box.
fn points(random: &mut Random, lower: &[f64], upper: &[f64], n: usize) -> Vec<Vec<f32>> {
    let inside = |(&x, (&l, &u)): (&f64, (&f64, &f64))| {
        let near = x as f32;
        [near, near.next_up(), near.next_down()].into_iter().find(|&x| (l..=u).contains(&f64::from(x)))
    };
    let mut points = Vec::new();
    for _ in 0..n {
        let x = sample(random, lower, upper);
        let point: Option<Vec<f32>> = x.iter().zip(lower.iter().zip(upper)).map(inside).collect();
        points.extend(point);
    }
    points
}

/// Weights that hurt: in some affine nodes large ones, or subnormal ones.
fn hurt(random: &mut Random, graph: &mut Graph) {
    for node in &mut graph.nodes {
        let Op::Affine(op) = &mut node.op else { continue };
        let factor = match random.below(5) {
            0 => 2.0_f64.powi(20),
            1 => 1e-39,
            2 => 1e18,
            _ => continue,
        };
        let scaled = |w: &Weights| {
            Weights::new(w.exact().iter().map(|w| f64::from((w * factor) as f32)).collect::<Vec<_>>())
        };
        let shifted = |p: &mut Option<Periodic>| {
            if let Some(bias) = p {
                *bias = Periodic::new(scaled(bias.values()), bias.inner());
            }
        };
        match op {
            Affine::Dense(op) => {
                op.weight = scaled(&op.weight);
                shifted(&mut op.bias);
            }
            Affine::Conv(op) => {
                op.weight = scaled(&op.weight);
                shifted(&mut op.bias);
            }
            Affine::Scale(op) => {
                shifted(&mut op.scale);
                shifted(&mut op.shift);
            }
            Affine::Sum(_) => (),
            Affine::Sparse(op) => op.weights = op.weights.as_ref().map(scaled),
        }
    }
}

/// Every value at every point within its interval, and no margin below its bounds.
fn holds(
    random: &mut Random,
    graph: &Graph,
    (lower, upper): (&[f64], &[f64]),
    evaluations: usize,
) -> Result<usize, TestCaseError> {
    let input = Intervals { lower: lower.to_vec(), upper: upper.to_vec() };
    let intervals = propagate_evaluated(Evaluation::Float32, graph, 1, input, |_| true);
    let row = |x: &[f64]| Array2::from_shape_vec((1, x.len()), x.to_vec()).expect("one input");
    let set = InputBox::new(row(lower), row(upper)).expect("a box");
    let label = random.below(graph.output_len());
    let bounds = METHODS.map(|method| MarginBounds::new(graph, method).evaluated(Evaluation::Float32));
    let margins = bounds.each_ref().map(|bounds| bounds.bound(&set, &[label]).lower().row(0).to_vec());
    let outputs = bounds[2].outputs(&set);
    let rows = rows(graph);
    let (mut sharp, points) = (0, points(random, lower, upper, evaluations));
    for x in points {
        let way = Way::random(random);
        let values = way.evaluate(random, graph, &rows, &x);
        for (v, (y, bounds)) in values.iter().zip(&intervals).enumerate().skip(1) {
            for (i, &y) in y.iter().enumerate() {
                let (low, high) = (bounds.lower[i], bounds.upper[i]);
                let name = graph.nodes[v - 1].op.kind();
                prop_assert!(
                    low.is_nan() || (low..=high).contains(&f64::from(y)),
                    "{way:?}: {y:e} of {name} {v} outside [{low:e}, {high:e}]"
                );
            }
        }
        let logits = values[graph.output].iter().map(|&y| f64::from(y)).collect::<Vec<_>>();
        for (class, y) in logits.iter().enumerate() {
            let (low, high) = (outputs[0][[0, class]], outputs[1][[0, class]]);
            prop_assert!(low.is_nan() || (low..=high).contains(y), "{way:?}: {y:e} outside [{low:e}, {high:e}]");
            for (margins, method) in margins.iter().zip(METHODS).filter(|_| class != label) {
                let margin = logits[label] - y;
                prop_assert!(
                    margins[class] == f64::NEG_INFINITY || margin >= margins[class],
                    "{way:?}: {method:?} has {:e} below {margin:e}",
                    margins[class]
                );
                sharp += usize::from(margins[class].is_finite());
            }
        }
    }
    Ok(sharp)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn evaluations_in_f32_stay_inside_their_bounds(seed: u64, depth in 1usize..7, exponent in -9i32..1) {
        let mut random = Random::new(seed);
        let mut graph = network(&mut random, depth);
        if random.below(2) == 0 {
            hurt(&mut random, &mut graph);
        }
        let eps = if exponent == -9 { 0.0 } else { 10f64.powi(exponent) };
        let scale = [1.0, 1e-38, 1e6][random.below(3).min(random.below(3))];
        let centre: Vec<f64> = random.units(graph.input_len()).iter().map(|x| f64::from((x * scale) as f32)).collect();
        let end = |side: f64| centre.iter().map(|c| c + side * eps * scale).collect::<Vec<_>>();
        holds(&mut random, &graph, (&end(-1.0), &end(1.0)), 20)?;
    }
}
