//! Elementwise functions that are one function above a threshold and another below it.

use std::sync::Arc;

use super::elementwise::SINGLE;
use super::relaxation::greatest;
use super::steps::Step;
use super::{Function, Hint, Line, Lines, Periodic};
use crate::rounding::FLUSHED;

/// One of the functions that are applied one after the other.
#[derive(Clone, Debug)]
pub enum Link {
    /// `scale * x + shift`; 1 and 0 where absent.
    Scale(Option<Box<Periodic>>, Option<Box<Periodic>>),
    /// A function.
    Function(Arc<dyn Function>),
}

/// Functions of the same entry, applied one after the other.
#[derive(Clone, Debug, Default)]
pub struct Chain(pub Vec<Link>);

/// Relative slack of a few operations in f64.
const SLACK: f64 = 8.0 * f64::EPSILON;

fn at(constant: Option<&Periodic>, i: usize, default: f64) -> f64 {
    constant.map_or(default, |constant| constant.at(i))
}

/// How far stored constants are from those that are meant, relatively.
fn unsure(constant: Option<&Periodic>) -> f64 {
    constant.map_or(0.0, |constant| constant.values().relative_error())
}

impl Chain {
    fn eval(&self, i: usize, x: f64) -> f64 {
        self.0.iter().fold(x, |x, link| match link {
            Link::Scale(scale, shift) => at(scale.as_deref(), i, 1.0) * x + at(shift.as_deref(), i, 0.0),
            Link::Function(function) => function.eval(i, x),
        })
    }

    /// The range, and lines around the function over `[lower, upper]`.
    fn enclose(&self, i: usize, (lower, upper): (f64, f64)) -> ((f64, f64), Lines) {
        let identity = Line { slope: 1.0, offset: 0.0 };
        let (mut range, mut lines) = ((lower, upper), Lines { lower: identity, upper: identity });
        let most = lower.abs().max(upper.abs());
        for link in &self.0 {
            let outer = match link {
                Link::Scale(scale, shift) => {
                    let (a, b) = (at(scale.as_deref(), i, 1.0), at(shift.as_deref(), i, 0.0));
                    let size = range.0.abs().max(range.1.abs());
                    let slack = (SLACK + unsure(scale.as_deref())) * (a * size).abs()
                        + (SLACK + unsure(shift.as_deref())) * b.abs()
                        + f64::MIN_POSITIVE;
                    let ends = [a * range.0 + b, a * range.1 + b];
                    range = (ends[0].min(ends[1]) - slack, ends[0].max(ends[1]) + slack);
                    Lines {
                        lower: Line { slope: a, offset: b - slack },
                        upper: Line { slope: a, offset: b + slack },
                    }
                }
                Link::Function(function) => {
                    let outer = function.lines(i, range.0, range.1, Hint::default());
                    range = function.range(i, range.0, range.1);
                    outer
                }
            };
            let inner = lines;
            let compose = |outer: Line, side: f64| {
                let line = if (outer.slope >= 0.0) == (side < 0.0) { inner.lower } else { inner.upper };
                let (slope, offset) = (outer.slope * line.slope, outer.slope * line.offset + outer.offset);
                let size = slope.abs() * most + (outer.slope * line.offset).abs() + outer.offset.abs();
                Line { slope, offset: offset + side * (SLACK * size + f64::MIN_POSITIVE) }
            };
            lines = Lines { lower: compose(outer.lower, -1.0), upper: compose(outer.upper, 1.0) };
        }
        (range, lines)
    }

    /// Bound on what an evaluation in f32 rounds, where the input is at most `size`.
    fn single_rounding(&self, size: f64) -> f64 {
        let (mut size, mut error) = (size, 0.0);
        for link in &self.0 {
            match link {
                Link::Scale(scale, shift) => {
                    let greatest = |constant: &Option<Box<Periodic>>, default: f64| {
                        constant.as_ref().map_or(default, |constant| {
                            let values = constant.values().exact().iter();
                            values.fold(0.0_f64, |most, v| most.max(v.abs())) * (1.0 + unsure(Some(constant)))
                        })
                    };
                    let (a, b) = (greatest(scale, 1.0), greatest(shift, 0.0));
                    error = a * error + SINGLE * (a * size + b) + FLUSHED;
                    size = a * size + b;
                }
                Link::Function(function) if function.is_uniform() => {
                    let (low, high) = function.range(0, -size - error, size + error);
                    let output = low.abs().max(high.abs());
                    let amplified = if error == 0.0 {
                        0.0
                    } else {
                        function.lipschitz().unwrap_or(f64::INFINITY) * error
                    };
                    error = amplified + function.single_rounding(size, output);
                    size = output;
                }
                Link::Function(_) => return f64::INFINITY,
            }
        }
        if error.is_nan() { f64::INFINITY } else { (1.0 + SLACK) * error }
    }
}

