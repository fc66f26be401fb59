//! The norm of a convolution with its border, from above, by a factorisation.
//!
//! Entries of an image that are far apart do not meet in `K K'`, so that in the
//! order of the pixels it is a band. If a Cholesky factorisation of `t - K K'`
//! runs to its end, `t - K K' + D` is positive definite, where
//! `|D_ij| <= gamma |r_i| |r_j|` for rows of the factor with `|r_i|^2` at most the
//! diagonal entry, up to `gamma` (Higham, section 10.1); so `|K|^2 <= t +
//! |D|`. The number `t` is tried a little above what the Lanczos iteration finds.

use rayon::prelude::*;

use super::conv::coarse;
use crate::kernels::{Matrix, matmul};
use crate::ops::{Affine, Conv, Weights};
use crate::rounding::directed::{add_up, mul_up, sqrt_up};
use crate::rounding::gamma;

/// Rows of a block.
const BLOCK: usize = 64;
/// Most multiply-adds of a factorisation, and most entries of the band.
const MOST: [usize; 2] = [1 << 38, 1 << 27];
/// Steps of the Lanczos iteration.
const STEPS: usize = 300;
/// Shares above the norm found that are tried.
const ABOVE: [f64; 4] = [2e-6, 2e-5, 2e-4, 3e-3];

/// An upper bound on the norm, if it is found with reasonable work and below `enough`.
pub(super) fn norm(conv: &Conv, enough: f64) -> Option<f64> {
    let taps = coarse(conv, conv.weight.absolute());
    // So that nothing underflows that matters.
    if conv.groups != 1 || !(1e-100..1e100).contains(&taps) {
        return None;
    }
    let estimate = lanczos(conv);
    let rows = Rows::new(conv);
    let (n, width) = (rows.count, rows.width());
    let [work, entries] = MOST;
    if n.saturating_mul(width).saturating_mul(width) > work || n.saturating_mul(width + BLOCK) > entries {
        return None;
    }
    let gram = rows.gram();
    ABOVE.iter().find_map(|share| {
        let t = estimate * (1.0 + share);
        let trial = sqrt_up(t);
        if !(trial < enough) || !Band::new(n, width, t, &gram).factorises() {
            return None;
        }
        // Of the factorisation, in `2 width + 1` entries of a row, and of the products.
        let terms = width + BLOCK;
        let factor = mul_up(mul_up((2 * width + 1) as f64, gamma(terms)), mul_up(1.01, t));
        let product = mul_up(gamma(conv.window.taps() * conv.channels[0]), mul_up(taps, taps));
        Some(sqrt_up(add_up(t, add_up(factor, product))))
    })
}

/// About the square of the norm, usually a little less.
fn lanczos(conv: &Conv) -> f64 {
    let plain = Affine::Conv(Conv { transposed: false, bias: None, ..conv.clone() });
    let lens = [conv.channels[0] * conv.window.pixels(), conv.channels[1] * conv.window.positions()];
    let mut state = 1_u64;
    let mut entry = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1_u64 << 23) as f64 - 1.0
    };
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut v: Vec<f64> = (0..lens[0]).map(|_| entry()).collect();
    let size = length(&v);
    for x in &mut v {
        *x /= size;
    }
    let (mut before, mut beta) = (vec![0.0; lens[0]], 0.0);
    let (mut diagonal, mut beside, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STEPS.min(lens[0]) {
        let (mut y, mut w) = (vec![0.0; lens[1]], vec![0.0; lens[0]]);
        plain.linear(Weights::exact, 1, &[&v], &mut y, &mut scratch);
        plain.adjoint(Weights::exact, 1, &y, &mut [&mut w], &mut scratch);
        let alpha: f64 = w.iter().zip(&v).map(|(w, v)| w * v).sum();
        w.iter_mut().zip(v.iter().zip(&before)).for_each(|(w, (v, b))| *w -= alpha * v + beta * b);
        diagonal.push(alpha);
        beta = length(&w);
        if !(beta > 1e-12 * alpha.abs()) {
            break;
        }
        beside.push(beta);
        before = std::mem::replace(&mut v, w.into_iter().map(|w| w / beta).collect());
    }
    // The greatest eigenvalue of the tridiagonal matrix, by bisection: as many are above a number as
    // there are negative pivots of the number less the matrix.
    let top = diagonal.iter().fold(0.0_f64, |m, d| m.max(d.abs()))
        + 2.0 * beside.iter().fold(0.0_f64, |m, b| m.max(*b));
    let below = |t: f64| {
        let mut pivot = 1.0;
        diagonal.iter().enumerate().all(|(i, d)| {
            let square = i.checked_sub(1).map_or(0.0, |i| beside[i] * beside[i]);
            pivot = t - d - square / pivot;
            pivot > 0.0
        })
    };
    let (mut low, mut high) = (0.0, top);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(middle) { high = middle } else { low = middle }
    }
    high
}

