//! Elementwise functions with steps: rounding to integers, comparison with a constant, thresholds. They are not
//! continuous, so no bound of them shrinks with its input; ranges and lines hold all the same.

use super::elementwise::single_units;
use super::relaxation::greatest;
use super::{Function, Hint, Line, Lines, Periodic};

/// How numbers become integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The greatest integer that is not above.
    Floor,
    /// The least integer that is not below.
    Ceil,
    /// The nearest integer, of two the even one.
    Nearest,
    /// The nearest integer that is not farther from 0.
    Truncate,
}

impl Rounding {
    fn of(self, x: f64) -> f64 {
        match self {
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Nearest => x.round_ties_even(),
            Self::Truncate => x.trunc(),
        }
    }

    /// Where the result becomes `n`, from below.
    fn rise(self, n: f64) -> f64 {
        match self {
            Self::Nearest => n - 0.5,
            Self::Ceil => n - 1.0,
            Self::Truncate if n < 1.0 => n - 1.0,
            Self::Floor | Self::Truncate => n,
        }
    }
}

/// `min(max(rounding(x / scale) + zero, low), high)`: `Floor`, `Ceil`, `Round`, casts to integers, and with a
/// scale `QuantizeLinear`.
///
/// An evaluation in f32 rounds the quotient, which can put it on the other side of a step. Ranges and lines hold
/// for either side wherever that can happen, so nothing else is charged for it.
#[derive(Clone, Debug)]
pub struct Staircase {
    /// How quotients become integers.
    pub rounding: Rounding,
    /// Positive divisors of the entries; none is 1.
    pub scale: Option<Periodic>,
    /// Integers that are added.
    pub zero: Periodic,
    /// The least result; may be `-inf`.
    pub low: f64,
    /// The greatest result; may be `inf`.
    pub high: f64,
}

/// More than what a division in f32 rounds, and one in f64 of what it has rounded.
const QUOTIENT: f64 = 1.0 / (1_u64 << 22) as f64;

impl Staircase {
    fn level(&self, i: usize, quotient: f64) -> f64 {
        (self.rounding.of(quotient) + self.zero.at(i)).max(self.low).min(self.high)
    }

    /// The least (`side` -1) or the greatest quotient that an evaluation can find.
    fn quotient(&self, i: usize, x: f64, side: f64) -> f64 {
        let Some(scale) = &self.scale else { return x };
        let quotient = x / scale.at(i);
        quotient + side * QUOTIENT * quotient.abs()
    }

    /// The inputs between which the result becomes `level`.
    fn rise(&self, i: usize, level: f64) -> (f64, f64, f64) {
        let at = self.rounding.rise(level - self.zero.at(i));
        match &self.scale {
            None => (at, at, level),
            Some(scale) => {
                let (x, slack) = (at * scale.at(i), 2.0 * QUOTIENT * (at * scale.at(i)).abs());
                ((x - slack).next_down(), (x + slack).next_up(), level)
            }
        }
    }
}

impl Function for Staircase {
    fn name(&self) -> &'static str {
        match (self.rounding, &self.scale) {
            (_, Some(_)) => "quantize",
            (Rounding::Floor, _) => "floor",
            (Rounding::Ceil, _) => "ceil",
            (Rounding::Nearest, _) => "round",
            (Rounding::Truncate, _) => "truncate",
        }
    }
    fn is_uniform(&self) -> bool {
        self.zero.is_constant() && self.scale.as_ref().is_none_or(Periodic::is_constant)
    }
    fn parameters(&self) -> usize {
        self.scale.as_ref().map_or(0, |scale| scale.values().exact().len())
    }
    fn eval(&self, i: usize, x: f64) -> f64 {
        if x.is_nan() { x } else { self.level(i, self.scale.as_ref().map_or(x, |scale| x / scale.at(i))) }
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn single_rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn range(&self, i: usize, lower: f64, upper: f64) -> (f64, f64) {
        if lower.is_nan() || upper.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        (self.level(i, self.quotient(i, lower, -1.0)), self.level(i, self.quotient(i, upper, 1.0)))
    }
    fn lines(&self, i: usize, lower: f64, upper: f64, _: Hint) -> Lines {
        let range = self.range(i, lower, upper);
        // Beyond this there is a step at every number.
        if !(range.1 - range.0 < 1e9) {
            return Lines::constant(range);
        }
        // Steps of one size lie on a line; at 0 a truncation has one that is twice as long.
        let ends = [range.0 + 1.0, range.1];
        let around = [0.0, 1.0].map(|n| n + self.zero.at(i));
        let around = around
            .into_iter()
            .filter(|k| self.rounding == Rounding::Truncate && ends[0] < *k && *k < ends[1]);
        let rises: Vec<_> = ends.into_iter().chain(around).map(|level| self.rise(i, level)).collect();
        stairs((lower, upper), range, &rises)
    }
    fn split_point(&self, i: usize, lower: f64, upper: f64) -> Option<f64> {
        let (least, most) = self.range(i, lower, upper);
        let (at, ..) = self.rise(i, (0.5 * (least + most)).ceil());
        (least < most && lower < at && at < upper).then_some(at)
    }
    fn guide(&self, i: usize, x: f64) -> Option<f64> {
        let level = self.eval(i, x);
        let slope = self.scale.as_ref().map_or(1.0, |scale| 1.0 / scale.at(i));
        Some(if self.low < level && level < self.high { slope } else { 0.0 })
    }
    fn apply32(&self, len: usize, data: &mut [f32]) {
        // The quotient as implementations form it: what it rounds decides at a tie.
        for tensor in data.chunks_mut(len.max(1)) {
            for (i, x) in tensor.iter_mut().enumerate().filter(|(_, x)| !x.is_nan()) {
                let quotient = self.scale.as_ref().map_or(*x, |scale| *x / scale.at(i) as f32);
                *x = self.level(i, quotient.into()) as f32;
            }
        }
    }
}

