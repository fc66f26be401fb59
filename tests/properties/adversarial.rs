//! Networks built to deceive verifiers that compute in floating point, after
//! Jia and Rinard ("Exploiting verified neural networks via floating point
//! numerical error", 2021) and Zombori et al. ("Fooling a complete neural
//! network verifier", 2021). Each box holds a known exact counterexample, so
//! that no method may certify it; a companion with a true margin well above
//! its rounding is certified.

use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::bounds::{InputBox, MarginBounds, Method};
use tightrope::graph::{Graph, Node};
use tightrope::ops::*;

use crate::bounds::chain;
use crate::networks::Random;

/// All methods, from the fastest to `Best`.
pub(crate) const METHODS: [Method; 5] =
    [Method::Ibp, Method::CrownIbp, Method::Crown, Method::AlphaCrown, Method::Best];

/// A dense relu network: for each layer one row of weights per output, and the
/// biases.
pub(crate) fn perceptron(layers: &[(Vec<Vec<f64>>, Vec<f64>)]) -> Graph {
    let zeros: Vec<_> =
        layers.iter().map(|(w, _)| (w[0].len(), w.len(), vec![0; w.len() * w[0].len()])).collect();
    let mut graph = chain(&zeros);
    for (node, (weight, bias)) in graph.nodes.iter_mut().step_by(2).zip(layers) {
        let Op::Affine(Affine::Dense(dense)) = &mut node.op else { unreachable!("dense layers") };
        let transposed = (0..dense.inputs).flat_map(|i| weight.iter().map(move |row| row[i])).collect();
        dense.weight = Weights::new(transposed);
        dense.bias = Some(Periodic::new(Weights::new(bias.clone()), 1));
    }
    graph
}

/// As [`perceptron`] with another function in place of every relu.
fn with_function(layers: &[(Vec<Vec<f64>>, Vec<f64>)], function: Arc<dyn Function>) -> Graph {
    let mut graph = perceptron(layers);
    for node in graph.nodes.iter_mut().skip(1).step_by(2) {
        node.op = Op::Elementwise(function.clone());
    }
    graph
}

/// The methods that certify class 0 over the box.
fn certifying(graph: &Graph, lower: &[f64], upper: &[f64]) -> Vec<Method> {
    let row = |x: &[f64]| Array2::from_shape_vec((1, x.len()), x.to_vec()).expect("one input");
    let set = InputBox::new(row(lower), row(upper)).expect("a box");
    METHODS.into_iter().filter(|&m| MarginBounds::new(graph, m).bound(&set, &[0]).certified(0)).collect()
}

#[track_caller]
fn none_certifies(graph: &Graph, lower: &[f64], upper: &[f64]) {
    assert_eq!(certifying(graph, lower, upper), []);
}

#[track_caller]
fn all_certify(graph: &Graph, lower: &[f64], upper: &[f64]) {
    assert_eq!(certifying(graph, lower, upper), METHODS);
}

/// Two classes; the second is always 0, so the margin is the first logit.
fn against_zero(row: &[f64], bias: f64) -> (Vec<Vec<f64>>, Vec<f64>) {
    (vec![row.to_vec(), vec![0.0; row.len()]], vec![bias, 0.0])
}

const BIG: f64 = (1u64 << 60) as f64;

#[test]
fn a_term_absorbed_in_a_neuron_counts() {
    // relu(x + 2^60) - relu(2^60) + b is x + b for x in [-1, 1]. In f64 the
    // neurons are equal, the margin comes out as b. At x = -1 it is b - 1.
    let graph =
        |b: f64| perceptron(&[(vec![vec![1.0], vec![0.0]], vec![BIG, BIG]), against_zero(&[1.0, -1.0], b)]);
    none_certifies(&graph(0.5), &[-1.0], &[1.0]);
    all_certify(&graph(1e6), &[-1.0], &[1.0]);
}

