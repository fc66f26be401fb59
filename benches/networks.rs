//! Whole networks on shipped images: `cargo bench`.
//!
//! Items are images, or normal numbers for the noise, so the throughput column
//! reads those per second.

mod shared;

use divan::Bencher;
use divan::counter::ItemsCount;
use tightrope::bounds::{InputBox, MarginBounds, Method};
use tightrope::exec::Plan;
use tightrope::random::InputStreams;
use tightrope::smoothing::noise::Noise;
use tightrope::smoothing::quantity::Scale;

const IMAGES: usize = 1000;
const NETWORKS: [&str; 2] = ["mnist-cnn-ibp0.1", "mnist-mlp-noise25"];

fn main() {
    divan::main();
}

#[divan::bench(args = NETWORKS, sample_count = 20)]
fn inference(bencher: Bencher, name: &str) {
    let graph = shared::network(name);
    let (images, _) = shared::images(&graph, IMAGES);
    let plan = Plan::new(&graph);
    bencher.counter(ItemsCount::new(IMAGES)).bench(|| plan.run(images.view()));
}

#[divan::bench(args = NETWORKS, sample_count = 20)]
fn interval_margins(bencher: Bencher, name: &str) {
    let graph = shared::network(name);
    let (images, labels) = shared::images(&graph, IMAGES);
    let boxes = InputBox::linf(images.view(), 0.1, Some((0.0, 1.0))).expect("boxes");
    let margins = MarginBounds::new(&graph, Method::Ibp);
    bencher.counter(ItemsCount::new(IMAGES)).bench(|| margins.bound(&boxes, &labels));
}

#[divan::bench(args = [784, 3072])]
fn gaussian_noise(bencher: Bencher, len: usize) {
    let noise = Noise::gaussian(Scale::new(0.25).expect("a scale"));
    let (x, mut out) = (vec![0.5; len], vec![0.0; len]);
    let stream = InputStreams::new(1, 1).sample(1);
    bencher.counter(ItemsCount::new(len)).bench_local(|| noise.add(&stream, &x, &mut out));
}
