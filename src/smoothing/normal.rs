//! The standard normal distribution: one-sided bounds on its distribution function, its quantile and
//! its partial expectation.
//!
//! Assumed, and checked against 60-digit values in the tests: `libm::erfc` and `libm::exp` are
//! accurate to 8 units in the last place wherever their value exceeds `1e-290`. The inequalities in the
//! names hold exactly under that assumption; the bounds are within about `1e-14` of the exact values,
//! relative to the smaller tail.

use std::f64::consts::FRAC_1_SQRT_2;

use statrs::distribution::{ContinuousCDF, Normal};

use crate::rounding::directed::{
    TINY, add_up, div_down, div_up, exp_down, exp_up, libm_down, libm_up, mul_down, mul_up, sub_down, sub_up,
};

/// Relative width that covers the rounding of `x / sqrt(2)`.
const ARGUMENT: f64 = 4.0 * f64::EPSILON;

/// Beyond this the distribution function is 0 or 1 to within [`TINY`].
const FAR: f64 = 100.0;

/// A number at least `Phi(x)`; in [0, 1], and 1 for NaN.
#[must_use]
pub fn cdf_upper(x: f64) -> f64 {
    if x.is_nan() {
        return 1.0;
    }
    let y = -x.clamp(-FAR, FAR) * FRAC_1_SQRT_2;
    let y = y - y.abs() * ARGUMENT;
    libm_up(0.5 * libm::erfc(y)).clamp(TINY, 1.0)
}

/// A number at most `Phi(x)`; in [0, 1], and 0 for NaN.
#[must_use]
pub fn cdf_lower(x: f64) -> f64 {
    if x.is_nan() {
        return 0.0;
    }
    let y = -x.clamp(-FAR, FAR) * FRAC_1_SQRT_2;
    let y = y + y.abs() * ARGUMENT;
    let value = libm_down(0.5 * libm::erfc(y));
    if value < TINY { 0.0 } else { value.min(1.0) }
}

/// `x <= Phi^-1(p)`: `-inf` where nothing better is known (at 0, at 1 and for NaN).
///
/// At `p = 1` the quantile is infinite; `-inf` makes whoever asks abstain.
#[must_use]
pub fn quantile_lower(p: f64) -> f64 {
    if !(p > 0.0 && p < 1.0) {
        return f64::NEG_INFINITY;
    }
    if p == 0.5 {
        return 0.0;
    }
    // Above one half the tail beyond is resolved better, and 1 - p is exact.
    if p > 0.5 { -small_upper(1.0 - p) } else { small_lower(p) }
}

/// `x >= Phi^-1(p)`: `inf` where nothing better is known.
#[must_use]
pub fn quantile_upper(p: f64) -> f64 {
    if !(p > 0.0 && p < 1.0) {
        return f64::INFINITY;
    }
    if p == 0.5 {
        return 0.0;
    }
    if p > 0.5 { -small_lower(1.0 - p) } else { small_upper(p) }
}

/// For `p < 1/2`: `x <= Phi^-1(p)`, shown by `Phi(x) <= cdf_upper(x) <= p`.
fn small_lower(p: f64) -> f64 {
    if p <= TINY {
        return f64::NEG_INFINITY;
    }
    step(p, -1.0, |x| cdf_upper(x) <= p)
}

/// For `p < 1/2`: `x >= Phi^-1(p)`, shown by `Phi(x) >= cdf_lower(x) >= p`.
fn small_upper(p: f64) -> f64 {
    if p <= TINY { small_upper(2.0 * TINY) } else { step(p, 1.0, |x| cdf_lower(x) >= p) }
}

/// The first of a sequence of points moving away from the approximate quantile, in a direction, at
/// which the inequality holds; infinite if there is none.
fn step(p: f64, direction: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let mut start = Normal::standard().inverse_cdf(p);
    if !(-40.0..=0.1).contains(&start) {
        start = 0.0;
    }
    for _ in 0..2 {
        let density = (-0.5 * start * start).exp() * 0.398_942_280_401_432_7;
        let move_by = (0.5 * libm::erfc(-start * FRAC_1_SQRT_2) - p) / density;
        if move_by.abs() < 0.5 {
            start -= move_by;
        }
    }
    let mut distance = 0.25 * f64::EPSILON;
    while distance < 100.0 {
        let x = start + direction * distance;
        if holds(x) {
            return x;
        }
        distance *= 1.5;
    }
    direction * f64::INFINITY
}

/// Bounds on the density `phi(x)`.
fn density(x: f64) -> (f64, f64) {
    // 1 / sqrt(2 pi), between these neighbours.
    let (low, high) = (0.398_942_280_401_432_65, 0.398_942_280_401_432_75);
    let (square_low, square_high) = (mul_down(x, x), mul_up(x, x));
    (mul_down(low, exp_down(-0.5 * square_high)), mul_up(high, exp_up(-0.5 * square_low)))
}

/// Bounds on `H(x) = integral of Phi(-u) over u >= x = phi(x) - x Phi(-x)`, which is positive and
/// decreasing; with the spec's `G(x) = x Phi(x) + phi(x)` it is `H(x) = G(-x)`.
#[must_use]
pub fn upper_expectation(x: f64) -> (f64, f64) {
    let (density_low, density_high) = density(x);
    let (tail_low, tail_high) = (cdf_lower(-x), cdf_upper(-x));
    let (product_low, product_high) = if x >= 0.0 {
        (mul_down(x, tail_low), mul_up(x, tail_high))
    } else {
        (mul_down(x, tail_high), mul_up(x, tail_low))
    };
    (sub_down(density_low, product_high).max(0.0), sub_up(density_high, product_low).max(0.0))
}

/// Bounds on the mean of `Phi(-u)` over `a <= u <= a + width`, for `width > 0`.
///
/// Two enclosures are intersected, one good for wide and one for narrow intervals: the difference of
/// `H` at the ends, and the value in the middle with the second derivative of `Phi` (at most
/// `phi(1) < 0.242`) bounding the rest.
#[must_use]
pub fn mean_tail(a: f64, width: f64) -> (f64, f64) {
    let (end_low, end_high) = (-add_up(-a, -width), add_up(a, width));
    let mut low = cdf_lower(-end_high);
    let mut high = cdf_upper(-a);
    let (near, far_low, far_high) =
        (upper_expectation(a), upper_expectation(end_high).0, upper_expectation(end_low).1);
    low = low.max(div_down(sub_down(near.0, far_high), width));
    high = high.min(div_up(sub_up(near.1, far_low), width));
    let rest = mul_up(0.0102, mul_up(width, width));
    let middle = 0.5 * width + a;
    // The middle is rounded; Phi moves by less than 0.4 of what its argument moves.
    let rest = add_up(rest, 2.0 * f64::EPSILON * (middle.abs() + a.abs() + width));
    low = low.max(sub_down(cdf_lower(-middle), rest));
    high = high.min(add_up(cdf_upper(-middle), rest));
    (low, high)
}

#[cfg(test)]
mod tests;
