//! Gaussian smoothing that floating-point rounding cannot break (Voracek and Hein, "Sound Randomized
//! Smoothing in Floating-Point Arithmetic", ICLR 2023).
//!
//! Inputs lie on the grid Z/255. Instead of a real Gaussian, its rounding to the grid is drawn, as an
//! integer; the sum is formed in integers, clipped, and turned into a float once. For inputs on the
//! grid, rounding `x + e` is `x` plus the rounding of `e`: the result has the distribution that real
//! Gaussian noise gives to the network composed with rounding and clipping. So the certificate for real
//! noise holds for that composition, for every perturbed input, on the grid or off it. What is left is
//! the error of the thresholds that the integers are drawn by, which [`Lattice::charge`] bounds.

use std::sync::OnceLock;

use super::{Distribution, NoiseError, Norm, OffGrid};
use crate::random::{LANES, SampleStream};
use crate::rounding::directed::{add_up, div_down, div_up, mul_up, sqrt_up, sub_up};
use crate::smoothing::normal::{cdf_lower, cdf_upper};
use crate::smoothing::quantity::{LowerBound, Radius, Scale};
use crate::smoothing::radius;

/// Levels in a unit.
const LEVELS: i32 = 255;

/// `2^60`: one as a threshold.
const ONE: u64 = 1 << 60;

/// Bits of the table that starts the search for a threshold.
const GUIDE_BITS: u32 = 10;

/// The largest scale taken: the table of thresholds grows with it.
const MAX_SIGMA: f64 = 64.0;

/// Gaussian noise on the grid Z/255; certifies l2.
#[derive(Clone, Debug)]
pub struct Lattice {
    sigma: Scale,
    /// Clipping to `[-k, k + 1]`, in units.
    k: i32,
    /// Made when it is first asked for: a record names its noise and draws nothing.
    table: OnceLock<Table>,
}

#[derive(Clone, Debug)]
struct Table {
    /// `thresholds[j]` is about `2^60 Phi((2 i + 1) / (510 sigma))` for `i = j - 255 (k + 1)`.
    thresholds: Vec<u64>,
    /// `guide[u >> 50]` thresholds lie at or below the least `u` of that cell.
    guide: Vec<u32>,
    /// Bound on the total variation distance of one entry's noise from the ideal one.
    per_entry: f64,
}

impl Lattice {
    /// The noise of scale sigma, in units of the input (whose grid is Z/255).
    ///
    /// # Errors
    /// Unless `1e-3 <= sigma <= 64`.
    pub fn new(sigma: Scale) -> Result<Self, NoiseError> {
        let found = sigma.get();
        if !(1e-3..=MAX_SIGMA).contains(&found) {
            let (name, accepted) = ("lattice", "a number between 1e-3 and 64");
            return Err(NoiseError::Scale { name, found, accepted });
        }
        Ok(Self { sigma, k: ((6.0 * found).floor() as i32).max(1), table: OnceLock::new() })
    }

    /// The range of the noisy inputs, `[-k, k + 1]`.
    #[must_use]
    pub fn range(&self) -> (i32, i32) {
        (-self.k, self.k + 1)
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| Table::new(self.sigma.get(), LEVELS * (self.k + 1)))
    }
}

