//! Functions of one entry: their ranges, and how far below and above them a line of some slope must lie.

/// `2^-52`, twice the unit roundoff.
const EPSILON: f64 = f64::EPSILON;
/// Above all that underflow costs in one operation.
pub(crate) const TINY: f64 = 1e-300;

#[derive(Clone, Debug)]
pub(crate) enum Function {
    Relu,
    /// Below zero times a factor: one, or one for each entry.
    Leaky(Vec<f64>),
    Abs,
    Clip(f64, f64),
    Sigmoid,
    Tanh,
    Exp,
}

impl Function {
    /// The value at `x` and a bound on its error. For the smooth ones `libm` is within two units in the last
    /// place; 8 are charged.
    pub(crate) fn at(&self, entry: usize, x: f64) -> (f64, f64) {
        let near = |y: f64| (y, 8.0 * EPSILON * y.abs() + TINY);
        match self {
            Self::Relu => (x.max(0.0), 0.0),
            Self::Leaky(slopes) if x < 0.0 => near(x * slopes[entry % slopes.len()]),
            Self::Leaky(_) => (x, 0.0),
            Self::Abs => (x.abs(), 0.0),
            Self::Clip(low, high) => (x.max(*low).min(*high), 0.0),
            Self::Sigmoid => near(1.0 / (1.0 + libm::exp(-x))),
            Self::Tanh => near(libm::tanh(x)),
            Self::Exp => near(libm::exp(x)),
        }
    }

    /// How many units of `2^-24` an evaluation in f32 may be off, relative: 8 in the last place, where it rounds.
    pub(crate) fn units(&self) -> f64 {
        if matches!(self, Self::Relu | Self::Abs | Self::Clip(..)) { 0.0 } else { 16.0 }
    }

    /// Bounds on the derivative of a smooth function.
    fn derivative(&self, x: f64) -> (f64, f64) {
        let y = self.at(0, x).0;
        let slope = match self {
            Self::Sigmoid => y * (1.0 / (1.0 + libm::exp(x))),
            Self::Tanh => {
                let c = 1.0 / libm::cosh(x);
                c * c
            }
            _ => y,
        };
        let error = 64.0 * EPSILON * slope.abs() + TINY;
        (slope - error, slope + error)
    }

    /// Where the derivative of a smooth function is about `slope`, on the right side of zero for those whose
    /// derivative is even.
    fn touches(&self, slope: f64) -> f64 {
        match self {
            // y (1 - y) = s at y = (1 + sqrt(1 - 4 s)) / 2.
            Self::Sigmoid => {
                let y = 0.5 + 0.5 * (1.0 - 4.0 * slope).max(0.0).sqrt();
                libm::log(y * y / slope)
            }
            Self::Tanh => {
                let y = (1.0 - slope).max(0.0).sqrt();
                // 1 - y^2 = s, so artanh y = ln((1 + y)^2 / s) / 2.
                0.5 * libm::log((1.0 + y) * (1.0 + y) / slope)
            }
            _ => libm::log(slope),
        }
    }

    /// Lower and upper bounds of `f(x) - slope * x` over `[low, high]`: the offsets of the greatest line below
    /// and of the least line above.
    ///
    /// A piecewise linear function less a line has its extremes at ends and corners. Where a smooth one is
    /// convex it has its greatest value at an end of the piece, and lies above all its tangents; where it is
    /// concave the other way round.
    pub(crate) fn offsets(&self, entry: usize, slope: f64, low: f64, high: f64) -> [f64; 2] {
        if !(low <= high && low.is_finite() && high.is_finite() && slope.is_finite()) {
            return [f64::NEG_INFINITY, f64::INFINITY];
        }
        let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
        // What overflowed is no bound.
        let known = |x: f64, none: f64| if x.is_nan() { none } else { x };
        let mut add = |below: f64, above: f64| {
            ends = [ends[0].min(known(below, f64::NEG_INFINITY)), ends[1].max(known(above, f64::INFINITY))];
        };
        let rest = |x: f64| {
            let ((y, error), product) = (self.at(entry, x), slope * x);
            if error == 0.0 && (y == 0.0 && product == 0.0 || slope == 0.0 || slope == 1.0 && y == x) {
                return (y - product, 0.0);
            }
            (y - product, error + 2.0 * EPSILON * (y.abs() + product.abs()) + TINY)
        };
        let mut point = |x: f64| {
            let (y, error) = rest(x);
            add(y - error, y + error);
        };
        point(low);
        point(high);
        let corners = match self {
            Self::Relu | Self::Leaky(_) | Self::Abs => [0.0, 0.0],
            Self::Clip(least, most) => [*least, *most],
            Self::Sigmoid | Self::Tanh | Self::Exp => {
                let split = if matches!(self, Self::Exp) { high } else { 0.0_f64.clamp(low, high) };
                point(split);
                let turn = self.touches(slope);
                // The tangent at m, whose slope is known within [d, e], bounds the curve over [a, b].
                let tangent = |m: f64, a: f64, b: f64| {
                    let ((y, error), (d, e)) = (rest(m), self.derivative(m));
                    let reach = (d - slope).abs().max((e - slope).abs()) * (m - a).max(b - m);
                    // Towards the side where the curve leads away from the line nothing is lost.
                    let falls = [(slope - d).max(0.0) * (b - m), (e - slope).max(0.0) * (m - a)];
                    let rises = [(e - slope).max(0.0) * (b - m), (slope - d).max(0.0) * (m - a)];
                    let loss =
                        |of: [f64; 2]| of[0].max(of[1]) * (1.0 + 8.0 * EPSILON) + error + EPSILON * reach;
                    (y - loss(falls), y + loss(rises))
                };
                let usable = |m: f64, a: f64, b: f64| if m.is_nan() { a } else { m.clamp(a, b) };
                if low < split {
                    // Convex: exp, and left of zero.
                    let m = if matches!(self, Self::Exp) { turn } else { -turn };
                    add(tangent(usable(m, low, split), low, split).0, f64::NEG_INFINITY);
                }
                if split < high {
                    add(f64::INFINITY, tangent(usable(turn, split, high), split, high).1);
                }
                return ends;
            }
        };
        for x in corners.into_iter().filter(|x| low < *x && *x < high) {
            point(x);
        }
        ends
    }

    /// Whether lines of slope 0 and 1 are exact on `[low, high]`, and which.
    pub(crate) fn range(&self, entry: usize, low: f64, high: f64) -> (f64, f64) {
        let [below, above] = self.offsets(entry, 0.0, low, high);
        match self {
            Self::Sigmoid | Self::Exp => (below.max(0.0), above),
            _ => (below, above),
        }
    }
}
