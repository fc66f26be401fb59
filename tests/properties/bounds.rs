//! No sample ever leaves its bounds.

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::bounds::{InputBox, Intervals, MarginBounds, Method, propagate};
use tightrope::graph::{Graph, Node};
use tightrope::ops::*;

use crate::networks::{Random, evaluate, network};

/// Points of a box: ends, corners, random ones.
pub(crate) fn sample(random: &mut Random, lower: &[f64], upper: &[f64]) -> Vec<f64> {
    let style = random.below(3);
    lower
        .iter()
        .zip(upper)
        .map(|(&l, &u)| match style {
            0 => [l, u][random.below(2)],
            1 => (l + (u - l) * (0.5 + 0.5 * random.unit())).clamp(l, u),
            _ => [l, u, (l + (u - l) * (0.5 + 0.5 * random.unit())).clamp(l, u)][random.below(3)],
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every value of every node, without any tolerance: an evaluation in f64
    /// rounds within what the bounds allow for, layer by layer.
    #[test]
    fn samples_stay_inside_interval_bounds(seed: u64, depth in 1usize..9, exponent in -9i32..2) {
        let mut random = Random::new(seed);
        let graph = network(&mut random, depth);
        let n = graph.input_len();
        let batch = 2;
        let eps = if exponent == -9 { 0.0 } else { 10f64.powi(exponent) };
        let centre = random.units(batch * n);
        let lower: Vec<f64> = centre.iter().map(|c| c - eps).collect();
        let upper: Vec<f64> = centre.iter().map(|c| c + eps).collect();
        let input = Intervals { lower: lower.clone(), upper: upper.clone() };
        let bounds = propagate(&graph, batch, input, |_| true);
        for b in 0..batch {
            let part = b * n..(b + 1) * n;
            for _ in 0..20 {
                let x = sample(&mut random, &lower[part.clone()], &upper[part.clone()]);
                let values = evaluate(&graph, &x);
                // Beyond the range of f64 evaluation says nothing about the
                // exact values.
                if values.iter().flatten().any(|y| y.is_infinite() || y.abs() > 1e150) {
                    continue;
                }
                for (v, values) in values.iter().enumerate() {
                    let len = graph.len(v);
                    for (i, &y) in values.iter().enumerate() {
                        let (l, u) = (bounds[v].lower[b * len + i], bounds[v].upper[b * len + i]);
                        let undefined = l.is_nan() && u.is_nan();
                        prop_assert!(
                            (l <= y && y <= u) || undefined,
                            "value {v} ({:?}) entry {i}: {y:e} outside [{l:e}, {u:e}]",
                            v.checked_sub(1).map(|n| graph.nodes[n].op.kind())
                        );
                    }
                }
            }
        }
    }

    /// Margins through the elided affine tail hold for every label.
    #[test]
    fn samples_respect_margin_bounds(seed: u64, depth in 1usize..7, exponent in -8i32..1) {
        let mut random = Random::new(seed);
        let graph = network(&mut random, depth);
        let n = graph.input_len();
        let centre: Vec<f32> = random.units(n).iter().map(|&x| x as f32).collect();
        let x = Array2::from_shape_vec((1, n), centre).expect("one input");
        let boxes = InputBox::linf(x.view(), 10f64.powi(exponent), None).expect("a box");
        let label = random.below(graph.output_len());
        let margins = MarginBounds::new(&graph, Method::Ibp).bound(&boxes, &[label]);
        let (lower, upper) = (boxes.lower().to_owned().into_raw_vec_and_offset().0, boxes.upper().to_owned().into_raw_vec_and_offset().0);
        for _ in 0..20 {
            let x = sample(&mut random, &lower, &upper);
            let values = evaluate(&graph, &x);
            if values.iter().flatten().any(|y| y.is_infinite() || y.abs() > 1e150) {
                continue;
            }
            let logits = values.last().expect("an output");
            for (class, &bound) in margins.lower().row(0).iter().enumerate().filter(|(c, _)| *c != label) {
                let margin = logits[label] - logits[class];
                // The margin of rounded logits is itself rounded.
                let slack = 1e-13 * (1.0 + logits[label].abs() + logits[class].abs())
                    + values.iter().flatten().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs())) * 1e-13;
                prop_assert!(
                    margin >= bound - slack || (margin.is_nan() && bound == f64::NEG_INFINITY),
                    "class {class}: {margin:e} below {bound:e}"
                );
            }
        }
    }
}

