//! Lipschitz constants hold for pairs of inputs, and the error of an
//! evaluation in f32 stays within its bound.

use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::exec::Plan;
use tightrope::graph::{Graph, Node};
use tightrope::lipschitz::Network;
use tightrope::onnx::{LoadOptions, load};
use tightrope::ops::*;

use crate::networks::{Random, evaluate, functions, network};

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a - b))
}

/// Replaces what has no constant by what has one.
fn tame(graph: &mut Graph, random: &mut Random) {
    let usable = |f: &dyn Function| f.lipschitz().is_some();
    for node in &mut graph.nodes {
        let replace = match &node.op {
            Op::Elementwise(f) => !usable(&**f),
            Op::Product(p) => {
                !matches!(p, Product::Max { .. } | Product::Rank { .. } | Product::LogSumExp { .. })
            }
            Op::Affine(_) => false,
        };
        if replace {
            let choice: Vec<_> = functions(random, 18).into_iter().filter(|f| usable(&**f)).collect();
            node.op = Op::Elementwise(choice[random.below(choice.len())].clone());
            node.inputs.truncate(1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn functions_are_as_steep_as_they_say(seed: u64, width in -5i32..2) {
        let mut random = Random::new(seed);
        for f in functions(&mut random, 4) {
            let Some([least, greatest]) = f.slopes() else { continue };
            let i = random.below(4);
            let x = 5.0 * random.unit();
            let y = x + 10f64.powi(width) * random.unit();
            let change = (f.eval(i, x) - f.eval(i, y)) * (x - y).signum();
            let rounding = 2.0 * f.rounding(x, f.eval(i, x)) + 1e-15;
            let [least, greatest] = [least, greatest].map(|slope| slope * (x - y).abs());
            prop_assert!((least - rounding..=greatest + rounding).contains(&change), "{} from {x} to {y}", f.name());
        }
    }

    #[test]
    fn constants_hold_on_random_networks(seed: u64, depth in 1usize..9, width in -3i32..2) {
        let mut random = Random::new(seed);
        let mut graph = network(&mut random, depth);
        tame(&mut graph, &mut random);
        let bounds = Network::new(&graph);
        let report = bounds.report();
        let total = report.total.expect("all nodes have constants");
        let evaluation = bounds.evaluation_error().expect("a bound");
        let plan = Plan::new(&graph);
        let scale = 10f64.powi(random.below(5) as i32 - 2);
        for _ in 0..4 {
            let x: Vec<f64> = random.units(18).iter().map(|v| scale * v).collect();
            let y: Vec<f64> = x.iter().map(|x| x + 10f64.powi(width) * random.unit()).collect();
            let (at_x, at_y) = (evaluate(&graph, &x), evaluate(&graph, &y));
            let (fx, fy) = (&at_x[graph.output], &at_y[graph.output]);
            let size = norm(fx.iter().copied()) + norm(fy.iter().copied()) + total * norm(x.iter().copied());
            let change = distance(fx, fy);
            prop_assert!(change <= total * distance(&x, &y) + 1e-11 * size, "{change} {total}");

            let row = Array2::from_shape_fn((1, 18), |(_, i)| x[i] as f32);
            let computed: Vec<f64> = plan.run(row.view()).iter().map(|&v| v.into()).collect();
            let error = distance(&computed, fx);
            let allowed = evaluation.at(norm(x.iter().copied()));
            prop_assert!(error <= allowed + 1e-11 * size, "{error} {allowed}");
        }
    }
}

/// A network of joins: two selections of earlier values, joined entry by entry in several ways.
fn joins(random: &mut Random, depth: usize) -> Graph {
    const LEN: usize = 6;
    let mut nodes: Vec<Node> = Vec::new();
    for i in 0..depth {
        let last = nodes.len();
        let [a, b] =
            [random.below(last + 1), if random.below(3) == 0 { last } else { random.below(last + 1) }];
        let coefficient = |random: &mut Random| [-1.0, 1.0, 0.5, -0.5, 2.0][random.below(5)];
        let (op, inputs) = match random.below(9) {
            0 => {
                let source: Vec<usize> = (0..LEN).map(|_| random.below(2 * LEN)).collect();
                (Op::Affine(Affine::Sparse(Sparse::select(vec![LEN, LEN], source))), vec![a, b])
            }
            1 | 2 => {
                let coefficients = Weights::new(vec![coefficient(random), coefficient(random)]);
                (Op::Affine(Affine::Sum(Sum { len: LEN, coefficients })), vec![a, b])
            }
            3 => {
                let scale = Some(Periodic::constant(coefficient(random)));
                let shift = (random.below(3) == 0).then(|| Periodic::constant(coefficient(random)));
                (Op::Affine(Affine::Scale(Scale { len: LEN, scale, shift, shift_error: 0.0 })), vec![a])
            }
            4 | 5 => {
                let groups = Groups::new((0..LEN).map(|i| [i, LEN + i]));
                (Op::Product(Product::Max { inputs: vec![LEN, LEN], groups }), vec![a, b])
            }
            6 => {
                let groups = Groups::new((0..LEN).map(|i| (0..3).map(move |k| i / 3 * 3 + k)));
                let ranks = (0..LEN).map(|_| random.below(3) as u32).collect();
                (Op::Product(Product::Rank { inputs: vec![LEN], groups, ranks }), vec![a])
            }
            7 => {
                let (low, high) = (Periodic::constant(-0.5), Periodic::constant(f64::INFINITY));
                (Op::Elementwise(Arc::new(Clip { low, high })), vec![a])
            }
            _ => {
                let all = functions(random, LEN);
                (Op::Elementwise(all[[0, 1, 3][random.below(3)]].clone()), vec![a])
            }
        };
        nodes.push(Node { name: format!("n{i}"), origin: "test".into(), op, inputs, shape: vec![1, LEN] });
    }
    Graph {
        input_name: "x".into(),
        input_shape: vec![1, LEN],
        output: nodes.len(),
        nodes,
        output_shape: vec![1, LEN],
        folded: vec![],
    }
}

/// The largest of some ratios of distances, from `x` in directions that power iteration on the differences
/// finds.
fn witnessed(graph: &Graph, x: &[f64], step: f64, directions: usize, random: &mut Random) -> f64 {
    let at = |x: &[f64]| evaluate(graph, x)[graph.output].clone();
    let fx = at(x);
    let mut columns = Vec::new();
    for j in 0..x.len() {
        let mut y = x.to_vec();
        y[j] += step;
        columns.push(at(&y).iter().zip(&fx).map(|(a, b)| (a - b) / step).collect::<Vec<f64>>());
    }
    let (mut d, mut best) = (random.units(x.len()), 0.0_f64);
    for _ in 0..directions {
        let size = norm(d.iter().copied()) + 1e-300;
        let y: Vec<f64> = x.iter().zip(&d).map(|(x, d)| x + step * d / size).collect();
        let change: Vec<f64> = at(&y).iter().zip(&fx).map(|(a, b)| a - b).collect();
        best = best.max(norm(change.iter().copied()) / distance(&y, x));
        d = columns.iter().map(|c| c.iter().zip(&change).map(|(a, b)| a * b).sum()).collect();
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn constants_hold_where_values_are_joined(seed: u64, depth in 1usize..12) {
        let mut random = Random::new(seed);
        let graph = joins(&mut random, depth);
        let total = Network::new(&graph).report().total.expect("a constant");
        for step in [1e-6, 1e-2, 1.0] {
            let x = random.units(graph.input_len());
            let ratio = witnessed(&graph, &x, step, 12, &mut random);
            prop_assert!(ratio <= total * (1.0 + 1e-8) + 1e-8, "{ratio} of at most {total}");
        }
    }
}

/// Shipped networks: the constants hold in random directions, and the error of
/// an evaluation in f32 stays within its bound.
#[test]
fn constants_hold_on_shipped_networks() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in ["mnist-mlp-noise25", "mnist-cnn-plain", "cifar-resnet20-noise25"] {
        let graph =
            load(folder.join(name).with_extension("onnx"), &LoadOptions::default()).expect("a network");
        let bounds = Network::new(&graph);
        let total = bounds.report().total.expect("a constant");
        let evaluation = bounds.evaluation_error().expect("a bound");
        let mut random = Random::new(7);
        let x: Vec<f64> = (0..graph.input_len()).map(|_| f64::from(random.unit().abs() as f32)).collect();
        let run = |x: &[f64]| {
            let point = tightrope::bounds::Intervals { lower: x.to_vec(), upper: x.to_vec() };
            let values = tightrope::bounds::propagate(&graph, 1, point, |v| v == graph.output);
            let ends = values[graph.output].lower.iter().zip(&values[graph.output].upper);
            // The centre is the evaluation in f64.
            ends.map(|(l, u)| 0.5 * l + 0.5 * u).collect::<Vec<f64>>()
        };
        let exact = run(&x);
        let mut steepest = 0.0_f64;
        for _ in 0..20 {
            let y: Vec<f64> = x.iter().map(|x| x + 1e-3 * random.unit()).collect();
            steepest = steepest.max(distance(&run(&y), &exact) / distance(&x, &y));
        }
        let row = Array2::from_shape_fn((1, x.len()), |(_, i)| x[i] as f32);
        let computed: Vec<f64> = Plan::new(&graph).run(row.view()).iter().map(|&v| v.into()).collect();
        let (error, allowed) =
            (distance(&computed, &exact), evaluation.mean(&[0.0], 0.0, norm(x.iter().copied())));
        println!(
            "{name}: constant {total:.4e}, steepest of 20 directions {steepest:.4e}; \
             error of an evaluation {error:.2e}, bound {allowed:.2e}"
        );
        assert!(steepest > 0.0 && steepest <= total && error > 0.0 && error <= allowed);
    }
}