/// The rows of the matrix, for outputs pixel by pixel: entries of the input with coefficients.
struct Rows {
    count: usize,
    inputs: usize,
    entries: Vec<Vec<(u32, f64)>>,
}

impl Rows {
    fn new(conv: &Conv) -> Self {
        let (w, [ins, outs]) = (&conv.window, conv.channels);
        let row = |index: usize| {
            let (position, o) = (index / outs, index % outs);
            let at = [position / w.out[1], position % w.out[1]];
            let mut row = Vec::with_capacity(ins * w.taps());
            for tap in 0..w.taps() {
                let offset = [tap / w.kernel[1] * w.dilation[0], tap % w.kernel[1] * w.dilation[1]];
                let [y, x] = [0, 1].map(|a| (at[a] * w.stride[a] + offset[a]).wrapping_sub(w.pad[a]));
                if y < w.image[0] && x < w.image[1] {
                    let first = (y * w.image[1] + x) * ins;
                    let entry =
                        |i: usize| ((first + i) as u32, conv.weight.exact()[(o * ins + i) * w.taps() + tap]);
                    row.extend((0..ins).map(entry));
                }
            }
            row
        };
        let count = outs * w.positions();
        Self { count, inputs: ins * w.pixels(), entries: (0..count).map(row).collect() }
    }

    /// The rows that read every entry.
    fn readers(&self) -> Vec<Vec<(u32, f64)>> {
        let mut readers = vec![Vec::new(); self.inputs];
        for (row, entries) in self.entries.iter().enumerate() {
            for &(entry, w) in entries {
                readers[entry as usize].push((row as u32, w));
            }
        }
        readers
    }

    /// The greatest difference of two rows that read the same entry.
    fn width(&self) -> usize {
        let spread = |readers: Vec<(u32, f64)>| match (readers.first(), readers.last()) {
            (Some(first), Some(last)) => (last.0 - first.0) as usize,
            _ => 0,
        };
        self.readers().into_iter().map(spread).max().unwrap_or(0)
    }

    /// The products of every row with those up to it: where they stand, and what they are.
    fn gram(&self) -> Vec<Vec<(u32, f64)>> {
        let readers = self.readers();
        let width = self.width();
        let of = |row: usize| {
            let first = row.saturating_sub(width);
            let mut sums = vec![0.0; row + 1 - first];
            for &(entry, w) in &self.entries[row] {
                for &(other, v) in
                    readers[entry as usize].iter().take_while(|(other, _)| *other as usize <= row)
                {
                    sums[other as usize - first] += w * v;
                }
            }
            sums.iter().zip(first..).filter(|(s, _)| **s != 0.0).map(|(&s, at)| (at as u32, s)).collect()
        };
        (0..self.count).into_par_iter().map(of).collect()
    }
}

/// A symmetric band of blocks, the lower half: row `i` of blocks holds those of
/// the columns `i - across + 1 ..= i`.
struct Band {
    across: usize,
    rows: Vec<Vec<f64>>,
}

