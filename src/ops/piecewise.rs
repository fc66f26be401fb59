//! Elementwise functions made of polynomial pieces. All but `HardSwish`
//! round nowhere or once.

use super::elementwise::{TINY, around, single_gate};
use super::relaxation;
use super::{Function, Hint, Line, Lines, Periodic, Shape};

/// `max(x, 0)`.
#[derive(Clone, Debug)]
pub struct Relu;

impl Function for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn slope(&self, _: usize, x: f64) -> Option<f64> {
        Some(if x < 0.0 { 0.0 } else { 1.0 })
    }
    fn single_rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x > 0.0 || x.is_nan() { x } else { 0.0 }
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn ranges(&self, _: usize, _: usize, lower: &mut [f64], upper: &mut [f64]) {
        for (low, high) in lower.iter_mut().zip(upper) {
            // What may be undefined stays so at both ends.
            let undefined = if low.is_nan() || high.is_nan() { f64::NAN } else { 0.0 };
            *low = if *low > 0.0 { *low } else { 0.0 } + undefined;
            *high = if *high > 0.0 { *high } else { 0.0 } + undefined;
        }
    }
    fn lines(&self, i: usize, lower: f64, upper: f64, hint: Hint) -> Lines {
        if lower >= 0.0 && lower <= upper {
            let identity = Line { slope: 1.0, offset: 0.0 };
            Lines { lower: identity, upper: identity }
        } else if lower < 0.0 && upper > 0.0 && (upper - lower).is_finite() {
            relaxation::relu(lower, upper, hint)
        } else {
            Lines::constant(self.range(i, lower, upper))
        }
    }
    fn split_point(&self, _: usize, lower: f64, upper: f64) -> Option<f64> {
        (lower < 0.0 && upper > 0.0).then_some(0.0)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(0.0, Shape::Straight), (f64::INFINITY, Shape::Straight)]
    }
    fn apply32(&self, _: usize, data: &mut [f32]) {
        // NaN must stay NaN: `max` would hide it.
        for x in data {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([0.0, 1.0])
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
    fn is_uniform(&self) -> bool {
        self.slope.is_constant()
    }
    fn slope(&self, i: usize, x: f64) -> Option<f64> {
        Some(if x < 0.0 { self.slope.at(i) } else { 1.0 })
    }
    fn eval(&self, i: usize, x: f64) -> f64 {
        if x < 0.0 { self.slope.at(i) * x } else { x }
    }
    fn rounding(&self, x: f64, y: f64) -> f64 {
        if x < 0.0 { f64::EPSILON * y.abs() + TINY } else { 0.0 }
    }
    fn turning(&self, i: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (self.slope.at(i) < 0.0 && lower < 0.0 && upper > 0.0).then_some((0.0, 0.0))
    }
    fn parameters(&self) -> usize {
        self.slope.values().exact().len()
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(0.0, Shape::Straight), (f64::INFINITY, Shape::Straight)]
    }
    fn derivative(&self, i: usize, x: f64, toward: f64) -> (f64, f64) {
        let slope = if x < 0.0 || (x == 0.0 && toward < 0.0) { self.slope.at(i) } else { 1.0 };
        (slope, slope)
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        let slope = self.slope.values();
        // NaN must stay.
        let least = slope.exact().iter().fold(1.0, |m: f64, &s| if s < m || s.is_nan() { s } else { m });
        let most = slope.exact().iter().fold(1.0, |m: f64, &s| if s > m || s.is_nan() { s } else { m });
        let error = 2.0 * slope.relative_error();
        let wider = |s: f64| if error == 0.0 { 0.0 } else { s.abs() * (error + 4.0 * f64::EPSILON) };
        Some([least - wider(least), most + wider(most)])
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
    fn is_uniform(&self) -> bool {
        self.low.is_constant() && self.high.is_constant()
    }
    fn slope(&self, i: usize, x: f64) -> Option<f64> {
        let cut = x < self.low.at(i) || x > self.high.at(i);
        Some(if cut { 0.0 } else { 1.0 })
    }
    fn single_rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn eval(&self, i: usize, x: f64) -> f64 {
        if x.is_nan() { x } else { x.max(self.low.at(i)).min(self.high.at(i)) }
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn parameters(&self) -> usize {
        let limits = [&self.low, &self.high].map(|p| p.values().exact());
        limits.iter().filter(|limit| limit.iter().any(|x| x.is_finite())).map(|limit| limit.len()).sum()
    }
    fn shapes(&self, i: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        let (low, high) = (self.low.at(i), self.high.at(i));
        [low.min(high), high, f64::INFINITY].map(|end| (end, Shape::Straight)).to_vec()
    }
    fn derivative(&self, i: usize, x: f64, toward: f64) -> (f64, f64) {
        let (low, high) = (self.low.at(i), self.high.at(i));
        let free = if toward < x { low < x && x <= high } else { low <= x && x < high };
        let slope = f64::from(u8::from(free));
        (slope, slope)
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([0.0, 1.0])
    }
}

/// The identity, of values that are known to lie in `[-limit, limit]` whatever intervals say: as a normalised
/// entry does, by what it is divided by.
#[derive(Clone, Debug)]
pub struct Within {
    /// The greatest absolute value.
    pub limit: f64,
}

impl Function for Within {
    fn name(&self) -> &'static str {
        "within"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn slope(&self, _: usize, _: f64) -> Option<f64> {
        Some(1.0)
    }
    fn single_rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        x
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn range(&self, _: usize, lower: f64, upper: f64) -> (f64, f64) {
        if lower.is_nan() || upper.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        (lower.clamp(-self.limit, self.limit), upper.clamp(-self.limit, self.limit))
    }
    fn lines(&self, i: usize, lower: f64, upper: f64, hint: Hint) -> Lines {
        let range = self.range(i, lower, upper);
        let mut lines = Lines::constant(range);
        if (upper - lower).is_finite() && lower < upper {
            // Any mixture of the value itself, which keeps all that is known of it, and of the limit.
            let mixture = |hint: Option<f64>, limit: f64, reached: bool| {
                let share = hint.filter(|t| !t.is_nan() && reached).map_or(1.0, |t| t.clamp(0.0, 1.0));
                // The share of the limit, rounded away from 0.
                let rest = (1.0 - share).next_up() * limit.abs();
                let offset = if share == 1.0 { 0.0 } else { rest.next_up().copysign(limit) };
                Line { slope: share, offset }
            };
            lines.lower = mixture(hint.lower, -self.limit, lower < -self.limit);
            lines.upper = mixture(hint.upper.map(|t| 1.0 - t), self.limit, upper > self.limit);
        }
        lines
    }
    fn derivative(&self, _: usize, _: f64, _: f64) -> (f64, f64) {
        (1.0, 1.0)
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([1.0, 1.0])
    }
    fn split_point(&self, _: usize, _: f64, _: f64) -> Option<f64> {
        None
    }
    fn apply32(&self, _: usize, _: &mut [f32]) {}
    fn apply64(&self, _: usize, _: &mut [f64]) {}
}

/// `|x|`.
#[derive(Clone, Debug)]
pub struct Abs;

impl Function for Abs {
    fn name(&self) -> &'static str {
        "abs"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn slope(&self, _: usize, x: f64) -> Option<f64> {
        Some(if x < 0.0 { -1.0 } else { 1.0 })
    }
    fn single_rounding(&self, _: f64, _: f64) -> f64 {
        0.0
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
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(0.0, Shape::Straight), (f64::INFINITY, Shape::Straight)]
    }
    fn derivative(&self, _: usize, x: f64, toward: f64) -> (f64, f64) {
        let slope = if x < 0.0 || (x == 0.0 && toward < 0.0) { -1.0 } else { 1.0 };
        (slope, slope)
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([-1.0, 1.0])
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
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x == 0.0 { 0.0 } else { x.signum() }
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn lines(&self, i: usize, lower: f64, upper: f64, hint: Hint) -> Lines {
        let mut lines = Lines::constant(self.range(i, lower, upper));
        if lower < 0.0 && upper > 0.0 && (upper - lower).is_finite() {
            // From -1 to the left of the step up to 1 at the upper end, and
            // from -1 at the lower end up to 1 to the right of the step.
            let (up, down) = ((2.0 / upper).next_down(), (-2.0 / lower).next_down());
            let choose = |hint: Option<f64>, default: bool, most: f64| {
                let slope = most * hint.map_or(f64::from(u8::from(default)), |t| t.clamp(0.0, 1.0));
                if slope.is_finite() { slope } else { 0.0 }
            };
            let falling = hint.upper.map(|t| 1.0 - t);
            lines.lower = Line { slope: choose(hint.lower, upper > -lower, up), offset: -1.0 };
            lines.upper = Line { slope: choose(falling, upper < -lower, down), offset: 1.0 };
        }
        lines
    }
    fn split_point(&self, _: usize, lower: f64, upper: f64) -> Option<f64> {
        (lower < 0.0 && upper > 0.0).then_some(0.0)
    }
}

/// `x * min(max(x / 6 + 1/2, 0), 1)`.
#[derive(Clone, Debug)]
pub struct HardSwish;

impl Function for HardSwish {
    fn name(&self) -> &'static str {
        "hard swish"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, input: f64, output: f64) -> f64 {
        single_gate(input, output)
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
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(-3.0, Shape::Straight), (3.0, Shape::Convex), (f64::INFINITY, Shape::Straight)]
    }
    fn derivative(&self, _: usize, x: f64, toward: f64) -> (f64, f64) {
        if x < -3.0 || (x == -3.0 && toward < x) {
            (0.0, 0.0)
        } else if x > 3.0 || (x == 3.0 && toward > x) {
            (1.0, 1.0)
        } else {
            around((2.0 * x + 3.0) / 6.0, 4.0 * f64::EPSILON)
        }
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        // The slope x/3 + 1/2 at x = 3.
        Some([-0.5, 1.5])
    }
}
