//! Radii by adjoint products are those of dense matrices formed entry by entry.

use std::sync::Arc;

use ndarray::Array2;
use proptest::prelude::*;
use tightrope::bounds::InputBox;
use tightrope::graph::{Graph, Node};
use tightrope::ops::*;
use tightrope::tightness::{Mask, Tightness};

use crate::networks::{Random, affine, evaluate, network};

const CLASSES: usize = 4;

/// A random network of piecewise-linear operators that ends with a dense layer.
fn piecewise(random: &mut Random, depth: usize) -> Graph {
    let mut graph = network(random, depth);
    for (i, node) in graph.nodes.iter_mut().enumerate() {
        if !node.op.is_piecewise_linear() {
            (node.op, node.inputs) = (Op::Elementwise(Arc::new(Relu)), vec![i]);
        }
    }
    let inputs = graph.output_len();
    let weight = Weights::new(random.units(inputs * CLASSES));
    let dense = Dense { rows: 1, inputs, outputs: CLASSES, weight, bias: None };
    graph.nodes.push(Node {
        name: "last".into(),
        origin: "Gemm".into(),
        op: Op::Affine(Affine::Dense(dense)),
        inputs: vec![graph.output],
        shape: vec![1, CLASSES],
    });
    graph.output += 1;
    graph.output_shape = vec![1, CLASSES];
    graph
}

/// The matrix of an affine map, one column for each entry of all inputs.
fn columns(op: &Affine, lens: &[usize], outputs: usize) -> Vec<Vec<f64>> {
    let apply = |hot: Option<usize>| {
        let mut x: Vec<Vec<f64>> = lens.iter().map(|&len| vec![0.0; len]).collect();
        if let Some(entry) = hot.and_then(|hot| x.iter_mut().flatten().nth(hot)) {
            *entry = 1.0;
        }
        affine(op, &x.iter().map(Vec::as_slice).collect::<Vec<_>>(), outputs)
    };
    let bias = apply(None);
    let minus = |y: Vec<f64>| y.iter().zip(&bias).map(|(y, b)| y - b).collect();
    (0..lens.iter().sum()).map(|j| minus(apply(Some(j)))).collect()
}

/// Every value as a matrix over the input (`len` rows), and its layer-wise radii.
type Reference = Vec<(Vec<Vec<f64>>, Vec<f64>)>;

fn reference(graph: &Graph, identity: bool, x: &[f64], radii: &[f64]) -> Reference {
    let n = x.len();
    let values = evaluate(graph, x);
    let unit = (0..n).map(|i| (0..n).map(|j| f64::from(i == j)).collect()).collect();
    let mut all: Reference = vec![(unit, radii.to_vec())];
    for (i, node) in graph.nodes.iter().enumerate() {
        let read: Vec<f64> = node.inputs.iter().flat_map(|&v| values[v].clone()).collect();
        let below: Vec<Vec<f64>> = node.inputs.iter().flat_map(|&v| all[v].0.clone()).collect();
        let radii: Vec<f64> = node.inputs.iter().flat_map(|&v| all[v].1.clone()).collect();
        let len = graph.len(i + 1);
        // The stand-in's matrix, one column for each entry that is read.
        let matrix: Vec<Vec<f64>> = match &node.op {
            Op::Affine(op) => {
                let lens: Vec<usize> = node.inputs.iter().map(|&v| graph.len(v)).collect();
                columns(op, &lens, len)
            }
            Op::Elementwise(f) => {
                let slope =
                    |j: usize| if identity { 1.0 } else { f.slope(j, read[j]).expect("piecewise linear") };
                (0..len).map(|j| (0..len).map(|k| if j == k { slope(j) } else { 0.0 }).collect()).collect()
            }
            Op::Product(Product::Max { groups, .. }) => {
                let mut matrix = vec![vec![0.0; len]; read.len()];
                for (k, (_, group)) in groups.iter().enumerate() {
                    let top = group.iter().map(|&j| read[j as usize]).fold(f64::NEG_INFINITY, f64::max);
                    let first = group.iter().find(|&&j| read[j as usize] == top).expect("an entry");
                    matrix[*first as usize][k] = 1.0;
                }
                matrix
            }
            Op::Product(_) => unreachable!("replaced"),
        };
        // An entry that is read twice counts twice.
        let absolute = match &node.op {
            Op::Affine(Affine::Sparse(op)) => {
                let weights = op.weights.as_ref().map(|w| Weights::new(w.absolute().to_vec()));
                let op = Affine::Sparse(Sparse { weights, bias: None, ..op.clone() });
                columns(&op, &node.inputs.iter().map(|&v| graph.len(v)).collect::<Vec<_>>(), len)
            }
            _ => matrix.clone(),
        };
        let mut product = vec![vec![0.0; n]; len];
        let mut layerwise = vec![0.0; len];
        for (j, row) in below.iter().enumerate() {
            for k in (0..len).filter(|&k| absolute[j][k] != 0.0) {
                product[k].iter_mut().zip(row).for_each(|(p, b)| *p += matrix[j][k] * b);
                layerwise[k] += absolute[j][k].abs() * radii[j];
            }
        }
        all.push((product, layerwise));
    }
    all
}

