//! Subproblems, and what they know from their parents.

use std::sync::Arc;

use super::problem::Problem;
use super::search::OPTIMISED;
use super::tree::Evidence;
use crate::bounds::Intervals;
use crate::bounds::linear::{Candidate, Cut, Multipliers};

/// Inputs that may be violations of a region.
pub(super) type Points = Vec<(u32, Vec<f64>)>;

/// A part of a region.
#[derive(Clone)]
pub(super) struct Subproblem {
    /// The number of the region.
    pub(super) region: u32,
    /// The box of inputs.
    pub(super) input: Arc<Intervals>,
    /// Cuts of intermediate values.
    pub(super) cuts: Vec<Cut>,
    /// The disjuncts that are not refuted.
    pub(super) open: Vec<u32>,
    /// A lower bound on the greatest atom of each open disjunct.
    pub(super) bound: f64,
    /// Number of cuts, of inputs and others.
    pub(super) depth: u32,
    /// Intervals of intermediate values; empty for values of which nothing is known.
    pub(super) known: Option<Arc<Vec<Intervals>>>,
    /// The lines and multipliers of the bound.
    pub(super) choices: Option<Arc<Choices>>,
    /// The input at which its bound is least.
    pub(super) point: Option<Arc<Vec<f64>>>,
    /// Where to cut, best first.
    pub(super) candidates: Vec<Candidate>,
    /// The last of the cuts.
    pub(super) last: Option<Cut>,
    /// Its place in the tree, and what was found out about it and is not there yet, where that is kept.
    pub(super) place: u32,
    pub(super) found: Option<Evidence>,
}

/// Lines and multipliers that a subproblem hands on.
#[derive(Clone, Default)]
pub(super) struct Choices {
    /// Those of [`Slopes::chosen`](crate::bounds::linear::Slopes), one byte each, for every node with any.
    pub(super) slopes: Vec<Vec<i8>>,
    pub(super) multipliers: Multipliers,
}

impl Subproblem {
    /// All of a region.
    pub(super) fn root(number: u32, problem: &Problem) -> Self {
        let region = problem.region;
        Self {
            region: number,
            input: Arc::new(Intervals { lower: region.lower.clone(), upper: region.upper.clone() }),
            cuts: Vec::new(),
            open: (0..problem.disjuncts.len() as u32).collect(),
            bound: f64::NEG_INFINITY,
            depth: 0,
            known: None,
            choices: None,
            point: None,
            candidates: Vec::new(),
            last: None,
            place: number,
            found: None,
        }
    }

    /// The two sides of a cut.
    pub(super) fn children(&self, candidate: &Candidate) -> [Self; 2] {
        candidate.cuts().map(|cut| {
            let mut child = Self {
                depth: self.depth + 1,
                candidates: Vec::new(),
                last: Some(cut),
                found: None,
                ..self.clone()
            };
            if cut.value == 0 {
                let input = Arc::make_mut(&mut child.input);
                let ends = if cut.sign > 0.0 { &mut input.lower } else { &mut input.upper };
                ends[cut.entry] = cut.point;
            } else {
                child.cuts.push(cut);
            }
            child
        })
    }

    /// The widest entry of the input cut in the middle, where widths are weighted; `None` if all are points.
    pub(super) fn input_cut(&self, weight: impl Fn(usize) -> f64) -> Option<Candidate> {
        let Intervals { lower, upper } = &*self.input;
        let candidate = |entry: usize| {
            let point = 0.5 * lower[entry] + 0.5 * upper[entry];
            let score = weight(entry) * (upper[entry] - lower[entry]);
            (lower[entry] < point && point < upper[entry]).then_some(Candidate {
                value: 0,
                entry,
                point,
                score,
            })
        };
        let all = (0..lower.len()).filter_map(candidate);
        // NaN counts as nothing.
        all.reduce(|best, next| if next.score > best.score || best.score.is_nan() { next } else { best })
    }

    /// About how many multiply-adds an optimisation of the intervals that bend would take.
    pub(super) fn optimising_cost(&self, problems: &[Problem]) -> f64 {
        let graph = problems[0].verifier.graph;
        let (mut below, mut cost) = (0.0, 0.0);
        for (index, node) in graph.nodes.iter().enumerate() {
            let v = index + 1;
            below += node.op.multiply_adds(graph.len(v)) as f64;
            let known = self.known.as_ref().map(|known| &known[v]);
            let loose = known
                .map_or(0, |x| x.lower.iter().zip(&x.upper).filter(|(l, u)| **l < 0.0 && **u > 0.0).count());
            // Both sides, a pass back and one forward for each step.
            cost += 4.0 * OPTIMISED.iterations as f64 * loose as f64 * below;
        }
        cost
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let own = size_of::<Self>()
            + self.cuts.capacity() * size_of::<Cut>()
            + self.candidates.capacity() * size_of::<Candidate>();
        let input = self.input.lower.len() * 16 / Arc::strong_count(&self.input);
        let known = self.known.as_ref().map_or(0, |known| {
            known.iter().map(|values| 16 * values.lower.len()).sum::<usize>() / Arc::strong_count(known)
        });
        let choices = self.choices.as_ref().map_or(0, |choices| {
            let multipliers = 48 * choices.multipliers.cuts.len();
            (choices.slopes.iter().map(Vec::len).sum::<usize>() + multipliers) / Arc::strong_count(choices)
        });
        own + input + known + choices
    }
}