#[test]
fn the_order_of_a_sum_does_not_matter() {
    // 2^60 x + s x - 2^60 x at x = 1, in every order of the terms: exactly s.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let graph = |s: f64, b: f64| {
            let row: Vec<f64> = order.iter().map(|&k| [BIG, s, -BIG][k]).collect();
            perceptron(&[(vec![vec![1.0]; 3], vec![0.0; 3]), against_zero(&row, b)])
        };
        // -1 + 1/2 is negative; with -1 lost, 1/2 is left.
        none_certifies(&graph(-1.0, 0.5), &[1.0], &[1.0]);
        all_certify(&graph(1e6, 0.5), &[1.0], &[1.0]);
    }
}

#[test]
fn cancellation_over_several_layers() {
    // y = 2^60 + x, then y - 2^60 = x behind another ReLU, scaled by 2^20, and
    // 2^19 less: at x = 0 the margin is -2^19. A sum that rounds up to the next
    // f64 above 2^60 (a step of 256) would find 2^28 - 2^19.
    let graph = |x: f64, loss: f64| {
        let first = (vec![vec![1.0]], vec![BIG]);
        perceptron(&[first, (vec![vec![1.0]], vec![-BIG + x]), against_zero(&[f64::from(1 << 20)], -loss)])
    };
    none_certifies(&graph(0.0, f64::from(1 << 19)), &[0.0], &[129.0]);
    // BIG - 2^30 is an f64; the second neuron is 2^30 + x.
    all_certify(&graph(f64::from(1 << 30), f64::from(1 << 19)), &[0.0], &[129.0]);
}

#[test]
fn a_hidden_trigger_is_seen() {
    // Zombori's backdoor: x = 1 fires relu(2^60 x - 2^60 + 1) = 1, which
    // outweighs the margin of 1/2. In f64 2^60 - 1 is 2^60, and the neuron is
    // dead. The bias is the sum of two neurons' since 1 - 2^60 is no f64.
    let graph = |weight: f64, margin: f64| {
        let first = (vec![vec![BIG], vec![0.0]], vec![0.0, 1.0]);
        let second = (vec![vec![1.0, 1.0]], vec![-BIG]);
        perceptron(&[first, second, against_zero(&[weight], margin)])
    };
    none_certifies(&graph(-1.0, 0.5), &[1.0], &[1.0]);
    none_certifies(&graph(-1.0, 0.5), &[0.5], &[1.0]);
    all_certify(&graph(-1.0, 1e6), &[1.0], &[1.0]);
}

#[test]
fn tiny_margins_keep_their_sign() {
    for size in [1e-30, 1e-100, 1e-200] {
        let graph = |a: f64, b: f64| {
            perceptron(&[(vec![vec![1.0]], vec![0.0]), (vec![vec![a], vec![b]], vec![0.0, 0.0])])
        };
        // Exactly -size * x, and size * x, for x in [1/2, 3/2].
        none_certifies(&graph(size, 2.0 * size), &[0.5], &[1.5]);
        all_certify(&graph(2.0 * size, size), &[0.5], &[1.5]);
        // x - x - size: next to nothing beside the terms that cancel.
        for row in [[1.0, -1.0], [-1.0, 1.0]] {
            let copies = (vec![vec![1.0], vec![1.0]], vec![0.0, 0.0]);
            let graph = |b: f64| perceptron(&[copies.clone(), against_zero(&row, b)]);
            none_certifies(&graph(-size), &[1.0], &[1.0]);
            all_certify(&graph(1e-6), &[1.0], &[1.0]);
        }
    }
}

#[test]
fn ties_are_never_certified() {
    // relu(x) - x is 0 for all x >= 0, and x - 0 is 0 at x = 0.
    let copies = |bias: f64| {
        let first = (vec![vec![1.0], vec![1.0]], vec![0.0, 0.0]);
        perceptron(&[first, against_zero(&[1.0, -1.0], bias)])
    };
    let own = |bias: f64| perceptron(&[(vec![vec![1.0]], vec![0.0]), against_zero(&[1.0], bias)]);
    for (lower, upper) in [(0.0, 0.0), (-0.0, 0.0), (-0.0, -0.0), (0.0, 1.0), (-0.0, 1.0), (0.25, 0.25)] {
        none_certifies(&copies(0.0), &[lower], &[upper]);
        none_certifies(&copies(-0.0), &[lower], &[upper]);
        if lower == 0.0 {
            none_certifies(&own(0.0), &[lower], &[upper]);
            none_certifies(&own(-0.0), &[lower], &[upper]);
        }
        all_certify(&own(1e-9), &[lower], &[upper]);
    }
    all_certify(&copies(1e-9), &[0.25], &[0.25]);
    // The greatest of both entries less one of them is 0 where that is it.
    let mut graph = perceptron(&[(vec![vec![1.0, 0.0], vec![0.0, 1.0]], vec![0.0, 0.0])]);
    let groups = Groups::new([vec![0, 1], vec![0]]);
    graph.nodes.push(Node {
        name: "max".into(),
        origin: "Max".into(),
        op: Op::Product(Product::Max { inputs: vec![2], groups }),
        inputs: vec![1],
        shape: vec![1, 2],
    });
    graph.output = 2;
    none_certifies(&graph, &[0.5, 0.0], &[1.0, 0.75]);
    all_certify(&graph, &[0.5, 0.8], &[0.75, 1.0]);
}

