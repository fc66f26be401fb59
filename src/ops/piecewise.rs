//! Elementwise functions made of polynomial pieces. All but `HardSwish`
//! round nowhere or once.

use super::{Function, Periodic};

/// `max(x, 0)`.
#[derive(Clone, Debug)]
pub struct Relu;

impl Function for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }
    fn slope(&self, _: usize, x: f64) -> Option<f64> {
        Some(if x < 0.0 { 0.0 } else { 1.0 })
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x > 0.0 || x.is_nan() { x } else { 0.0 }
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn apply32(&self, _: usize, data: &mut [f32]) {
        // NaN must stay NaN: `max` would hide it.
        for x in data {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(1.0)
    }
}

/// `x` for `x >= 0`, else `slope * x`; the slope may differ per entry
/// (ONNX `LeakyRelu` and `PRelu`).
#[derive(Clone, Debug)]
pub struct LeakyRelu {
    /// Slope for negative inputs.
    pub slope: Periodic,
}

impl Function for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky relu"
    }
    fn slope(&self, i: usize, x: f64) -> Option<f64> {
        Some(if x < 0.0 { self.slope.at(i) } else { 1.0 })
    }
    fn eval(&self, i: usize, x: f64) -> f64 {
        if x < 0.0 { self.slope.at(i) * x } else { x }
    }
    fn turning(&self, i: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (self.slope.at(i) < 0.0 && lower < 0.0 && upper > 0.0).then_some((0.0, 0.0))
    }
    fn parameters(&self) -> usize {
        self.slope.values().exact().len()
    }
    fn lipschitz(&self) -> Option<f64> {
        let slope = self.slope.values();
        let steepest =
            slope.absolute().iter().fold(1.0, |m: f64, &s| if s > m || s.is_nan() { s } else { m });
        let error = slope.relative_error();
        Some(if error == 0.0 { steepest } else { steepest * (1.0 + 2.0 * error + 4.0 * f64::EPSILON) })
    }
}

/// `min(max(x, low), high)`; the limits may differ per entry.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Least value; may be `-inf`.
    pub low: Periodic,
    /// Greatest value; may be `inf`. Where it is below `low`, it wins, as in ONNX.
    pub high: Periodic,
}

impl Function for Clip {
    fn name(&self) -> &'static str {
        "clip"
    }
    fn slope(&self, i: usize, x: f64) -> Option<f64> {
        let cut = x < self.low.at(i) || x > self.high.at(i);
        Some(if cut { 0.0 } else { 1.0 })
    }
    fn eval(&self, i: usize, x: f64) -> f64 {
        if x.is_nan() { x } else { x.max(self.low.at(i)).min(self.high.at(i)) }
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn parameters(&self) -> usize {
        [&self.low, &self.high].iter().filter(|p| p.at(0).is_finite()).map(|p| p.values().exact().len()).sum()
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(1.0)
    }
}

/// `|x|`.
#[derive(Clone, Debug)]
pub struct Abs;

impl Function for Abs {
    fn name(&self) -> &'static str {
        "abs"
    }
    fn slope(&self, _: usize, x: f64) -> Option<f64> {
        Some(if x < 0.0 { -1.0 } else { 1.0 })
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        x.abs()
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (lower < 0.0 && upper > 0.0).then_some((0.0, 0.0))
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(1.0)
    }
}

/// -1, 0 or 1. A step, so a network with it is not continuous; its interval
/// bounds hold all the same.
#[derive(Clone, Debug)]
pub struct Sign;

impl Function for Sign {
    fn name(&self) -> &'static str {
        "sign"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x == 0.0 { 0.0 } else { x.signum() }
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
}

/// `x * min(max(x / 6 + 1/2, 0), 1)`.
#[derive(Clone, Debug)]
pub struct HardSwish;

impl Function for HardSwish {
    fn name(&self) -> &'static str {
        "hard swish"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x >= 3.0 {
            x
        } else if x <= -3.0 {
            0.0
        } else {
            x * (x + 3.0) / 6.0
        }
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        // Falls from -3 to -3/2, where it is -3/8, and rises from there on.
        (lower < -1.5 && upper > -1.5).then_some((-0.375, -0.375))
    }
    fn lipschitz(&self) -> Option<f64> {
        // The slope x/3 + 1/2 at x = 3.
        Some(1.5)
    }
}
