//! The most f32 operations a second that this machine reaches, on one core and on all: what shares of
//! the peak in benches/RESULTS.md are of. Prints two numbers, in GFLOP/s.

#![expect(clippy::print_stdout, reason = "a program that answers on the terminal")]

use std::hint::black_box;
use std::time::Instant;

use tightrope::kernels::{Kernel, dispatch};

/// Sums that do not wait for each other: enough for two multiply-adds a cycle.
const SUMS: usize = 12;
const LANES: usize = 8;
const STEPS: usize = 20_000_000;

struct MultiplyAdds {
    factor: f32,
}

impl Kernel for MultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        let mut sums = [[1.0_f32; LANES]; SUMS];
        for _ in 0..STEPS {
            for x in sums.as_flattened_mut() {
                *x = if FUSED { self.factor.mul_add(*x, 1e-3) } else { self.factor * *x + 1e-3 };
            }
        }
        sums.as_flattened().iter().sum()
    }
}

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || black_box(dispatch(MultiplyAdds { factor: black_box(0.5) }));
    let rate = |threads: usize| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        (threads * STEPS * SUMS * LANES * 2) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    let best = |threads| (0..5).map(|_| rate(threads)).fold(0.0, f64::max);
    println!("{:.1} {:.1}", best(1), best(threads));
}
