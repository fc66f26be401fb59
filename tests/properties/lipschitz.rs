//! Lipschitz constants hold for pairs of inputs, and the error of an
//! evaluation in f32 stays within its bound.

use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::bounds::{InputBox, Method, Norm};
use tightrope::exec::{Plan, Wide};
use tightrope::graph::{Graph, Node};
use tightrope::lipschitz::{Network, margin_bounds};
use tightrope::onnx::{LoadOptions, load};
use tightrope::ops::*;

use crate::networks::{Random, conv, dense, evaluate, functions, network, scale};

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
        let wide = bounds.evaluation_error_wide().expect("a bound");
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
            let computed: Vec<f64> = Wide::new(&graph).run(row.view()).iter().map(|&v| v.into()).collect();
            let (error, allowed) = (distance(&computed, fx), wide.at(norm(x.iter().copied())));
            prop_assert!(error <= allowed + 1e-11 * size, "{error} {allowed} in f64");
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

/// Residual layers of dense layers, convolutions and their transposes, with scales between.
fn residuals(random: &mut Random, layers: usize) -> Graph {
    let mut graph = network(random, 0);
    for _ in 0..layers {
        let (base, kind) = (graph.nodes.len(), random.below(4));
        let mut last = base;
        let mut push = |op: Op, inputs: Vec<usize>| {
            let name = format!("n{}", graph.nodes.len());
            graph.nodes.push(Node { name, origin: "test".into(), op, inputs, shape: vec![1, 2, 3, 3] });
            graph.nodes.len()
        };
        let mut kernel = None;
        for side in 0..2 {
            for place in 0..3 {
                if place == 1 && kind == 0 {
                    last = push(Op::Affine(Affine::Dense(dense(random))), vec![last]);
                } else if place == 1 {
                    // Often the transpose of the first, or near it.
                    let mut op = kernel.take().filter(|_| kind > 1).unwrap_or_else(|| conv(random));
                    if kind == 3 && side == 1 {
                        let near = op.weight.exact().iter().map(|w| -w + 0.05 * random.unit()).collect();
                        op.weight = Weights::new(near);
                    }
                    kernel = Some(Conv { transposed: !op.transposed, ..op.clone() });
                    last = push(Op::Affine(Affine::Conv(op)), vec![last]);
                } else if random.below(3) == 0 {
                    last = push(Op::Affine(Affine::Scale(scale(random))), vec![last]);
                }
            }
            if side == 0 {
                let all = functions(random, 18);
                let f = all[[0, 0, 1, 3, 8, 9][random.below(6)]].clone();
                last = push(Op::Elementwise(f), vec![last]);
            }
        }
        let coefficients = Weights::new(vec![1.0, 0.6 * random.unit()]);
        push(Op::Affine(Affine::Sum(Sum { len: 18, coefficients })), vec![base, last]);
    }
    graph.output = graph.nodes.len();
    graph
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn constants_hold_on_residual_layers(seed: u64, layers in 1usize..3) {
        let mut random = Random::new(seed);
        let graph = residuals(&mut random, layers);
        let total = Network::new(&graph).report().total.expect("a constant");
        for step in [1e-5, 1.0] {
            let x: Vec<f64> = random.units(18).iter().map(|x| 3.0 * x).collect();
            let ratio = witnessed(&graph, &x, step, 10, &mut random);
            prop_assert!(ratio <= total * (1.0 + 1e-7) + 1e-8, "{ratio} of at most {total}");
        }
        // Across layers, too.
        let bounds = Network::new(&graph);
        let (single, wide) = (bounds.evaluation_error().expect("a bound"), bounds.evaluation_error_wide().expect("a bound"));
        let x: Vec<f64> = random.units(18).iter().map(|x| 3.0 * x).collect();
        let exact = evaluate(&graph, &x)[graph.output].clone();
        let row = Array2::from_shape_fn((1, 18), |(_, i)| x[i] as f32);
        for (computed, bound) in [(Plan::new(&graph).run(row.view()), single), (Wide::new(&graph).run(row.view()), wide)] {
            let computed: Vec<f64> = computed.iter().map(|&v| v.into()).collect();
            let (error, allowed) = (distance(&computed, &exact), bound.at(norm(x.iter().copied())));
            prop_assert!(error <= allowed * (1.0 + 1e-6), "{error} {allowed}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Margins over balls by Lipschitz constants, and radii, hold along the steepest descent of a margin.
    #[test]
    fn margins_over_balls_hold(seed: u64, kind in 0usize..3, power in -3i32..1) {
        let mut random = Random::new(seed);
        let mut graph = match kind {
            0 => joins(&mut random, 6),
            1 => residuals(&mut random, 1),
            _ => network(&mut random, 5),
        };
        tame(&mut graph, &mut random);
        let (n, classes) = (graph.input_len(), graph.output_len());
        let x = Array2::from_shape_fn((1, n), |_| random.unit() as f32);
        let centre: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        let logits = |x: &[f64]| evaluate(&graph, x)[graph.output].clone();
        let top = (0..classes).max_by(|&a, &b| logits(&centre)[a].total_cmp(&logits(&centre)[b])).expect("classes");
        let bounds = margin_bounds(&graph, Method::Lipschitz);
        for norm_of in [Norm::L2, Norm::L1, Norm::Linf] {
            let eps = 10f64.powi(power);
            let set = InputBox::ball(norm_of, x.view(), eps, None).expect("a ball");
            let margins = bounds.bound(&set, &[top]);
            let [lower, upper] = bounds.outputs(&set);
            let radius = bounds.radius(&set, 0, top);
            prop_assert_eq!(norm_of == Norm::L2 && radius > 1.0001 * eps, norm_of == Norm::L2 && margins.certified(0) && radius > 1.0001 * eps);
            for other in (0..classes).filter(|&c| c != top) {
                let margin = |x: &[f64]| { let y = logits(x); y[top] - y[other] };
                let slope: Vec<f64> = (0..n).map(|j| {
                    let mut y = centre.clone();
                    y[j] += 1e-6;
                    margin(&y) - margin(&centre)
                }).collect();
                for reach in [eps, radius.min(100.0)] {
                    let norm_of = if reach == eps { norm_of } else { Norm::L2 };
                    let steepest = slope.iter().fold(0.0_f64, |m, s| m.max(s.abs()));
                    let step: Vec<f64> = slope.iter().map(|s| match norm_of {
                        Norm::L2 => s / (norm(slope.iter().copied()) + 1e-300),
                        Norm::L1 => if s.abs() == steepest { s.signum() } else { 0.0 },
                        Norm::Linf => s.signum(),
                    }).collect();
                    let size = match norm_of {
                        Norm::L1 => step.iter().map(|s| s.abs()).sum::<f64>().max(1.0),
                        _ => 1.0 + 1e-12,
                    };
                    let y: Vec<f64> = centre.iter().zip(&step).map(|(x, s)| x - reach * s / size).collect();
                    let slack = 1e-9 * (1.0 + norm(logits(&y).into_iter()));
                    if reach == eps {
                        prop_assert!(margin(&y) >= margins.lower()[[0, other]] - slack);
                        prop_assert!(logits(&y)[other] >= lower[[0, other]] - slack);
                        prop_assert!(logits(&y)[other] <= upper[[0, other]] + slack);
                    } else {
                        prop_assert!(margin(&y) >= -slack);
                    }
                }
            }
        }
    }
}

/// A linear classifier's radii are those of its margins: `(w_A - w_j) x / |w_A - w_j|`.
#[test]
fn radii_of_linear_classifiers_are_exact() {
    let mut random = Random::new(3);
    let layer =
        Dense { rows: 1, inputs: 18, outputs: 18, weight: Weights::new(random.units(324)), bias: None };
    let mut graph = network(&mut random, 0);
    let node = Node {
        name: "n".into(),
        origin: "test".into(),
        op: Op::Affine(Affine::Dense(layer.clone())),
        inputs: vec![0],
        shape: vec![1, 18],
    };
    graph.nodes.push(node);
    graph.output = 1;
    let x = Array2::from_shape_fn((1, 18), |_| random.unit() as f32);
    let centre: Vec<f64> = x.iter().map(|&x| x.into()).collect();
    let column = |j: usize| (0..18).map(|i| layer.weight.exact()[i * 18 + j]).collect::<Vec<_>>();
    let logit = |j: usize| column(j).iter().zip(&centre).map(|(w, x)| w * x).sum::<f64>();
    let top = (0..18).max_by(|&a, &b| logit(a).total_cmp(&logit(b))).expect("classes");
    let radii =
        (0..18).filter(|&j| j != top).map(|j| (logit(top) - logit(j)) / distance(&column(top), &column(j)));
    let exact = radii.fold(f64::INFINITY, f64::min);
    let bounds = margin_bounds(&graph, Method::Lipschitz);
    let set = |eps: f64| InputBox::ball(Norm::L2, x.view(), eps, None).expect("a ball");
    let radius = bounds.radius(&set(1.0), 0, top);
    assert!(radius <= exact * (1.0 + 1e-14) && radius >= exact * (1.0 - 1e-9), "{radius} of {exact}");
    assert!(
        bounds.bound(&set(radius), &[top]).certified(0)
            && !bounds.bound(&set(exact * 1.000_001), &[top]).certified(0)
    );
    assert_eq!(bounds.radius(&set(1.0), 0, (top + 1) % 18), 0.0);
    let best = margin_bounds(&graph, Method::Best).bound(&set(radius), &[top]);
    assert!(best.certified(0) && best.method(0) == Method::Lipschitz);
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
