//! Standard normal numbers, many at a time: the Box-Muller transform of counter-based words.
//!
//! Only additions, products, quotients, square roots and bit operations are used, so the numbers are
//! the same on every machine; loops run over fixed-size arrays without branches, which compilers turn
//! into vector code. The greatest magnitude is `sqrt(2 * 33 ln 2) = 6.76`.

use super::stream::{LANES, SampleStream};
use crate::kernels::{Kernel, dispatch};

/// Normal numbers in one chunk.
const CHUNK: usize = 4 * LANES;

/// Writes `each(index, x, z)` for every entry, with one standard normal number each.
///
/// # Panics
/// If the lengths differ, or beyond `2^34` entries.
pub(crate) fn with_normals(
    stream: &SampleStream,
    x: &[f32],
    out: &mut [f32],
    each: impl Fn(usize, f32, f32) -> f32,
) {
    assert_eq!(x.len(), out.len(), "as many entries out as in");
    assert!(x.len() <= 1 << 34, "an input has at most 2^34 entries");
    dispatch(Fill { stream, x, out, each });
}

struct Fill<'a, F> {
    stream: &'a SampleStream,
    x: &'a [f32],
    out: &'a mut [f32],
    each: F,
}

impl<F: Fn(usize, f32, f32) -> f32> Kernel for Fill<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (chunk, (x, out)) in self.x.chunks(CHUNK).zip(self.out.chunks_mut(CHUNK)).enumerate() {
            let z = normals(self.stream, chunk as u32);
            for (i, ((out, &x), &z)) in out.iter_mut().zip(x).zip(z.as_flattened()).enumerate() {
                *out = (self.each)(chunk * CHUNK + i, x, z);
            }
        }
    }
}

/// The normal numbers of entries `CHUNK * chunk ..`.
#[inline(always)]
fn normals(stream: &SampleStream, chunk: u32) -> [[f32; LANES]; 4] {
    let [a, b, c, d] = stream.blocks(chunk.wrapping_mul(LANES as u32));
    let (z0, z1) = box_muller(&a, &b);
    let (z2, z3) = box_muller(&c, &d);
    [z0, z1, z2, z3]
}

/// Two independent normal numbers from each pair of words.
#[inline(always)]
fn box_muller(radial: &[u32; LANES], angular: &[u32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    let (mut cosines, mut sines) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        let radius = (-2.0 * ln_positive(unit_interval(radial[lane]))).sqrt();
        let (cosine, sine) = direction(angular[lane]);
        cosines[lane] = radius * cosine;
        sines[lane] = radius * sine;
    }
    (cosines, sines)
}

/// A uniform number in (0, 1]: the middle of one of `2^32` cells, rounded to `f32`.
#[inline(always)]
fn unit_interval(word: u32) -> f32 {
    // Two signed halves convert faster than one unsigned word.
    let (high, low) = ((word >> 16) as i32 as f32, (word & 0xFFFF) as i32 as f32 + 0.5);
    high * (1.0 / 65_536.0) + low * (1.0 / 4_294_967_296.0)
}

/// `ln(x)` for a positive normal `x`, to about 3 units in the last place: with
/// `x = 2^e m`, `sqrt(1/2) <= m < sqrt(2)` and `s = (m - 1) / (m + 1)`, `ln m = 2 artanh s`, whose
/// series is cut after `s^9`.
#[inline(always)]
pub(crate) fn ln_positive(x: f32) -> f32 {
    // Bits of sqrt(1/2): subtracting them makes the exponent field the floor wanted.
    const HALF: u32 = 0x3F35_04F3;
    let shifted = x.to_bits().wrapping_sub(HALF);
    let exponent = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007F_FFFF).wrapping_add(HALF));
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let series = 1.0 + s2 * (1.0 / 3.0 + s2 * (1.0 / 5.0 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0))));
    exponent * std::f32::consts::LN_2 + 2.0 * s * series
}

