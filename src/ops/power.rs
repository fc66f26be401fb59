//! Elementwise powers, logarithm, sine and cosine.

use super::elementwise::{ELEMENTARY, TINY, UNDEFINED, around, near, single_units};
use super::{Function, Shape};

/// Natural logarithm; NaN below 0.
#[derive(Clone, Debug)]
pub struct Log;

impl Function for Log {
    fn name(&self) -> &'static str {
        "log"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::log(x)
    }
    fn turning(&self, _: usize, lower: f64, _: f64) -> Option<(f64, f64)> {
        if lower <= 0.0 { UNDEFINED } else { None }
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(f64::INFINITY, Shape::Concave)]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(1.0 / x)
    }
}

/// Square root; NaN below 0.
#[derive(Clone, Debug)]
pub struct Sqrt;

impl Function for Sqrt {
    fn name(&self) -> &'static str {
        "sqrt"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        x.sqrt()
    }
    fn image(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(f64::INFINITY, Shape::Concave)]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(0.5 / x.sqrt())
    }
}

/// `1 / x`.
#[derive(Clone, Debug)]
pub struct Reciprocal;

impl Function for Reciprocal {
    fn name(&self) -> &'static str {
        "reciprocal"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        1.0 / x
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        if lower <= 0.0 && upper >= 0.0 { UNDEFINED } else { None }
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(0.0, Shape::Concave), (f64::INFINITY, Shape::Convex)]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(-(1.0 / x) / x)
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
    fn is_uniform(&self) -> bool {
        true
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
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        let p = self.exponent;
        let right = if p == 0.0 || p == 1.0 {
            Shape::Straight
        } else if p > 0.0 && p < 1.0 {
            Shape::Concave
        } else {
            Shape::Convex
        };
        let odd = right == Shape::Convex && !self.is_even();
        vec![(0.0, if odd { Shape::Concave } else { right }), (f64::INFINITY, right)]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        let p = self.exponent;
        let slope = if p == 2.0 { 2.0 * x } else { p * libm::pow(x, p - 1.0) };
        // The rounding of `p - 1` changes the power by its logarithm.
        let relative = ELEMENTARY + 2.0 * f64::EPSILON * ((p - 1.0) * libm::log(x.abs())).abs();
        match p {
            2.0 => (slope, slope),
            _ if relative > 0.5 => (f64::NEG_INFINITY, f64::INFINITY),
            _ => around(slope, if x == 0.0 { 0.0 } else { relative * slope.abs() + TINY * (1.0 + p.abs()) }),
        }
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        (self.exponent == 1.0).then_some([1.0; 2])
    }
}

/// `x / (1 + |x|)`.
#[derive(Clone, Debug)]
pub struct Softsign;

impl Function for Softsign {
    fn name(&self) -> &'static str {
        "softsign"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x.is_infinite() { x.signum() } else { x / (1.0 + x.abs()) }
    }
    fn image(&self) -> (f64, f64) {
        (-1.0, 1.0)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(0.0, Shape::Convex), (f64::INFINITY, Shape::Concave)]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        let d = 1.0 + x.abs();
        near(1.0 / d / d)
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([0.0, 1.0])
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

/// The shapes of a unit wave with inflections at `(k + phase) pi`, concave
/// after those of even `k`. Nothing for many waves, whose lines are constants.
fn bends(phase: f64, lower: f64, upper: f64) -> Vec<(f64, Shape)> {
    use std::f64::consts::{PI, TAU};
    if upper - lower > 2.0 * TAU || lower.abs() > 1e6 || upper.abs() > 1e6 {
        return Vec::new();
    }
    let mut pieces = Vec::new();
    let mut k = (lower / PI - phase).floor() - 1.0;
    while pieces.last().is_none_or(|&(end, _)| end < upper) {
        let at = (k + phase) * PI;
        let error = 4.0 * f64::EPSILON * (1.0 + at.abs());
        // Up to this inflection the wave bends as after the one before.
        let before = if k.rem_euclid(2.0) == 0.0 { Shape::Convex } else { Shape::Concave };
        pieces.extend([(at - error, before), (at + error, Shape::Unknown)]);
        k += 1.0;
    }
    pieces
}

/// Sine.
#[derive(Clone, Debug)]
pub struct Sin;

impl Function for Sin {
    fn name(&self) -> &'static str {
        "sin"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, _: f64, output: f64) -> f64 {
        // Absolute near the zeros, where the argument is reduced.
        single_units(output.max(1.0))
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
    fn shapes(&self, _: usize, lower: f64, upper: f64) -> Vec<(f64, Shape)> {
        bends(0.0, lower, upper)
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(libm::cos(x))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([-1.0, 1.0])
    }
}

/// Cosine.
#[derive(Clone, Debug)]
pub struct Cos;

impl Function for Cos {
    fn name(&self) -> &'static str {
        "cos"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, _: f64, output: f64) -> f64 {
        // Absolute near the zeros, where the argument is reduced.
        single_units(output.max(1.0))
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
    fn shapes(&self, _: usize, lower: f64, upper: f64) -> Vec<(f64, Shape)> {
        bends(-0.5, lower, upper)
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(-libm::sin(x))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([-1.0, 1.0])
    }
}
