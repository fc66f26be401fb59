//! Chains of dense layers: whether interval bounds are exact through them.

use std::sync::Arc;

use ndarray::Array2;
use thiserror::Error;

use crate::graph::{Graph, Node};
use crate::ops::{Affine, Dense, Function, Op, Relu, Weights};

/// Matrices `W_1, ..., W_L`, `outputs x inputs` each, applied in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseChain {
    layers: Vec<Array2<f64>>,
}

/// Why there is no chain.
#[derive(Debug, Error, PartialEq)]
pub enum ChainError {
    /// A network is not a plain sequence of dense layers and activations.
    #[error(
        "node `{node}` ({origin}) is not part of a dense chain; accepted: dense layers, constants added, relu"
    )]
    Node {
        /// The node's name.
        node: String,
        /// The ONNX operator that it comes from.
        origin: String,
    },
    /// Matrices do not follow each other.
    #[error("layer {0} is empty, holds a value that is not finite, or does not fit the one before it")]
    Layer(usize),
    /// There are no layers.
    #[error("a chain has at least one dense layer")]
    Empty,
}

/// Proof that a chain is not propagation-invariant: two paths from one input
/// to one output whose products of weights have opposite signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The output.
    pub output: usize,
    /// The input.
    pub input: usize,
    /// The hidden units, first layer first, of a path with a positive product.
    pub positive: Vec<usize>,
    /// Those of a path with a negative product.
    pub negative: Vec<usize>,
}

impl Witness {
    /// The hidden layer (from 0) where the paths last run through different
    /// units, with the unit of the positive and of the negative one.
    #[must_use]
    pub fn pair(&self) -> Option<(usize, [usize; 2])> {
        let layers = self.positive.iter().zip(&self.negative).enumerate().rev();
        layers.map(|(layer, (&p, &n))| (layer, [p, n])).find(|(_, [p, n])| p != n)
    }
}

impl DenseChain {
    /// A chain from its matrices, `outputs x inputs` each, first layer first.
    ///
    /// # Errors
    /// [`ChainError`] if there are none or they do not fit each other.
    pub fn new(layers: Vec<Array2<f64>>) -> Result<Self, ChainError> {
        for (i, layer) in layers.iter().enumerate() {
            let fits = i == 0 || layers[i - 1].nrows() == layer.ncols();
            if !fits || layer.is_empty() || layer.iter().any(|w| !w.is_finite()) {
                return Err(ChainError::Layer(i));
            }
        }
        if layers.is_empty() { Err(ChainError::Empty) } else { Ok(Self { layers }) }
    }

    /// The dense layers of a network without branches; biases are left out
    /// and relus count as the identity.
    ///
    /// # Errors
    /// [`ChainError`] if there is anything else in it.
    pub fn from_graph(graph: &Graph) -> Result<Self, ChainError> {
        let mut layers = Vec::new();
        for (i, node) in graph.nodes.iter().enumerate().take(graph.output) {
            let in_line = node.inputs == [i];
            match &node.op {
                Op::Affine(Affine::Dense(dense)) if in_line && dense.rows == 1 => {
                    let shape = (dense.inputs, dense.outputs);
                    let weight = Array2::from_shape_vec(shape, dense.weight.exact().to_vec());
                    layers.push(transposed(&weight.map_err(|_| ChainError::Layer(layers.len()))?));
                }
                Op::Affine(Affine::Scale(scale)) if in_line && scale.scale.is_none() => {}
                Op::Elementwise(function) if in_line && function.name() == Relu.name() => {}
                _ => return Err(ChainError::Node { node: node.name.clone(), origin: node.origin.clone() }),
            }
        }
        Self::new(layers)
    }