impl Distribution for Lattice {
    /// Each float is rounded once.
    fn add(&self, stream: &SampleStream, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "as many entries out as in");
        assert!(x.len() <= 1 << 32, "an input has at most 2^32 entries");
        let (low, high) = (-LEVELS * self.k, LEVELS * (self.k + 1));
        let table = self.table();
        for (chunk, (x, out)) in x.chunks(2 * LANES).zip(out.chunks_mut(2 * LANES)).enumerate() {
            let words = stream.blocks((chunk * LANES) as u32);
            for (i, (&x, out)) in x.iter().zip(out).enumerate() {
                let (half, lane) = (i / LANES * 2, i % LANES);
                let uniform = (u64::from(words[half][lane]) << 32 | u64::from(words[half + 1][lane])) >> 4;
                // An accepted entry is within a rounding of its level.
                let pixel = (x * LEVELS as f32 + 0.5) as i32;
                let level = (pixel + table.draw(uniform) - high).clamp(low, high);
                *out = level as f32 / LEVELS as f32;
            }
        }
    }

    fn radius(&self, p1: LowerBound) -> Option<Radius> {
        radius::one_sided(self.sigma, p1)
    }

    fn norm(&self) -> Norm {
        Norm::L2
    }

    fn gaussian(&self) -> Option<Scale> {
        Some(self.sigma)
    }

    fn charge(&self, len: usize) -> f64 {
        mul_up(self.table().per_entry, (len as f64).next_up()).min(1.0)
    }

    /// Each entry is rounded to the grid, hence by 1/510 at most; clipping does not expand.
    fn moved(&self, len: usize) -> f64 {
        div_up(sqrt_up((len as f64).next_up()), 510.0)
    }

    fn accepts(&self, x: &[f32]) -> Result<(), OffGrid> {
        let off = |x: f32| {
            let level = (x * 255.0).round();
            !((0.0..=255.0).contains(&level) && level / 255.0 == x)
        };
        x.iter().position(|&x| off(x)).map_or(Ok(()), |entry| Err(OffGrid { entry, value: x[entry] }))
    }
}

impl Table {
    /// For noise from `-last` to `last` levels and a little more.
    fn new(sigma: f64, last: i32) -> Self {
        // Phi below 0 has a small relative error; above, symmetry mirrors it exactly: the grid's
        // half-steps i + 1/2 are symmetric about 0.
        let lower: Vec<(u64, f64)> = (0..=last).map(|i| threshold(i, sigma)).collect();
        let thresholds: Vec<u64> = (-last..=last)
            .map(|i| if i < 0 { lower[(-i - 1) as usize].0 } else { ONE - lower[i as usize].0 })
            .collect();
        debug_assert!(thresholds.is_sorted());
        // Moving one threshold by t moves the probability t between two neighbours.
        let per_entry = lower.iter().fold(0.0, |sum, &(_, error)| add_up(sum, 2.0 * error));
        let guide = (0..1u64 << GUIDE_BITS)
            .map(|cell| thresholds.partition_point(|&t| t <= cell << (60 - GUIDE_BITS)) as u32)
            .collect();
        Self { thresholds, guide, per_entry }
    }

    /// The noise for a uniform 60-bit integer, counted from the least: how many thresholds it reaches.
    fn draw(&self, uniform: u64) -> i32 {
        let mut below = self.guide[(uniform >> (60 - GUIDE_BITS)) as usize] as usize;
        while below < self.thresholds.len() && self.thresholds[below] <= uniform {
            below += 1;
        }
        below as i32
    }
}

