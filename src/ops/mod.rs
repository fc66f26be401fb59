//! Operators, in three kinds. Every analysis is written once per kind.
//!
//! | kind | what it is | type |
//! |---|---|---|
//! | affine map | `A x + b` over one or more inputs | [`Affine`] |
//! | elementwise function | `f(x_i)` for every entry | [`Function`] |
//! | product | a function of several activations at once: products, maxima | [`Product`] |
//!
//! An ONNX operator that is none of the three is rewritten into them when a
//! model is loaded (a softmax, for example, is differences, a log-sum-exp and
//! an exponential).
//!
//! All operators work on batches: a value of `len` entries per network input
//! is a slice of `batch * len` entries, one input after the other.

mod affine;
mod choice;
mod conv;
mod dense;
mod elementwise;
mod exponential;
mod panel;
mod piecewise;
mod planes;
mod power;
mod product;
mod relaxation;
mod scale;
mod sparse;
mod steps;
mod sum;
mod trigonometric;
mod weights;

pub use affine::{Affine, SingleError};
pub use choice::{Chain, Choice, Link};
pub use conv::Conv;
pub use dense::Dense;
pub use elementwise::Function;
pub use exponential::{Elu, Erf, Exp, Gelu, GeluTanh, Mish, Sigmoid, Silu, Softplus, Tanh};
pub use panel::{Order, PanelAdjoint, Workspace};
pub use piecewise::{Abs, Clip, HardSwish, LeakyRelu, Relu, Sign, Within};
pub use planes::{Plane, Term};
pub use power::{Cos, Log, Pow, Reciprocal, Sin, Softsign, Sqrt};
pub use product::{MatMul, Product};
pub use relaxation::{Hint, Line, Lines, Shape};
pub use scale::Scale;
pub use sparse::{Groups, Sparse};
pub use steps::{Rounding, Shrink, Staircase, Step};
pub use sum::Sum;
pub use trigonometric::Trigonometric;
pub use weights::{Periodic, Pick, Weights};

use std::sync::Arc;

/// An operator of one of the three kinds.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a graph holds few operators, each with much larger weights")]
pub enum Op {
    /// `A x + b`.
    Affine(Affine),
    /// The same function of every entry.
    Elementwise(Arc<dyn Function>),
    /// A joint function of several activations.
    Product(Product),
}

/// The analyses of the toolkit, by name.
pub const ANALYSES: [&str; 7] =
    ["inference", "ibp", "crown", "attack", "smoothing", "lipschitz", "tightness"];

impl Op {
    /// The analyses that this operator supports. What loads can be evaluated
    /// and bounded: unsupported operators are refused by name at load.
    #[must_use]
    pub fn analyses(&self) -> Vec<&'static str> {
        let supports = |analysis: &&str| match *analysis {
            "lipschitz" => match self {
                Self::Affine(op) => op.is_finite(),
                Self::Elementwise(function) => function.lipschitz().is_some(),
                Self::Product(op) => op.squared_lipschitz().is_some(),
            },
            "tightness" => self.is_piecewise_linear(),
            _ => true,
        };
        ANALYSES.into_iter().filter(supports).collect()
    }

    /// Whether the operator is an affine map, a piecewise-linear function or a
    /// maximum: linear in a neighbourhood of almost every point.
    #[must_use]
    pub fn is_piecewise_linear(&self) -> bool {
        match self {
            Self::Affine(_) => true,
            Self::Elementwise(function) => function.slope(0, 0.0).is_some(),
            Self::Product(product) => product.is_selection(),
        }
    }

    /// `affine`, `elementwise` or `product`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Affine(_) => "affine",
            Self::Elementwise(_) => "elementwise",
            Self::Product(_) => "product",
        }
    }

    /// Number of constants that the operator holds.
    #[must_use]
    pub fn parameters(&self) -> usize {
        match self {
            Self::Affine(a) => a.parameters(),
            Self::Elementwise(f) => f.parameters(),
            Self::Product(_) => 0,
        }
    }

    /// Multiply-adds for one network input; `len` is the number of entries of
    /// the result.
    #[must_use]
    pub fn multiply_adds(&self, len: usize) -> usize {
        match self {
            Self::Affine(a) => a.multiply_adds(),
            Self::Elementwise(_) => len,
            Self::Product(p) => p.multiply_adds(len),
        }
    }
}
