//! What work costs, in the floating-point operations that one core could have done in the same time:
//! `cargo bench --bench costs`. That is a ratio of two times of one process, taken in turns, so that
//! neither the machine's clock nor its other work matter much. Fails where a cost is above its limit,
//! which is about twice what was measured: more than noise, less than a kernel that is no longer made of
//! vector instructions.

#![expect(clippy::print_stdout, reason = "a program that answers on the terminal")]

mod shared;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use shared::MultiplyAdds;
use tightrope::Graph;
use tightrope::bounds::{InputBox, MarginBounds, Method};
use tightrope::exec::Plan;
use tightrope::kernels::{Kernel, WIDE, dispatch};
use tightrope::random::InputStreams;
use tightrope::smoothing::noise::Noise;
use tightrope::smoothing::quantity::Scale;
use tightrope::tightness::{Mask, Tightness};

/// Taken in turns; the least of the ratios counts.
const ROUNDS: usize = 7;
const STEPS: usize = 2_000_000;

fn seconds(work: &(dyn Fn() + Sync)) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// A piece of work.
struct Work<'a> {
    name: &'static str,
    /// How many of what it does.
    items: usize,
    run: Box<dyn Fn() + Sync + 'a>,
    /// Millions of operations for each item, at most.
    limit: f64,
}

/// Tiles of samples through a network, without noise.
fn inference<'a>(name: &'static str, graph: &'a Graph, tiles: usize, limit: f64) -> Work<'a> {
    let plan = Plan::fast(graph);
    let x = vec![0.5; WIDE * graph.input_len()];
    let run = move || {
        let (mut workspace, mut out) = (plan.workspace(), vec![0.0; WIDE * graph.output_len()]);
        for _ in 0..tiles {
            plan.run_tile(&mut workspace, &x, &mut out);
        }
        black_box(out);
    };
    Work { name, items: tiles * WIDE, run: Box::new(run), limit }
}

/// Bounds on the margins of some images.
fn bounds<'a>(name: &'static str, graph: &'a Graph, method: Method, items: usize, limit: f64) -> Work<'a> {
    let (images, labels) = shared::images(graph, items);
    let boxes = InputBox::linf(images.view(), 0.1, Some((0.0, 1.0))).expect("boxes");
    let margins = MarginBounds::new(graph, method);
    let run = move || {
        black_box(margins.bound(&boxes, &labels));
    };
    Work { name, items, run: Box::new(run), limit }
}

fn main() -> ExitCode {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let [ibp, pgd, plain] = ["ibp0.1", "pgd0.1", "plain"].map(|n| shared::network(&format!("mnist-cnn-{n}")));
    let (mlp, resnet) = (shared::network("mnist-mlp-noise25"), shared::network("cifar-resnet20-noise25"));
    let tightness = Tightness::new(&ibp, Mask::Local).expect("piecewise linear");
    let (images, labels) = shared::images(&ibp, 64);
    let boxes = InputBox::linf(images.view(), 0.1, Some((0.0, 1.0))).expect("boxes");
    let noise = Noise::gaussian(Scale::new(0.25).expect("a scale"));
    let drawn = || {
        let (x, mut out) = (vec![0.5; 3072], vec![0.0; 3072]);
        for sample in 0..100 {
            noise.add(&InputStreams::new(1, 1).sample(sample), &x, &mut out);
        }
        black_box(out);
    };
    let measured = || {
        black_box(tightness.measure(images.view(), &boxes, Some(&labels)));
    };
    let all = [
        Work { name: "Gaussian noise, 1,000 numbers", items: 307, run: Box::new(drawn), limit: 0.5 },
        inference("MLP, one sample", &mlp, 100, 1.0),
        inference("MNIST CNN, one sample", &plain, 40, 3.0),
        inference("ResNet-20, one sample", &resnet, 1, 140.0),
        bounds("MNIST CNN, interval bounds", &ibp, Method::Ibp, 64, 16.0),
        bounds("MNIST CNN, CROWN", &pgd, Method::Crown, 8, 1400.0),
        Work { name: "MNIST CNN, tightness", items: 64, run: Box::new(measured), limit: 50.0 },
    ];
    if !fused() {
        println!("this processor has no AVX2 or no FMA: costs are not compared");
        return ExitCode::SUCCESS;
    }
    let operations = (STEPS * MultiplyAdds::OPERATIONS) as f64 / 1e6;
    let mut least = [f64::INFINITY; 7];
    for _ in 0..ROUNDS {
        let peak = seconds(&|| {
            black_box(dispatch(MultiplyAdds { factor: black_box(0.5), steps: STEPS }));
        }) / operations;
        for (least, work) in least.iter_mut().zip(&all) {
            *least = least.min(pool.install(|| seconds(&work.run)) / work.items as f64 / peak);
        }
    }
    println!("| work | Mflop at the peak of a core | limit |\n|---|--:|--:|");
    for (work, cost) in all.iter().zip(least) {
        println!("| {} | {cost:.2} | {:.2} |", work.name, work.limit);
    }
    let above: Vec<&str> =
        all.iter().zip(least).filter(|(work, cost)| *cost > work.limit).map(|(work, _)| work.name).collect();
    if above.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("above its limit: {}", above.join("; "));
    ExitCode::FAILURE
}

/// Whether [`dispatch`] uses fused multiply-add.
fn fused() -> bool {
    struct Fused;
    impl Kernel for Fused {
        type Output = bool;

        #[inline(always)]
        fn run<const FUSED: bool>(self) -> bool {
            FUSED
        }
    }
    dispatch(Fused)
}