/// 1 above a threshold, 0 below it: a comparison.
#[derive(Clone, Debug)]
pub struct Step {
    /// The threshold of every entry.
    pub threshold: Periodic,
    /// Whether the result is 1 at the threshold itself.
    pub inclusive: bool,
}

impl Function for Step {
    fn name(&self) -> &'static str {
        "step"
    }
    fn is_uniform(&self) -> bool {
        self.threshold.is_constant()
    }
    fn parameters(&self) -> usize {
        self.threshold.values().exact().len()
    }
    fn eval(&self, i: usize, x: f64) -> f64 {
        let threshold = self.threshold.at(i);
        f64::from(x > threshold || (self.inclusive && x >= threshold))
    }
    fn rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn single_rounding(&self, _: f64, _: f64) -> f64 {
        0.0
    }
    fn range(&self, i: usize, lower: f64, upper: f64) -> (f64, f64) {
        if lower.is_nan() || upper.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        (self.eval(i, lower), self.eval(i, upper))
    }
    fn lines(&self, i: usize, lower: f64, upper: f64, _: Hint) -> Lines {
        let threshold = self.threshold.at(i);
        stairs((lower, upper), self.range(i, lower, upper), &[(threshold, threshold, 1.0)])
    }
    fn split_point(&self, i: usize, lower: f64, upper: f64) -> Option<f64> {
        Some(self.threshold.at(i)).filter(|at| lower < *at && *at < upper)
    }
}

/// Lines around a function that rises in steps from `least` at `lower` to `most` at `upper`. Each of `rises` is
/// the inputs between which one of the steps can stand, and the level behind it; those that are left out lie on
/// lines between them.
///
/// A rising line that is not below the ends of the steps on their upper side, which lie behind the rises, is
/// below the function nowhere; and one that is not above those on their lower side, which lie before them, is
/// above it nowhere.
fn stairs((lower, upper): (f64, f64), (least, most): (f64, f64), rises: &[(f64, f64, f64)]) -> Lines {
    let mut lines = Lines::constant((least, most));
    if !((upper - lower).is_finite() && (most - least).is_finite() && least < most) {
        return lines;
    }
    let above = rises.iter().map(|&(first, _, level)| (first, level));
    let above: Vec<(f64, f64)> = above.chain([(lower, least)]).collect();
    let below = rises.iter().map(|&(_, last, level)| (last, level - 1.0));
    let below: Vec<(f64, f64)> = below.chain([(upper, most)]).collect();
    tighten(&mut lines, 0.5 * lower + 0.5 * upper, [&below, &above], |slope| slope > 0.0);
    lines
}

/// Replaces constants by the lines that are better in the `middle`, of those through two points of the corners
/// that they have to be below and above, with slopes that will do.
fn tighten(lines: &mut Lines, middle: f64, [below, above]: [&[(f64, f64)]; 2], fits: fn(f64) -> bool) {
    // The slopes between all pairs of corners; there are few.
    let slopes = |points: &[(f64, f64)]| -> Vec<f64> {
        let pairs = points.iter().flat_map(|p| points.iter().map(move |q| (q.1 - p.1) / (q.0 - p.0)));
        pairs.filter(|slope| fits(*slope) && slope.is_finite()).collect()
    };
    let mut best = lines.upper.offset;
    for slope in slopes(above) {
        // Rounded once, and then up.
        let offset = greatest(above.iter().map(|&(x, y)| (-slope).mul_add(x, y))).next_up();
        let value = slope.mul_add(middle, offset);
        if offset.is_finite() && value < best {
            (best, lines.upper) = (value, Line { slope, offset });
        }
    }
    let mut best = lines.lower.offset;
    for slope in slopes(below) {
        let offset = (-greatest(below.iter().map(|&(x, y)| -(-slope).mul_add(x, y)))).next_down();
        let value = slope.mul_add(middle, offset);
        if offset.is_finite() && value > best {
            (best, lines.lower) = (value, Line { slope, offset });
        }
    }
}

