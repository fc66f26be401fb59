//! Linear relaxations of elementwise functions: a line below and a line above
//! the function over an interval, as backward linear bounds use them.
//!
//! The proof is apart from the search. Any slope makes a valid line once its
//! offset is bounded, and [`Curve::least`] bounds it from the convexity of the
//! pieces of the function alone; so a poor slope costs tightness and never
//! soundness. The slope is the one of the function's convex envelope at a
//! point, by default the centre of the interval, which leaves the least area
//! between line and function: a tangent, a chord, or the tangent through an
//! end (as in `DeepPoly`, Singh et al. 2019) come out of one search.
//!
//! The upper line of `f` is the negated lower line of `-f`.

use super::Function;

/// `slope * x + offset`, to be read in exact arithmetic with the stored numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Slope; always finite.
    pub slope: f64,
    /// Value at zero; infinite if there is no bound, NaN where the function
    /// may be undefined.
    pub offset: f64,
}

/// Two lines that enclose a function over an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lines {
    /// Never above the function.
    pub lower: Line,
    /// Never below the function.
    pub upper: Line,
}

/// Which of the many valid lines to take, for bounds that optimise the choice.
///
/// A number in `[0, 1]` for each line: where the line touches the function's
/// envelope, from the lower to the upper end of the interval. For functions
/// made of straight pieces the line turns instead around a kink, from the
/// envelope's slope at the lower end to that at the upper end: for the lower
/// line of a `ReLU` the number is its slope. `None` is the default choice, the
/// line with the least area between it and the function. Every number gives
/// valid lines; those outside `[0, 1]` are clamped, NaN is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hint {
    /// For the lower line.
    pub lower: Option<f64>,
    /// For the upper line.
    pub upper: Option<f64>,
}

/// How a function bends over an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Chords lie above.
    Convex,
    /// Chords lie below.
    Concave,
    /// A piece of a straight line.
    Straight,
    /// Unknown, as close to an inflection that is no `f64`.
    Unknown,
}

impl Lines {
    /// Two constants.
    #[must_use]
    pub fn constant((lower, upper): (f64, f64)) -> Self {
        Self { lower: Line { slope: 0.0, offset: lower }, upper: Line { slope: 0.0, offset: upper } }
    }
}

/// The lines of [`Function::lines`].
pub(super) fn lines<F: Function + ?Sized>(f: &F, i: usize, lower: f64, upper: f64, hint: Hint) -> Lines {
    let range = f.range(i, lower, upper);
    let mut lines = Lines::constant(range);
    let finite = [range.0, range.1, upper - lower].iter().all(|x| x.is_finite());
    if !(finite && lower < upper) {
        return lines;
    }
    let Some(curve) = Curve::new(f, i, lower, upper) else { return lines };
    if let Some(line) = curve.line(1.0, hint.lower, range.0) {
        lines.lower = line;
    }
    if let Some(line) = curve.line(-1.0, hint.upper, -range.1) {
        lines.upper = Line { slope: -line.slope, offset: -line.offset };
    }
    lines
}

/// The point of [`Function::split_point`].
pub(super) fn split_point<F: Function + ?Sized>(f: &F, i: usize, lower: f64, upper: f64) -> Option<f64> {
    let bounded = (upper - lower).is_finite();
    let middle = if bounded { 0.5 * lower + 0.5 * upper } else { 0.0_f64.max(lower).min(upper) };
    let inside = |x: &f64| lower < *x && *x < upper;
    let shapes = f.shapes(i, lower, upper);
    // Where two straight pieces of one slope meet, nothing changes.
    let changes = |pair: &&[(f64, Shape)]| {
        let x = pair[0].0;
        let straight = pair[0].1 == Shape::Straight && pair[1].1 == Shape::Straight;
        inside(&x) && !(straight && f.derivative(i, x, lower) == f.derivative(i, x, upper))
    };
    let ends = shapes.windows(2).filter(changes).map(|pair| pair[0].0);
    let nearest = ends.min_by(|a, b| (a - middle).abs().total_cmp(&(b - middle).abs()));
    let straight = shapes.iter().find(|(end, _)| lower < *end).is_some_and(|(_, s)| *s == Shape::Straight);
    nearest.or_else(|| Some(middle).filter(|x| bounded && !straight && inside(x)))
}

