//! Lipschitz constants hold for pairs of inputs, and the error of an
//! evaluation in f32 stays within its bound.

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::exec::Plan;
use tightrope::graph::Graph;
use tightrope::lipschitz::Network;
use tightrope::onnx::{LoadOptions, load};
use tightrope::ops::Op;

use crate::networks::{Random, evaluate, functions, network};

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a - b))
}

/// Replaces what has no constant by what has one.
fn tame(graph: &mut Graph, random: &mut Random) {
    let usable = |f: &dyn tightrope::ops::Function| f.lipschitz().is_some();
    for node in &mut graph.nodes {
        let replace = match &node.op {
            Op::Elementwise(f) => !usable(&**f),
            Op::Product(p) => {
                !matches!(p, tightrope::ops::Product::Max { .. } | tightrope::ops::Product::LogSumExp { .. })
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
            let Some(constant) = f.lipschitz() else { continue };
            let i = random.below(4);
            let x = 5.0 * random.unit();
            let y = x + 10f64.powi(width) * random.unit();
            let change = (f.eval(i, x) - f.eval(i, y)).abs();
            let allowed = constant * (x - y).abs() + 2.0 * f.rounding(x, f.eval(i, x)) + 1e-15;
            prop_assert!(change <= allowed, "{} from {x} to {y}", f.name());
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
