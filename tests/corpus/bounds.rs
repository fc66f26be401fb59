//! Interval bounds agree with those of `auto_LiRPA`; linear bounds are at
//! least as tight as its own.

use ndarray::Array2;
use serde_json::Value;
use tightrope::bounds::{InputBox, MarginBounds, Margins, Method};
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
        let labels = &data.labels().expect("labels")[..n];
        let found = |method| MarginBounds::new(&graph, method).bound(&boxes, labels);
        let expected = |name: &str| -> (Vec<f64>, usize) {
            let margins = row[name]["min_margin"].as_array().expect("margins");
            let count = row[name]["certified"].as_u64().expect("a count") as usize;
            (margins.iter().map(|m| m.as_f64().expect("a margin")).collect(), count)
        };
        let certified = |margins: &Margins| (0..n).filter(|&i| margins.certified(i)).count();
        // The reference is in f32: large margins carry its rounding.
        let slack = |expected: f64| 1e-4 + 1e-6 * expected.abs();

        let ibp = found(Method::Ibp);
        let (reference, count) = expected("IBP");
        let mut worst = 0.0f64;
        for (i, expected) in reference.into_iter().enumerate() {
            let difference = (ibp.least(i) - expected).abs();
            worst = worst.max(difference);
            assert!(difference <= slack(expected), "{model} {eps} {i}: {} {expected}", ibp.least(i));
        }
        assert_eq!(certified(&ibp), count, "{model} {eps}");

        let crown = found(Method::Crown);
        let (reference, count) = expected("CROWN");
        let mut gain = f64::INFINITY;
        for (i, expected) in reference.into_iter().enumerate() {
            gain = gain.min(crown.least(i) - expected);
            let found = crown.least(i);
            assert!(
                found >= expected - slack(expected) && found >= ibp.least(i),
                "{model} {i}: {found} {expected}"
            );
        }
        assert!(certified(&crown) >= count, "{model} {eps}: {} of {count}", certified(&crown));
        println!("{model} eps {eps}: IBP differs by at most {worst:.1e}, CROWN gains at least {gain:.1e}");
    }
}
