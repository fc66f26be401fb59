//! Elementwise functions built on the exponential and the error function.

use super::elementwise::{ELEMENTARY, TINY, around, near, single_gate, single_units};
use super::{Function, Shape};

/// `e^x`.
#[derive(Clone, Debug)]
pub struct Exp;

impl Function for Exp {
    fn name(&self) -> &'static str {
        "exp"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::exp(x)
    }
    fn image(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(f64::INFINITY, Shape::Convex)]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(libm::exp(x))
    }
}

/// `1 / (1 + e^-x)`.
#[derive(Clone, Debug)]
pub struct Sigmoid;

impl Function for Sigmoid {
    fn name(&self) -> &'static str {
        "sigmoid"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, _: f64, output: f64) -> f64 {
        // Often a rational function around 1/2, so absolute where the value is small.
        single_units(output.max(1.0))
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        sigmoid(x)
    }
    fn image(&self) -> (f64, f64) {
        (0.0, 1.0)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        s_shaped()
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(sigmoid_slope(x))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([0.0, 0.25])
    }
}

/// Both branches keep a small relative error.
fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// `sigmoid(x) (1 - sigmoid(x))`, with a small relative error.
fn sigmoid_slope(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    e / ((1.0 + e) * (1.0 + e))
}

/// Convex up to 0, concave from there on.
fn s_shaped() -> Vec<(f64, Shape)> {
    vec![(0.0, Shape::Convex), (f64::INFINITY, Shape::Concave)]
}

/// Convex between the inflections `-at` and `at`, known within `error`; concave
/// outside.
fn hill(at: f64, error: f64) -> Vec<(f64, Shape)> {
    vec![
        (-at - error, Shape::Concave),
        (-at + error, Shape::Unknown),
        (at - error, Shape::Convex),
        (at + error, Shape::Unknown),
        (f64::INFINITY, Shape::Concave),
    ]
}

/// Hyperbolic tangent.
#[derive(Clone, Debug)]
pub struct Tanh;

impl Function for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::tanh(x)
    }
    fn image(&self) -> (f64, f64) {
        (-1.0, 1.0)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        s_shaped()
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        // `tanh x = 2 sigmoid(2 x) - 1`.
        near(4.0 * sigmoid_slope(2.0 * x))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([0.0, 1.0])
    }
}

/// `ln(1 + e^x)`.
#[derive(Clone, Debug)]
pub struct Softplus;

impl Function for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, _: f64, output: f64) -> f64 {
        // Often `ln(1 + e^x)`, so absolute where the value is small.
        single_units(output.max(1.0))
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x.is_nan() { x } else { x.max(0.0) + libm::log1p(libm::exp(-x.abs())) }
    }
    fn image(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        vec![(f64::INFINITY, Shape::Convex)]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(sigmoid(x))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        Some([0.0, 1.0])
    }
}

/// `gamma * x` for `x >= 0`, else `gamma * alpha * (e^x - 1)` (ONNX `Elu`,
/// with `gamma` 1, and `Selu`).
#[derive(Clone, Debug)]
pub struct Elu {
    /// Size of the negative branch.
    pub alpha: f64,
    /// Factor of both branches.
    pub gamma: f64,
}

impl Function for Elu {
    fn name(&self) -> &'static str {
        "elu"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, _: f64, output: f64) -> f64 {
        // Often `e^x - 1`, so absolute where the value is small; three more roundings.
        2.0 * single_units(output.max((self.alpha * self.gamma).abs()).max(self.gamma.abs()))
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        self.gamma * if x < 0.0 { self.alpha * libm::expm1(x) } else { x }
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (self.alpha < 0.0 && lower < 0.0 && upper > 0.0).then_some((0.0, 0.0))
    }
    fn parameters(&self) -> usize {
        2
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        let left = if self.gamma * self.alpha < 0.0 { Shape::Concave } else { Shape::Convex };
        vec![(0.0, left), (f64::INFINITY, Shape::Straight)]
    }
    fn derivative(&self, _: usize, x: f64, toward: f64) -> (f64, f64) {
        let left = x < 0.0 || (x == 0.0 && toward < 0.0);
        if left { near(self.gamma * self.alpha * libm::exp(x)) } else { (self.gamma, self.gamma) }
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        // Up to rounding: three products at most.
        let ends = [0.0, self.gamma, self.gamma * self.alpha].map(|slope| slope * (1.0 + ELEMENTARY));
        let [least, most] = [ends[0].min(ends[1]).min(ends[2]), ends[0].max(ends[1]).max(ends[2])];
        ends.iter().all(|slope| slope.is_finite()).then_some([least, most])
    }
}

