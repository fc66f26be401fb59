//! Bounds under cuts, held against the network at points where the cuts hold.

use std::sync::Arc;

use ndarray::Array2;

use super::{Cut, Effort, Function, Plan, Relaxed, Row};
use crate::bounds::{Evaluation, Intervals};
use crate::exec;
use crate::graph::Graph;
use crate::kernels::LANES;
use crate::ops::{Exp, Op, Sigmoid, Tanh};
use crate::random::{InputStreams, unit, with_words};
use crate::tightness::generate::{Init, dense_chain};

/// Two layers with other functions than relu between them, as f32 computes them.
fn networks() -> Vec<Graph> {
    let functions: [fn() -> Option<Op>; 4] = [
        || None,
        || Some(Op::Elementwise(Arc::new(Sigmoid))),
        || Some(Op::Elementwise(Arc::new(Tanh))),
        || Some(Op::Elementwise(Arc::new(Exp))),
    ];
    let of = |(seed, function): (u64, &fn() -> Option<Op>)| {
        let mut graph = dense_chain(&[3, 6, 5, 2], true, Init::KaimingUniform, seed);
        for node in graph.nodes.iter_mut().filter(|node| matches!(node.op, Op::Elementwise(_))) {
            if let Some(function) = function() {
                node.op = function;
            }
        }
        graph
    };
    (0..12).map(|seed| of((seed, &functions[seed as usize % 4]))).collect()
}

#[test]
fn parts_of_a_base_hold_where_their_cuts_do() {
    let (mut held, mut tighter) = (0, 0);
    for (number, graph) in networks().iter().enumerate() {
        graph.prepare_boxes();
        let functions: Vec<usize> = (0..graph.nodes.len())
            .filter(|&i| matches!(graph.nodes[i].op, Op::Elementwise(_)))
            .map(|i| graph.nodes[i].inputs[0])
            .collect();
        let mut points = vec![0.0; 3 * 400];
        let stream = InputStreams::new(7, number as u64).sample(0);
        let zeros = vec![0.0; points.len()];
        with_words(&stream, &zeros, &mut points, |_, word| 2.0 * unit(word) - 1.0);
        let points = Array2::from_shape_vec((400, 3), points).expect("a table");
        let value = |v: usize| {
            let part = Graph { output: v, nodes: graph.nodes[..v].to_vec(), ..graph.clone() };
            exec::Plan::new(&part).run(points.view())
        };
        let (y, z) = (value(graph.output), functions.iter().map(|&v| value(v)).collect::<Vec<_>>());
        for evaluation in [Evaluation::Real, Evaluation::Float32] {
            let plan = Plan::new(graph, evaluation);
            let input = Intervals { lower: vec![-1.0; 3], upper: vec![1.0; 3] };
            let effort = Effort { tighten: true, choices: true, ..Effort::default() };
            let base = Relaxed::<1>::new(graph, &plan, input, None, 1, effort, |_, _| ());
            // Each lane cuts an entry of both functions at its value at one of the points.
            let cut = |lane: usize, k: usize| {
                let entry = lane % graph.len(functions[k]);
                let sign = if (lane + k).is_multiple_of(2) { 1.0 } else { -1.0 };
                Cut { value: functions[k], entry, sign, point: f64::from(z[k][[lane, entry]]) }
            };
            let cuts: Vec<Vec<Cut>> = (0..LANES).map(|lane| vec![cut(lane, 0), cut(lane, 1)]).collect();
            let lists: Vec<&[Cut]> = cuts.iter().map(Vec::as_slice).collect();
            let parts = Relaxed::<LANES>::of_cuts(&base, &lists).expect("functions alone read these");
            for sign in [1.0, -1.0] {
                let functions = [Function { value: vec![(0, sign), (1, -sign)], ..Function::default() }];
                let row = |of: usize| Row { of, functions: &functions, cuts: &cuts[of] };
                let rows: Vec<Row> = (0..LANES).map(row).collect();
                let whole = base.lower_bounds(graph.output, &[Row { cuts: &[], ..row(0) }], 0)[0];
                for (lane, bound) in parts.lower_bounds(graph.output, &rows, 10).into_iter().enumerate() {
                    tighter += usize::from(bound > whole);
                    for point in 0..points.nrows() {
                        let side = |(k, cut): (usize, &Cut)| {
                            cut.sign * (f64::from(z[k][[point, cut.entry]]) - cut.point) >= 0.0
                        };
                        if cuts[lane].iter().enumerate().all(side) {
                            held += 1;
                            let found = sign * (f64::from(y[[point, 0]]) - f64::from(y[[point, 1]]));
                            // In real arithmetic the network is known up to what f32 rounds.
                            let slack = if evaluation == Evaluation::Real { 1e-5 } else { 0.0 };
                            assert!(bound <= found + slack, "{number}, lane {lane}: {bound} > {found}");
                        }
                    }
                }
            }
        }
    }
    assert!(held > 10_000 && tighter > 100, "{held} points, {tighter} bounds tighter than the whole's");
}