/// `round(2^60 Phi(-(2 i + 1) / (510 sigma)))` for `i >= 0`, and a bound on its distance from the exact
/// probability.
fn threshold(i: i32, sigma: f64) -> (u64, f64) {
    let steps = f64::from(2 * i + 1);
    // Exact: sigma has the 24 bits of an f32, 510 has 9.
    let width = 510.0 * sigma;
    let low = cdf_lower(-div_up(steps, width));
    let high = cdf_upper(-div_down(steps, width));
    let threshold = (0.5 * (low + high) * ONE as f64).round() as u64;
    let value = threshold as f64 / ONE as f64;
    (threshold, sub_up(value, low).max(sub_up(high, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::InputStreams;

    fn lattice(sigma: f64) -> Lattice {
        Lattice::new(Scale::new(sigma).expect("a scale")).expect("a lattice")
    }

    #[test]
    fn thresholds_are_monotone_symmetric_and_near_the_distribution_function() {
        for sigma in [0.12, 0.25, 0.5, 1.0] {
            let lattice = lattice(sigma);
            let (t, last) = (&lattice.table().thresholds, LEVELS * (lattice.k + 1));
            assert_eq!(t.len() as i32, 2 * last + 1);
            assert!(t.is_sorted());
            for i in -last..last {
                assert_eq!(t[(i + last) as usize] + t[(-i - 1 + last) as usize], ONE);
                let exact = 0.5
                    * libm::erfc(-f64::from(2 * i + 1) / (510.0 * sigma) * std::f64::consts::FRAC_1_SQRT_2);
                assert!((t[(i + last) as usize] as f64 / ONE as f64 - exact).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn the_charge_is_small() {
        assert!(lattice(0.25).charge(3072) < 3e-9, "{:e}", lattice(0.25).charge(3072));
        assert!(lattice(1.0).charge(3072) > 0.0);
        assert!(lattice(1.0).charge(usize::MAX) == 1.0);
    }

    #[test]
    fn the_guide_finds_what_a_search_finds() {
        let lattice = lattice(0.5);
        let (table, last) = (lattice.table(), LEVELS * (lattice.k + 1));
        let thresholds = &table.thresholds;
        for i in 0..100_000_u64 {
            let u = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 4;
            let expected = thresholds.partition_point(|&t| t <= u) as i32;
            assert_eq!(table.draw(u), expected);
        }
        assert_eq!(table.draw(0), 0);
        // Above the last threshold lies what is clipped anyway.
        assert_eq!(table.draw(ONE - 1), 2 * last + i32::from(*thresholds.last().expect("one") < ONE));
    }

    #[test]
    fn outputs_are_on_the_grid_within_range_with_the_right_moments() {
        let lattice = lattice(0.25);
        let pixels = vec![100.0 / 255.0; 5000];
        let mut out = vec![0.0f32; 5000];
        let (mut sum, mut squares) = (0.0, 0.0);
        for sample in 0..40 {
            lattice.add(&InputStreams::new(5, 1).sample(sample), &pixels, &mut out);
            for &y in &out {
                let level = (y * 255.0).round();
                assert!(level / 255.0 == y && (-1.0..=2.0).contains(&y));
                let z = f64::from(level) - 100.0;
                sum += z;
                squares += z * z;
            }
        }
        let n = 200_000.0;
        // Rounding to the grid adds 1/12 to the variance.
        let expected = (0.25_f64 * 255.0).powi(2) + 1.0 / 12.0;
        assert!((sum / n).abs() < 5.0 * (expected / n).sqrt());
        assert!((squares / n / expected - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    }

    #[test]
    fn every_pixel_is_read_as_its_level() {
        // The noise of one stream is the same for every pixel.
        let pixels: Vec<f32> = (0..=255_u8).map(|level| f32::from(level) / 255.0).collect();
        let lattice = lattice(0.25);
        assert!(lattice.accepts(&pixels).is_ok());
        for level in [0.0f32, 1.0, 254.0, 255.0].map(|level| level / 255.0) {
            for off in [level.next_up(), level.next_down(), f32::NAN] {
                assert_eq!(lattice.accepts(&[0.0, off]).map_err(|e| e.entry), Err(1), "{off}");
            }
        }
        for (level, pixel) in pixels.iter().enumerate() {
            let (mut noisy, mut zero) = ([0.0], [0.0]);
            let stream = InputStreams::new(2, 2).sample(level as u32);
            lattice.add(&stream, &[*pixel], &mut noisy);
            lattice.add(&stream, &[0.0], &mut zero);
            let levels = (noisy[0] - zero[0]) * 255.0;
            // One in 15,000 draws leaves [-1, 1] and is clipped.
            assert!((levels - level as f32).abs() < 1e-3 || noisy[0] == 2.0 || zero[0] == -1.0);
        }
    }

    #[test]
    fn prefixes_agree_and_scales_out_of_range_are_refused() {
        let lattice = lattice(0.25);
        let stream = InputStreams::new(1, 1).sample(9);
        let (mut long, mut short) = ([0.0; 100], [0.0; 37]);
        lattice.add(&stream, &[7.0 / 255.0; 100], &mut long);
        lattice.add(&stream, &[7.0 / 255.0; 37], &mut short);
        assert_eq!(long[..37], short);
        assert!(Lattice::new(Scale::new(100.0).expect("a scale")).is_err());
    }
}
