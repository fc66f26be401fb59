//! Interval bounds agree with those of `auto_LiRPA`.

use ndarray::Array2;
use serde_json::Value;
use tightrope::bounds::{IbpMargins, InputBox};
use tightrope::data::Dataset;
use tightrope::onnx::{LoadOptions, load};

use crate::corpus;

#[test]
fn margins_and_counts_agree_with_the_reference() {
    let Some(corpus) = corpus() else { return };
    let text = std::fs::read_to_string(corpus.join("reference/bounds.json")).expect("bounds.json");
    let reference: Value = serde_json::from_str(&text).expect("JSON");
    let rows = reference["rows"].as_array().expect("rows");
    assert!(!rows.is_empty());
    for row in rows {
        let model = row["model"].as_str().expect("a name");
        let eps = row["eps"].as_f64().expect("a radius");
        let n = row["n"].as_u64().expect("a count") as usize;
        let graph = load(corpus.join("models").join(model), &LoadOptions::default()).expect("loads");
        let folder = corpus.join("data");
        let data = if model.contains("cifar") {
            Dataset::open(&folder.join("cifar10/test_batch_first2000.bin.gz"), None, None)
        } else {
            let labels = folder.join("mnist/t10k-labels-idx1-ubyte.gz");
            Dataset::open(&folder.join("mnist/t10k-images-idx3-ubyte.gz"), Some(&labels), None)
        };
        let data = data.expect("images");
        let arrangement = data.arrange(&graph.input_shape).expect("fits");
        let pixels: Vec<f32> = (0..n).flat_map(|i| data.image(i, &arrangement).expect("an image")).collect();
        let images = Array2::from_shape_vec((n, graph.input_len()), pixels).expect("n images");
        let boxes = InputBox::linf(images.view(), eps, Some((0.0, 1.0))).expect("boxes");
        let margins = IbpMargins::new(&graph).bound(&boxes, &data.labels().expect("labels")[..n]);
        let expected = row["IBP"]["min_margin"].as_array().expect("margins");
        let mut worst = 0.0f64;
        for (i, expected) in expected.iter().enumerate() {
            let expected = expected.as_f64().expect("a margin");
            let difference = (margins.least(i) - expected).abs();
            worst = worst.max(difference);
            // The reference is in f32: large margins carry its rounding.
            assert!(
                difference <= 1e-4 + 1e-6 * expected.abs(),
                "{model} {eps} {i}: {} {expected}",
                margins.least(i)
            );
        }
        println!("{model} eps {eps}: largest difference {worst:.1e}");
        let certified = (0..n).filter(|&i| margins.certified(i)).count() as u64;
        assert_eq!(Some(certified), row["IBP"]["certified"].as_u64(), "{model} {eps}");
    }
}