    /// The chain as a network; with relu between the layers if asked.
    #[must_use]
    pub fn graph(&self, relu: bool) -> Graph {
        let mut nodes: Vec<Node> = Vec::new();
        let mut push = |origin: &str, op, len| {
            let name = format!("{}{}", origin.to_lowercase(), nodes.len());
            let inputs = vec![nodes.len()];
            nodes.push(Node { name, origin: origin.to_owned(), op, inputs, shape: vec![1, len] });
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let (outputs, inputs) = layer.dim();
            if relu && i > 0 {
                push("Relu", Op::Elementwise(Arc::new(Relu)), inputs);
            }
            let weight = Weights::new(transposed(layer).into_raw_vec_and_offset().0);
            let dense = Dense { rows: 1, inputs, outputs, weight, bias: None };
            push("Gemm", Op::Affine(Affine::Dense(dense)), outputs);
        }
        let ends = |i: usize, axis| vec![1, self.layers[i].len_of(ndarray::Axis(axis))];
        Graph {
            input_name: "input".into(),
            input_shape: ends(0, 1),
            output: nodes.len(),
            nodes,
            output_shape: ends(self.layers.len() - 1, 0),
            folded: Vec::new(),
        }
    }

    /// The matrices, `outputs x inputs` each, first layer first.
    #[must_use]
    pub fn layers(&self) -> &[Array2<f64>] {
        &self.layers
    }

    /// Whether interval bounds through the linear chain are exact for every
    /// box, `|W_L ... W_1| = |W_L| ... |W_1|`; else why not.
    ///
    /// The equality holds if and only if for every output and input all paths
    /// between them have products of one weak sign (for two layers: Mao et
    /// al. 2024). That is decided on the signs of the weights as stored:
    /// nothing is multiplied, so nothing rounds or underflows.
    ///
    /// # Errors
    /// The [`Witness`] of the first output, and its first input, for which it
    /// does not hold.
    pub fn invariance(&self) -> Result<(), Witness> {
        let inputs = self.layers[0].ncols();
        let mut reached = vec![Signs::unit(inputs)];
        for layer in &self.layers {
            reached.push(Signs::through(layer, &reached[reached.len() - 1]));
        }
        let last = &reached[self.layers.len()];
        for output in 0..self.layers[self.layers.len() - 1].nrows() {
            let both = |input: &usize| last.has(output, *input, false) && last.has(output, *input, true);
            if let Some(input) = (0..inputs).find(both) {
                let path = |negative| self.path(&reached, output, input, negative);
                return Err(Witness { output, input, positive: path(false), negative: path(true) });
            }
        }
        Ok(())
    }

    /// The hidden units of a path with a product of the given sign, which exists.
    fn path(&self, reached: &[Signs], output: usize, input: usize, mut negative: bool) -> Vec<usize> {
        let (mut unit, mut path) = (output, Vec::new());
        for l in (1..self.layers.len()).rev() {
            let row = self.layers[l].row(unit);
            let leads = |k: &usize| row[*k] != 0.0 && reached[l].has(*k, input, negative != (row[*k] < 0.0));
            unit = (0..row.len()).find(leads).expect("what was reached has a predecessor");
            negative ^= row[unit] < 0.0;
            path.push(unit);
        }
        path.reverse();
        path
    }
}

/// For every unit, the inputs from which a path with a positive, and with a
/// negative product leads to it: one bit each.
struct Signs {
    words: usize,
    bits: [Vec<u64>; 2],
}

impl Signs {
    fn unit(inputs: usize) -> Self {
        let words = inputs.div_ceil(64);
        let mut bits = [vec![0; inputs * words], vec![0; inputs * words]];
        (0..inputs).for_each(|i| bits[0][i * words + i / 64] |= 1 << (i % 64));
        Self { words, bits }
    }

    fn through(layer: &Array2<f64>, below: &Self) -> Self {
        let words = below.words;
        let mut bits = [vec![0; layer.nrows() * words], vec![0; layer.nrows() * words]];
        for ((unit, k), &w) in layer.indexed_iter().filter(|(_, w)| **w != 0.0) {
            for (sign, bits) in bits.iter_mut().enumerate() {
                let from = &below.bits[sign ^ usize::from(w < 0.0)][k * words..][..words];
                bits[unit * words..][..words].iter_mut().zip(from).for_each(|(b, f)| *b |= f);
            }
        }
        Self { words, bits }
    }

    fn has(&self, unit: usize, input: usize, negative: bool) -> bool {
        self.bits[usize::from(negative)][unit * self.words + input / 64] >> (input % 64) & 1 == 1
    }
}

/// The transpose, in standard layout.
pub(super) fn transposed(matrix: &Array2<f64>) -> Array2<f64> {
    matrix.t().as_standard_layout().into_owned()
}