#[test]
fn signed_zeros_and_subnormals() {
    // sign(x) at -0 is 0, less 1/2.
    let sign = |layer| with_function(&[(vec![vec![1.0]], vec![0.0]), layer], Arc::new(Sign));
    none_certifies(&sign(against_zero(&[1.0], -0.5)), &[-0.0], &[1.0]);
    all_certify(&sign(against_zero(&[1.0], -0.5)), &[1e-3], &[1.0]);
    // 1/x at -0 and at 0 is not defined, whatever weight it has.
    let pole = |weight: f64| {
        let layers = [(vec![vec![1.0]], vec![0.0]), against_zero(&[weight], 1.0)];
        with_function(&layers, Arc::new(Reciprocal))
    };
    for weight in [0.0, 1.0] {
        none_certifies(&pole(weight), &[-0.0], &[1.0]);
        none_certifies(&pole(weight), &[-1.0], &[-0.0]);
        all_certify(&pole(weight), &[0.5], &[1.0]);
    }
    // (0.6 + 0.6 - 1.4) d is negative for any d; with the least subnormal f64
    // the products round to d + d - d, and 1e300 makes that large.
    let graph = |d: f64, last: f64, scale: f64| {
        let first = (vec![vec![d, d, -last * d]], vec![0.0]);
        perceptron(&[first, against_zero(&[scale], -0.01 * d * scale)])
    };
    let x = [0.6, 0.6, 1.0];
    for scale in [1.0, 1e300] {
        none_certifies(
            &perceptron(&[(vec![vec![5e-324, 5e-324, 0.0], vec![0.0, 0.0, 5e-324]], vec![0.0; 2])]),
            &[0.6, 0.6, 1.4],
            &[0.6, 0.6, 1.4],
        );
        none_certifies(&graph(1e-300, 1.4, scale), &x, &x);
    }
    all_certify(&graph(1e-100, 1.0, 1e100), &x, &x);
    // A subnormal box around 0: the margin is negative at its lower end.
    let own = |bias: f64| perceptron(&[(vec![vec![1.0]], vec![0.0]), against_zero(&[1.0], bias)]);
    none_certifies(&own(-5e-324), &[-5e-324], &[5e-324]);
    all_certify(&own(1e-200), &[-5e-324], &[5e-324]);
}

