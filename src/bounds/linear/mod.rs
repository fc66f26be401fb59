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
//! Functions go back eight at a time, as a panel with the coefficients on
//! one entry side by side.
//!
//! | file | holds |
//! |---|---|
//! | `step` | one node's lines or planes, and what rounding costs there |
//! | `backward` | the pass from a value to the input |
//! | `proof` | what a bound was made from, for the checker of certificates |
//! | `rows` | what is bounded: functions of output and input, weights, cuts |
//! | `score` | where cuts would help most |
//! | `slopes` | the choice among lines by gradient ascent |
//!
//! # Rounding
//! Coefficients are rounded at every node. The exact linear function and the
//! rounded one differ by a small linear function of values that lie in known
//! intervals; that difference is bounded at once and charged to the row
//! (`Step::charge`), and the rounded coefficients are exact from there on.
//!
//! Where the bounds speak of evaluations in f32, a node's result differs from
//! its exact function of what it read by an error that is bounded for each
//! entry; the sum over all entries, `sum |a_i| error_i`, is charged at the same
//! place. Everything before it then speaks of values as they were computed.

mod backward;
pub(crate) mod proof;
mod rows;
mod score;
mod slopes;
mod step;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::float32;
use super::interval::{Memory, node_bounds_and_sizes};
use super::rounding::{centres_radii, gamma};
use super::{Ball, Evaluation, InputBox, Intervals};
use crate::bounds::transpose::Transpose;
use crate::graph::{Graph, ValueId};
use crate::kernels::LANES;
use crate::ops::{Affine, Hint, Op, Order, Workspace};
pub(crate) use rows::{Cut, Function, Multipliers, Row};
pub(crate) use score::Candidate;
pub(crate) use slopes::{RowProof, Slopes};
use step::Step;

/// What backward passes need to know of a network, for all inputs.
pub(crate) struct Plan<'a> {
    /// The arithmetic of the network that bounds speak of.
    pub(crate) evaluation: Evaluation,
    /// Nodes that read each value and are not affine.
    readers: Vec<Vec<usize>>,
    /// Values whose intervals are exact over a box.
    exact: Vec<bool>,
    /// Affine nodes whose constants and costs the only reader, an elementwise
    /// function, has in its lines.
    folded: Vec<bool>,
    transpose: Transpose<'a>,
    /// Memory that no pass is using, at most one for each thread.
    idle: Mutex<Vec<Workspace>>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(graph: &'a Graph, evaluation: Evaluation) -> Self {
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
        Self { evaluation, readers, exact, folded, transpose: Transpose::new(graph), idle: Mutex::default() }
    }

    /// Where the entries of each value stand in a panel.
    fn orders(&self) -> &[Order] {
        &self.transpose.orders
    }

    /// Runs `work` with memory that earlier passes may have used.
    pub(crate) fn with_workspace<R>(&self, work: impl FnOnce(&mut Workspace) -> R) -> R {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = idle().pop().unwrap_or_default();
        let result = work(&mut workspace);
        idle().push(workspace);
        result
    }
}

/// A network over `B` boxes: intervals of all values, lines and planes of all
/// nodes. Numbers that differ from box to box stand side by side; `B` is a power
/// of two, at most eight.
pub(crate) struct Relaxed<'a, const B: usize> {
    graph: &'a Graph,
    plan: &'a Plan<'a>,
    /// Bounds of every value.
    pub(crate) values: Vec<Intervals>,
    steps: Vec<Step<B>>,
    /// The greatest absolute values of all values, in their orders.
    sizes: Vec<Vec<[f64; B]>>,
    /// For each input entry, what a coefficient of 1 adds to a bound at most
    /// and how far it reaches to either side, with the rounding of the sums.
    sides: Vec<[[f64; B]; 2]>,
    ball: Option<(&'a Ball, Vec<f64>)>,
    /// Steps of gradient ascent on each interval that is tightened.
    iterations: usize,
    until: Option<Instant>,
    /// What each input entry adds to the width of each interval that was bounded
    /// by a backward pass, by value and entry, if that is asked for.
    influence: Option<HashMap<(ValueId, usize), Vec<f64>>>,
    /// The intervals that were bounded by a backward pass: value, entry beside those of other boxes, and whether
    /// from above.
    passes: Vec<(ValueId, usize, bool)>,
    /// Boxes that hold no input for which all values lie where they were said to.
    pub(crate) empty: [bool; B],
}