/// `x + bias` below `low`, else `x - bias` above `high`, else 0: ONNX `Shrink`, and without `low` and bias
/// `ThresholdedRelu`.
#[derive(Clone, Debug)]
pub struct Shrink {
    /// Where the left branch ends; may be `-inf`.
    pub low: f64,
    /// Where the right branch starts.
    pub high: f64,
    /// How far branches are moved toward 0.
    pub bias: f64,
}

impl Shrink {
    /// The straight pieces over `[lower, upper]`, each with its ends: there, a value that the piece comes up to,
    /// and a bound on what that value has rounded.
    fn pieces(&self, lower: f64, upper: f64) -> Vec<[(f64, f64, f64); 2]> {
        let right = self.low.max(self.high);
        let sides = [
            (lower < self.low, lower, upper.min(self.low), Some(self.bias)),
            (upper >= self.low && lower <= self.high, lower.max(self.low), upper.min(self.high), None),
            (upper > self.high && upper >= self.low, lower.max(right), upper, Some(-self.bias)),
        ];
        let piece = |(_, from, to, shift): (bool, f64, f64, Option<f64>)| {
            [from, to].map(|x| {
                let y = shift.map_or(0.0, |shift| x + shift);
                let rounds = shift.is_some_and(|shift| shift != 0.0);
                (x, y, if rounds { f64::EPSILON * y.abs() } else { 0.0 })
            })
        };
        let there = sides.into_iter().filter(|&(there, from, to, _)| there && from <= to);
        there.map(piece).collect()
    }
}

impl Function for Shrink {
    fn name(&self) -> &'static str {
        "shrink"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn parameters(&self) -> usize {
        [self.low, self.high, self.bias].iter().filter(|x| x.is_finite()).count()
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x < self.low {
            x + self.bias
        } else if x > self.high {
            x - self.bias
        } else if x.is_nan() {
            x
        } else {
            0.0
        }
    }
    fn rounding(&self, _: f64, y: f64) -> f64 {
        if self.bias == 0.0 { 0.0 } else { f64::EPSILON * y.abs() }
    }
    fn single_rounding(&self, _: f64, output: f64) -> f64 {
        if self.bias == 0.0 { 0.0 } else { single_units(output) }
    }
    fn range(&self, _: usize, lower: f64, upper: f64) -> (f64, f64) {
        if lower.is_nan() || upper.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        let (least, most) = self.pieces(lower, upper).as_flattened().iter().fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), &(_, y, error)| match error {
                0.0 => (least.min(y), most.max(y)),
                _ => (least.min((y - error).next_down()), most.max((y + error).next_up())),
            },
        );
        // Of an interval that holds nothing.
        if least <= most { (least, most) } else { (f64::NAN, f64::NAN) }
    }
    fn lines(&self, i: usize, lower: f64, upper: f64, _: Hint) -> Lines {
        let range = self.range(i, lower, upper);
        let mut lines = Lines::constant(range);
        if (upper - lower).is_finite() && (range.1 - range.0).is_finite() && lower < upper {
            let pieces = self.pieces(lower, upper);
            let corners = |side: f64| -> Vec<(f64, f64)> {
                let end = |&(x, y, error): &(f64, f64, f64)| match (error, side > 0.0) {
                    (0.0, _) => (x, y),
                    (_, true) => (x, (y + error).next_up()),
                    (_, false) => (x, (y - error).next_down()),
                };
                pieces.as_flattened().iter().map(end).collect()
            };
            let middle = 0.5 * lower + 0.5 * upper;
            tighten(&mut lines, middle, [&corners(-1.0), &corners(1.0)], |_| true);
        }
        lines
    }
    fn split_point(&self, _: usize, lower: f64, upper: f64) -> Option<f64> {
        let middle = 0.5 * lower + 0.5 * upper;
        let inside = [self.low, self.high].into_iter().filter(|at| lower < *at && *at < upper);
        inside.min_by(|a, b| (a - middle).abs().total_cmp(&(b - middle).abs()))
    }
    fn guide(&self, _: usize, x: f64) -> Option<f64> {
        Some(f64::from(x < self.low || x > self.high))
    }
}
