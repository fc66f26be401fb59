//! Bounds under cuts, with lines, multipliers and weights chosen by gradient ascent; and the trial of cuts.

use std::sync::Arc;

use super::problem::{Base, Problem, is_defined, under_cuts};
use super::subproblem::{Choices, Points, Subproblem};
use super::tree::Evidence;
use crate::bounds::linear::{Candidate, Relaxed, Row, RowProof, Slopes};
use crate::kernels::{LANES, Lane};

/// Steps of ascent where only inputs are left to cut.
const LEAF: usize = 100;

/// Cuts that are tried, each with both sides in one panel.
const TRIALS: usize = LANES / 2;

/// Bounds at most [`LANES`] subproblems with one open disjunct each, from what they have of their parents, and
/// says where to cut. Gives for each the input at which its bound is least.
pub(super) fn bound<'a>(
    problems: &[Problem<'a>],
    bases: &[Option<Base<'a>>],
    subproblems: &mut [Subproblem],
    iterations: usize,
) -> Points {
    let verifier = problems[0].verifier;
    let output = verifier.graph.output;
    let all: Vec<&Subproblem> = subproblems.iter().collect();
    let (relaxed, of_base) = under_cuts(problems, bases, &all);
    let rows = rows(problems, &all);
    let mut slopes = inherited(&relaxed, &rows, &all);
    if problems[0].proving {
        slopes.proofs = all.iter().map(|s| RowProof { number: s.open[0], text: None }).collect();
    }
    let ascend = |slopes: &mut Slopes, iterations| {
        verifier.plan.with_workspace(|memory| relaxed.ascend(output, &rows, slopes, iterations, memory))
    };
    let mut bounds = ascend(&mut slopes, iterations);
    let all_candidates = |slopes: &Slopes| -> Vec<Vec<Candidate>> {
        (0..rows.len()).map(|b| relaxed.candidates(slopes, b, b, TRIALS)).collect()
    };
    let mut candidates = all_candidates(&slopes);
    // Where nothing is left to cut but inputs, the multipliers must do it.
    let is_leaf = |b: usize| candidates[b].is_empty() && !(bounds.0[b] > 0.0 || relaxed.empty[b]);
    if (0..rows.len()).any(is_leaf) {
        let again = ascend(&mut slopes, LEAF);
        bounds = bounds.map(|b, bound| bound.max(again.0[b]));
        candidates = all_candidates(&slopes);
    }
    let chosen = saved(&slopes, &rows);
    let n = verifier.graph.input_len();
    let points = slopes.input.as_ref().map(|a| relaxed.least_inputs(&rows, a));
    let weights = |b: usize, i: usize| slopes.input.as_ref().map_or(0.0, |a| a.get(i).0[b].abs());
    let mut least = Vec::new();
    for (b, (subproblem, candidates)) in subproblems.iter_mut().zip(candidates).enumerate() {
        let bound = if relaxed.empty[b] {
            f64::INFINITY
        } else if is_defined(&relaxed, b) {
            bounds.0[b]
        } else {
            f64::NEG_INFINITY
        };
        subproblem.bound = subproblem.bound.max(bound);
        subproblem.found = slopes.proofs.get(b).map(|row| evidence(&relaxed, of_base, b, row));
        if subproblem.bound > 0.0 {
            subproblem.open.clear();
            continue;
        }
        if let Some(points) = &points {
            let point = points[b * n..(b + 1) * n].to_vec();
            least.push((subproblem.region, point.clone()));
            subproblem.point = Some(Arc::new(point));
        }
        subproblem.choices = Some(chosen[b].clone());
        subproblem.candidates = candidates;
        if subproblem.candidates.is_empty() {
            subproblem.candidates.extend(subproblem.input_cut(|i| weights(b, i)));
        }
    }
    least
}

/// The two sides of the best cut of a subproblem, after a look at its candidates: the one whose smaller bound
/// is greatest, then the sum (filtered smart branching, De Palma et al. 2021).
pub(super) fn cut<'a>(
    problems: &[Problem<'a>],
    bases: &[Option<Base<'a>>],
    subproblem: &Subproblem,
) -> Option<[Subproblem; 2]> {
    let tried = &subproblem.candidates[..subproblem.candidates.len().min(TRIALS)];
    let mut children: Vec<[Subproblem; 2]> = tried.iter().map(|c| subproblem.children(c)).collect();
    if children.len() > 1 {
        let verifier = problems[0].verifier;
        let all: Vec<&Subproblem> = children.iter().flatten().collect();
        let (relaxed, of_base) = under_cuts(problems, bases, &all);
        let rows = rows(problems, &all);
        let mut slopes = inherited(&relaxed, &rows, &all);
        if problems[0].proving {
            slopes.proofs = all.iter().map(|s| RowProof { number: s.open[0], text: None }).collect();
            slopes.coefficients.resize_with(verifier.graph.output, || None);
        }
        let bounds = verifier.plan.with_workspace(|memory| {
            let bounds = relaxed.bound(verifier.graph.output, &rows, &mut slopes, memory);
            relaxed.prove(&rows, &mut slopes, &bounds);
            slopes.input.take().into_iter().for_each(|panel| memory.give_back(panel));
            bounds
        });
        for (b, child) in children.iter_mut().flatten().enumerate() {
            let bound = if relaxed.empty[b] { f64::INFINITY } else { bounds.0[b] };
            if relaxed.empty[b] || is_defined(&relaxed, b) {
                child.bound = child.bound.max(bound);
            }
            child.found = slopes.proofs.get(b).map(|row| evidence(&relaxed, of_base, b, row));
        }
    }
    let merit = |[a, b]: &[Subproblem; 2]| {
        let (a, b) = (a.bound.min(1e300), b.bound.min(1e300));
        (a.min(b).min(0.0), a.max(b))
    };
    // The first of equals: the candidates stand best first.
    let better = |best: [Subproblem; 2], next: [Subproblem; 2]| {
        let ((a, b), (c, d)) = (merit(&best), merit(&next));
        if c > a || c == a && d > b { next } else { best }
    };
    children.into_iter().reduce(better)
}

/// What was found out about the subproblem in box `b`.
fn evidence(relaxed: &Relaxed<LANES>, of_base: bool, b: usize, row: &RowProof) -> Evidence {
    let intervals = if of_base { "part\n".into() } else { format!("box\n{}", relaxed.intervals_proof(b)) };
    Evidence::of_rows(intervals, std::slice::from_ref(row))
}

fn rows<'r>(problems: &'r [Problem], subproblems: &[&'r Subproblem]) -> Vec<Row<'r>> {
    let row = |(b, s): (usize, &&'r Subproblem)| problems[s.region as usize].row(b, s.open[0], &s.cuts);
    subproblems.iter().enumerate().map(row).collect()
}

/// The choices that subproblems have of their parents.
fn inherited(relaxed: &Relaxed<LANES>, rows: &[Row], subproblems: &[&Subproblem]) -> Slopes {
    let mut slopes = relaxed.default_slopes(relaxed.output(), rows);
    for (lane, subproblem) in subproblems.iter().enumerate() {
        let Some(choices) = &subproblem.choices else { continue };
        for (chosen, saved) in slopes.chosen.iter_mut().flatten().zip(&choices.slopes) {
            for (chosen, &saved) in chosen.iter_mut().zip(saved) {
                chosen.0[lane] = f64::from(saved) / 127.0;
            }
        }
        slopes.multipliers[lane] = choices.multipliers.clone();
    }
    slopes
}

fn saved(slopes: &Slopes, rows: &[Row]) -> Vec<Arc<Choices>> {
    let of = |lane: usize| {
        let byte = |chosen: &Lane| (chosen.0[lane] * 127.0).round() as i8;
        Choices {
            slopes: slopes.chosen.iter().flatten().map(|node| node.iter().map(byte).collect()).collect(),
            multipliers: slopes.multipliers[lane].clone(),
        }
    };
    (0..rows.len()).map(|lane| Arc::new(of(lane))).collect()
}