/// How the intervals of intermediate values are found, and what is kept of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Effort {
    /// By backward passes of their own, beside those of IBP.
    pub(crate) tighten: bool,
    /// With the lines that gradient ascent chooses among.
    pub(crate) choices: bool,
    /// Steps of gradient ascent on each of them.
    pub(crate) iterations: usize,
    /// With what inputs add to the widths of intervals that are tightened.
    pub(crate) influence: bool,
    /// What has not been tried by then is left out.
    pub(crate) until: Option<Instant>,
}

impl<'a> Relaxed<'a, 1> {
    /// Over set `i`.
    pub(super) fn of_set(
        graph: &'a Graph,
        plan: &'a Plan<'a>,
        sets: &'a InputBox,
        i: usize,
        effort: Effort,
    ) -> Self {
        let input = Intervals { lower: sets.lower().row(i).to_vec(), upper: sets.upper().row(i).to_vec() };
        let ball = sets.balls().map(|ball| (ball, ball.centre.row(i).to_vec()));
        Self::new(graph, plan, input, ball, 1, effort, |_, _| ())
    }
}

impl<'a, const B: usize> Relaxed<'a, B> {
    /// Over the boxes of `input`, cut to a ball where one is given with the
    /// centre; the last ones may be none of interest, if there are fewer than
    /// `B`. `narrow` may tell that only those inputs matter for which a value
    /// lies in narrower intervals than these; where they become empty the box
    /// has no such inputs.
    pub(crate) fn new(
        graph: &'a Graph,
        plan: &'a Plan<'a>,
        mut input: Intervals,
        ball: Option<(&'a Ball, Vec<f64>)>,
        boxes: usize,
        effort: Effort,
        mut narrow: impl FnMut(ValueId, &mut Intervals),
    ) -> Self {
        float32::read(plan.evaluation, &mut input);
        let rounding = gamma(graph.input_len());
        let (lower, upper) = (input.lower.as_chunks::<B>().0, input.upper.as_chunks::<B>().0);
        let side = |(&lower, &upper): (&[f64; B], &[f64; B])| {
            let (centre, mut radius) = centres_radii(lower, upper);
            radius.iter_mut().zip(centre).for_each(|(radius, centre)| *radius += rounding * centre.abs());
            [centre, radius]
        };
        let sides = lower.iter().zip(upper).map(side).collect();
        let mut relaxed = Self {
            graph,
            plan,
            values: vec![input],
            steps: Vec::new(),
            sizes: Vec::new(),
            sides,
            ball,
            influence: effort.influence.then(HashMap::new),
            passes: Vec::new(),
            iterations: effort.iterations,
            until: effort.until,
            empty: std::array::from_fn(|b| b >= boxes),
        };
        relaxed.measure(0);
        let mut memory = Memory::new(plan.evaluation);
        for index in 0..graph.nodes.len() {
            let computed = node_bounds_and_sizes::<B>(graph, index, &relaxed.values, &mut memory);
            let mut step = Step::new(graph, index, &relaxed.values, plan.orders(), &computed, effort.choices);
            if let Some(producer) = graph.nodes[index].inputs[0].checked_sub(1).filter(|&p| plan.folded[p]) {
                step.fold(&relaxed.steps[producer]);
            }
            relaxed.steps.push(step);
            let bounds = computed.bounds;
            let (mut cut, v) = (bounds.clone(), index + 1);
            narrow(v, &mut cut);
            relaxed.values.push(bounds);
            relaxed.intersect(v, &cut);
            let exact = relaxed.plan.exact[v] && relaxed.ball.is_none();
            if effort.tighten && !exact && !relaxed.plan.readers[v].is_empty() {
                relaxed.tighten(v);
            }
            relaxed.measure(v);
        }
        relaxed
    }

    /// The same over `B` parts of the one box of `base`, in each of which cuts hold: what reads a cut entry is
    /// bounded over what they leave of its interval, all else as in the base. `None` where that is not enough:
    /// for cuts of the input and of values that products read, and where the base may be undefined.
    pub(crate) fn of_cuts(base: &Relaxed<'a, 1>, cuts: &[&[Cut]]) -> Option<Self> {
        let Relaxed { graph, plan, .. } = *base;
        let entrywise = |cut: &Cut| {
            let mut readers = plan.readers[cut.value].iter();
            cut.value > 0 && readers.all(|&reader| matches!(graph.nodes[reader].op, Op::Elementwise(_)))
        };
        let defined = |x: &Intervals| !x.lower.iter().any(|l| l.is_nan());
        if base.ball.is_some()
            || !base.values.iter().all(defined)
            || !cuts.iter().copied().flatten().all(entrywise)
        {
            return None;
        }
        let beside = |ends: &[f64]| ends.iter().flat_map(|&x| [x; B]).collect();
        // Values that nothing bends are not looked at.
        let values = base.values.iter().enumerate().map(|(v, Intervals { lower, upper })| {
            if v == 0 || plan.is_cut(v) {
                Intervals { lower: beside(lower), upper: beside(upper) }
            } else {
                Intervals::default()
            }
        });
        let wide = |all: &Vec<[f64; 1]>| all.iter().map(|&[x]| [x; B]).collect();
        let mut relaxed = Self {
            graph,
            plan,
            values: values.collect(),
            steps: base.steps.iter().map(Step::beside).collect(),
            sizes: base.sizes.iter().map(wide).collect(),
            sides: base.sides.iter().map(|&[[centre], [radius]]| [[centre; B], [radius; B]]).collect(),
            ball: None,
            iterations: base.iterations,
            until: base.until,
            influence: None,
            passes: Vec::new(),
            empty: std::array::from_fn(|b| b >= cuts.len() || base.empty[0]),
        };
        for (b, cut) in cuts.iter().enumerate().flat_map(|(b, cuts)| cuts.iter().map(move |cut| (b, cut))) {
            let (v, i) = (cut.value, cut.entry * B + b);
            let infinite = f64::INFINITY;
            relaxed.narrow(v, i, if cut.sign > 0.0 { [cut.point, infinite] } else { [-infinite, cut.point] });
            let ends = [relaxed.values[v].lower[i], relaxed.values[v].upper[i]];
            let before = v.checked_sub(1).filter(|&before| plan.folded[before]);
            for &reader in &plan.readers[v] {
                let Op::Elementwise(function) = &graph.nodes[reader].op else { continue };
                let place = plan.orders()[reader + 1].place(cut.entry);
                let before = before.map(|before| &base.steps[before]);
                let error = match plan.evaluation {
                    Evaluation::Real => 0.0,
                    Evaluation::Float32 => {
                        // By the function's own range: that of the value behind it may be known to be narrower
                        // than the exact function is.
                        let range = function.range(cut.entry, ends[0], ends[1]);
                        let size = |(low, high): (f64, f64)| low.abs().max(high.abs());
                        function.single_rounding(size((ends[0], ends[1])), size(range))
                    }
                };
                relaxed.steps[reader].narrow(&**function, (cut.entry, place, b), ends, error, before);
            }
        }
        Some(relaxed)
    }

    /// Whether only what is needed is done.
    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// The value that is the network's output.
    pub(crate) fn output(&self) -> ValueId {
        self.graph.output
    }

    /// Narrows the intervals of a value to those of `cut`.
    fn intersect(&mut self, v: ValueId, cut: &Intervals) {
        for i in 0..cut.lower.len() {
            self.narrow(v, i, [cut.lower[i], cut.upper[i]]);
        }
    }

    /// Narrows one interval of a value, where that is more than undefined. One
    /// that becomes empty says that its box is.
    fn narrow(&mut self, v: ValueId, i: usize, [low, high]: [f64; 2]) {
        let Intervals { lower, upper } = &mut self.values[v];
        let (low, high) = (lower[i].max(low), upper[i].min(high));
        if lower[i].is_nan() || upper[i].is_nan() || low.is_nan() || high.is_nan() {
            return;
        }
        if low <= high {
            (lower[i], upper[i]) = (low, high);
        } else {
            // Where the network may be undefined, ends may cross for no other reason.
            let of = i % B;
            let defined = |x: &Intervals| !x.lower.iter().skip(of).step_by(B).any(|l| l.is_nan());
            self.empty[of] |= self.values.iter().all(defined);
        }
    }

    /// Fills in the sizes of a value whose bounds are final.
    fn measure(&mut self, v: ValueId) {
        let magnitudes = self.values[v].magnitudes();
        let (magnitudes, _) = magnitudes.as_chunks::<B>();
        let sizes = self.plan.orders()[v].entries(magnitudes.len()).map(|entry| magnitudes[entry]).collect();
        self.sizes.push(sizes);
    }

    /// Bounds by backward passes the entries of a value on which a nonlinear
    /// reader is not linear: first on the side nearer to zero, where a piecewise
    /// linear function may turn out to be linear, then on the other side what
    /// is still not.
    fn tighten(&mut self, v: ValueId) {
        let order = self.plan.orders()[v];
        // Neighbours in a panel together, as they read the same window; `B` to each entry.
        let all = order.entries(self.graph.len(v)).flat_map(|entry| entry * B..(entry + 1) * B);
        let mut loose: Vec<usize> = all.filter(|&i| !self.empty[i % B] && self.is_loose(v, i)).collect();
        let near = |&i: &usize| {
            let Intervals { lower, upper } = &self.values[v];
            if -lower[i] < upper[i] { 1.0 } else { -1.0 }
        };
        let mut signs: Vec<f64> = loose.iter().map(near).collect();
        for _ in 0..2 {
            let functions: Vec<(usize, f64)> = loose.iter().copied().zip(signs).collect();
            let entry =
                |&(i, sign): &(usize, f64)| Function { value: vec![(i / B, sign)], ..Function::default() };
            let rows: Vec<Function> = functions.iter().map(entry).collect();
            let row =
                |(function, &(i, _))| Row { of: i % B, functions: std::slice::from_ref(function), cuts: &[] };
            let rows: Vec<Row> = rows.iter().zip(&functions).map(row).collect();
            let bounds: Vec<f64> = if self.influence.is_some() {
                self.learn_influence(v, &rows, &functions)
            } else {
                self.lower_bounds(v, &rows, self.iterations)
            };
            for (&(i, sign), bound) in functions.iter().zip(bounds) {
                let infinite = f64::INFINITY;
                self.narrow(v, i, if sign > 0.0 { [bound, infinite] } else { [-infinite, -bound] });
                self.passes.push((v, i, sign < 0.0));
            }
            let rest = functions.into_iter().filter(|&(i, _)| self.is_loose(v, i));
            (loose, signs) = rest.map(|(i, sign)| (i, -sign)).unzip();
        }
    }

    /// Lower bounds of these rows, one for each of the entries; keeps what the input entries add to them.
    fn learn_influence(&mut self, v: ValueId, rows: &[Row], entries: &[(usize, f64)]) -> Vec<f64> {
        let n = self.sides.len();
        let mut all = Vec::with_capacity(rows.len());
        for (rows, entries) in rows.chunks(LANES).zip(entries.chunks(LANES)) {
            if self.is_late() {
                all.extend(rows.iter().map(|_| f64::NEG_INFINITY));
                continue;
            }
            self.plan.with_workspace(|memory| {
                let (bounds, input) = self.bound_plainly(v, rows, memory);
                all.extend_from_slice(&bounds.0[..rows.len()]);
                let (Some(a), Some(influence)) = (input, &mut self.influence) else { return };
                for (lane, &(i, _)) in entries.iter().enumerate() {
                    let sums = influence.entry((v, i)).or_insert_with(|| vec![0.0; n]);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum += a.get(j).0[lane].abs() * self.sides[j][1][i % B];
                    }
                }
                memory.give_back(a);
            });
        }
        all
    }

