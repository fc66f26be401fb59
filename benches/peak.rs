//! The most f32 operations a second that this machine reaches, on one core and on all: what shares of
//! the peak in benches/RESULTS.md are of. Prints two numbers, in GFLOP/s.

#![expect(clippy::print_stdout, reason = "a program that answers on the terminal")]

mod shared;

use std::hint::black_box;
use std::time::Instant;

use shared::MultiplyAdds;
use tightrope::kernels::dispatch;

const STEPS: usize = 20_000_000;

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || black_box(dispatch(MultiplyAdds { factor: black_box(0.5), steps: STEPS }));
    let rate = |threads: usize| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        (threads * STEPS * MultiplyAdds::OPERATIONS) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    let best = |threads| (0..5).map(|_| rate(threads)).fold(0.0, f64::max);
    println!("{:.1} {:.1}", best(1), best(threads));
}
