//! A network as plain data: nodes in the order of evaluation, and the shape of
//! every value.

use crate::ops::Op;

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

    /// The same network with an affine map of one node in front of it, such as
    /// a normalisation that the model expects to have been applied.
    #[must_use]
    pub fn preceded_by(mut self, name: &str, op: Op) -> Self {
        for node in &mut self.nodes {
            node.inputs.iter_mut().for_each(|v| *v += 1);
        }
        self.output += 1;
        let shape = self.input_shape.clone();
        self.nodes.insert(0, Node { name: name.into(), origin: "-".into(), op, inputs: vec![0], shape });
        self
    }
}
