//! Lipschitz constants of networks from the l2 norm of the input to the l2
//! norm of the output, as upper bounds that hold under floating point.
//!
//! A value's constant follows from those of the values that it is computed
//! from. For `A = [A_1 A_2 ...]` applied to values with constants `L_i` it is
//! the smaller of `sum ||A_i|| L_i` and `||A|| sqrt(sum L_i^2)`; so a residual
//! sum adds the constants of its branches, and a chain multiplies norms. The
//! true constant of a network of many layers lies far below such a product.
//!
//! Two analyses look at more than one operator at a time, and the least
//! constant counts. Values that are made entry by entry are taken together
//! (`blocks`): a maximum and a minimum of the same pair, in whatever form and
//! layout, are a permutation of it almost everywhere, and have the constant 1
//! together. A residual layer `x + V phi(U x + b)` is bounded by a matrix
//! inequality (`residual`), so that layers that are built to have the constant 1
//! come out at 1, dense or convolutional.
//!
//! | map | bound on its norm |
//! |---|---|
//! | dense layer | Gram iteration (Delattre et al. 2023); singular values with feature `lapack` |
//! | convolution | Gram iteration on the written-out matrix or on the spectrum of a torus |
//! | scale, sum | exact |
//! | selection, window sum, and all others | Collatz-Wielandt quotients of `|A|` |
//! | elementwise function | [`Function::lipschitz`](crate::ops::Function::lipschitz) |
//! | maximum, log-sum-exp | root of the number of groups that an entry is in |
//! | sorted group | 1 |
//!
//! Scales behind a dense layer or a convolution (batch normalisation) are
//! merged with it first, and scales before it are taken together with it. Coefficients that were rounded at load or by the
//! merge are covered with the bounds on their errors. Products of activations
//! and functions of unbounded slope have no constant; the report names the
//! first on the way.
//!
//! `libm`'s sine and cosine are taken to be accurate to 8 units in the last
//! place. [`Network::evaluation_error`] bounds what an evaluation in f32 adds,
//! and [`margin_bounds`] makes certificates of the constants of margins.

mod affine;
mod banded;
mod blocks;
mod conv;
mod evaluation;
#[cfg(feature = "lapack")]
mod lapack;
mod margins;
mod matrix;
mod residual;
#[cfg(test)]
mod tests;
mod units;

pub use evaluation::EvaluationError;
pub use margins::margin_bounds;

use rayon::prelude::*;
use serde::Serialize;

use crate::exec::{Fused, fuse};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;
use crate::rounding::directed::{add_up, mul_up, sqrt_up};
use affine::Norms;

/// Bounds for a whole network and on the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The nodes in order of evaluation, scales merged into what is before them.
    pub nodes: Vec<NodeReport>,
    /// Constant of the network, from the input to its output; none if a node
    /// that the output depends on has none.
    pub total: Option<f64>,
    /// The first such node.
    pub obstacle: Option<String>,
}

/// Bounds for one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name in the model; of several that were merged, the first.
    pub name: String,
    /// The ONNX operator that it comes from.
    pub origin: String,
    /// Shape of its result for one network input.
    pub shape: Vec<usize>,
    /// Norm of its linear part, or Lipschitz constant of its function, in
    /// all of its inputs together; none if it has no finite one.
    pub norm: Option<f64>,
    /// Constant from the network's input to its result.
    pub constant: Option<f64>,
}

/// A network with the norms of its nodes.
pub struct Network {
    original: Graph,
    fused: Fused,
    norms: Vec<Norms>,
    /// For every value, its constant or the node that leaves it without.
    constants: Vec<Result<f64, usize>>,
    /// For values that depend on a single earlier one through a layer that is
    /// bounded as a whole: that value, and the constant in it.
    layers: Vec<Option<(ValueId, f64)>>,
}

/// The constants of a network; see [`Network::report`].
#[must_use]
pub fn network(graph: &Graph) -> Report {
    Network::new(graph).report()
}