/// `above(x)` where a step is 1, `below(x)` where it is 0: `Where(x > c, f(x), g(x))`.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The comparison.
    pub step: Step,
    /// What holds where it is true.
    pub above: Chain,
    /// What holds where it is false.
    pub below: Chain,
}

impl Choice {
    /// The parts of an interval on which one of the functions holds, each with that function.
    fn parts(&self, i: usize, lower: f64, upper: f64) -> Vec<(&Chain, (f64, f64))> {
        let threshold = self.step.threshold.at(i);
        let mut parts = Vec::new();
        if self.step.eval(i, lower) == 0.0 {
            parts.push((&self.below, (lower, upper.min(threshold))));
        }
        if self.step.eval(i, upper) == 1.0 {
            parts.push((&self.above, (lower.max(threshold), upper)));
        }
        parts
    }
}

impl Function for Choice {
    fn name(&self) -> &'static str {
        "choice"
    }
    fn parameters(&self) -> usize {
        self.step.parameters()
    }
    fn eval(&self, i: usize, x: f64) -> f64 {
        if x.is_nan() {
            return x;
        }
        if self.step.eval(i, x) == 1.0 { self.above.eval(i, x) } else { self.below.eval(i, x) }
    }
    fn single_rounding(&self, input: f64, _: f64) -> f64 {
        self.above.single_rounding(input).max(self.below.single_rounding(input))
    }
    fn range(&self, i: usize, lower: f64, upper: f64) -> (f64, f64) {
        let ranges = self.parts(i, lower, upper).into_iter().map(|(chain, ends)| chain.enclose(i, ends).0);
        let joined = ranges.reduce(|a, b| {
            // NaN, where a part may be undefined, stays.
            let undefined = [a.0, a.1, b.0, b.1].iter().any(|x| x.is_nan());
            if undefined { (f64::NAN, f64::NAN) } else { (a.0.min(b.0), a.1.max(b.1)) }
        });
        joined.unwrap_or((f64::NAN, f64::NAN))
    }
    fn lines(&self, i: usize, lower: f64, upper: f64, _: Hint) -> Lines {
        let range = self.range(i, lower, upper);
        let mut lines = Lines::constant(range);
        if ![range.0, range.1, upper - lower].iter().all(|x| x.is_finite()) || lower > upper {
            return lines;
        }
        let parts: Vec<(Lines, (f64, f64))> = (self.parts(i, lower, upper).into_iter())
            .map(|(chain, ends)| (chain.enclose(i, ends).1, ends))
            .collect();
        let middle = 0.5 * lower + 0.5 * upper;
        for side in [-1.0, 1.0] {
            let line = |lines: &Lines| if side < 0.0 { lines.lower } else { lines.upper };
            // A line is beyond the lines of all parts if it is at their ends.
            let corners: Vec<(f64, f64)> = (parts.iter())
                .flat_map(|(lines, ends)| {
                    [ends.0, ends.1].map(|x| (x, line(lines).slope.mul_add(x, line(lines).offset)))
                })
                .collect();
            let chord = match (corners.first(), corners.last()) {
                (Some(first), Some(last)) if last.0 > first.0 => (last.1 - first.1) / (last.0 - first.0),
                _ => 0.0,
            };
            let mut best = line(&lines);
            for slope in parts.iter().map(|(lines, _)| line(lines).slope).chain([chord]) {
                let offsets = corners.iter().map(|&(x, y)| {
                    let slack = SLACK * ((slope * x).abs() + y.abs()) + f64::MIN_POSITIVE;
                    side * (y - slope * x) + slack
                });
                let candidate = Line { slope, offset: side * greatest(offsets) };
                let value = |line: Line| side * line.slope.mul_add(middle, line.offset);
                if slope.is_finite() && candidate.offset.is_finite() && value(candidate) < value(best) {
                    best = candidate;
                }
            }
            *(if side < 0.0 { &mut lines.lower } else { &mut lines.upper }) = best;
        }
        lines
    }
    fn split_point(&self, i: usize, lower: f64, upper: f64) -> Option<f64> {
        let inside = |x: &f64| lower < *x && *x < upper;
        Some(self.step.threshold.at(i)).filter(inside).or_else(|| {
            // On one side: the middle, unless the function is a line there.
            let (chain, _) = self.parts(i, lower, upper).into_iter().next()?;
            let bent = chain.0.iter().any(|link| matches!(link, Link::Function(_)));
            Some(0.5 * lower + 0.5 * upper).filter(|x| bent && x.is_finite() && inside(x))
        })
    }
}
