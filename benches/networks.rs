//! Whole networks on shipped images: `cargo bench`.
//!
//! Items are images, or normal numbers for the noise, so the throughput column
//! reads those per second.

use divan::Bencher;
use divan::counter::ItemsCount;
use ndarray::Array2;
use tightrope::Graph;
use tightrope::bounds::{InputBox, MarginBounds, Method};
use tightrope::data::Dataset;
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};
use tightrope::smoothing::noise::{Gaussian, Noise};
use tightrope::smoothing::quantity::Scale;
use tightrope::smoothing::stream::InputStreams;

const IMAGES: usize = 1000;
const NETWORKS: [&str; 2] = ["mnist-cnn-ibp0.1", "mnist-mlp-noise25"];

fn main() {
    divan::main();
}

fn shipped(name: &str) -> (Graph, Array2<f32>, Vec<usize>) {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let graph = load(models.join(format!("{name}.onnx")), &LoadOptions::default()).expect("a network");
    let labels = models.join("data/mnist-test-1000-labels.idx.gz");
    let data = Dataset::open(&models.join("data/mnist-test-1000-images.idx.gz"), Some(&labels), None)
        .expect("images");
    let arrangement = data.arrange(&graph.input_shape).expect("fits");
    let pixels = (0..IMAGES).flat_map(|i| data.image(i, &arrangement).expect("an image")).collect();
    let images = Array2::from_shape_vec((IMAGES, graph.input_len()), pixels).expect("all images");
    (graph, images, data.labels().expect("labels")[..IMAGES].to_vec())
}

#[divan::bench(args = NETWORKS, sample_count = 20)]
fn inference(bencher: Bencher, name: &str) {
    let (graph, images, _) = shipped(name);
    let plan = Plan::new(&graph);
    bencher.counter(ItemsCount::new(IMAGES)).bench(|| plan.run(images.view()));
}

#[divan::bench(args = NETWORKS, sample_count = 20)]
fn interval_margins(bencher: Bencher, name: &str) {
    let (graph, images, labels) = shipped(name);
    let boxes = InputBox::linf(images.view(), 0.1, Some((0.0, 1.0))).expect("boxes");
    let margins = MarginBounds::new(&graph, Method::Ibp);
    bencher.counter(ItemsCount::new(IMAGES)).bench(|| margins.bound(&boxes, &labels));
}

#[divan::bench(args = [784, 3072])]
fn gaussian_noise(bencher: Bencher, len: usize) {
    let noise = Gaussian { sigma: Scale::new(0.25).expect("a scale") };
    let (x, mut out) = (vec![0.5; len], vec![0.0; len]);
    let stream = InputStreams::new(1, 1).sample(1);
    bencher.counter(ItemsCount::new(len)).bench_local(|| noise.add(&stream, &x, &mut out));
}
