//! Every network loads and agrees with a reference run time.

use std::fs::File;

use ndarray::{Array2, ArrayD};
use ndarray_npy::NpzReader;
use tightrope::bounds::{Evaluation, Intervals, propagate_evaluated};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};

use crate::corpus;

fn models(corpus: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![corpus.join("models"), corpus.join("vnncomp")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder of the corpus") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(".onnx") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_network_loads_and_agrees_with_the_reference() {
    let Some(corpus) = corpus() else { return };
    let mut failures = Vec::new();
    let (mut compared, mut bounded) = (0, 0);
    for path in models(&corpus) {
        let name = path.strip_prefix(&corpus).expect("inside").with_extension("");
        let name = name.to_string_lossy().replace('/', "__");
        let reference = corpus.join("reference/forward").join(format!("{name}.npz"));
        let mut options = LoadOptions::default();
        let mut pair = None;
        if let Ok(file) = File::open(&reference) {
            let mut npz = NpzReader::new(file).expect("an npz file");
            let x: ArrayD<f32> = npz.by_name("input").expect("inputs");
            let y: ArrayD<f32> = npz.by_name("output").expect("outputs");
            let mut shape = x.shape().to_vec();
            shape[0] = 1;
            if name.contains("rapidocr") {
                options.input_shape = Some(shape);
            }
            pair = Some((x, y));
        }
        let graph = match load(&path, &options) {
            Ok(graph) => graph,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let Some((x, y)) = pair else { continue };
        let n = x.len() / graph.input_len();
        let x =
            Array2::from_shape_vec((n, graph.input_len()), x.iter().copied().collect()).expect("n inputs");
        let scale = y.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        compared += 1;
        // Without any tolerance: what the reference computed is one of the evaluations that bounds in f32
        // speak of, and so is ours.
        let points: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let points = Intervals { lower: points.clone(), upper: points };
        let bounds = propagate_evaluated(Evaluation::Float32, &graph, n, points, |_| false);
        let bounds = &bounds[graph.output];
        let ours = Plan::new(&graph).run(x.view());
        // Through many layers intervals alone may leave the range of f32.
        let silent = bounds.lower.iter().any(|low| low.is_nan());
        bounded += usize::from(!silent);
        let outside =
            |y: &f32, i: usize| !silent && !(bounds.lower[i]..=bounds.upper[i]).contains(&f64::from(*y));
        let widest = bounds.lower.iter().zip(&bounds.upper).fold(0.0, |m: f64, (l, u)| m.max(u - l));
        let says =
            if silent { "unbounded".into() } else { format!("within {:.1e}", widest / f64::from(scale)) };
        println!("{name}: evaluations in f32 {says} of the scale");
        for (whose, values) in [("the reference", y.as_slice()), ("ours", ours.as_slice())] {
            let values = values.expect("contiguous");
            let lost = values.iter().enumerate().filter(|(i, y)| outside(y, *i)).count();
            if lost > 0 {
                failures.push(format!("{name}: {lost} outputs of {whose} outside the bounds in f32"));
            }
        }
        for (kind, plan) in [("direct", Plan::new(&graph)), ("fast", Plan::fast(&graph))] {
            let ours = plan.run(x.view());
            let worst = ours.iter().zip(&y).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            println!("{name}, {kind}: {n} inputs, {:.1e} of scale {scale:.3}", worst / scale);
            if ours.len() != y.len() || !(worst <= 1e-4 * scale) {
                let (found, asked) = (ours.len(), y.len());
                failures
                    .push(format!("{name}, {kind}: {worst} of scale {scale}, {found} entries of {asked}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(bounded + 1 >= compared, "{bounded} of {compared} networks have bounds in f32");
    assert!(compared >= 30, "only {compared} networks have reference outputs");
}
