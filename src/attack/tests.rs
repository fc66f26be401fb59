//! The search stays inside its region and finds what is there.

use std::sync::Arc;

use ndarray::arr1;

use super::*;
use crate::graph::Node;
use crate::ops::{Affine, Dense, Op, Periodic, Relu, Tanh, Weights};

fn dense(inputs: usize, outputs: usize, weight: Vec<f64>, bias: Vec<f64>) -> Op {
    let bias = Some(Periodic::new(Weights::new(bias), 1));
    Op::Affine(Affine::Dense(Dense { rows: 1, inputs, outputs, weight: Weights::new(weight), bias }))
}

fn chain(inputs: usize, ops: Vec<(Op, usize)>) -> Graph {
    let nodes: Vec<Node> = ops
        .into_iter()
        .enumerate()
        .map(|(i, (op, len))| Node {
            name: format!("n{i}"),
            origin: "test".into(),
            op,
            inputs: vec![i],
            shape: vec![1, len],
        })
        .collect();
    let shape = nodes.last().map_or(vec![1, inputs], |n| n.shape.clone());
    Graph {
        input_name: "x".into(),
        input_shape: vec![1, inputs],
        output: nodes.len(),
        nodes,
        output_shape: shape,
        folded: vec![],
    }
}

const PGD: Pgd = Pgd { steps: 20, restarts: 4, seed: 0 };

/// Two classes `(w . x + b, 0)`: the distance to the boundary is known.
fn linear(weight: [f64; 3], bias: f64) -> Graph {
    let weight = weight.iter().flat_map(|&w| [w, 0.0]).collect();
    chain(3, vec![(dense(3, 2, weight, vec![bias, 0.0]), 2)])
}

#[test]
fn a_linear_boundary_is_found_exactly_when_it_is_near_enough() {
    let graph = linear([1.0, -2.0, 0.5], 0.7);
    let plan = Plan::new(&graph);
    let x = arr1(&[0.2f32, -0.1, 0.4]);
    // w . x + b = 1.3; dual norms of w: 3.5 (l1), 2.29 (l2), 2 (l-inf).
    for (norm, dual) in [(Norm::Linf, 3.5), (Norm::L2, 5.25_f64.sqrt()), (Norm::L1, 2.0)] {
        let distance = 1.3 / dual;
        for (factor, expected) in [(0.99, false), (1.02, true)] {
            let region = Region { norm, eps: (distance * factor).try_into().expect("a radius"), clip: None };
            let found = PGD.attack(&graph, &plan, &region, x.view(), 0, 3);
            assert_eq!(found.succeeded, expected, "{norm:?} {factor}: {}", found.margin);
            let least = 1.3 - dual * region.eps.value();
            assert!(f64::from(found.margin) >= least - 1e-5, "{norm:?}: {} below {least}", found.margin);
            assert!(expected || f64::from(found.margin) < least + 0.05, "{norm:?}: {} {least}", found.margin);
            let gaps = found.point.iter().zip(&x).map(|(z, x)| (f64::from(*z) - f64::from(*x)).abs());
            let length = match norm {
                Norm::Linf => gaps.fold(0.0, f64::max),
                Norm::L2 => gaps.map(|d| d * d).sum::<f64>().sqrt(),
                Norm::L1 => gaps.sum(),
            };
            assert!(length <= region.eps.value(), "{norm:?}: {length} > {}", region.eps);
        }
    }
}

#[test]
fn points_stay_in_the_data_range() {
    let graph = linear([1.0, 1.0, 1.0], -0.1);
    let plan = Plan::new(&graph);
    let region = Region { norm: Norm::Linf, eps: "0.5".parse().expect("a radius"), clip: Some((0.0, 1.0)) };
    let found = PGD.attack(&graph, &plan, &region, arr1(&[0.3f32, 0.0, 1.0]).view(), 0, 0);
    assert!(found.point.iter().all(|z| (0.0..=1.0).contains(z)), "{:?}", found.point);
    assert!((found.margin - 0.4).abs() < 1e-5 && !found.succeeded, "{}", found.margin);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let weights = |n: usize, k: f64| (0..n).map(|i| (i as f64 * k).sin()).collect::<Vec<_>>();
    let graph = chain(
        4,
        vec![
            (dense(4, 5, weights(20, 1.3), weights(5, 0.7)), 5),
            (Op::Elementwise(Arc::new(Tanh)), 5),
            (dense(5, 6, weights(30, 2.1), weights(6, 0.9)), 6),
            (Op::Elementwise(Arc::new(Relu)), 6),
            (dense(6, 3, weights(18, 0.8), vec![0.0; 3]), 3),
        ],
    );
    let x = vec![0.3f32, -0.2, 0.9, 0.5, -0.7, 0.1, 0.2, 0.6];
    let seed = vec![1.0f32, -0.5, 0.25, 0.3, 0.1, -1.0];
    let value = |x: Vec<f32>| -> f32 {
        let values = gradient::forward(&graph, 2, x);
        values[graph.output].iter().zip(&seed).map(|(a, b)| a * b).sum()
    };
    let values = gradient::forward(&graph, 2, x.clone());
    let gradient = gradient::backward(&graph, 2, &values, seed.clone());
    for i in 0..x.len() {
        let shifted = |h: f32| {
            let mut x = x.clone();
            x[i] += h;
            value(x)
        };
        let numeric = (shifted(0.01) - shifted(-0.01)) / 0.02;
        assert!((gradient[i] - numeric).abs() < 2e-3, "{i}: {} {numeric}", gradient[i]);
    }
}

#[test]
fn what_is_wrong_already_is_returned_as_it_is() {
    let graph = linear([1.0, 0.0, 0.0], 0.0);
    let plan = Plan::new(&graph);
    let region = Region { norm: Norm::Linf, eps: "0.1".parse().expect("a radius"), clip: None };
    let x = arr1(&[-0.5f32, 0.0, 0.0]);
    let found = PGD.attack(&graph, &plan, &region, x.view(), 0, 0);
    assert!(found.succeeded && found.point == x.to_vec());
}