/// The lines of a `ReLU` that turns inside the interval.
pub(super) fn relu(lower: f64, upper: f64, hint: Hint) -> Lines {
    let alpha = unit(hint.lower).unwrap_or(f64::from(u8::from(upper > -lower)));
    let slope = upper / (upper - lower);
    // Convex, so below the line if it is at both ends.
    let offset = -beyond(0.0, 0.0, -slope, lower).min(beyond(-upper, 0.0, -slope, upper));
    Lines { lower: Line { slope: alpha, offset: 0.0 }, upper: Line { slope, offset } }
}

/// The greatest of some numbers, which is none if one of them is none: a line may not pass over a corner that is
/// not known.
pub(super) fn greatest(mut numbers: impl Iterator<Item = f64>) -> f64 {
    let greater = |most: f64, x: f64| if x.is_nan() { None } else { Some(most.max(x)) };
    numbers.try_fold(f64::NEG_INFINITY, greater).unwrap_or(f64::NAN)
}

fn unit(hint: Option<f64>) -> Option<f64> {
    hint.filter(|t| !t.is_nan()).map(|t| t.clamp(0.0, 1.0))
}

/// A lower bound on `y - slope * x` where `y` is known within `error`. Exact if
/// nothing rounds.
fn beyond(y: f64, error: f64, slope: f64, x: f64) -> f64 {
    let product = slope * x;
    let value = y - product;
    // What the two operations lost, exact unless the product underflows.
    let back = value - y;
    let lost = (y - (value - back)) - (product + back);
    let rest = slope.mul_add(x, -product);
    let correction = lost - rest;
    let underflow = slope != 0.0 && x != 0.0 && product.abs() < 1e-280;
    if correction == 0.0 && error == 0.0 && !underflow {
        return value;
    }
    let error = error + f64::EPSILON * correction.abs() + if underflow { f64::MIN_POSITIVE } else { 0.0 };
    let error = error * (1.0 + 8.0 * f64::EPSILON);
    ((value + correction).next_down() - error).next_down()
}

/// A function over an interval, cut where its shape changes.
struct Curve<'a, F: ?Sized> {
    f: &'a F,
    i: usize,
    nodes: Vec<Node>,
    /// Of the pieces between the nodes.
    shapes: Vec<Shape>,
}

/// A point of the curve: `|f(x) - y| <= error`.
#[derive(Clone, Copy)]
struct Node {
    x: f64,
    y: f64,
    error: f64,
}

impl<'a, F: Function + ?Sized> Curve<'a, F> {
    fn new(f: &'a F, i: usize, lower: f64, upper: f64) -> Option<Self> {
        let mut curve = Self { f, i, nodes: Vec::new(), shapes: Vec::new() };
        curve.nodes.push(curve.node(lower));
        let mut last = lower;
        for (end, shape) in f.shapes(i, lower, upper) {
            if end > last && last < upper {
                last = end.min(upper);
                curve.nodes.push(curve.node(last));
                curve.shapes.push(shape);
            }
        }
        // A function that moves no more than it rounds has no slope to speak of.
        let (first, end) = (curve.nodes[0], curve.nodes[curve.nodes.len() - 1]);
        let noise = 4.0 * (first.error + end.error);
        let moves = curve.nodes.iter().any(|n| !((n.y - first.y).abs() <= noise)) || noise == 0.0;
        (end.x == upper && moves).then_some(curve)
    }

    fn node(&self, x: f64) -> Node {
        let y = self.f.eval(self.i, x);
        Node { x, y, error: self.f.rounding(x, y) }
    }