/// The error function.
#[derive(Clone, Debug)]
pub struct Erf;

impl Function for Erf {
    fn name(&self) -> &'static str {
        "erf"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::erf(x)
    }
    fn image(&self) -> (f64, f64) {
        (-1.0, 1.0)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        s_shaped()
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        let slope = std::f64::consts::FRAC_2_SQRT_PI * libm::exp(-x * x);
        // The rounding of the square.
        around(slope, (ELEMENTARY + (x * x).min(1e3) * f64::EPSILON) * slope + TINY)
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        // 2 / sqrt(pi), at 0.
        Some([0.0, std::f64::consts::FRAC_2_SQRT_PI.next_up()])
    }
}

/// `x Phi(x)` with the normal distribution function `Phi`.
#[derive(Clone, Debug)]
pub struct Gelu;

/// A lower bound on the only minimum of [`Gelu`], near `x = -0.75179`.
const GELU_LEAST: f64 = -0.169_971_207_479_903_9;

impl Function for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, input: f64, output: f64) -> f64 {
        single_gate(input, output)
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        // `erfc` keeps the relative error small on the negative side. Infinity
        // times zero would be NaN.
        if x == f64::NEG_INFINITY { 0.0 } else { 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2) }
    }
    fn rounding(&self, x: f64, y: f64) -> f64 {
        // A relative error d of the argument z of erfc becomes 2 z^2 d at most;
        // what underflows in it counts x times.
        (ELEMENTARY + x.min(0.0).abs().min(1e3).powi(2) * 4.0 * f64::EPSILON) * y.abs()
            + TINY * (1.0 + x.min(0.0).abs().min(1e3))
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (lower < -0.751_7 && upper > -0.751_8).then_some((GELU_LEAST, GELU_LEAST))
    }
    fn image(&self) -> (f64, f64) {
        (GELU_LEAST, f64::INFINITY)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        // The second derivative is the density times `2 - x^2`.
        hill(std::f64::consts::SQRT_2, 4.0 * f64::EPSILON)
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
        let below = 0.5 * libm::erfc(-x * FRAC_1_SQRT_2);
        let density = 0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI * libm::exp(-0.5 * x * x);
        // As for the values: relative errors grow with the square of `x`.
        let relative = ELEMENTARY + (x * x).min(2e3) * 4.0 * f64::EPSILON;
        around(below + x * density, relative * (below + (x * density).abs()) + TINY * (1.0 + x.abs()))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        // Phi(x) + x phi(x) is greatest at sqrt(2): 1.128904145...
        Some([-0.128_904_2, 1.128_904_2])
    }
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, the approximation that some
/// exporters write.
#[derive(Clone, Debug)]
pub struct GeluTanh;

/// The positive inflection of [`GeluTanh`].
const GELU_TANH_INFLECTION: f64 = 1.418_504_008_790_828_3;

/// A lower bound on the only minimum of [`GeluTanh`], near `x = -0.75246`.
const GELU_TANH_LEAST: f64 = -0.170_040_750_571_254_5;

impl Function for GeluTanh {
    fn name(&self) -> &'static str {
        "gelu (tanh)"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, input: f64, output: f64) -> f64 {
        single_gate(input, output)
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x == f64::NEG_INFINITY { 0.0 } else { x * sigmoid(Self::argument(x)) }
    }
    fn rounding(&self, x: f64, y: f64) -> f64 {
        // A relative error d of the sigmoid's argument w becomes |w| d at most;
        // what underflows in it counts x times.
        (ELEMENTARY + Self::argument(x).min(0.0).abs().min(1e3) * ELEMENTARY) * y.abs()
            + TINY * (1.0 + x.min(0.0).abs().min(1e3))
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (lower < -0.752_4 && upper > -0.752_5).then_some((GELU_TANH_LEAST, GELU_TANH_LEAST))
    }
    fn image(&self) -> (f64, f64) {
        (GELU_TANH_LEAST, f64::INFINITY)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        // The second derivative is that of the sigmoid's argument `w` times
        // `2 w' + x w'' - x w'^2 tanh(w / 2)`, even and with one positive zero.
        hill(GELU_TANH_INFLECTION, 1e-15)
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        let w = Self::argument(x);
        if w.abs() > 1e3 {
            return around(f64::from(u8::from(w > 0.0)), TINY);
        }
        let rise = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044_715 * x * x);
        let (base, tilt) = (sigmoid(w), x * sigmoid_slope(w) * rise);
        // As for the values: relative errors grow with `w`.
        let relative = ELEMENTARY * (2.0 + 2.0 * w.abs());
        around(base + tilt, relative * (base + tilt.abs()) + TINY * (1.0 + x.abs() * rise))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        // The slope is greatest near 1.4185: 1.128993068...
        Some([-0.128_994, 1.128_994])
    }
}

