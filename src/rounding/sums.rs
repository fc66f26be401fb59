//! Rounding errors of floating-point sums, bounded.
//!
//! `EPSILON` is `2^-52`, twice the unit roundoff `u`. A sum of `n` products in
//! any order, with or without fused multiply-add, differs from the exact one by
//! at most `gamma_n * sum |a||b|` with `gamma_n = n u / (1 - n u)`, plus
//! `n * 2^-1075` where products underflow (Higham, "Accuracy and Stability of
//! Numerical Algorithms", section 3.1).

use crate::kernels::choose;

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
    let ([centre], [radius]) = centres_radii([lower], [upper]);
    (centre, radius)
}

/// [`centre_radius`] of intervals side by side: short loops without branches,
/// which become vector instructions.
#[inline(always)]
#[must_use]
pub fn centres_radii<const N: usize>(lower: [f64; N], upper: [f64; N]) -> ([f64; N], [f64; N]) {
    let (mut centre, mut radius) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        centre[i] = 0.5 * lower[i] + 0.5 * upper[i];
    }
    for i in 0..N {
        let (left, right) = (centre[i] - lower[i], upper[i] - centre[i]);
        radius[i] = choose(left > right, left, right);
    }
    for radius in &mut radius {
        *radius = next_up(*radius);
    }
    for i in 0..N {
        let point = lower[i] == upper[i];
        centre[i] = choose(point, lower[i], centre[i]);
        radius[i] = choose(point, 0.0, radius[i]);
    }
    for i in 0..N {
        let bounded = centre[i].abs() < f64::INFINITY;
        centre[i] = choose(bounded, centre[i], 0.0);
        radius[i] = choose(bounded, radius[i], f64::INFINITY);
    }
    for i in 0..N {
        let undefined = |x: f64| choose(lower[i].is_nan(), f64::NAN, choose(upper[i].is_nan(), f64::NAN, x));
        centre[i] = undefined(centre[i]);
        radius[i] = undefined(radius[i]);
    }
    (centre, radius)
}

/// `[centre - radius, centre + radius]` rounded outward, for balls side by
/// side; NaN if either is NaN. All of the real line for an infinite centre: a
/// sum that overflowed before its last terms were added has lost them.
#[inline(always)]
#[must_use]
pub fn outward<const N: usize>(centre: [f64; N], radius: [f64; N]) -> ([f64; N], [f64; N]) {
    let (mut below, mut upper) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        below[i] = next_up(radius[i] - centre[i]);
    }
    for i in 0..N {
        upper[i] = next_up(radius[i] + centre[i]);
    }
    for i in 0..N {
        let (lost, all) = (centre[i].abs() == f64::INFINITY, f64::INFINITY + radius[i]);
        below[i] = choose(lost, all, below[i]);
        upper[i] = choose(lost, all, upper[i]);
    }
    for x in &mut below {
        *x = -*x;
    }
    (below, upper)
}

/// [`f64::next_up`] without branches.
#[inline(always)]
fn next_up(x: f64) -> f64 {
    // Away from zero if positive, towards zero if negative.
    let step = (u64::from(x > 0.0) << 1).wrapping_sub(1);
    let next = f64::from_bits(x.to_bits().wrapping_add(step));
    // The last two are NaN and infinity.
    choose(x == 0.0, f64::from_bits(1), choose(x < f64::INFINITY, next, x))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [f64; 17] = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1e200,
        -1.0,
        -0.1,
        -f64::MIN_POSITIVE,
        -5e-324,
        -0.0,
        0.0,
        5e-324,
        1e-310,
        0.3,
        1.0,
        1.0 + f64::EPSILON,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];

    #[test]
    fn the_next_number_is_that_of_the_standard_library() {
        for x in ENDS.iter().flat_map(|&x| [x, -x]) {
            assert_eq!(next_up(x).to_bits(), x.next_up().to_bits(), "{x:e}");
        }
    }

    #[test]
    fn intervals_lie_within_their_balls_and_balls_within_their_intervals() {
        for (l, u) in ENDS.iter().flat_map(|&l| ENDS.iter().map(move |&u| (l, u))) {
            let (c, r) = centre_radius(l, u);
            if l.is_nan() || u.is_nan() {
                assert!(c.is_nan() && r.is_nan());
            } else if l <= u {
                assert!(c.is_finite() && r >= 0.0, "[{l:e}, {u:e}]");
                let ([low], [high]) = outward([c], [r]);
                assert!(low <= l && u <= high, "[{l:e}, {u:e}] in [{low:e}, {high:e}]");
                // Exactly: both distances, rounded up, are within the radius.
                let distance = |x: f64| crate::rounding::directed::sub_up(x.max(c), x.min(c));
                assert!(r.is_infinite() || distance(l) <= r && distance(u) <= r, "[{l:e}, {u:e}]");
                assert!(r.is_infinite() == (l.is_infinite() || u.is_infinite()) || r > 1e300);
                assert_eq!(r == 0.0, l == u && l.is_finite(), "[{l:e}, {u:e}]");
            }
        }
        for (centre, radius) in
            [(f64::INFINITY, 1.0), (f64::NEG_INFINITY, f64::INFINITY), (0.0, f64::INFINITY)]
        {
            assert_eq!(outward([centre], [radius]), ([f64::NEG_INFINITY], [f64::INFINITY]));
        }
        for (centre, radius) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, f64::NAN)] {
            let ([low], [high]) = outward([centre], [radius]);
            assert!(low.is_nan() && high.is_nan());
        }
    }
}