/// A uniform direction `(cos, sin)`: an angle within the first octant from 29 bits, reflected by the
/// other three. Taylor series, errors below `3e-8`.
#[inline(always)]
fn direction(word: u32) -> (f32, f32) {
    let angle = ((word >> 3) as i32 as f32 + 0.5) * (std::f32::consts::FRAC_PI_4 / 536_870_912.0);
    let a2 = angle * angle;
    let sine =
        angle * (1.0 - a2 * (1.0 / 6.0 - a2 * (1.0 / 120.0 - a2 * (1.0 / 5040.0 - a2 * (1.0 / 362_880.0)))));
    let cosine = 1.0 - a2 * (0.5 - a2 * (1.0 / 24.0 - a2 * (1.0 / 720.0 - a2 * (1.0 / 40_320.0))));
    let swap = (word & 1).wrapping_neg();
    let (c, s) = (cosine.to_bits(), sine.to_bits());
    let difference = (c ^ s) & swap;
    let first = (c ^ difference) ^ (word << 30 & 0x8000_0000);
    let second = (s ^ difference) ^ (word << 29 & 0x8000_0000);
    (f32::from_bits(first), f32::from_bits(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::InputStreams;

    #[test]
    fn the_logarithm_is_close() {
        for i in 0..200_000_u32 {
            let x = unit_interval(i.wrapping_mul(21_474));
            assert!(x > 0.0 && x <= 1.0);
            let exact = f64::from(x).ln();
            assert!((f64::from(ln_positive(x)) - exact).abs() <= 4e-7 * exact.abs() + 1e-12, "{x}");
        }
        assert_eq!(ln_positive(1.0), 0.0);
        assert!((f64::from(ln_positive(unit_interval(0))) + 33.0 * std::f64::consts::LN_2).abs() < 1e-5);
    }

    #[test]
    fn directions_are_on_the_circle_in_every_octant() {
        let mut octants = [0; 8];
        for i in 0..80_000_u32 {
            let (c, s) = direction(i.wrapping_mul(2_654_435_761));
            assert!((c * c + s * s - 1.0).abs() < 5e-7);
            octants[usize::from(c > 0.0) + 2 * usize::from(s > 0.0) + 4 * usize::from(c.abs() > s.abs())] +=
                1;
        }
        assert!(octants.iter().all(|&count: &i32| (count - 10_000).abs() < 500), "{octants:?}");
    }

    #[test]
    fn the_tails_reach_to_six_sigma() {
        // What lies beyond a limit, over all radii and, exactly, over angles.
        for limit in [4.0_f64, 5.0, 6.0] {
            let last = (-0.5 * limit * limit).exp() * 2.0_f64.powi(32);
            let beyond = |word: u32| {
                let radius = f64::from((-2.0 * ln_positive(unit_interval(word))).sqrt());
                if radius > limit { 2.0 * (limit / radius).acos() / std::f64::consts::PI } else { 0.0 }
            };
            let found = (0..last as u32 + 2).map(beyond).sum::<f64>() / 2.0_f64.powi(32);
            let exact = libm::erfc(limit * std::f64::consts::FRAC_1_SQRT_2);
            assert!((found / exact - 1.0).abs() < 0.01, "{limit}: {found} {exact}");
        }
    }

    #[test]
    fn every_processor_draws_the_same_bits() {
        let stream = InputStreams::new(5, 6).sample(7);
        let x: Vec<f32> = (0..1000).map(|i| (i % 11) as f32 / 11.0).collect();
        let each = |i: usize, x: f32, z: f32| x + (i % 3) as f32 * z;
        let (mut dispatched, mut portable) = (vec![0.0; 1000], vec![0.0; 1000]);
        with_normals(&stream, &x, &mut dispatched, each);
        Fill { stream: &stream, x: &x, out: &mut portable, each }.run::<false>();
        let bits = |z: &[f32]| z.iter().map(|z| z.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&dispatched), bits(&portable));
    }
}
