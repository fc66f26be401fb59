//! Inference in f32 follows the definition, and neither it nor the bounds
//! depend on batches or threads.

use ndarray::{Array2, Axis, s};
use proptest::prelude::*;
use tightrope::bounds::{InputBox, MarginBounds, Method};
use tightrope::data::Dataset;
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};

use crate::networks::{Random, evaluate, network};

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inference_agrees_with_the_definition(seed: u64, depth in 1usize..5) {
        let mut random = Random::new(seed);
        let graph = network(&mut random, depth);
        let n = graph.input_len();
        let x: Vec<f64> = random.units(3 * n);
        let single = Array2::from_shape_vec((3, n), x.iter().map(|&v| v as f32).collect()).expect("three inputs");
        let outputs = Plan::new(&graph).run(single.view());
        for (b, out) in outputs.rows().into_iter().enumerate() {
            let values = evaluate(&graph, &x[b * n..(b + 1) * n]);
            // Steps, poles and exponentials magnify f32 rounding beyond use;
            // such networks are compared where all values stay moderate.
            let moderate = values.iter().flatten().all(|v| v.abs() < 50.0 && (*v == 0.0 || v.abs() > 1e-3));
            prop_assume!(moderate);
            for (y, expected) in out.iter().zip(values.last().expect("an output")) {
                prop_assert!((f64::from(*y) - expected).abs() < 2e-2 * (1.0 + expected.abs()), "{y} {expected}");
            }
        }
    }
}

/// The networks and images that the repository ships.
fn shipped() -> (Vec<tightrope::Graph>, Array2<f32>, Vec<usize>) {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let images = models.join("data/mnist-test-1000-images.idx.gz");
    let labels = models.join("data/mnist-test-1000-labels.idx.gz");
    let data = Dataset::open(&images, Some(&labels), None).expect("shipped data");
    let load = |name: &str| load(models.join(name), &LoadOptions::default()).expect("a shipped network");
    let graphs = vec![load("mnist-cnn-plain.onnx"), load("mnist-cnn-ibp0.1.onnx")];
    let arrangement = data.arrange(&graphs[0].input_shape).expect("fits");
    let pixels: Vec<f32> = (0..150).flat_map(|i| data.image(i, &arrangement).expect("an image")).collect();
    let labels = data.labels().expect("labels")[..150].to_vec();
    (graphs, Array2::from_shape_vec((150, 784), pixels).expect("150 images"), labels)
}

#[test]
fn results_do_not_depend_on_batches_or_threads() {
    let (graphs, images, labels) = shipped();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    for graph in &graphs {
        let plan = Plan::new(graph);
        let margins = MarginBounds::new(graph, Method::Ibp);
        let bound = |rows: std::ops::Range<usize>| {
            let boxes =
                InputBox::linf(images.slice(s![rows.clone(), ..]), 0.1, Some((0.0, 1.0))).expect("boxes");
            margins.bound(&boxes, &labels[rows]).lower().clone()
        };
        let logits = pool(2).install(|| plan.run(images.view()));
        let bounds = pool(2).install(|| bound(0..150));
        assert_eq!(pool(1).install(|| plan.run(images.view())), logits);
        assert_eq!(pool(1).install(|| bound(0..150)), bounds);
        for rows in [0..1, 7..8, 3..20, 90..150] {
            let part = s![rows.clone(), ..];
            assert_eq!(plan.run(images.slice(part)), logits.slice(part), "inputs {rows:?}");
            assert_eq!(bound(rows.clone()), bounds.slice(part), "inputs {rows:?}");
        }
    }
}

#[test]
fn fast_plans_agree_with_direct_ones_and_do_not_depend_on_batches() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let graph = load(models.join("cifar-resnet20-noise25.onnx"), &LoadOptions::default()).expect("a network");
    let mut random = Random::new(3);
    let x: Vec<f32> = random.units(20 * graph.input_len()).iter().map(|&x| x as f32).collect();
    let x = Array2::from_shape_vec((20, graph.input_len()), x).expect("twenty inputs");
    let (fast, direct) = (Plan::fast(&graph), Plan::new(&graph).run(x.view()));
    let logits = fast.run(x.view());
    assert_ne!(logits, direct, "convolutions are filtered");
    let scale = direct.iter().fold(0.0_f32, |m, y| m.max(y.abs()));
    let worst = logits.iter().zip(&direct).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst < 2e-5 * scale, "{worst} of {scale}");
    for rows in [0..1, 5..6, 3..11, 2..20] {
        let part = s![rows.clone(), ..];
        assert_eq!(fast.run(x.slice(part)), logits.slice(part), "inputs {rows:?}");
    }
}

#[test]
fn shipped_networks_classify_and_certify() {
    let (graphs, images, labels) = shipped();
    let boxes = InputBox::linf(images.view(), 0.1, Some((0.0, 1.0))).expect("boxes");
    for (graph, least_certified) in graphs.iter().zip([0, 130]) {
        let logits = Plan::new(graph).run(images.view());
        let correct = logits
            .axis_iter(Axis(0))
            .zip(&labels)
            .filter(|(row, label)| row.iter().all(|x| *x <= row[**label]))
            .count();
        assert!(correct >= 140, "{correct} of 150");
        let margins = MarginBounds::new(graph, Method::Ibp).bound(&boxes, &labels);
        let certified = (0..150).filter(|&i| margins.certified(i)).count();
        assert!(certified >= least_certified, "{certified} of 150");
        // What is certified is classified correctly.
        for i in (0..150).filter(|&i| margins.certified(i)) {
            assert!(logits.row(i).iter().all(|x| *x <= logits[[i, labels[i]]]));
        }
    }
}
