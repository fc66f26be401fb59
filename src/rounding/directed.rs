//! Arithmetic rounded in a chosen direction.
//!
//! Every function returns a bound on the exact result for the arguments as given. Sums, products,
//! quotients and square roots are correctly rounded by IEEE 754, so one step outward is enough. The
//! elementary functions of `libm` state errors below one unit in the last place; [`SLACK`] assumes
//! sixteen times less accuracy than that.

/// Relative error allowed to `exp`, `ln`, `erf` and `erfc` of `libm`: `2^-49`, that is 8 units in
/// the last place.
pub(crate) const SLACK: f64 = 8.0 * f64::EPSILON;

/// Below this, relative errors are not trusted and absolute ones take over.
pub(crate) const TINY: f64 = 1e-290;

/// `a + b`, rounded up; exact sums are returned unchanged.
pub(crate) fn add_up(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // Knuth's two-sum: the exact error of the addition, barring overflow.
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    if error <= 0.0 { sum } else { sum.next_up() }
}

/// `a - b`, rounded up.
pub(crate) fn sub_up(a: f64, b: f64) -> f64 {
    add_up(a, -b)
}

/// `a - b`, rounded down.
pub(crate) fn sub_down(a: f64, b: f64) -> f64 {
    -add_up(b, -a)
}

/// `a * b`, rounded up; zero stays zero.
pub(crate) fn mul_up(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { a * b } else { (a * b).next_up() }
}

/// `a * b`, rounded down; zero stays zero.
pub(crate) fn mul_down(a: f64, b: f64) -> f64 {
    -mul_up(-a, b)
}

/// `a / b`, rounded up; zero stays zero.
pub(crate) fn div_up(a: f64, b: f64) -> f64 {
    if a == 0.0 { a / b } else { (a / b).next_up() }
}

/// `a / b`, rounded down; zero stays zero.
pub(crate) fn div_down(a: f64, b: f64) -> f64 {
    -div_up(-a, b)
}

/// `sqrt(x)`, rounded up.
pub(crate) fn sqrt_up(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.sqrt().next_up() }
}

/// A value widened upward by the assumed error of `libm`.
pub(crate) fn libm_up(value: f64) -> f64 {
    (value + value.abs() * SLACK + f64::MIN_POSITIVE).next_up()
}

/// A value widened downward by the assumed error of `libm`.
pub(crate) fn libm_down(value: f64) -> f64 {
    -libm_up(-value)
}

/// `ln(x)`, rounded up.
pub(crate) fn ln_up(x: f64) -> f64 {
    libm_up(libm::log(x))
}

/// `ln(x)`, rounded down.
pub(crate) fn ln_down(x: f64) -> f64 {
    libm_down(libm::log(x))
}

/// `exp(x)`, rounded up; never below [`TINY`].
pub(crate) fn exp_up(x: f64) -> f64 {
    libm_up(libm::exp(x)).max(TINY)
}

/// `exp(x)`, rounded down; zero below [`TINY`].
pub(crate) fn exp_down(x: f64) -> f64 {
    let value = libm_down(libm::exp(x));
    if value < TINY { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_sums_are_kept_and_inexact_ones_leave_outward() {
        assert_eq!(add_up(0.25, 0.5), 0.75);
        assert!(add_up(1.0, 1e-30) > 1.0);
        assert_eq!(add_up(1.0, -1e-30), 1.0);
        assert_eq!(sub_down(1.0, 1e-30), 1.0_f64.next_down());
        assert_eq!(sub_up(1.0, 1e-30), 1.0);
    }

    #[test]
    fn results_of_either_direction_enclose() {
        for (a, b) in [(0.1, 0.3), (1.0 / 3.0, 7.0), (-2.5, 1.1)] {
            assert!(mul_down(a, b) < a * b && a * b < mul_up(a, b));
            assert!(div_down(a, b) < a / b && a / b < div_up(a, b));
        }
        assert!(ln_down(2.0) < std::f64::consts::LN_2 && std::f64::consts::LN_2 < ln_up(2.0));
        assert!(exp_down(1.0) < std::f64::consts::E && std::f64::consts::E < exp_up(1.0));
        assert!(exp_up(-1e4) > 0.0 && exp_down(-1e4) == 0.0);
        assert!(mul_up(1e-200, 1e-200) > 0.0);
    }
}
