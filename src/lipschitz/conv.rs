//! The spectral norm of a convolution from above.

use std::f64::consts::TAU;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::matrix;
use crate::ops::Conv;
use crate::rounding::directed::{add_up, mul_up, sub_down};
use crate::rounding::{gamma, underflow};

/// A convolution is written out as a matrix up to this many entries, this many
/// on the short side, and this many multiply-adds of the first product.
const WRITTEN_OUT: [usize; 3] = [1 << 24, 640, 1 << 30];

/// An upper bound on the norm of the linear part of a convolution with its
/// stored weights. A transposed convolution has the norm of the plain one, and
/// groups are independent, so the norm is the greatest of theirs.
pub(super) fn norm(conv: &Conv) -> f64 {
    let [ins, outs] = conv.channels.map(|c| c / conv.groups);
    let sides = [ins * conv.window.pixels(), outs * conv.window.positions()];
    let (short, long) = (sides[0].min(sides[1]), sides[0].max(sides[1]));
    let work = short.saturating_mul(short).saturating_mul(long).saturating_mul(conv.groups);
    let small = [short.saturating_mul(long), short, work].iter().zip(WRITTEN_OUT).all(|(n, most)| *n <= most);
    let taps = ins * outs * conv.window.taps();
    let mut greatest = 0.0_f64;
    for weight in conv.weight.exact().chunks_exact(taps.max(1)) {
        let norm = if small { written_out(conv, weight, greatest) } else { spectrum(conv, weight, greatest) };
        greatest = greatest.max(norm);
    }
    greatest
}

/// A bound that costs little: the sum of the Frobenius norms of the channel
/// matrices of the taps, each of which is applied to a shifted image.
pub(super) fn coarse(conv: &Conv, weight: &[f64]) -> f64 {
    let taps = conv.window.taps();
    let of =
        |tap: usize| matrix::frobenius(&weight.iter().copied().skip(tap).step_by(taps).collect::<Vec<_>>());
    (0..taps).fold(0.0, |sum, tap| add_up(sum, of(tap)))
}

/// Of one group, as a matrix of outputs by inputs.
fn written_out(conv: &Conv, weight: &[f64], enough: f64) -> f64 {
    let w = &conv.window;
    let [ins, outs] = conv.channels.map(|c| c / conv.groups);
    let (rows, cols) = (outs * w.positions(), ins * w.pixels());
    let mut matrix = vec![0.0; rows * cols];
    for (index, &weight) in weight.iter().enumerate() {
        let (tap, channels) = (index % w.taps(), index / w.taps());
        let (o, i) = (channels / ins, channels % ins);
        let offset = [tap / w.kernel[1] * w.dilation[0], tap % w.kernel[1] * w.dilation[1]];
        for position in 0..w.positions() {
            let at = [position / w.out[1], position % w.out[1]];
            let [y, x] = [0, 1].map(|a| (at[a] * w.stride[a] + offset[a]).wrapping_sub(w.pad[a]));
            if y < w.image[0] && x < w.image[1] {
                let pixel = y * w.image[1] + x;
                matrix[(o * w.positions() + position) * cols + i * w.pixels() + pixel] = weight;
            }
        }
    }
    matrix::norm(&matrix, rows, cols, enough)
}

/// One axis of a strided convolution as a convolution of stride 1 of the
/// `stride` interleaved parts of its input.
struct Axis {
    /// Which part each tap reads.
    part: Vec<usize>,
    /// By how many steps it is shifted.
    shift: Vec<i64>,
    /// Length of a torus on which nothing wraps around.
    length: usize,
}

impl Axis {
    fn new(conv: &Conv, axis: usize) -> Self {
        let w = &conv.window;
        let stride = w.stride[axis] as i64;
        let places = (0..w.kernel[axis]).map(|t| (t * w.dilation[axis]) as i64 - w.pad[axis] as i64);
        let (part, shift): (Vec<usize>, Vec<i64>) =
            places.map(|p| (p.rem_euclid(stride) as usize, p.div_euclid(stride))).unzip();
        let least = shift.iter().copied().min().unwrap_or(0);
        let reach = (shift.iter().copied().max().unwrap_or(0) - least) as usize;
        // A kernel that does not reach beyond one step is a matrix product at
        // every position: all frequencies are alike.
        let length = if reach == 0 { 1 } else { w.image[axis].div_ceil(w.stride[axis]) + reach };
        Self { part, shift, length }
    }