impl GeluTanh {
    /// `w` such that the function is `x * sigmoid(w)`.
    fn argument(x: f64) -> f64 {
        2.0 * (2.0 / std::f64::consts::PI).sqrt() * x * (1.0 + 0.044_715 * x * x)
    }
}

/// `x / (1 + e^-x)` (ONNX `Swish` with `alpha` 1).
#[derive(Clone, Debug)]
pub struct Silu;

/// The positive inflection of [`Silu`].
const SILU_INFLECTION: f64 = 2.399_357_280_515_467_7;

/// A lower bound on the only minimum of [`Silu`], near `x = -1.27846`.
const SILU_LEAST: f64 = -0.278_464_542_761_073_9;

impl Function for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, input: f64, output: f64) -> f64 {
        single_gate(input, output)
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x == f64::NEG_INFINITY { 0.0 } else { x * sigmoid(x) }
    }
    fn rounding(&self, x: f64, y: f64) -> f64 {
        // What underflows in the sigmoid counts x times.
        ELEMENTARY * y.abs() + TINY * (1.0 + x.min(0.0).abs().min(1e3))
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (lower < -1.278_4 && upper > -1.278_5).then_some((SILU_LEAST, SILU_LEAST))
    }
    fn image(&self) -> (f64, f64) {
        (SILU_LEAST, f64::INFINITY)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        // The second derivative is even, with one positive zero.
        hill(SILU_INFLECTION, 1e-15)
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        let (base, tilt) = (sigmoid(x), x * sigmoid_slope(x));
        if x.is_infinite() {
            return around(base, TINY);
        }
        around(base + tilt, 2.0 * ELEMENTARY * (base + tilt.abs()) + TINY * (1.0 + x.abs()))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        // The slope at the positive inflection: 1.0998393201...
        Some([-0.099_839_4, 1.099_839_4])
    }
}

/// `x tanh(ln(1 + e^x))`.
#[derive(Clone, Debug)]
pub struct Mish;

/// The inflections of [`Mish`].
const MISH_INFLECTIONS: [f64; 2] = [-2.256_376_396_360_793, 1.490_571_179_485_428_5];

/// A lower bound on the only minimum of [`Mish`], near `x = -1.19243`.
const MISH_LEAST: f64 = -0.308_843_413_017_250_5;

impl Mish {
    /// `tanh(ln(1 + e^x))` and its derivative, both with a small relative
    /// error: quotients of polynomials in `e^-|x|` without differences.
    fn gate(x: f64) -> (f64, f64) {
        let e = libm::exp(-x.abs());
        if x > 0.0 {
            let (above, below) = (1.0 + 2.0 * e, 1.0 + 2.0 * e + 2.0 * e * e);
            (above / below, 4.0 * e * e * (1.0 + e) / (below * below))
        } else {
            let (above, below) = (e * e + 2.0 * e, e * e + 2.0 * e + 2.0);
            (above / below, 4.0 * e * (1.0 + e) / (below * below))
        }
    }
}

impl Function for Mish {
    fn name(&self) -> &'static str {
        "mish"
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn single_rounding(&self, input: f64, output: f64) -> f64 {
        single_gate(input, output)
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x == f64::NEG_INFINITY { 0.0 } else { x * Self::gate(x).0 }
    }
    fn rounding(&self, x: f64, y: f64) -> f64 {
        // What underflows in the gate counts x times.
        ELEMENTARY * y.abs() + TINY * (1.0 + x.min(0.0).abs().min(1e3))
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (lower < -1.192_4 && upper > -1.192_5).then_some((MISH_LEAST, MISH_LEAST))
    }
    fn image(&self) -> (f64, f64) {
        (MISH_LEAST, f64::INFINITY)
    }
    fn shapes(&self, _: usize, _: f64, _: f64) -> Vec<(f64, Shape)> {
        let [left, right] = MISH_INFLECTIONS;
        vec![
            (left - 1e-15, Shape::Concave),
            (left + 1e-15, Shape::Unknown),
            (right - 1e-15, Shape::Convex),
            (right + 1e-15, Shape::Unknown),
            (f64::INFINITY, Shape::Concave),
        ]
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        let (base, slope) = Self::gate(x);
        if x.is_infinite() {
            return around(base, TINY);
        }
        let tilt = x * slope;
        around(base + tilt, 2.0 * ELEMENTARY * (base + tilt.abs()) + TINY * (1.0 + x.abs()))
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        // The slope at the positive inflection: 1.0884981612...
        Some([-0.2, 1.088_498_2])
    }
}
