//! Elementwise functions built on the exponential and the error function.

use super::Function;
use super::elementwise::{ELEMENTARY, TINY};

/// `e^x`.
#[derive(Clone, Debug)]
pub struct Exp;

impl Function for Exp {
    fn name(&self) -> &'static str {
        "exp"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::exp(x)
    }
    fn image(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }
}

/// `1 / (1 + e^-x)`.
#[derive(Clone, Debug)]
pub struct Sigmoid;

impl Function for Sigmoid {
    fn name(&self) -> &'static str {
        "sigmoid"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        sigmoid(x)
    }
    fn image(&self) -> (f64, f64) {
        (0.0, 1.0)
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(0.25)
    }
}

/// Both branches keep a small relative error.
fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// Hyperbolic tangent.
#[derive(Clone, Debug)]
pub struct Tanh;

impl Function for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::tanh(x)
    }
    fn image(&self) -> (f64, f64) {
        (-1.0, 1.0)
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(1.0)
    }
}

/// `ln(1 + e^x)`.
#[derive(Clone, Debug)]
pub struct Softplus;

impl Function for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x.is_nan() { x } else { x.max(0.0) + libm::log1p(libm::exp(-x.abs())) }
    }
    fn image(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }
    fn lipschitz(&self) -> Option<f64> {
        Some(1.0)
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
    fn eval(&self, _: usize, x: f64) -> f64 {
        self.gamma * if x < 0.0 { self.alpha * libm::expm1(x) } else { x }
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (self.alpha < 0.0 && lower < 0.0 && upper > 0.0).then_some((0.0, 0.0))
    }
    fn parameters(&self) -> usize {
        2
    }
    fn lipschitz(&self) -> Option<f64> {
        // Up to rounding: three products at most.
        Some(self.gamma.abs() * self.alpha.abs().max(1.0) * (1.0 + ELEMENTARY))
    }
}

/// The error function.
#[derive(Clone, Debug)]
pub struct Erf;

impl Function for Erf {
    fn name(&self) -> &'static str {
        "erf"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        libm::erf(x)
    }
    fn image(&self) -> (f64, f64) {
        (-1.0, 1.0)
    }
    fn lipschitz(&self) -> Option<f64> {
        // 2 / sqrt(pi), at 0.
        Some(std::f64::consts::FRAC_2_SQRT_PI.next_up())
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
    fn eval(&self, _: usize, x: f64) -> f64 {
        // `erfc` keeps the relative error small on the negative side. Infinity
        // times zero would be NaN.
        if x == f64::NEG_INFINITY { 0.0 } else { 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2) }
    }
    fn rounding(&self, x: f64, y: f64) -> f64 {
        // A relative error d of the argument z of erfc becomes 2 z^2 d at most.
        (ELEMENTARY + x.min(0.0).abs().min(1e3).powi(2) * 4.0 * f64::EPSILON) * y.abs() + TINY
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (lower < -0.751_7 && upper > -0.751_8).then_some((GELU_LEAST, GELU_LEAST))
    }
    fn image(&self) -> (f64, f64) {
        (GELU_LEAST, f64::INFINITY)
    }
    fn lipschitz(&self) -> Option<f64> {
        // Phi(x) + x phi(x) is greatest at sqrt(2): 1.128904145...
        Some(1.128_904_2)
    }
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, the approximation that some
/// exporters write.
#[derive(Clone, Debug)]
pub struct GeluTanh;

/// A lower bound on the only minimum of [`GeluTanh`], near `x = -0.75246`.
const GELU_TANH_LEAST: f64 = -0.170_040_750_571_254_5;

impl Function for GeluTanh {
    fn name(&self) -> &'static str {
        "gelu (tanh)"
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        if x == f64::NEG_INFINITY { 0.0 } else { x * sigmoid(Self::argument(x)) }
    }
    fn rounding(&self, x: f64, y: f64) -> f64 {
        // A relative error d of the sigmoid's argument w becomes |w| d at most.
        (ELEMENTARY + Self::argument(x).min(0.0).abs().min(1e3) * ELEMENTARY) * y.abs() + TINY
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        (lower < -0.752_4 && upper > -0.752_5).then_some((GELU_TANH_LEAST, GELU_TANH_LEAST))
    }
    fn image(&self) -> (f64, f64) {
        (GELU_TANH_LEAST, f64::INFINITY)
    }
    fn lipschitz(&self) -> Option<f64> {
        // The slope is greatest near 1.4185: 1.128993068...
        Some(1.128_994)
    }
}

impl GeluTanh {
    /// `w` such that the function is `x * sigmoid(w)`.
    fn argument(x: f64) -> f64 {
        2.0 * (2.0 / std::f64::consts::PI).sqrt() * x * (1.0 + 0.044_715 * x * x)
    }
}
