//! No evaluation in f32, in whatever order, ever leaves the bounds that are said to hold for it.

use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::bounds::{
    Eps, Evaluation, InputBox, Intervals, MarginBounds, Method, Norm, propagate_evaluated,
};
use tightrope::exec::Plan;
use tightrope::graph::Graph;
use tightrope::ops::*;
use tightrope::query::Region;
use tightrope::runs::{Batch, Certify, Question};
use tightrope::verify::{Limits, Verdict, Verifier};

use crate::adversarial::{METHODS, perceptron};
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
            prop_assert!(
                low.is_nan() || (low..=high).contains(y),
                "{way:?}: {y:e} outside [{low:e}, {high:e}]"
            );
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Hundreds of terms that cancel, beside large biases.
    #[test]
    fn long_sums_that_cancel_stay_inside_their_bounds(seed: u64, eps in prop_oneof![Just(0.0), Just(1e-4), Just(0.1)]) {
        let mut random = Random::new(seed);
        let (n, h) = (200 + random.below(100), 12);
        let size = [1.0, 64.0, 4096.0][random.below(3)];
        let mut rows = |outputs: usize, inputs: usize| -> Vec<Vec<f64>> {
            let row = |random: &mut Random| {
                let mut row = random.units(inputs);
                for pair in row.chunks_exact_mut(2) {
                    pair[0] *= size;
                    pair[1] = f64::from((pair[1] - pair[0]) as f32);
                }
                row
            };
            (0..outputs).map(|_| row(&mut random)).collect()
        };
        let layers = [rows(h, n), rows(h, h), rows(3, h)];
        let layers = layers.map(|weight| {
            let bias = random.units(weight.len()).iter().map(|b| b * size).collect();
            (weight, bias)
        });
        let graph = perceptron(&layers);
        // Equal neighbours, whose terms cancel.
        let centre: Vec<f64> = (0..n).scan(0.0, |last, i| {
            *last = if i % 2 == 0 { random.unit() } else { *last };
            Some(*last)
        }).collect();
        let end = |side: f64| centre.iter().map(|c| c + side * eps).collect::<Vec<_>>();
        let compared = holds(&mut random, &graph, (&end(-1.0), &end(1.0)), 100)?;
        prop_assert!(compared > 0);
    }
}

/// A network with a box that real arithmetic certifies, and a point of it where an evaluation in f32 gives
/// another class.
struct Trap {
    graph: Graph,
    centre: Vec<f32>,
    eps: f64,
    wrong_at: Vec<f32>,
}

impl Trap {
    fn new(graph: Graph, centre: &[f32], eps: f64, wrong_at: &[f32]) -> Self {
        Self { graph, centre: centre.to_vec(), eps, wrong_at: wrong_at.to_vec() }
    }

    fn row(x: &[f32]) -> Array2<f32> {
        Array2::from_shape_vec((1, x.len()), x.to_vec()).expect("one input")
    }

    /// The methods that certify class 0.
    fn certifying(&self, evaluation: Evaluation) -> Vec<Method> {
        let set = InputBox::linf(Self::row(&self.centre).view(), self.eps, None).expect("a box");
        let bounds = |method| MarginBounds::new(&self.graph, method).evaluated(evaluation);
        METHODS.into_iter().filter(|&method| bounds(method).bound(&set, &[0]).certified(0)).collect()
    }

    /// The same as records say it, where the network classifies the centre correctly.
    fn recorded(&self, evaluation: Evaluation) -> Vec<Method> {
        let (graph, plan) = (&self.graph, Plan::new(&self.graph));
        let region = (Norm::Linf, vec![Eps::try_from(self.eps).expect("a radius")], None);
        let question =
            Certify::new((graph, &plan), region, &METHODS.map(Some), None, None).expect("a question");
        let question = question.evaluated(evaluation);
        assert_eq!(question.options()["evaluation"], serde_json::json!(evaluation));
        let batch = Batch { indices: vec![0], x: Self::row(&self.centre).into(), labels: Some(vec![0]) };
        let records = question.answer(&batch, &mut || true).unwrap_or_else(|_| panic!("records"));
        assert!(records.iter().all(|record| record.evaluation == Some(evaluation)));
        records.into_iter().filter(|record| record.certified).filter_map(|record| record.method).collect()
    }

    fn verdict(&self, evaluation: Evaluation) -> Verdict {
        let end = |side: f64| self.centre.iter().map(|&x| f64::from(x) + side * self.eps).collect();
        let region = Region::constraints(end(-1.0), end(1.0), &[vec![(&[1.0, -1.0][..], 0.0)]], 2);
        let limits = Limits { timeout: Some(std::time::Duration::from_secs(10)), ..Limits::default() };
        let verifier = Verifier::new(&self.graph).evaluated(evaluation);
        verifier.verify(&[region.expect("a region")], &|_, _| true, &limits, &mut |_| true).verdict
    }

    #[track_caller]
    fn springs(&self) {
        let plain = Way::plain();
        let values = plain.evaluate(&mut Random::new(0), &self.graph, &rows(&self.graph), &self.wrong_at);
        let logits = &values[self.graph.output];
        assert!(logits[0] <= logits[1], "{logits:?}");
        assert_eq!(self.certifying(Evaluation::Real), METHODS);
        assert_eq!(self.certifying(Evaluation::Float32), []);
        // The search finds what the f32 network does; in real arithmetic that is no counterexample.
        assert_ne!(self.verdict(Evaluation::Real), Verdict::Sat);
        assert_ne!(self.verdict(Evaluation::Float32), Verdict::Unsat);
    }
}

