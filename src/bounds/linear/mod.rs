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
//! Functions go back eight at a time, as a [`Panel`] with the coefficients on
//! one entry side by side.
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

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::interval::node_bounds_and_sizes;
use super::rounding::{centre_radius, gamma};
use super::{Ball, InputBox, Intervals};
use crate::graph::{Graph, ValueId};
use crate::kernels::{LANES, Panel};
use crate::ops::{Affine, Hint, Op, Order, PanelAdjoint, Workspace};
use step::Step;

/// What backward passes need to know of a network, for all inputs.
pub(super) struct Plan<'a> {
    /// Nodes that read each value and are not affine.
    readers: Vec<Vec<usize>>,
    /// Values whose intervals are exact over a box.
    exact: Vec<bool>,
    /// Affine nodes whose constants and costs the only reader, an elementwise
    /// function, has in its lines.
    folded: Vec<bool>,
    /// Values that several nodes read.
    shared: Vec<bool>,
    /// Where the entries of each value stand in a panel.
    orders: Vec<Order>,
    /// The transposes of the affine nodes.
    adjoints: Vec<Option<PanelAdjoint<'a>>>,
    /// Memory that no pass is using, at most one for each thread.
    idle: Mutex<Vec<Workspace>>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
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
        let mut uses = vec![0; graph.nodes.len() + 1];
        graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|&v| uses[v] += 1);
        uses[graph.output] += 1;
        let mut folded = vec![false; graph.nodes.len()];
        for node in &graph.nodes {
            if let (Op::Elementwise(_), Some(before)) = (&node.op, node.inputs[0].checked_sub(1)) {
                folded[before] = uses[before + 1] == 1 && matches!(graph.nodes[before].op, Op::Affine(_));
            }
        }
        let shared = uses.into_iter().map(|uses| uses > 1).collect();
        let (orders, adjoints) = (graph.orders(), graph.panel_adjoints());
        Self { readers, exact, folded, shared, orders, adjoints, idle: Mutex::default() }
    }

    /// Runs `work` with memory that earlier passes may have used.
    fn with_workspace<R>(&self, work: impl FnOnce(&mut Workspace) -> R) -> R {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = idle().pop().unwrap_or_default();
        let result = work(&mut workspace);
        idle().push(workspace);
        result
    }
}

/// A network over the set around one input: intervals of all values, lines and
/// planes of all nodes.
pub(super) struct Relaxed<'a> {
    graph: &'a Graph,
    plan: &'a Plan<'a>,
    /// Bounds of every value.
    pub(super) values: Vec<Intervals>,
    steps: Vec<Step>,
    /// The greatest absolute values of shared values, in their orders.
    sizes: Vec<Vec<f64>>,
    /// For each input entry, what a coefficient of 1 adds to a bound at most
    /// and how far it reaches to either side, with the rounding of the sums.
    sides: Vec<[f64; 2]>,
    ball: Option<(&'a Ball, Vec<f64>)>,
}

impl<'a> Relaxed<'a> {
    /// Over set `i`. Intervals are those of IBP, or with `tighten` the better
    /// of IBP and backward passes; with `choices` the lines can be optimised.
    pub(super) fn new(
        graph: &'a Graph,
        plan: &'a Plan<'a>,
        sets: &'a InputBox,
        i: usize,
        tighten: bool,
        choices: bool,
    ) -> Self {
        let input = Intervals { lower: sets.lower().row(i).to_vec(), upper: sets.upper().row(i).to_vec() };
        let ball = sets.balls().map(|ball| (ball, ball.centre.row(i).to_vec()));
        let rounding = gamma(input.lower.len());
        let side = |(&lower, &upper): (&f64, &f64)| {
            let (centre, radius) = centre_radius(lower, upper);
            [centre, radius + rounding * centre.abs()]
        };
        let sides = input.lower.iter().zip(&input.upper).map(side).collect();
        let mut relaxed =
            Self { graph, plan, values: vec![input], steps: Vec::new(), sizes: Vec::new(), sides, ball };
        relaxed.measure(0);
        let mut scratch = Vec::new();
        for index in 0..graph.nodes.len() {
            let (bounds, sums) = node_bounds_and_sizes(graph, index, &relaxed.values, &mut scratch);
            let mut step = Step::new(graph, index, &relaxed.values, &plan.orders, &sums, choices);
            if let Some(producer) = graph.nodes[index].inputs[0].checked_sub(1).filter(|&p| plan.folded[p]) {
                step.fold(&relaxed.steps[producer]);
            }
            relaxed.steps.push(step);
            relaxed.values.push(bounds);
            let exact = relaxed.plan.exact[index + 1] && relaxed.ball.is_none();
            if tighten && !exact && !relaxed.plan.readers[index + 1].is_empty() {
                relaxed.tighten(index + 1);
            }
            relaxed.measure(index + 1);
        }
        relaxed
    }

