//! Numbers of any size: deep networks at initialisation leave the range of `f64`.

use std::iter::Sum;
use std::ops::Add;

/// `mantissa * 2^exponent`, with a mantissa in [1/2, 1) or 0 and an exponent
/// far beyond the range of `f64`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scaled {
    mantissa: f64,
    exponent: i64,
}

impl Scaled {
    /// `value * 2^exponent`.
    #[must_use]
    pub fn new(value: f64, exponent: i64) -> Self {
        let (mantissa, own) = libm::frexp(value);
        if mantissa == 0.0 { Self::default() } else { Self { mantissa, exponent: exponent + i64::from(own) } }
    }

    /// The nearest `f64`; 0 or infinite where the number is out of its range.
    #[must_use]
    pub fn get(self) -> f64 {
        scale(self.mantissa, self.exponent)
    }

    /// The binary logarithm; `-inf` for 0.
    #[must_use]
    pub fn log2(self) -> f64 {
        libm::log2(self.mantissa) + self.exponent as f64
    }

    /// `self / other`, where 0 / 0 is 1.
    #[must_use]
    pub fn over(self, other: Self) -> f64 {
        if self.mantissa == 0.0 && other.mantissa == 0.0 {
            return 1.0;
        }
        scale(self.mantissa / other.mantissa, self.exponent - other.exponent)
    }
}

impl From<f64> for Scaled {
    fn from(value: f64) -> Self {
        Self::new(value, 0)
    }
}

impl Add for Scaled {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (small, large) =
            if self.mantissa == 0.0 || (other.mantissa != 0.0 && self.exponent < other.exponent) {
                (self, other)
            } else {
                (other, self)
            };
        Self::new(large.mantissa + scale(small.mantissa, small.exponent - large.exponent), large.exponent)
    }
}

impl Sum for Scaled {
    fn sum<I: Iterator<Item = Self>>(numbers: I) -> Self {
        numbers.fold(Self::default(), Add::add)
    }
}

/// `x * 2^exponent`.
pub(super) fn scale(x: f64, exponent: i64) -> f64 {
    libm::scalbn(x, exponent.clamp(-10_000, 10_000) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_beyond_the_range_of_f64() {
        let tiny = Scaled::new(3.0, -5000);
        assert_eq!(tiny.get(), 0.0);
        assert_eq!((tiny + tiny).over(tiny), 2.0);
        assert_eq!((tiny + Scaled::default()).over(tiny), 1.0);
        assert_eq!((Scaled::default() + tiny).over(tiny), 1.0);
        assert_eq!(Scaled::from(1.0) + tiny, Scaled::from(1.0));
        assert_eq!(tiny + Scaled::from(1.0), Scaled::from(1.0));
        assert_eq!([1.5, 2.25, -0.5].map(Scaled::from).into_iter().sum::<Scaled>().get(), 3.25);
        assert!((tiny.log2() - (3.0f64.log2() - 5000.0)).abs() < 1e-9);
        assert_eq!(tiny.over(Scaled::new(3.0, -5003)), 8.0);
    }

    #[test]
    fn zero_over_zero_is_one() {
        let zero = Scaled::default();
        assert_eq!(zero.over(zero), 1.0);
        assert_eq!(zero.over(Scaled::from(2.0)), 0.0);
        assert_eq!(Scaled::from(2.0).over(zero), f64::INFINITY);
    }
}