/// A dense network with the given `inputs x outputs` integer weights.
pub(crate) fn chain(layers: &[(usize, usize, Vec<i64>)]) -> Graph {
    let mut nodes = Vec::new();
    for (i, (inputs, outputs, weight)) in layers.iter().enumerate() {
        let weight = Weights::new(weight.iter().map(|&w| w as f64).collect());
        let op = Op::Affine(Affine::Dense(Dense {
            rows: 1,
            inputs: *inputs,
            outputs: *outputs,
            weight,
            bias: None,
        }));
        let read = nodes.len();
        nodes.push(Node {
            name: format!("d{i}"),
            origin: "Gemm".into(),
            op,
            inputs: vec![read],
            shape: vec![1, *outputs],
        });
        if i + 1 < layers.len() {
            let op = Op::Elementwise(std::sync::Arc::new(Relu));
            let read = nodes.len();
            nodes.push(Node {
                name: format!("r{i}"),
                origin: "Relu".into(),
                op,
                inputs: vec![read],
                shape: vec![1, *outputs],
            });
        }
    }
    let outputs = layers[layers.len() - 1].1;
    Graph {
        input_name: "x".into(),
        input_shape: vec![1, layers[0].0],
        output: nodes.len(),
        nodes,
        output_shape: vec![1, outputs],
        folded: vec![],
    }
}

proptest! {
    /// Integer networks whose sums lose most of their digits in f64, against
    /// exact arithmetic in 128-bit integers.
    #[test]
    fn bounds_hold_for_exact_arithmetic_under_cancellation(seed: u64) {
        let mut random = Random::new(seed);
        let big = |r: &mut Random, bits: u32| (r.bits() % (1 << bits)) as i64 - (1 << (bits - 1));
        let (n, h) = (24, 12);
        let first: Vec<i64> = (0..n * h).map(|_| big(&mut random, 31)).collect();
        let second: Vec<i64> = (0..h * 2).map(|_| big(&mut random, 31)).collect();
        let graph = chain(&[(n, h, first.clone()), (h, 2, second.clone())]);
        let x: Vec<i64> = (0..n).map(|_| big(&mut random, 24)).collect();
        let hidden: Vec<i128> = (0..h)
            .map(|j| (0..n).map(|i| i128::from(x[i]) * i128::from(first[i * h + j])).sum::<i128>().max(0))
            .collect();
        let logit = |c: usize| (0..h).map(|j| hidden[j] * i128::from(second[j * 2 + c])).sum::<i128>();
        let pixels: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let input = Array2::from_shape_vec((1, n), pixels).expect("one input");
        let boxes = InputBox::linf(input.view(), 0.0, None).expect("a box");
        let margins = MarginBounds::new(&graph, Method::Ibp);
        // An i128 converts to the nearest f64: compare one step further out.
        let exact = (logit(0) - logit(1)) as f64;
        prop_assert!(margins.bound(&boxes, &[0]).lower()[[0, 1]] <= exact.next_up());
        prop_assert!(margins.bound(&boxes, &[1]).lower()[[0, 0]] <= (-exact).next_up());
    }
}

#[test]
fn a_margin_of_zero_is_never_certified() {
    // Two equal logits, whatever their size.
    for size in [1, 1 << 20, 1 << 50] {
        let graph = chain(&[(1, 2, vec![size, size])]);
        for eps in [0.0, 1e-3] {
            let x = Array2::from_elem((1, 1), 0.1f32);
            let boxes = InputBox::linf(x.view(), eps, None).expect("a box");
            for label in 0..2 {
                assert!(
                    !MarginBounds::new(&graph, Method::Ibp).bound(&boxes, &[label]).certified(0),
                    "{size} {eps}"
                );
            }
        }
    }
}

#[test]
fn absorbed_terms_are_not_forgotten() {
    // 2^60 + 1 - 2^60: plain f64 sums give 0 for a margin that is 1, or the
    // other way round; the bound must hold for either sign of the small term.
    let big = 1i64 << 60;
    for small in [1, -1] {
        let graph = chain(&[(3, 2, vec![big, 0, small, 0, -big, 0])]);
        let x = Array2::from_elem((1, 3), 1.0f32);
        let boxes = InputBox::linf(x.view(), 0.0, None).expect("a box");
        let bound = MarginBounds::new(&graph, Method::Ibp).bound(&boxes, &[0]).lower()[[0, 1]];
        assert!(bound <= small as f64, "{small}: {bound}");
    }
}

#[test]
fn overflow_ends_in_no_bound() {
    let huge = Weights::new(vec![f64::MAX, -f64::MAX]);
    let mut graph = chain(&[(1, 2, vec![1, 1]), (2, 2, vec![1, 0, 0, 1])]);
    if let Op::Affine(Affine::Dense(dense)) = &mut graph.nodes[0].op {
        dense.weight = huge;
    }
    let x = Array2::from_elem((1, 1), 1e30f32);
    let boxes = InputBox::linf(x.view(), 1.0, None).expect("a box");
    for label in 0..2 {
        assert!(!MarginBounds::new(&graph, Method::Ibp).bound(&boxes, &[label]).certified(0));
    }
}