    /// Bounds on the derivative of `sign * f` at `x`, taken from the side of
    /// `toward`.
    fn derivative(&self, sign: f64, x: f64, toward: f64) -> (f64, f64) {
        let (low, high) = self.f.derivative(self.i, x, toward);
        if sign > 0.0 { (low, high) } else { (-high, -low) }
    }

    /// A lower line of `sign * f`, whose values are at least `constant`; none
    /// if that is the better line.
    fn line(&self, sign: f64, hint: Option<f64>, constant: f64) -> Option<Line> {
        let (lower, upper) = (self.nodes[0].x, self.nodes[self.nodes.len() - 1].x);
        let hint = unit(hint);
        let line = match hint {
            Some(t) if self.shapes.iter().all(|s| *s == Shape::Straight) => {
                let (first, last) = (self.support(sign, lower), self.support(sign, upper));
                let slope = if t == 1.0 { last.slope } else { first.slope + t * (last.slope - first.slope) };
                Line { slope, offset: self.least(sign, slope).0 }
            }
            _ => {
                let t = hint.unwrap_or(0.5);
                self.support(sign, (lower * (1.0 - t) + upper * t).clamp(lower, upper))
            }
        };
        let centre = line.slope * (0.5 * lower + 0.5 * upper) + line.offset;
        let usable = line.slope.is_finite() && line.offset.is_finite();
        (usable && (hint.is_some() || centre > constant)).then_some(line)
    }

    /// The lower line of `sign * f` that is highest at `target`, nearly.
    fn support(&self, sign: f64, target: f64) -> Line {
        let mut best = Line { slope: 0.0, offset: f64::NEG_INFINITY };
        let mut highest = f64::NEG_INFINITY;
        let mut consider = |slope: f64| {
            let (offset, at) = self.least(sign, slope);
            let height = offset + slope * target;
            if height > highest {
                (best, highest) = (Line { slope, offset }, height);
            }
            (offset, at, height)
        };
        let scale = self.nodes.iter().fold(0.0, |m: f64, n| m.max(n.y.abs()));
        // The tangent, if the envelope touches the function there.
        let piece = self.nodes[1..].iter().position(|n| target <= n.x).unwrap_or(0);
        let (from, to) = (self.nodes[piece], self.nodes[piece + 1]);
        if is_convex(self.shapes[piece], sign) {
            let (low, high) = self.derivative(sign, target, if target < to.x { to.x } else { from.x });
            let slope = 0.5 * low + 0.5 * high;
            if slope.is_finite() {
                let height = consider(slope).2;
                let rounding = 64.0 * f64::EPSILON * (scale + slope.abs() * from.x.abs().max(to.x.abs()));
                if height >= sign * self.f.eval(self.i, target) - rounding {
                    return best;
                }
            }
        }
        // Else it is the chord of two points around the target: the function
        // lies lowest under the chord at a point that replaces one of them.
        let (mut p, mut q) = (self.nodes[0], self.nodes[self.nodes.len() - 1]);
        for _ in 0..24 {
            let slope = self.chord(sign, p, q);
            let (offset, at, _) = consider(slope);
            let depth = (sign * p.y - slope * p.x) - offset;
            let rounding = 64.0 * f64::EPSILON * (scale + slope.abs() * p.x.abs().max(q.x.abs()));
            if !(at > p.x && at < q.x && depth > rounding) {
                break;
            }
            *(if at < target { &mut p } else { &mut q }) = self.node(at);
        }
        best
    }

    fn chord(&self, sign: f64, p: Node, q: Node) -> f64 {
        let piece = self.nodes[1..].iter().position(|n| p.x < n.x).unwrap_or(0);
        if self.shapes[piece] == Shape::Straight && q.x <= self.nodes[piece + 1].x {
            // Not disturbed by the rounding of the values.
            return self.derivative(sign, p.x, q.x).0;
        }
        sign * (q.y - p.y) / (q.x - p.x)
    }