#[test]
fn overflow_is_never_a_certificate() {
    for size in [1e300, 1e160] {
        // Exactly -size^2 x: beyond f64 the logits are inf and inf.
        let graph = |s: f64, a: f64, b: f64| {
            perceptron(&[(vec![vec![s]], vec![0.0]), (vec![vec![a * s], vec![b * s]], vec![0.0, 0.0])])
        };
        none_certifies(&graph(size, 1.0, 2.0), &[1.0], &[2.0]);
        all_certify(&graph(1e100, 2.0, 1.0), &[1.0], &[2.0]);
        // The second layer multiplies differences of the first: (x - x) size^2
        // is 0, less 1/2.
        let middle = (vec![vec![size, -size], vec![-size, size]], vec![0.0, 0.0]);
        let zero = perceptron(&[
            (vec![vec![size], vec![size]], vec![0.0, 0.0]),
            middle,
            against_zero(&[1.0, 1.0], -0.5),
        ]);
        none_certifies(&zero, &[1.0], &[1.0]);
        // A dead neuron is 0 though its input overflows.
        let dead = |sign: f64| {
            let first = (vec![vec![size]], vec![0.0]);
            perceptron(&[first, (vec![vec![-size]], vec![0.0]), against_zero(&[1.0], sign)])
        };
        none_certifies(&dead(-0.5), &[1.0], &[2.0]);
    }
    // An overflowing entry clipped to [0, 1] is 1, and inf - inf clipped could
    // be anything; exactly it is clip(0) = 0, less 1/2.
    let clip: Arc<dyn Function> =
        Arc::new(Clip { low: Periodic::constant(0.0), high: Periodic::constant(1.0) });
    let huge = |rows: Vec<f64>, layer| with_function(&[(vec![rows], vec![0.0]), layer], clip.clone());
    none_certifies(&huge(vec![1e308, -1e308], against_zero(&[1.0], -0.5)), &[1e10, 1e10], &[1e10, 1e10]);
    none_certifies(&huge(vec![1e308, 0.0], against_zero(&[-1.0], 0.5)), &[1e10, 0.0], &[1e10, 0.0]);
    all_certify(&huge(vec![1e30, 0.0], against_zero(&[1.0], -0.5)), &[1.0, 0.0], &[2.0, 0.0]);
    // exp(800) - exp(801) is negative, both beyond f64.
    let exp = |a: f64, b: f64| {
        let first = (vec![vec![1.0], vec![1.0]], vec![a, b]);
        with_function(&[first, against_zero(&[1.0, -1.0], 0.0)], Arc::new(Exp))
    };
    none_certifies(&exp(800.0, 801.0), &[0.0], &[0.0]);
    none_certifies(&exp(709.0, 801.0), &[0.0], &[0.0]);
    all_certify(&exp(301.0, 300.0), &[0.0], &[0.0]);
}

#[test]
fn saturation_is_not_equality() {
    // sigmoid(40) and tanh(20) are below 1, and are 1 in f64; erf and softplus
    // likewise meet 1 and x.
    let functions: [Arc<dyn Function>; 3] = [Arc::new(Sigmoid), Arc::new(Tanh), Arc::new(Erf)];
    for function in functions {
        let graph = |bias: f64| {
            let layers = [(vec![vec![1.0]], vec![0.0]), against_zero(&[1.0], bias)];
            with_function(&layers, function.clone())
        };
        none_certifies(&graph(-1.0), &[30.0], &[40.0]);
        none_certifies(&graph(-1.0), &[1e300], &[1e300]);
        all_certify(&graph(-0.999), &[30.0], &[40.0]);
    }
    let softplus = |bias: f64| {
        let layers = [(vec![vec![1.0]], vec![0.0]), against_zero(&[-1.0], bias)];
        with_function(&layers, Arc::new(Softplus))
    };
    // 50 - softplus(50) < 0.
    none_certifies(&softplus(50.0), &[50.0], &[50.0]);
    all_certify(&softplus(50.1), &[50.0], &[50.0]);
}

#[test]
fn nothing_is_certified_where_the_network_is_undefined() {
    let functions: [(Arc<dyn Function>, f64); 4] = [
        (Arc::new(Log), 0.0),
        (Arc::new(Sqrt), -1e-9),
        (Arc::new(Reciprocal), 0.0),
        (Arc::new(Pow { exponent: 0.5 }), -1e-9),
    ];
    for (function, inside) in functions {
        for weight in [0.0, 1e-9, -1e-9] {
            let layers = [(vec![vec![1.0, 0.0]], vec![0.0]), against_zero(&[weight], 1.0)];
            let graph = with_function(&layers, function.clone());
            // The point of no value at an end, inside, and all the box.
            none_certifies(&graph, &[inside, 0.0], &[1.0, 1.0]);
            none_certifies(&graph, &[-1.0, 0.0], &[1.0, 1.0]);
            none_certifies(&graph, &[inside, 0.0], &[inside, 1.0]);
            all_certify(&graph, &[0.5, 0.0], &[1.0, 1.0]);
        }
    }
}

