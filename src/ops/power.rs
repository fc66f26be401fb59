//! Elementwise powers, logarithm, sine and cosine.

use super::Function;
use super::elementwise::UNDEFINED;

/// Natural logarithm; NaN below 0.
#[derive(Clone, Debug)]
pub struct Log;

impl Function for Log {
    fn name(&self) -> &'static str {
        "log"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::log(x)
    }
    fn turning(&self, _: usize, lower: f64, _: f64) -> Option<(f64, f64)> {
        if lower <= 0.0 { UNDEFINED } else { None }
    }
}

/// Square root; NaN below 0.
#[derive(Clone, Debug)]
pub struct Sqrt;

impl Function for Sqrt {
    fn name(&self) -> &'static str {
        "sqrt"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        x.sqrt()
    }
    fn image(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }
}

/// `1 / x`.
#[derive(Clone, Debug)]
pub struct Reciprocal;

impl Function for Reciprocal {
    fn name(&self) -> &'static str {
        "reciprocal"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        1.0 / x
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        if lower <= 0.0 && upper >= 0.0 { UNDEFINED } else { None }
    }
}

/// `x^exponent` with a constant exponent; NaN for negative `x` unless the
/// exponent is an integer.
#[derive(Clone, Debug)]
pub struct Pow {
    /// The exponent.
    pub exponent: f64,
}

impl Pow {
    fn is_even(&self) -> bool {
        self.exponent % 2.0 == 0.0
    }
}

impl Function for Pow {
    fn name(&self) -> &'static str {
        "pow"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if self.exponent == 2.0 { x * x } else { libm::pow(x, self.exponent) }
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        // `pow(-inf, y)` is not NaN, so the domain is checked here.
        let fractional = self.exponent.fract() != 0.0 && lower < 0.0;
        let pole = self.exponent < 0.0 && lower <= 0.0 && upper >= 0.0;
        if fractional || pole {
            return UNDEFINED;
        }
        let valley = self.is_even() && self.exponent > 0.0 && lower < 0.0 && upper > 0.0;
        valley.then_some((0.0, 0.0))
    }
    fn image(&self) -> (f64, f64) {
        if self.is_even() { (0.0, f64::INFINITY) } else { (f64::NEG_INFINITY, f64::INFINITY) }
    }
    fn parameters(&self) -> usize {
        1
    }
    fn lipschitz(&self) -> Option<f64> {
        (self.exponent == 1.0).then_some(1.0)
    }
}

/// Bounds on the extrema of a unit wave with maxima at `peak + 2 pi k` that
/// lie in `(lower, upper)`. Near an end it may count one that lies outside.
fn wave(peak: f64, lower: f64, upper: f64) -> Option<(f64, f64)> {
    use std::f64::consts::{PI, TAU};
    // Beyond this size the positions below are not exact enough.
    if upper - lower >= TAU || lower.abs() > 1e6 || upper.abs() > 1e6 {
        return Some((-1.0, 1.0));
    }
    let slack = 1e-9;
    let holds = |at: f64| ((upper + slack - at) / TAU).floor() > ((lower - slack - at) / TAU).floor();
    match (holds(peak + PI), holds(peak)) {
        (false, false) => None,
        (true, false) => Some((-1.0, -1.0)),
        (false, true) => Some((1.0, 1.0)),
        (true, true) => Some((-1.0, 1.0)),
    }
}

/// Sine.
#[derive(Clone, Debug)]
pub struct Sin;

impl Function for Sin {
    fn name(&self) -> &'static str {
        "sin"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::sin(x)
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        wave(std::f64::consts::FRAC_PI_2, lower, upper)
    }
    fn image(&self) -> (f64, f64) {
        (-1.0, 1.0)
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(1.0)
    }
}

/// Cosine.
#[derive(Clone, Debug)]
pub struct Cos;

impl Function for Cos {
    fn name(&self) -> &'static str {
        "cos"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::cos(x)
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        wave(0.0, lower, upper)
    }
    fn image(&self) -> (f64, f64) {
        (-1.0, 1.0)
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(1.0)
    }
}