/// As `perceptron` with these functions in place of its relus.
fn with_functions(layers: &[(Vec<Vec<f64>>, Vec<f64>)], functions: &[Arc<dyn Function>]) -> Graph {
    let mut graph = perceptron(layers);
    for (node, function) in graph.nodes.iter_mut().skip(1).step_by(2).zip(functions) {
        node.op = Op::Elementwise(function.clone());
    }
    graph
}

/// One number through layers with these weights and functions; the second class has the constant logit 1/2.
fn thread(weights: &[f64], functions: &[Arc<dyn Function>]) -> Graph {
    let (last, first) = weights.split_last().expect("weights");
    let mut layers: Vec<_> = first.iter().map(|&w| (vec![vec![w]], vec![0.0])).collect();
    layers.push((vec![vec![*last], vec![0.0]], vec![0.0, 0.5]));
    with_functions(&layers, functions)
}

#[test]
fn a_large_bias_swallows_the_input() {
    // relu(x + 1e8) - 1e8 against 1/2 for x in [3, 7]: numbers around 1e8 are 8 apart.
    let first = (vec![vec![1.0, 0.0], vec![0.0, 0.0]], vec![1e8, 0.0]);
    let last = (vec![vec![1.0, 0.0], vec![0.0, 1.0]], vec![-1e8, 0.5]);
    let trap = Trap::new(perceptron(&[first, last]), &[5.0, 0.0], 2.0, &[3.0, 0.0]);
    trap.springs();
    assert_eq!(trap.recorded(Evaluation::Real), METHODS);
    assert_eq!(trap.recorded(Evaluation::Float32), []);
    assert_eq!(trap.verdict(Evaluation::Float32), Verdict::Sat);
}

#[test]
fn absorbed_terms_count() {
    // 2^26 and thirty ones, less 2^26, against 16.
    let mut row = vec![1.0; 32];
    (row[0], row[31]) = (67_108_864.0, -67_108_864.0);
    let ones = vec![1.0; 32];
    let graph = perceptron(&[(vec![row, vec![0.0; 32]], vec![0.0, 16.0])]);
    let x: Vec<f32> = ones.iter().map(|&x| x as f32).collect();
    Trap::new(graph, &x, 1e-9, &x).springs();
}

#[test]
fn the_order_of_sums_counts() {
    // 2^30 + x - 2^30 behind relus, in the order that loses x.
    let row = vec![2.0_f64.powi(30), 1.0, -2.0_f64.powi(30)];
    let first = (vec![vec![0.0], vec![1.0], vec![0.0]], vec![1.0, 0.0, 1.0]);
    let graph = perceptron(&[first, (vec![row, vec![0.0; 3]], vec![0.0, 0.5])]);
    Trap::new(graph, &[1.0], 0.25, &[1.0]).springs();
}

#[test]
fn what_underflows_is_zero() {
    let [exp, sigmoid, sign, relu]: [Arc<dyn Function>; 4] =
        [Arc::new(Exp), Arc::new(Sigmoid), Arc::new(Sign), Arc::new(Relu)];
    for function in [exp, sigmoid] {
        // e^-107 is below the least number of f32; its sign is 1.
        let graph = thread(&[1.0, 1.0, 1.0], &[function.clone(), sign.clone()]);
        Trap::new(graph, &[-107.0], 1.0, &[-107.0]).springs();
        // Multiplied by 1e38 twice it is large.
        let graph = thread(&[1.0, 2.0_f64.powi(120), 2.0_f64.powi(60)], &[function, relu.clone()]);
        Trap::new(graph, &[-107.0], 1.0, &[-107.0]).springs();
    }
}

#[test]
fn what_overflows_is_never_certified() {
    // 2^100 x - 2^100 x + 1 where products with 2^100 leave the range.
    let big = 2.0_f64.powi(100);
    let first = (vec![vec![big], vec![big]], vec![0.0, 0.0]);
    let graph = perceptron(&[first, (vec![vec![big, -0.5 * big], vec![0.0, 0.0]], vec![1.0, 0.0])]);
    let trap = Trap::new(graph, &[1.0], 0.25, &[1.0]);
    assert_eq!(trap.certifying(Evaluation::Real), METHODS);
    assert_eq!(trap.certifying(Evaluation::Float32), []);
    assert_ne!(trap.verdict(Evaluation::Float32), Verdict::Unsat);
}

#[test]
fn ties_in_f32_are_lost_and_clear_margins_are_not() {
    // x against x - 2^-30 behind relus: equal in f32 as soon as x is around 1.
    let graph = |gap: f64| {
        let eye = |i: usize| (0..2).map(|j| f64::from(i == j)).collect::<Vec<_>>();
        let first = (vec![vec![1.0], vec![1.0]], vec![0.0, -gap]);
        perceptron(&[first, (vec![eye(0), eye(1)], vec![0.0; 2])])
    };
    let point = Trap::new(graph(2.0_f64.powi(-30)), &[1.0], 0.0, &[1.0]);
    point.springs();
    let clear = Trap::new(graph(0.25), &[1.0], 0.05, &[1.0]);
    assert_eq!(clear.certifying(Evaluation::Float32), METHODS);
    assert_eq!(clear.verdict(Evaluation::Float32), Verdict::Unsat);
}