proptest! {
    /// As Jia and Rinard search for them: networks at the boundary, where the
    /// counterexample loses by 1 in 2^90. Its margin is computed exactly, and
    /// made -1 by two biases that together hold all its digits.
    #[test]
    fn random_networks_at_the_boundary_are_not_certified(seed: u64, radius in 0u8..3) {
        let mut random = Random::new(seed);
        let (n, h) = (12, 8);
        let mut big = |bits: u32| (random.bits() % (1 << bits)) as i64 - (1 << (bits - 1));
        let first: Vec<Vec<i64>> = (0..h).map(|_| (0..n).map(|_| big(31)).collect()).collect();
        let second: Vec<i64> = (0..h).map(|_| big(31)).collect();
        let x: Vec<i64> = (0..n).map(|_| big(24)).collect();
        let hidden = |row: &[i64]| row.iter().zip(&x).map(|(w, x)| i128::from(*w) * i128::from(*x)).sum::<i128>().max(0);
        let logit: i128 = first.iter().zip(&second).map(|(row, w)| hidden(row) * i128::from(*w)).sum();
        let graph = |margin: i128| {
            // The sum of three f64 holds an i128 exactly.
            let (mut rest, mut parts) = (margin - logit, Vec::new());
            for _ in 0..3 {
                parts.push(rest as f64);
                rest -= rest as f64 as i128;
            }
            assert_eq!(rest, 0);
            let mut rows: Vec<Vec<f64>> = first.iter().map(|row| row.iter().map(|&w| w as f64).collect()).collect();
            rows.push(vec![0.0; n]);
            let mut row: Vec<f64> = second.iter().map(|&w| w as f64).collect();
            row.push(parts[2]);
            let biases = (0..=h).map(|j| f64::from(u8::from(j == h))).collect();
            let zeros = vec![0.0; h + 1];
            perceptron(&[(rows, biases), (vec![row, zeros], vec![parts[0], -parts[1]])])
        };
        let ends = |by: f64| x.iter().map(|&x| x as f64 + by).collect::<Vec<f64>>();
        let r = f64::from(radius);
        let found = certifying(&graph(-1), &ends(-r), &ends(r));
        prop_assert!(found.is_empty(), "{:?}", found);
        let found = certifying(&graph(0), &ends(-r), &ends(r));
        prop_assert!(found.is_empty(), "{:?}", found);
        if radius == 0 {
            prop_assert_eq!(certifying(&graph(1 << 62), &ends(0.0), &ends(0.0)), METHODS);
        }
    }
}

#[test]
fn a_sum_that_overflows_halfway_is_no_bound() {
    // 2e308 is beyond f64, the sum with three times -1.7e308 is negative.
    let row = [2e148, -1.7e148, -1.7e148, -1.7e148];
    let first = (vec![vec![1e160]; 4], vec![0.0; 4]);
    none_certifies(&perceptron(&[first.clone(), against_zero(&row, 0.0)]), &[1.0], &[1.0]);
    none_certifies(&perceptron(&[first.clone(), against_zero(&row, 0.0)]), &[0.99], &[1.0]);
    // The same in a hidden value, of which only the sign is used.
    let hidden = (vec![row.to_vec()], vec![0.0]);
    none_certifies(
        &with_function(&[first, hidden, against_zero(&[1.0], -0.5)], Arc::new(HardSwish)),
        &[1.0],
        &[1.0],
    );
    let first = (vec![vec![1e160]; 4], vec![0.0; 4]);
    let mut graph = perceptron(&[first, (vec![row.to_vec()], vec![0.0]), against_zero(&[1.0], -0.5)]);
    graph.nodes[3].op = Op::Elementwise(Arc::new(Sign));
    none_certifies(&graph, &[1.0], &[1.0]);
}

#[test]
fn functions_that_underflow_keep_their_errors() {
    // gelu(-38.2649736206621) = -4.48581966651867e-319, where a unit in the
    // last place of erfc is 5e-324 and counts 19 times.
    let graph = |bias: f64| {
        let layers = [(vec![vec![1.0]], vec![0.0]), against_zero(&[-1e308], -bias)];
        with_function(&layers, Arc::new(Gelu))
    };
    let x = -38.264_973_620_662_1;
    none_certifies(&graph(4.4859e-11), &[x], &[x]);
    all_certify(&graph(4.4e-11), &[x], &[x]);
}