    /// A lower bound on `sign * f(x) - slope * x` over the interval, and a
    /// point where that is about least.
    fn least(&self, sign: f64, slope: f64) -> (f64, f64) {
        let mut least = (f64::INFINITY, self.nodes[0].x);
        let at = |n: &Node| (beyond(sign * n.y, n.error, slope, n.x), n.x);
        for (ends, &shape) in self.nodes.windows(2).zip(&self.shapes) {
            let found = match shape {
                Shape::Unknown => {
                    let (low, high) = self.f.range(self.i, ends[0].x, ends[1].x);
                    let bottom = if sign > 0.0 { low } else { -high };
                    let [a, b] = [ends[0].x, ends[1].x].map(|x| beyond(bottom, 0.0, slope, x));
                    lesser((a, ends[0].x), (b, ends[1].x))
                }
                _ if is_convex(shape, sign) => self.least_convex(sign, slope, ends[0].x, ends[1].x),
                // Lies above its chord, so least at an end.
                _ => lesser(at(&ends[0]), at(&ends[1])),
            };
            if found.0.is_nan() {
                return (f64::NEG_INFINITY, found.1);
            }
            if found.0 < least.0 {
                least = found;
            }
        }
        least
    }

    /// As [`Curve::least`] over `[a, b]`, where `sign * f` is convex and so lies
    /// above its tangents: above the one at `m` by the bounds of its slope.
    fn least_convex(&self, sign: f64, slope: f64, a: f64, b: f64) -> (f64, f64) {
        let m = self.touch(sign, slope, a, b);
        let node = self.node(m);
        let (low, high) = self.derivative(sign, m, if m < b { b } else { a });
        // By how much the tangent may fall below `slope` to the right and left.
        let right = if m < b { (slope - low) * (b - m) } else { 0.0 };
        let left = if m > a { (high - slope) * (m - a) } else { 0.0 };
        if right.is_nan() || left.is_nan() {
            return (f64::NEG_INFINITY, m);
        }
        let loss = right.max(left);
        let loss = if loss > 0.0 { loss * (1.0 + 8.0 * f64::EPSILON) + f64::MIN_POSITIVE } else { 0.0 };
        (beyond(sign * node.y, node.error + loss, slope, m), m)
    }

    /// The point of `[a, b]`, where `sign * f` is convex, at which its
    /// derivative passes `slope`, nearly: false position with bisection.
    fn touch(&self, sign: f64, slope: f64, mut a: f64, mut b: f64) -> f64 {
        let rise = |x: f64, toward: f64| {
            let (low, high) = self.derivative(sign, x, toward);
            0.5 * low + 0.5 * high - slope
        };
        let (mut below, mut above) = (rise(a, b), rise(b, a));
        if below >= 0.0 {
            return a;
        }
        if above <= 0.0 {
            return b;
        }
        let close = 1e-14 * (b - a);
        for step in 0..80 {
            let middle = 0.5 * a + 0.5 * b;
            let secant = a - below * ((b - a) / (above - below));
            let m = if step % 3 < 2 && secant > a && secant < b { secant } else { middle };
            let there = rise(m, b);
            if there.abs() <= 2.0 * f64::EPSILON * slope.abs() || b - a <= close || !(a < m && m < b) {
                return m.clamp(a, b);
            }
            if there < 0.0 {
                (a, below) = (m, there);
            } else {
                (b, above) = (m, there);
            }
        }
        0.5 * a + 0.5 * b
    }
}

/// The one with the lesser bound; one of NaN, where products overflow.
fn lesser(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    if a.0 < b.0 || a.0.is_nan() { a } else { b }
}

/// Whether `sign * f` is convex where `f` has this shape.
fn is_convex(shape: Shape, sign: f64) -> bool {
    shape == if sign > 0.0 { Shape::Convex } else { Shape::Concave }
}