/// Whether some slope or arg-max hangs on a rounding error.
fn undecided(graph: &Graph, x: &[f64]) -> bool {
    let values = evaluate(graph, x);
    let near = |a: f64, b: f64| a != b && (a - b).abs() < 1e-9;
    graph.nodes.iter().any(|node| {
        let read: Vec<f64> = node.inputs.iter().flat_map(|&v| values[v].clone()).collect();
        match &node.op {
            Op::Elementwise(f) => {
                let slope = |(j, &x): (usize, &f64)| f.slope(j, x - 1e-9) != f.slope(j, x + 1e-9);
                read.iter().enumerate().any(slope) && read.iter().any(|x| *x != 0.0 && x.abs() < 1e-9)
            }
            Op::Product(Product::Max { groups, .. }) => groups.iter().any(|(_, group)| {
                group.iter().any(|&i| group.iter().any(|&j| near(read[i as usize], read[j as usize])))
            }),
            _ => false,
        }
    })
}

fn close(found: f64, expected: f64, size: f64) -> bool {
    (found - expected).abs() <= 1e-9 * (expected.abs() + 1e-3 * size)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn radii_are_those_of_dense_matrices(seed: u64, depth in 1usize..7, identity: bool) {
        let mut random = Random::new(seed);
        let graph = piecewise(&mut random, depth);
        let n = graph.input_len();
        let x: Vec<f32> = random.units(2 * n).iter().map(|&v| v as f32).collect();
        let x = Array2::from_shape_vec((2, n), x).expect("two inputs");
        let boxes = InputBox::linf(x.view(), 0.3, Some((-1.0, 1.0))).expect("boxes");
        let labels = [random.below(CLASSES), random.below(CLASSES)];
        let tightness = Tightness::new(&graph, if identity { Mask::Identity } else { Mask::Local }).expect("supported");
        let outputs = tightness.measure(x.view(), &boxes, None);
        let margins = tightness.measure(x.view(), &boxes, Some(&labels));
        let layers = tightness.layers(x.view(), &boxes);
        let Op::Affine(last) = &graph.nodes[graph.output - 1].op else { unreachable!() };
        let hidden = graph.nodes[graph.output - 1].inputs[0];
        let last = columns(last, &[graph.len(hidden)], CLASSES);
        for b in 0..2 {
            let input: Vec<f64> = x.row(b).iter().map(|&v| f64::from(v)).collect();
            let (low, high) = (boxes.lower().row(b).to_vec(), boxes.upper().row(b).to_vec());
            let radii: Vec<f64> = low.iter().zip(&high).map(|(l, u)| 0.5 * (u - l)).collect();
            prop_assume!(!undecided(&graph, &input));
            let all = reference(&graph, identity, &input, &radii);
            let optimal = |row: &[f64]| row.iter().zip(&radii).map(|(a, r)| a.abs() * r).sum::<f64>();
            let (product, layerwise) = &all[graph.output];
            for (k, [o, l]) in outputs[b].rows().iter().enumerate() {
                prop_assert!(close(o.get(), optimal(&product[k]), layerwise[k]), "output {k}");
                prop_assert!(close(l.get(), layerwise[k], layerwise[k]), "output {k}");
            }
            let others = (0..CLASSES).filter(|&k| k != labels[b]);
            for (k, [o, l]) in others.zip(margins[b].rows()) {
                let row: Vec<f64> = product[labels[b]].iter().zip(&product[k]).map(|(y, k)| y - k).collect();
                let merged: f64 = last.iter().zip(&all[hidden].1).map(|(c, r)| (c[labels[b]] - c[k]).abs() * r).sum();
                prop_assert!(close(o.get(), optimal(&row), merged), "margin {k}: {} {}", o.get(), optimal(&row));
                prop_assert!(close(l.get(), merged, merged), "margin {k}: {} {merged}", l.get());
            }
            for layer in &layers[b] {
                let value = graph.nodes[layer.node].inputs[0];
                // A sub-network without any layer is merged into exactly its last maps.
                let whole: f64 = all[value].0.iter().map(|row| optimal(row)).sum();
                prop_assert!(close(layer.sums[0].get(), whole, all[value].1.iter().sum()));
                prop_assert!(layer.tightness <= 1.0 && layer.tightness >= 0.0);
            }
        }
    }
}
