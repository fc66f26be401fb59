//! Small networks as people export them: each loads, agrees with a reference
//! run time, and its bounds hold.

use std::fs::File;

use ndarray::{ArrayD, Axis, Ix2, Slice};
use ndarray_npy::NpzReader;
use tightrope::bounds::{Evaluation, Intervals, propagate, propagate_evaluated};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};

use crate::corpus;

/// Relative deviation from the reference, of the output's scale.
const NEAR: f64 = 1e-5;
/// Half the width of the boxes.
const RADIUS: f64 = 1e-3;

#[test]
fn exported_networks_load_agree_and_are_bounded() {
    let Some(corpus) = corpus() else { return };
    let Ok(folder) = corpus.join("cases/operators").read_dir() else { return };
    let (mut loaded, mut failures) = (0, Vec::new());
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    paths.sort();
    for path in paths {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut npz = NpzReader::new(File::open(path.with_extension("npz")).expect("values")).expect("npz");
        let mut names = npz.names().expect("names");
        names.sort();
        // Of labels and scores the scores.
        let mut named = |start: &str| -> Vec<(String, ArrayD<f32>)> {
            let names = names.iter().filter_map(|n| Some((n, n.strip_prefix(start)?)));
            names.filter_map(|(n, short)| Some((short.to_owned(), npz.by_name(n).ok()?))).collect()
        };
        let (mut inputs, y) = (named("in_"), named("out_").remove(0).1);
        inputs.sort_by_key(|(name, _)| !name.eq_ignore_ascii_case("x"));
        let x = inputs.remove(0).1;
        // One sample where there are several inputs, the others as that has them.
        let several = !inputs.is_empty();
        let first = |v: &ArrayD<f32>| v.slice_axis(Axis(0), Slice::from(..1)).to_owned();
        let (x, y) = if several { (first(&x), first(&y)) } else { (x, y) };
        let fixed = inputs.iter().map(|(name, value)| (name.clone(), first(value))).collect();
        let graph = match load(&path, &LoadOptions { fixed, ..LoadOptions::default() }) {
            Ok(graph) => graph,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let n = x.len() / graph.input_len();
        let x = x.into_shape_with_order((n, graph.input_len())).expect("rows");
        let ours = Plan::new(&graph).run(x.view()).into_dimensionality::<Ix2>().expect("rows");
        let scale = y.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
        let far = ours.iter().zip(&y).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max);
        if ours.len() != y.len() || !(far <= NEAR * scale) {
            failures.push(format!("{name}: {far:e} from the reference of scale {scale}"));
        }
        let ends = |by: f64| x.iter().map(|&v| f64::from(v) + by).collect::<Vec<_>>();
        let bounds = Intervals { lower: ends(-RADIUS), upper: ends(RADIUS) };
        let bounds = propagate(&graph, n, bounds, |_| false).swap_remove(graph.output);
        let slack = NEAR * scale;
        for ((value, low), high) in y.iter().zip(&bounds.lower).zip(&bounds.upper) {
            let value = f64::from(*value);
            if !(low - slack <= value && value <= high + slack && (high - low).is_finite()) {
                failures.push(format!("{name}: {value} outside [{low}, {high}]"));
            }
        }
        // Without any tolerance, where the bounds in f32 say something.
        let points = Intervals { lower: ends(0.0), upper: ends(0.0) };
        let single = propagate_evaluated(Evaluation::Float32, &graph, n, points, |_| false);
        let single = &single[graph.output];
        for ((value, low), high) in y.iter().zip(&single.lower).zip(&single.upper) {
            if f64::from(*value) < *low || f64::from(*value) > *high {
                failures.push(format!("{name}: {value:e} outside [{low:e}, {high:e}] of evaluations in f32"));
            }
        }
        if single.lower.iter().any(|low| low.is_nan()) {
            println!("{name}: may overflow or be undefined in f32");
        }
        loaded += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(loaded > 0, "no networks");
}
