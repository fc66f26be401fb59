//! Exact numbers: decimals as they stand in a file, and their neighbours in
//! `f64` on the side that is asked for.

use num_rational::BigRational;
use num_traits::{FromPrimitive, One, Signed, ToPrimitive, Zero};

/// Most digits of a decimal, and the largest exponent either way: all that
/// doubles can be, and nothing that exhausts memory.
const MOST: usize = 1100;

/// The value of a decimal such as `-1.5e-3`; `None` if it is not one, or has
/// more digits or a larger exponent than [`MOST`].
pub(super) fn decimal(text: &str) -> Option<BigRational> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (sign, digits) = match mantissa.as_bytes().first()? {
        b'-' => ("-", &mantissa[1..]),
        b'+' => ("", &mantissa[1..]),
        _ => ("", mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let figures = whole.len() + fraction.len();
    if figures == 0
        || figures > MOST
        || exponent.unsigned_abs() > MOST as u64
        || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let value = BigRational::from_integer(format!("{sign}{whole}{fraction}").parse().ok()?);
    let exponent = exponent - fraction.len() as i64;
    Some(value * BigRational::from_integer(10.into()).pow(exponent as i32))
}

/// The exact value of a finite `f64`.
pub(super) fn exact(x: f64) -> Option<BigRational> {
    if x.is_finite() { BigRational::from_f64(x) } else { None }
}

/// The greatest `f64` that is not above `x`; -infinity if there is none.
pub(super) fn down(x: &BigRational) -> f64 {
    -up(&-x)
}

/// The least `f64` that is not below `x`; infinity if there is none.
pub(super) fn up(x: &BigRational) -> f64 {
    let mut y = near(x);
    while exact(y).map_or(y == f64::NEG_INFINITY, |y| y < *x) {
        y = y.next_up();
    }
    while exact(y.next_down()).is_some_and(|lower| lower >= *x) {
        y = y.next_down();
    }
    y
}

/// An `f64` within a few units of `x`, infinite where `x` is out of range.
pub(super) fn near(x: &BigRational) -> f64 {
    if x.is_zero() {
        return 0.0;
    }
    let (numerator, denominator) = (x.numer().abs(), x.denom());
    // 66 bits of the quotient; what is below them does not matter.
    let shift = numerator.bits() as i64 - denominator.bits() as i64 - 65;
    let quotient =
        if shift > 0 { numerator / (denominator << shift) } else { (numerator << -shift) / denominator };
    let size = quotient.to_f64().unwrap_or(f64::INFINITY);
    // Two steps, so that a power out of range does not make a value in range zero or infinite.
    let half = shift.clamp(-4000, 4000) as i32 / 2;
    let size = libm::ldexp(libm::ldexp(size, half), shift.clamp(-4000, 4000) as i32 - half);
    if x.is_negative() { -size } else { size }
}

/// `x` as an `f64`, if it is one.
pub(super) fn representable(x: &BigRational) -> Option<f64> {
    let y = near(x);
    (exact(y).as_ref() == Some(x)).then_some(y)
}

/// The exact decimal of a finite `f32`.
pub(super) fn written(x: f32) -> String {
    if !x.is_finite() {
        return x.to_string();
    }
    // No f32 has more digits behind the point.
    let text = format!("{x:.149}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

/// `2^exponent`.
pub(super) fn power_of_two(exponent: i64) -> BigRational {
    let power = BigRational::from_integer(num_bigint::BigInt::one() << exponent.unsigned_abs());
    if exponent < 0 { power.recip() } else { power }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_refused() {
        let one = |text: &str| decimal(text).map(|x| x.to_string());
        assert_eq!(one("0.1").as_deref(), Some("1/10"));
        assert_eq!(one("-2.50e-1").as_deref(), Some("-1/4"));
        assert_eq!(one("+3E2").as_deref(), Some("300"));
        assert_eq!(one(".5").as_deref(), Some("1/2"));
        assert_eq!(one("5.").as_deref(), Some("5"));
        for text in
            ["", ".", "-", "1e", "e5", "--1", "1.2.3", "0x10", "inf", "NaN", "1_0", "1e99999999999", "- 1"]
        {
            assert_eq!(one(text), None, "{text}");
        }
        assert_eq!(one(&"9".repeat(MOST + 1)), None);
    }

    #[test]
    fn ends_of_the_range_round_outward() {
        let huge = decimal("1e400").unwrap();
        assert_eq!((down(&huge), up(&huge)), (f64::MAX, f64::INFINITY));
        assert_eq!((down(&-&huge), up(&-&huge)), (f64::NEG_INFINITY, f64::MIN));
        let tiny = decimal("1e-400").unwrap();
        assert_eq!((down(&tiny), up(&tiny)), (0.0, f64::from_bits(1)));
        assert_eq!((down(&-&tiny), up(&-&tiny)), (-f64::from_bits(1), 0.0));
    }

    proptest! {
        #[test]
        fn neighbours_enclose_as_tightly_as_possible(bits in any::<u64>(), tail in 0u32..1000) {
            let x = f64::from_bits(bits);
            prop_assume!(x.is_finite());
            let text = format!("{x:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap();
            let mantissa = if mantissa.contains('.') { mantissa.to_owned() } else { format!("{mantissa}.") };
            let value = decimal(&format!("{mantissa}{tail:04}e{exponent}")).unwrap();
            let (low, high) = (down(&value), up(&value));
            prop_assert!(exact(low).is_none_or(|l| l <= value) && exact(high).is_none_or(|h| h >= value));
            prop_assert!(low == high || low.next_up() == high || (low == 0.0 && high == f64::from_bits(1)));
            prop_assert_eq!(low == high, representable(&value).is_some());
        }

        #[test]
        fn what_is_written_is_the_number(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            prop_assume!(x.is_finite());
            prop_assert_eq!(decimal(&written(x)), exact(f64::from(x)));
        }
    }
}
