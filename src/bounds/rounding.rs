//! Rounding errors of floating-point sums, bounded.
//!
//! `EPSILON` is `2^-52`, twice the unit roundoff `u`. A sum of `n` products in
//! any order, with or without fused multiply-add, differs from the exact one by
//! at most `gamma_n * sum |a||b|` with `gamma_n = n u / (1 - n u)`, plus
//! `n * 2^-1075` where products underflow (Higham, "Accuracy and Stability of
//! Numerical Algorithms", section 3.1).

/// An upper bound on `2 gamma_{n + 8}`, to be multiplied with `sum |a||b|`: the
/// factor 2 and the 8 extra terms pay for the roundings made in evaluating the
/// bound itself.
#[inline]
#[must_use]
pub fn gamma(n: usize) -> f64 {
    (n as f64 + 8.0) * 2.0 * f64::EPSILON
}

/// Added to a bound to cover underflow in `n` products: far above `n *
/// 2^-1075`, far below anything a network computes, and large enough that
/// products with it stay in the normal range, where arithmetic is fast.
#[inline]
#[must_use]
pub fn underflow(n: usize) -> f64 {
    (n as f64 + 8.0) * 1e-290
}

/// Centre and radius of an interval, the radius rounded up so that the
/// interval is contained. An unbounded interval becomes all of the real line;
/// NaN, a value that may be undefined, stays NaN.
#[inline]
#[must_use]
pub fn centre_radius(lower: f64, upper: f64) -> (f64, f64) {
    let centre = 0.5 * lower + 0.5 * upper;
    if lower.is_nan() || upper.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    if !centre.is_finite() {
        return (0.0, f64::INFINITY);
    }
    if lower == upper {
        return (lower, 0.0);
    }
    let radius = (centre - lower).max(upper - centre);
    (centre, radius.next_up())
}

/// `[centre - radius, centre + radius]` rounded outward; NaN if either is NaN.
/// All of the real line for an infinite centre: a sum that overflowed before
/// its last terms were added has lost them.
#[inline]
#[must_use]
pub fn outward(centre: f64, radius: f64) -> (f64, f64) {
    if centre.is_infinite() && !radius.is_nan() {
        return (f64::NEG_INFINITY, f64::INFINITY);
    }
    ((centre - radius).next_down(), (centre + radius).next_up())
}