    /// Whether an entry of a value, in one box, is worth a backward pass.
    fn is_loose(&self, v: ValueId, i: usize) -> bool {
        let (lower, upper) = (self.values[v].lower[i], self.values[v].upper[i]);
        let turns = |&reader: &usize| match &self.graph.nodes[reader].op {
            op @ Op::Elementwise(function) if op.is_piecewise_linear() => {
                let lines = function.lines(i / B, lower, upper, Hint::default());
                lines.lower != lines.upper
            }
            _ => true,
        };
        lower < upper && self.plan.readers[v].iter().any(turns)
    }

    /// Lower bounds of these rows, of functions of the value `from`, with as many
    /// steps of choosing lines, weights and multipliers for those that are not
    /// positive without.
    pub(crate) fn lower_bounds(&self, from: ValueId, rows: &[Row], iterations: usize) -> Vec<f64> {
        self.proved_bounds(from, rows, iterations, None).into_iter().map(|(bound, _)| bound).collect()
    }

    /// The same, and what proves those that are positive, if the rows are numbered.
    pub(crate) fn proved_bounds(
        &self,
        from: ValueId,
        rows: &[Row],
        iterations: usize,
        numbers: Option<&[u32]>,
    ) -> Vec<(f64, Option<String>)> {
        let panels = |numbered: &[(usize, Row)], iterations| -> Vec<(f64, Option<String>)> {
            let bound = |numbered: &[(usize, Row)]| {
                let rows: Vec<Row> = numbered.iter().map(|(_, row)| *row).collect();
                if self.is_late() {
                    return vec![(f64::NEG_INFINITY, None); rows.len()];
                }
                let proof = |numbers: &[u32]| -> Vec<RowProof> {
                    let of = |(row, _): &(usize, Row)| RowProof { number: numbers[*row], text: None };
                    numbered.iter().map(of).collect()
                };
                let proofs = numbers.map_or(Vec::new(), proof);
                self.plan.with_workspace(|memory| {
                    let mut slopes = match iterations {
                        0 => Slopes::plain(&rows),
                        _ => self.default_slopes(from, &rows),
                    };
                    slopes.proofs = proofs;
                    let bounds = match iterations {
                        0 => {
                            let bounds = self.bound(from, &rows, &mut slopes, memory);
                            self.prove(&rows, &mut slopes, &bounds);
                            bounds
                        }
                        _ => self.ascend(from, &rows, &mut slopes, iterations, memory),
                    };
                    if let (Some(panel), 0) = (slopes.input.take(), iterations) {
                        memory.give_back(panel);
                    }
                    slopes.proofs.resize(rows.len(), RowProof::default());
                    bounds.0.into_iter().zip(slopes.proofs.into_iter().map(|proof| proof.text)).collect()
                })
            };
            numbered.par_chunks(LANES).flat_map_iter(bound).collect()
        };
        let all: Vec<(usize, Row)> = rows.iter().copied().enumerate().collect();
        let mut best = panels(&all, 0);
        if iterations > 0 {
            let open: Vec<(usize, Row)> = all.into_iter().filter(|(row, _)| !(best[*row].0 > 0.0)).collect();
            for ((row, _), (bound, proof)) in open.iter().zip(panels(&open, iterations)) {
                best[*row] = (best[*row].0.max(bound), proof);
            }
        }
        best
    }

    /// The bias of an affine node at an entry of its result.
    fn bias(&self, index: usize, entry: usize) -> f64 {
        let Op::Affine(op) = &self.graph.nodes[index].op else { return 0.0 };
        op.bias().map_or(0.0, |bias| bias.at(entry))
    }
}
