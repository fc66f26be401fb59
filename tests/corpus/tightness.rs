//! Tightness agrees with the code published with the paper.

use ndarray::Array2;
use serde_json::Value;
use tightrope::bounds::InputBox;
use tightrope::data::Dataset;
use tightrope::onnx::{LoadOptions, load};
use tightrope::tightness::{Mask, Radii, Tightness};

use crate::corpus;

#[test]
fn tightness_agrees_with_the_reference() {
    let Some(corpus) = corpus() else { return };
    let text = std::fs::read_to_string(corpus.join("reference/tightness.json")).expect("tightness.json");
    let reference: Value = serde_json::from_str(&text).expect("JSON");
    let folder = corpus.join("data/mnist");
    let labels = folder.join("t10k-labels-idx1-ubyte.gz");
    let data = Dataset::open(&folder.join("t10k-images-idx3-ubyte.gz"), Some(&labels), None).expect("images");
    let mut largest = [0.0f64; 3];
    let rows = reference["rows"].as_array().expect("rows");
    assert!(rows.len() >= 6);
    for row in rows {
        let model = row["model"].as_str().expect("a name");
        let eps = row["eps"].as_f64().expect("a radius");
        let path = corpus.join("models").join(format!("{model}.onnx"));
        let graph = load(path, &LoadOptions::default()).expect("loads");
        let arrangement = data.arrange(&graph.input_shape).expect("fits");
        let pixels = (0..100).flat_map(|i| data.image(i, &arrangement).expect("an image")).collect();
        let images = Array2::from_shape_vec((100, graph.input_len()), pixels).expect("100 images");
        let boxes = InputBox::linf(images.view(), eps, Some((0.0, 1.0))).expect("boxes");
        let labels = &data.labels().expect("labels")[..100];
        let modes = [("local", Mask::Local), ("center", Mask::Center), ("None", Mask::Identity)];
        for ((name, mask), largest) in modes.into_iter().zip(&mut largest) {
            let radii = Tightness::new(&graph, mask).expect("supported");
            let found: Vec<f64> =
                radii.measure(images.view(), &boxes, Some(labels)).iter().map(Radii::tightness).collect();
            let mut compare = |found: f64, expected: &Value| {
                let expected = expected.as_f64().expect("a number");
                let difference = (found / expected - 1.0).abs();
                *largest = largest.max(difference);
                assert!(difference <= 1e-4, "{model} {eps} {name}: {found} {expected}");
            };
            compare(found.iter().sum::<f64>() / 100.0, &row[name]["mean"]);
            for (found, expected) in found.iter().zip(row[name]["first3"].as_array().expect("three")) {
                compare(*found, expected);
            }
        }
    }
    println!("largest relative differences (local, center, identity): {largest:?}");
}
