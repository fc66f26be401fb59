//! What is to be refuted: regions with their disjuncts as functions.

use std::sync::Arc;
use std::time::Instant;

use super::subproblem::Subproblem;
use crate::bounds::linear::{Cut, Effort, Function, Plan, Relaxed, Row};
use crate::bounds::{Evaluation, Intervals};
use crate::exec;
use crate::graph::Graph;
use crate::kernels::LANES;
use crate::query::{Atom, Region};

/// Boxes in which at most as many entries are free are cut at the input.
const FEW_INPUTS: usize = 20;

/// Searches for properties of one network.
pub struct Verifier<'a> {
    pub(super) graph: &'a Graph,
    pub(super) plan: Plan<'a>,
    pub(super) exec: exec::Plan,
}

impl<'a> Verifier<'a> {
    /// Prepares searches in a network.
    #[must_use]
    pub fn new(graph: &'a Graph) -> Self {
        graph.prepare_boxes();
        Self { graph, plan: Plan::new(graph, Evaluation::Real), exec: exec::Plan::new(graph) }
    }

    /// The same for a network that is evaluated in this arithmetic. In f32, what an atom compares with may
    /// be rounded, too.
    #[must_use]
    pub fn evaluated(mut self, evaluation: Evaluation) -> Self {
        self.plan.evaluation = evaluation;
        self
    }
}

/// The greatest number that may stand for the right side of an atom.
fn constant(bound: f64, evaluation: Evaluation) -> f64 {
    match evaluation {
        Evaluation::Real => bound,
        Evaluation::Float32 => bound.max(f64::from(bound as f32)),
    }
}

/// A region with what all its subproblems share.
pub(super) struct Problem<'a> {
    pub(super) verifier: &'a Verifier<'a>,
    pub(super) region: &'a Region,
    /// The atoms of each disjunct as functions that are at most 0 in a violation.
    pub(super) disjuncts: Vec<Vec<Function>>,
    /// Whether boxes are cut rather than intermediate values.
    pub(super) by_input: bool,
    /// When the search ends.
    pub(super) until: Option<Instant>,
    /// Whether a proof is written down.
    pub(super) proving: bool,
}

impl<'a> Problem<'a> {
    pub(super) fn new(
        verifier: &'a Verifier<'a>,
        region: &'a Region,
        until: Option<Instant>,
        proving: bool,
    ) -> Self {
        let function = |atom: &Atom| Function {
            value: atom.coefficients.clone(),
            input: atom.input.clone(),
            constant: -constant(atom.bound, verifier.plan.evaluation),
        };
        let disjuncts = region.disjuncts.iter().map(|d| d.atoms.iter().map(function).collect()).collect();
        let free = region.lower.iter().zip(&region.upper).filter(|(l, u)| l < u).count();
        Self { verifier, region, disjuncts, by_input: free <= FEW_INPUTS, until, proving }
    }

    /// The functions of disjunct `d` as one row under cuts.
    pub(super) fn row<'r>(&'r self, of: usize, d: u32, cuts: &'r [Cut]) -> Row<'r> {
        Row { of, functions: &self.disjuncts[d as usize], cuts }
    }
}

/// The network over the boxes of at most `B` subproblems, where their cuts hold and their values lie where
/// they are known to.
pub(super) fn relax<'a, const B: usize>(
    problems: &[Problem<'a>],
    subproblems: &[&Subproblem],
    effort: Effort,
) -> Relaxed<'a, B> {
    let Problem { verifier, until, .. } = problems[0];
    let effort = Effort { until, ..effort };
    let of = |b: usize| subproblems[b.min(subproblems.len() - 1)];
    let beside = |side: fn(&Intervals) -> &[f64]| -> Vec<f64> {
        let rows: [&[f64]; B] = std::array::from_fn(|b| side(&of(b).input));
        (0..rows[0].len()).flat_map(|i| rows.map(|row| row[i])).collect()
    };
    let input = Intervals { lower: beside(|x| &x.lower), upper: beside(|x| &x.upper) };
    let narrow = |v: usize, bounds: &mut Intervals| {
        for (b, subproblem) in subproblems.iter().enumerate() {
            if let Some(known) = subproblem.known.as_ref().map(|known| &known[v]) {
                for (i, (&lower, &upper)) in known.lower.iter().zip(&known.upper).enumerate() {
                    let (low, high) = (&mut bounds.lower[i * B + b], &mut bounds.upper[i * B + b]);
                    // Ends that are NaN stay so.
                    *low = if lower > *low { lower } else { *low };
                    *high = if upper < *high { upper } else { *high };
                }
            }
            for cut in subproblem.cuts.iter().filter(|cut| cut.value == v) {
                let i = cut.entry * B + b;
                if cut.sign > 0.0 && cut.point > bounds.lower[i] {
                    bounds.lower[i] = cut.point;
                }
                if cut.sign < 0.0 && cut.point < bounds.upper[i] {
                    bounds.upper[i] = cut.point;
                }
            }
        }
    };
    Relaxed::new(verifier.graph, &verifier.plan, input, None, subproblems.len(), effort, narrow)
}

/// A region before anything is cut in it, with the intervals that are known there.
pub(super) struct Base<'a> {
    input: Arc<Intervals>,
    pub(super) relaxed: Relaxed<'a, 1>,
}

impl<'a> Base<'a> {
    /// What the parts of `root` share.
    pub(super) fn new(problems: &[Problem<'a>], root: &Subproblem) -> Self {
        let effort = Effort { choices: true, ..Effort::default() };
        Self { input: root.input.clone(), relaxed: relax(problems, &[root], effort) }
    }
}

/// The network under the cuts of at most [`LANES`] subproblems, from the base of their region if they have the
/// same one and share its box, else bounded anew; and whether they have the base.
pub(super) fn under_cuts<'a>(
    problems: &[Problem<'a>],
    bases: &[Option<Base<'a>>],
    subproblems: &[&Subproblem],
) -> (Relaxed<'a, LANES>, bool) {
    let region = subproblems[0].region;
    let base = bases[region as usize]
        .as_ref()
        .filter(|base| subproblems.iter().all(|s| s.region == region && Arc::ptr_eq(&s.input, &base.input)));
    let cuts: Vec<&[Cut]> = subproblems.iter().map(|s| &s.cuts[..]).collect();
    let parts = base.and_then(|base| Relaxed::of_cuts(&base.relaxed, &cuts));
    let anew = || relax(problems, subproblems, Effort { choices: true, ..Effort::default() });
    parts.map_or_else(|| (anew(), false), |parts| (parts, true))
}

/// Whether the network has a value everywhere in box `b`, as far as intervals show.
pub(super) fn is_defined<const B: usize>(relaxed: &Relaxed<'_, B>, b: usize) -> bool {
    relaxed.values.iter().all(|values| !values.lower.iter().skip(b).step_by(B).any(|x| x.is_nan()))
}