    /// Fills in the sizes of a value whose bounds are final.
    fn measure(&mut self, v: ValueId) {
        let mut sizes = Vec::new();
        if self.plan.shared[v] {
            let magnitudes = self.values[v].magnitudes();
            sizes.extend(self.plan.orders[v].entries(magnitudes.len()).map(|entry| magnitudes[entry]));
        }
        self.sizes.push(sizes);
    }

    /// Bounds by backward passes the entries of a value on which a nonlinear
    /// reader is not linear: first on the side nearer to zero, where a piecewise
    /// linear function may turn out to be linear, then on the other side what
    /// is still not.
    fn tighten(&mut self, v: ValueId) {
        let order = self.plan.orders[v];
        // Neighbours in a panel together, as they read the same window.
        let mut loose: Vec<usize> =
            order.entries(self.graph.len(v)).filter(|&entry| self.is_loose(v, entry)).collect();
        let near = |&entry: &usize| {
            let Intervals { lower, upper } = &self.values[v];
            if -lower[entry] < upper[entry] { 1.0 } else { -1.0 }
        };
        let mut signs: Vec<f64> = loose.iter().map(near).collect();
        for _ in 0..2 {
            let functions: Vec<(usize, f64)> = loose.iter().copied().zip(signs).collect();
            let bounds: Vec<f64> = functions
                .par_chunks(LANES)
                .flat_map_iter(|functions| {
                    let start = |panel: &mut Panel| {
                        for (lane, &(entry, sign)) in functions.iter().enumerate() {
                            panel.entry(order.place(entry)).0[lane] = sign;
                        }
                    };
                    let bounds = self.plan.with_workspace(|memory| self.lower(v, start, None, memory));
                    bounds.0.into_iter().take(functions.len())
                })
                .collect();
            let Intervals { lower, upper } = &mut self.values[v];
            for (&(entry, sign), bound) in functions.iter().zip(bounds) {
                let end = if sign > 0.0 { lower[entry].max(bound) } else { upper[entry].min(-bound) };
                let (low, high) = if sign > 0.0 { (end, upper[entry]) } else { (lower[entry], end) };
                // They cross only where the network is undefined.
                if low <= high {
                    (lower[entry], upper[entry]) = (low, high);
                }
            }
            let rest = functions.into_iter().filter(|&(entry, _)| self.is_loose(v, entry));
            (loose, signs) = rest.map(|(entry, sign)| (entry, -sign)).unzip();
        }
    }

    /// Whether an entry of a value is worth a backward pass.
    fn is_loose(&self, v: ValueId, entry: usize) -> bool {
        let (lower, upper) = (self.values[v].lower[entry], self.values[v].upper[entry]);
        let bends = |&reader: &usize| match &self.graph.nodes[reader].op {
            op @ Op::Elementwise(function) if op.is_piecewise_linear() => {
                let lines = function.lines(entry, lower, upper, Hint::default());
                lines.lower != lines.upper
            }
            _ => true,
        };
        lower < upper && self.plan.readers[v].iter().any(bends)
    }

    /// Lower bounds on functions of the output with these coefficients
    /// (`rows x classes`), with as many steps of optimising lines.
    pub(super) fn output_lower(&self, coefficients: &[f64], rows: usize, iterations: usize) -> Vec<f64> {
        self.optimised(self.graph.output, coefficients, rows, iterations)
    }
}