    /// `e^(i w s)` for every shift `s` at frequency `f`.
    fn phases(&self, f: usize) -> Vec<[f64; 2]> {
        let turn = |s: i64| (s * f as i64).rem_euclid(self.length as i64) as f64 / self.length as f64;
        self.shift.iter().map(|&s| [libm::cos(TAU * turn(s)), libm::sin(TAU * turn(s))]).collect()
    }
}

/// Bound on the error of a product of two computed phases: of each, a few
/// units for the angle (at most `TAU`) and for `libm`.
const PHASE: f64 = 128.0 * f64::EPSILON;

/// Of one group, by its spectrum.
///
/// With stride `s` the input is split into `s` interleaved parts per axis, and
/// the convolution becomes one of stride 1 of `s^2` times as many channels.
/// Zero padding makes it a restriction of the convolution on all of the grid,
/// and on a torus at least as long as image and kernel together nothing wraps
/// around: the map is the torus convolution between an embedding and a
/// selection, neither of which expands. The norm of a torus convolution is the
/// greatest norm over its frequencies of the channel matrix (Sedghi, Gupta and
/// Long 2019), here of `outs x (ins s^2)` complex entries. Opposite
/// frequencies have conjugate matrices, so half of them suffice.
pub(super) fn spectrum(conv: &Conv, weight: &[f64], enough: f64) -> f64 {
    if weight.iter().any(|w| !w.is_finite()) {
        return f64::INFINITY;
    }
    let w = &conv.window;
    let [ins, outs] = conv.channels.map(|c| c / conv.groups);
    let axes = [Axis::new(conv, 0), Axis::new(conv, 1)];
    let parts = w.stride[0] * w.stride[1];
    let (cols, taps) = (ins * parts, w.taps());
    // The error of an entry is at most this share of its sum of |weights|.
    let sums: Vec<f64> = weight.chunks_exact(taps).map(|k| k.iter().map(|w| w.abs()).sum()).collect();
    let top = sums.iter().fold(0.0, |m: f64, &s| m.max(s));
    if top == 0.0 {
        return 0.0;
    }
    let relative: Vec<f64> = sums.iter().map(|s| s / top).collect();
    let share = mul_up(PHASE + gamma(taps), 1.0 + gamma(taps));
    let error = add_up(mul_up(mul_up(share, matrix::frobenius(&relative)), top), underflow(weight.len()));
    let greatest = AtomicU64::new(enough.to_bits());
    let [height, width] = [axes[0].length, axes[1].length];
    (0..height * width).into_par_iter().for_each(|frequency| {
        let [fy, fx] = [frequency / width, frequency % width];
        let opposite = (height - fy) % height * width + (width - fx) % width;
        if opposite < frequency {
            return;
        }
        let phases = [axes[0].phases(fy), axes[1].phases(fx)];
        // [[Re, -Im], [Im, Re]] has the singular values of Re + i Im, twice.
        let mut matrix = vec![0.0; 4 * outs * cols];
        for (index, &value) in weight.iter().enumerate() {
            let (tap, channels) = (index % taps, index / taps);
            let [ty, tx] = [tap / w.kernel[1], tap % w.kernel[1]];
            let [a, b] = [phases[0][ty], phases[1][tx]];
            let [re, im] = [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
            let column = channels % ins * parts + axes[0].part[ty] * w.stride[1] + axes[1].part[tx];
            let row = channels / ins;
            matrix[row * 2 * cols + column] += value * re;
            matrix[(outs + row) * 2 * cols + column] += value * im;
        }
        for row in 0..outs {
            for column in 0..cols {
                let (top, below) = (row * 2 * cols + column, (outs + row) * 2 * cols + column);
                matrix[top + cols] = -matrix[below];
                matrix[below + cols] = matrix[top];
            }
        }
        let enough = sub_down(f64::from_bits(greatest.load(Ordering::Relaxed)), error);
        let norm = matrix::norm(&matrix, 2 * outs, 2 * cols, enough);
        if norm > enough {
            // Bits of nonnegative numbers are ordered as the numbers are. What
            // stopped early is left out, so the order does not matter.
            greatest.fetch_max(add_up(norm, error).to_bits(), Ordering::Relaxed);
        }
    });
    f64::from_bits(greatest.into_inner())
}
