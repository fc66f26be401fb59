//! Backward linear bounds: CROWN (Zhang et al. 2018), also known as `DeepPoly`
//! (Singh et al. 2019), and alpha-CROWN (Xu et al. 2021), on any graph.
//!
//! A linear function of the output is pulled back to the input node by node.
//! Affine maps pass it on by their adjoint; elementwise functions and products
//! are replaced by lines and planes below or above them, valid over the
//! intervals of their inputs. So the bounds rest on intervals for every input
//! of a nonlinearity: those of IBP, tightened by backward passes of their own
//! wherever the nonlinearity is not yet linear.
//!
//! | file | holds |
//! |---|---|
//! | `step` | one node's lines or planes, and what rounding costs there |
//! | `backward` | the pass from a value to the input |
//! | `slopes` | the choice among lines by gradient ascent |
//!
//! # Rounding
//! Coefficients are rounded at every node. The exact linear function and the
//! rounded one differ by a small linear function of values that lie in known
//! intervals; that difference is bounded at once and charged to the row
//! (`Step::charge`), and the rounded coefficients are exact from there on.

mod backward;
mod slopes;
mod step;

use rayon::prelude::*;

use super::interval::node_bounds;
use super::{Ball, InputBox, Intervals};
use crate::graph::{Graph, ValueId};
use crate::ops::{Affine, Op};
use step::Step;

/// Entries of coefficients that one block of rows may hold on one value.
const BLOCK: usize = 1 << 17;

/// What backward passes need to know of a network, for all inputs.
pub(super) struct Plan {
    /// Nodes that read each value and are not affine.
    readers: Vec<Vec<usize>>,
    /// Values whose intervals are exact over a box.
    exact: Vec<bool>,
    /// Rows of a block.
    rows: usize,
}

impl Plan {
    pub(super) fn new(graph: &Graph) -> Self {
        let mut readers = vec![Vec::new(); graph.nodes.len() + 1];
        // Whether the entries of a value range independently over a box.
        let mut independent = vec![true];
        let mut exact = vec![true];
        for (index, node) in graph.nodes.iter().enumerate() {
            let from_independent = node.inputs.len() == 1 && independent[node.inputs[0]];
            let entrywise = match &node.op {
                Op::Affine(op) => matches!(op, Affine::Scale(_)),
                Op::Elementwise(_) => true,
                Op::Product(_) => false,
            };
            independent.push(from_independent && entrywise);
            exact.push(from_independent && !matches!(node.op, Op::Product(_)));
            if !matches!(node.op, Op::Affine(_)) {
                for &v in &node.inputs {
                    readers[v].push(index);
                }
            }
        }
        let largest = (0..=graph.nodes.len()).map(|v| graph.len(v)).max().unwrap_or(1);
        Self { readers, exact, rows: (BLOCK / largest.max(1)).clamp(4, 256) }
    }
}

/// A network over the set around one input: intervals of all values, lines and
/// planes of all nodes.
pub(super) struct Relaxed<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    /// Bounds of every value.
    pub(super) values: Vec<Intervals>,
    steps: Vec<Step>,
    ball: Option<(&'a Ball, Vec<f64>)>,
}

impl<'a> Relaxed<'a> {
    /// Over set `i`. Intervals are those of IBP, or with `tighten` the better
    /// of IBP and backward passes; with `choices` the lines can be optimised.
    pub(super) fn new(
        graph: &'a Graph,
        plan: &'a Plan,
        sets: &'a InputBox,
        i: usize,
        tighten: bool,
        choices: bool,
    ) -> Self {
        let input = Intervals { lower: sets.lower().row(i).to_vec(), upper: sets.upper().row(i).to_vec() };
        let ball = sets.balls().map(|ball| (ball, ball.centre.row(i).to_vec()));
        let mut relaxed = Self { graph, plan, values: vec![input], steps: Vec::new(), ball };
        let mut scratch = Vec::new();
        for index in 0..graph.nodes.len() {
            relaxed.steps.push(Step::new(graph, index, &relaxed.values, choices));
            relaxed.values.push(node_bounds(graph, index, 1, &relaxed.values, &mut scratch));
            let exact = relaxed.plan.exact[index + 1] && relaxed.ball.is_none();
            if tighten && !exact && !relaxed.plan.readers[index + 1].is_empty() {
                relaxed.tighten(index + 1);
            }
        }
        relaxed
    }

    /// Bounds by backward passes the entries of a value on which a nonlinear
    /// reader is not linear.
    fn tighten(&mut self, v: ValueId) {
        let loose = self.loose(v);
        let len = self.graph.len(v);
        let blocks: Vec<Vec<f64>> = loose
            .par_chunks((self.plan.rows / 2).max(1))
            .map(|entries| {
                let mut rows = vec![0.0; 2 * entries.len() * len];
                for (k, &entry) in entries.iter().enumerate() {
                    rows[2 * k * len + entry] = 1.0;
                    rows[(2 * k + 1) * len + entry] = -1.0;
                }
                self.lower(v, 2 * entries.len(), rows, None)
            })
            .collect();
        let values = &mut self.values[v];
        for (&entry, bound) in loose.iter().zip(blocks.concat().chunks_exact(2)) {
            let (lower, upper) = (values.lower[entry].max(bound[0]), values.upper[entry].min(-bound[1]));
            // They cross only where the network is undefined.
            if lower <= upper {
                (values.lower[entry], values.upper[entry]) = (lower, upper);
            }
        }
    }

    /// The entries of a value that are worth a backward pass.
    fn loose(&self, v: ValueId) -> Vec<usize> {
        let values = &self.values[v];
        let bends = |reader: usize, i: usize| match &self.graph.nodes[reader].op {
            Op::Elementwise(function) => {
                let lines = function.lines(i, values.lower[i], values.upper[i], crate::ops::Hint::default());
                lines.lower != lines.upper
            }
            _ => true,
        };
        (0..self.graph.len(v))
            .filter(|&i| values.lower[i] < values.upper[i])
            .filter(|&i| self.plan.readers[v].iter().any(|&reader| bends(reader, i)))
            .collect()
    }

    /// Lower bounds on functions of the output with these coefficients
    /// (`rows x classes`), with as many steps of optimising lines.
    pub(super) fn output_lower(&self, coefficients: &[f64], rows: usize, iterations: usize) -> Vec<f64> {
        self.optimised(self.graph.output, coefficients, rows, iterations)
    }
}
