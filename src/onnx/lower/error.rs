//! What can be wrong with a node.

use thiserror::Error;

use crate::onnx::attributes::AttributeError;
use crate::onnx::tensor::TensorError;

/// Why a node cannot be lowered. The node's name and operator stand in the
/// error that wraps this one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An attribute cannot be used.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// A constant cannot be used.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A node of a branch cannot be lowered.
    #[error("node `{node}` ({op}) of the branch taken: {problem}")]
    Inside {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong with it.
        problem: Box<NodeError>,
    },
    /// The operator is not supported.
    #[error("operator not supported: {0}")]
    Operator(&'static str),
    /// A required input is absent.
    #[error("input {0} is missing")]
    MissingInput(usize),
    /// An input is computed nowhere before this node.
    #[error("input `{0}` is neither an input, a constant, nor computed by an earlier node")]
    Unknown(String),
    /// A name is assigned twice.
    #[error("output `{0}` is already defined; names must be unique")]
    Redefined(String),
    /// An input that must be known at load time depends on the network's input.
    #[error("input {0} depends on the network's input; it must be a constant")]
    NotConstant(usize),
    /// An input that must depend on the network's input is a constant.
    #[error("input {0} is a constant; it must be an activation")]
    Constant(usize),
    /// An input has the wrong element type.
    #[error("input {input} has the wrong element type; accepted: {accepted}")]
    Type {
        /// Which input.
        input: usize,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// Shapes do not fit the operator or each other.
    #[error("shapes {found} do not fit; accepted: {accepted}")]
    Shape {
        /// The shapes.
        found: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// An attribute or a constant input has a value that is not supported.
    #[error("{what} is {found}; accepted: {accepted}")]
    Value {
        /// What has the value.
        what: &'static str,
        /// The value.
        found: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// More outputs are used than are supported.
    #[error("{found} outputs are used; accepted: {accepted}")]
    Outputs {
        /// Number used.
        found: usize,
        /// Number supported.
        accepted: usize,
    },
    /// The operator is defined, but not on values that depend on the input.
    #[error("{0} of a value that depends on the network's input is not supported: {1}")]
    OnlyConstants(String, &'static str),
    /// A result would be too large.
    #[error("the result of shape {0} would have more than {1} entries")]
    TooLarge(String, usize),
}

impl NodeError {
    pub(super) fn shape(shapes: &[&[usize]], accepted: &'static str) -> Self {
        let found = shapes.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" and ");
        Self::Shape { found, accepted }
    }
}
