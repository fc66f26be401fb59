//! Any bytes are a network or an error; a network that loads can be evaluated
//! and bounded, and its bounds contain what it computes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ndarray::Array2;
use tightrope::bounds::{Intervals, propagate};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load_bytes};

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = load_bytes(bytes, &LoadOptions::default()) else { return };
    let cost = |i: usize| graph.nodes[i].op.multiply_adds(graph.len(i + 1)) + graph.len(i + 1);
    if graph.input_len() + (0..graph.nodes.len()).map(cost).sum::<usize>() > 1_000_000 {
        return;
    }
    let n = graph.input_len();
    let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32 / 8.0).collect();
    let logits = Plan::new(&graph).run(Array2::from_shape_vec((1, n), x.clone()).unwrap().view());
    assert_eq!(logits.len(), graph.output_len());
    let ends = |d: f64| x.iter().map(|&v| f64::from(v) + d).collect();
    let bounds = propagate(&graph, 1, Intervals { lower: ends(-0.01), upper: ends(0.01) }, |_| true);
    for value in &bounds {
        assert!(value.lower.iter().zip(&value.upper).all(|(l, u)| l <= u || (l.is_nan() && u.is_nan())));
    }
});
