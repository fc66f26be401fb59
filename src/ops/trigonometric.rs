//! Tangent, the hyperbolic functions, and their inverses and those of sine and cosine.

use std::f64::consts::{FRAC_PI_2, PI};

use super::elementwise::{SINGLE, UNDEFINED, near, single_units};
use super::{Function, Shape};

/// One of the functions; each is NaN outside its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigonometric {
    /// Tangent.
    Tan,
    /// Inverse of the sine, on `[-1, 1]`.
    Asin,
    /// Inverse of the cosine, on `[-1, 1]`.
    Acos,
    /// Inverse of the tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse of the hyperbolic sine.
    Asinh,
    /// Inverse of the hyperbolic cosine, from 1 on.
    Acosh,
    /// Inverse of the hyperbolic tangent, between -1 and 1.
    Atanh,
}

use Trigonometric::{Acos, Acosh, Asin, Asinh, Atan, Atanh, Cosh, Sinh, Tan};

/// Beyond this size the poles and zeros of the tangent are not known exactly enough.
const FAR: f64 = 1e6;

impl Function for Trigonometric {
    fn name(&self) -> &'static str {
        match self {
            Tan => "tan",
            Asin => "asin",
            Acos => "acos",
            Atan => "atan",
            Sinh => "sinh",
            Cosh => "cosh",
            Asinh => "asinh",
            Acosh => "acosh",
            Atanh => "atanh",
        }
    }
    fn is_uniform(&self) -> bool {
        true
    }
    fn eval(&self, _: usize, x: f64) -> f64 {
        match self {
            Tan => libm::tan(x),
            Asin => libm::asin(x),
            Acos => libm::acos(x),
            Atan => libm::atan(x),
            Sinh => libm::sinh(x),
            Cosh => libm::cosh(x),
            Asinh => libm::asinh(x),
            Acosh => libm::acosh(x),
            Atanh => libm::atanh(x),
        }
    }
    fn single_rounding(&self, _: f64, output: f64) -> f64 {
        match self {
            // An absolute error of the reduced argument counts as often as the slope says.
            Tan => single_units(1.0 + output) + SINGLE * output * output,
            // Often differences of larger numbers, so absolute where the value is small.
            _ => single_units(output.max(1.0)),
        }
    }
    fn turning(&self, _: usize, lower: f64, upper: f64) -> Option<(f64, f64)> {
        let undefined = match self {
            Tan => {
                // A pole near an end may count although it lies outside.
                let branch = |x: f64| ((x - FRAC_PI_2) / PI).floor();
                let far = lower.abs() > FAR || upper.abs() > FAR;
                far || branch(lower - 1e-9) != branch(upper + 1e-9)
            }
            Asin | Acos => lower < -1.0 || upper > 1.0,
            Acosh => lower < 1.0,
            Atanh => lower <= -1.0 || upper >= 1.0,
            Cosh => return (lower < 0.0 && upper > 0.0).then_some((1.0, 1.0)),
            Atan | Sinh | Asinh => false,
        };
        if undefined { UNDEFINED } else { None }
    }
    fn image(&self) -> (f64, f64) {
        // The nearest number to half of pi lies below it.
        let quarter = FRAC_PI_2.next_up();
        match self {
            Asin | Atan => (-quarter, quarter),
            Acos => (0.0, PI.next_up()),
            Cosh => (1.0, f64::INFINITY),
            Acosh => (0.0, f64::INFINITY),
            Tan | Sinh | Asinh | Atanh => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }
    fn shapes(&self, _: usize, lower: f64, upper: f64) -> Vec<(f64, Shape)> {
        let (left, right) = match self {
            Tan => {
                // Between two poles; elsewhere there are no lines.
                let zero = ((0.5 * lower + 0.5 * upper) / PI).round() * PI;
                let error = 4.0 * f64::EPSILON * zero.abs();
                return vec![
                    (zero - error, Shape::Concave),
                    (zero + error, Shape::Unknown),
                    (f64::INFINITY, Shape::Convex),
                ];
            }
            Asin | Sinh | Atanh => (Shape::Concave, Shape::Convex),
            Acos | Atan | Asinh => (Shape::Convex, Shape::Concave),
            Cosh => (Shape::Convex, Shape::Convex),
            Acosh => (Shape::Concave, Shape::Concave),
        };
        if left == right { vec![(f64::INFINITY, right)] } else { vec![(0.0, left), (f64::INFINITY, right)] }
    }
    fn derivative(&self, _: usize, x: f64, _: f64) -> (f64, f64) {
        near(match self {
            Tan => 1.0 + libm::tan(x) * libm::tan(x),
            Asin => 1.0 / ((1.0 - x) * (1.0 + x)).sqrt(),
            Acos => -1.0 / ((1.0 - x) * (1.0 + x)).sqrt(),
            Atan => 1.0 / (1.0 + x * x),
            Sinh => libm::cosh(x),
            Cosh => libm::sinh(x),
            Asinh => 1.0 / libm::hypot(x, 1.0),
            Acosh => 1.0 / ((x - 1.0).sqrt() * (x + 1.0).sqrt()),
            Atanh => 1.0 / ((1.0 - x) * (1.0 + x)),
        })
    }
    fn slopes(&self) -> Option<[f64; 2]> {
        matches!(self, Atan | Asinh).then_some([0.0, 1.0])
    }
}