impl Band {
    /// `t` less a matrix; rows that fill the last block are those of the identity.
    fn new(n: usize, width: usize, t: f64, gram: &[Vec<(u32, f64)>]) -> Self {
        let across = width.div_ceil(BLOCK) + 1;
        let blocks = n.div_ceil(BLOCK);
        let row = |block: usize| {
            let columns = across * BLOCK;
            let mut band = vec![0.0; BLOCK * columns];
            for r in 0..BLOCK {
                let at = block * BLOCK + r;
                // The column of the first entry of the row of blocks, from `columns` on.
                let place = |column: usize| r * columns + column + columns - (block + 1) * BLOCK;
                if at < n {
                    gram[at].iter().for_each(|&(column, g)| band[place(column as usize)] = -g);
                }
                band[place(at)] += if at < n { t } else { 1.0 };
            }
            band
        };
        Self { across, rows: (0..blocks).map(row).collect() }
    }

    /// The columns of some blocks `from .. to` of row `i`, as a matrix.
    fn part(&self, i: usize, from: usize, to: usize, sign: f64) -> Vec<f64> {
        let columns = self.across * BLOCK;
        let first = (from + self.across - 1 - i) * BLOCK;
        let rows = self.rows[i].chunks_exact(columns);
        rows.flat_map(|row| row[first..first + (to - from) * BLOCK].iter().map(|x| sign * x)).collect()
    }

    /// Whether a Cholesky factorisation runs to its end.
    fn factorises(mut self) -> bool {
        let blocks = self.rows.len();
        for j in 0..blocks {
            let last = (j + self.across).min(blocks);
            // A_ij - sum_k L_ik L_jk'
            let updated = |i: usize| {
                let from = (i + 1).saturating_sub(self.across);
                let mut block = self.part(i, j, j + 1, 1.0);
                if from < j {
                    let inner = (j - from) * BLOCK;
                    let (left, right) = (self.part(i, from, j, 1.0), self.part(j, from, j, -1.0));
                    matmul(
                        &mut block,
                        Matrix::new(&left, BLOCK, inner),
                        Matrix::new(&right, BLOCK, inner).t(),
                        true,
                    );
                }
                block
            };
            let mut column: Vec<Vec<f64>> = (j..last).into_par_iter().map(updated).collect();
            let (diagonal, below) = column.split_at_mut(1);
            if !cholesky(&mut diagonal[0]) {
                return false;
            }
            let diagonal = &diagonal[0];
            below.par_iter_mut().for_each(|block| solve(diagonal, block));
            for (i, block) in (j..last).zip(&column) {
                let columns = self.across * BLOCK;
                let first = (j + self.across - 1 - i) * BLOCK;
                for (row, new) in self.rows[i].chunks_exact_mut(columns).zip(block.chunks_exact(BLOCK)) {
                    row[first..first + BLOCK].copy_from_slice(new);
                }
            }
        }
        true
    }
}

/// A block replaced by its Cholesky factor; whether all pivots are positive.
fn cholesky(a: &mut [f64]) -> bool {
    for i in 0..BLOCK {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i * BLOCK + k] * a[j * BLOCK + k]).sum();
            let rest = a[i * BLOCK + j] - sum;
            if j < i {
                a[i * BLOCK + j] = rest / a[j * BLOCK + j];
            } else if rest > 0.0 && rest.is_finite() {
                a[i * BLOCK + i] = rest.sqrt();
            } else {
                return false;
            }
        }
        a[i * BLOCK + i + 1..(i + 1) * BLOCK].fill(0.0);
    }
    true
}

/// `b L'^-1` for a factor `L`.
fn solve(factor: &[f64], b: &mut [f64]) {
    for row in b.chunks_exact_mut(BLOCK) {
        for j in 0..BLOCK {
            let (done, rest) = row.split_at_mut(j);
            let sum: f64 = done.iter().zip(&factor[j * BLOCK..]).map(|(x, l)| x * l).sum();
            rest[0] = (rest[0] - sum) / factor[j * BLOCK + j];
        }
    }
}
