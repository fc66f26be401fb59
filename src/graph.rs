//! A network as plain data: nodes in the order of evaluation, and the shape of
//! every value.

use thiserror::Error;

use crate::ops::{Affine, Op, Periodic, Scale, Weights};

/// A value of the graph: 0 is the network's input, `i + 1` the result of node `i`.
pub type ValueId = usize;

/// One operator with where its inputs come from.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name in the model; unique and never empty.
    pub name: String,
    /// The ONNX operator that it comes from.
    pub origin: String,
    /// What it computes.
    pub op: Op,
    /// The values it reads, all computed before it.
    pub inputs: Vec<ValueId>,
    /// Shape of its result for one network input.
    pub shape: Vec<usize>,
}

/// A network: one input, one output, nodes in topological order.
///
/// Shapes are those of a single network input, as the model writes them (often
/// with a leading axis of 1, the batch). Analyses run on any number of inputs
/// at once; these are independent by construction.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Name of the input.
    pub input_name: String,
    /// Shape of one network input.
    pub input_shape: Vec<usize>,
    /// The operators, each after all that it reads.
    pub nodes: Vec<Node>,
    /// The value that is the network's output (the logits, for a classifier).
    pub output: ValueId,
    /// Shape of one network output; differs from the last node's only in form.
    pub output_shape: Vec<usize>,
    /// What was evaluated or removed at load: operator and how many of it.
    pub folded: Vec<(String, usize)>,
}

impl Graph {
    /// Shape of a value.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> &[usize] {
        match value.checked_sub(1) {
            None => &self.input_shape,
            Some(node) => &self.nodes[node].shape,
        }
    }

    /// Number of entries of a value.
    #[must_use]
    pub fn len(&self, value: ValueId) -> usize {
        self.shape(value).iter().product()
    }

    /// Number of entries of the input.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.len(0)
    }

    /// Number of entries of the output: the classes of a classifier.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.len(self.output)
    }

    /// Arranges the weights for interval bounds, which is else done when they are first needed.
    pub fn prepare_boxes(&self) {
        for node in &self.nodes {
            if let Op::Affine(op) = &node.op {
                let _ = op.boxes(self.len(node.inputs[0]));
            }
        }
    }

    /// For every value, the last node that reads it. The network's output is
    /// read at the very end, an unused value by nobody (0).
    #[must_use]
    pub fn last_uses(&self) -> Vec<usize> {
        let mut last = vec![0; self.nodes.len() + 1];
        for (i, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                last[input] = i;
            }
        }
        last[self.output] = usize::MAX;
        last
    }

    /// The same network behind `(x - mean) / std`, where the model expects its
    /// inputs normalised. `mean` and `std` hold one value, or one per channel:
    /// along the second axis if it has that length, else along the last.
    ///
    /// # Errors
    /// [`NormalizeError`] if the constants do not fit the input.
    pub fn normalized(mut self, mean: &[f64], std: &[f64]) -> Result<Self, NormalizeError> {
        let shape = self.input_shape.clone();
        let channels = mean.len();
        let inner = if channels == 1 {
            Some(1)
        } else if shape.get(1) == Some(&channels) {
            Some(shape[2..].iter().product())
        } else {
            (shape.last() == Some(&channels)).then_some(1)
        };
        let (Some(inner), true) = (inner, channels == std.len()) else {
            return Err(NormalizeError::Channels { mean: channels, std: std.len(), shape });
        };
        if let Some(&bad) = mean.iter().find(|m| !m.is_finite()) {
            return Err(NormalizeError::Value(bad));
        }
        if let Some(&bad) = std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(NormalizeError::Value(bad));
        }
        let shift: Vec<f64> = mean.iter().zip(std).map(|(m, s)| -m / s).collect();
        let shift_error = shift.iter().fold(0.0, |m: f64, x| m.max(x.abs())) * f64::EPSILON;
        let scale = Weights::rounded(std.iter().map(|s| 1.0 / s).collect(), f64::EPSILON);
        let op = Scale {
            len: self.input_len(),
            scale: Some(Periodic::new(scale, inner)),
            shift: Some(Periodic::new(Weights::new(shift), inner)),
            shift_error,
        };
        for node in &mut self.nodes {
            node.inputs.iter_mut().for_each(|v| *v += 1);
        }
        self.output += 1;
        let (name, origin) = ("normalisation".into(), "(x - mean) / std".into());
        self.nodes
            .insert(0, Node { name, origin, op: Op::Affine(Affine::Scale(op)), inputs: vec![0], shape });
        Ok(self)
    }
}

/// Why inputs cannot be normalised as asked.
#[derive(Debug, Error)]
pub enum NormalizeError {
    /// Means, standard deviations and channels do not match.
    #[error(
        "{mean} means and {std} standard deviations for an input of shape {shape:?}; \
         give one of each, or one of each for every channel"
    )]
    Channels {
        /// Number of means.
        mean: usize,
        /// Number of standard deviations.
        std: usize,
        /// Shape of the input.
        shape: Vec<usize>,
    },
    /// A value is not usable.
    #[error("{0} among means and standard deviations; accepted: finite means and positive deviations")]
    Value(f64),
}