impl Network {
    /// Bounds the norms of all nodes; parallel.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        let (original, fused) = (graph.clone(), fuse(graph));
        let graph = &fused.graph;
        let norms: Vec<Norms> =
            graph.nodes.par_iter().enumerate().map(|(i, node)| norms(graph, i, node)).collect();
        let local = blocks::local(graph);
        let mut constants: Vec<Result<f64, usize>> = vec![Ok(1.0)];
        let all = &norms[..];
        let mut layers = vec![None];
        for (i, (node, norms)) in graph.nodes.iter().zip(all).enumerate() {
            let inputs: Result<Vec<f64>, usize> = node.inputs.iter().map(|&v| constants[v]).collect();
            let mut layer: Option<(ValueId, f64)> = None;
            constants.push(inputs.and_then(|inputs| {
                let mut least = constant(norms, &inputs);
                if let Some((bases, norms)) = blocks::joint(graph, &local, i + 1) {
                    if let [base] = bases[..] {
                        layer = Some((base, norms.whole));
                    }
                    let bases: Vec<f64> = bases.iter().map(|&v| constants[v]).collect::<Result<_, _>>()?;
                    least = least.min(constant(&norms, &bases));
                }
                let behind = residual::behind_scales(graph, i + 1)
                    .map(|(base, op)| (base, Norms::new(&op, &[graph.len(base)], graph.len(i + 1)).whole));
                if let Some((base, constant)) = behind.or_else(|| residual::layer(graph, all, i + 1)) {
                    least = least.min(times(constant, constants[base]?));
                    // Either holds.
                    layer = layer.filter(|(_, other)| *other < constant).or(Some((base, constant)));
                }
                if least.is_finite() { Ok(least) } else { Err(i) }
            }));
            layers.push(layer);
        }
        Self { original, fused, norms, constants, layers }
    }

    /// The constants on the way and in total.
    #[must_use]
    pub fn report(&self) -> Report {
        let graph = &self.fused.graph;
        let node = |(i, node): (usize, &Node)| NodeReport {
            name: node.name.clone(),
            origin: node.origin.clone(),
            shape: node.shape.clone(),
            norm: Some(self.norms[i].whole).filter(|norm| norm.is_finite()),
            constant: self.constants[i + 1].ok(),
        };
        let output = self.constants[graph.output];
        Report {
            nodes: graph.nodes.iter().enumerate().map(node).collect(),
            total: output.ok(),
            obstacle: output.err().map(|i| graph.nodes[i].name.clone()),
        }
    }
}

/// A product rounded up, exact where a factor is 1.
fn times(a: f64, b: f64) -> f64 {
    if a == 1.0 || b == 1.0 { a * b } else { mul_up(a, b) }
}

/// The smaller of `sum ||A_i|| L_i` and `||A|| sqrt(sum L_i^2)`.
fn constant(norms: &Norms, inputs: &[f64]) -> f64 {
    let sum = norms.parts.iter().zip(inputs).fold(0.0, |sum, (&a, &l)| add_up(sum, times(a, l)));
    let squares = inputs.iter().fold(0.0, |sum, &l| add_up(sum, mul_up(l, l)));
    // With one input the root would only round.
    let joint = if let [one] = inputs { *one } else { sqrt_up(squares) };
    let whole = times(norms.whole, joint);
    if whole < sum { whole } else { sum }
}

/// The norms of one node, whatever its kind.
fn norms(graph: &Graph, index: usize, node: &Node) -> Norms {
    let lens: Vec<usize> = node.inputs.iter().map(|&v| graph.len(v)).collect();
    match &node.op {
        Op::Affine(op) => Norms::new(op, &lens, graph.len(index + 1)),
        Op::Elementwise(function) => {
            let slope = function.lipschitz().filter(|slope| *slope >= 0.0).unwrap_or(f64::INFINITY);
            Norms::same(slope, 1)
        }
        Op::Product(op) => match op.squared_lipschitz() {
            Some((whole, parts)) => {
                let root = |square: f64| if square == 1.0 { 1.0 } else { sqrt_up(square) };
                let parts: Vec<f64> = parts.into_iter().map(root).collect();
                Norms { whole: root(whole), absolute: parts.clone(), parts }
            }
            None => Norms::same(f64::INFINITY, lens.len()),
        },
    }
}
