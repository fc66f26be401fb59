//! Bounds of boxes with all intermediate intervals bounded anew.

use std::sync::Arc;

use super::problem::{Problem, is_defined, relax};
use super::subproblem::{Points, Subproblem};
use super::tree::Evidence;
use crate::bounds::Intervals;
use crate::bounds::linear::{Effort, Relaxed, Row, Slopes};
use crate::kernels::LANES;

/// Networks of at most as many intermediate entries hand their intervals to the children.
const REMEMBERED: usize = 1 << 12;

/// Share of the scores of inputs that does not depend on coefficients.
const SPREAD: f64 = 0.05;

/// What a bound that moves with an input counts beside one that loses by its width.
const MOVES: f64 = 0.25;

/// Steps that choose lines and the weights of a disjunct's atoms.
const WEIGHINGS: usize = 6;

/// The bound of one atom over a box, with the coefficients of its linear function on the input: there the atom
/// is at least that function, whose least value is at least the bound.
struct AtomBound {
    of: usize,
    disjunct: u32,
    lower: f64,
    coefficients: Vec<f64>,
    /// What the bound loses on account of the width of each input entry.
    losses: Vec<f64>,
    /// Whether it holds everywhere in the box, so that nothing is to be gained from it.
    holds: bool,
    /// What others can compute it from, where that is kept.
    proof: Option<String>,
}

/// Bounds at most `B` subproblems of several problems by CROWN, refutes disjuncts, clips boxes, and says where
/// to cut. Gives for each the input at which its worst atom is least.
pub(super) fn bound<const B: usize>(
    problems: &[Problem],
    subproblems: &mut [Subproblem],
    effort: Effort,
) -> Points {
    let verifier = problems[0].verifier;
    let relaxed: Relaxed<B> = {
        let all: Vec<&Subproblem> = subproblems.iter().collect();
        relax(problems, &all, effort)
    };
    let bounds = atom_bounds(&relaxed, problems, subproblems);
    let mut points = Vec::new();
    for (b, subproblem) in subproblems.iter_mut().enumerate() {
        subproblem.found = problems[0].proving.then(|| {
            let intervals = format!("box\n{}", relaxed.intervals_proof(b));
            Evidence { intervals, rows: String::new() }
        });
        if relaxed.empty[b] {
            subproblem.open.clear();
            subproblem.bound = f64::INFINITY;
        } else if is_defined(&relaxed, b) {
            let own: Vec<&AtomBound> = bounds.iter().filter(|bound| bound.of == b).collect();
            let problem = &problems[subproblem.region as usize];
            refute(problem, subproblem, &own, &mut points);
        } else {
            subproblem.candidates = subproblem.input_cut(|_| 1.0).into_iter().collect();
            subproblem.bound = f64::NEG_INFINITY;
        }
        if !subproblem.open.is_empty() {
            let kept = |v: usize| verifier.plan.is_cut(v);
            let entries: usize = (0..relaxed.values.len())
                .filter(|&v| kept(v))
                .map(|v| relaxed.values[v].lower.len() / B)
                .sum();
            if entries <= REMEMBERED || subproblem.known.is_none() || effort.iterations > 0 {
                let of_box = |ends: &[f64]| ends.iter().skip(b).step_by(B).copied().collect();
                let interval = |v: usize| {
                    let Intervals { lower, upper } = &relaxed.values[v];
                    if kept(v) {
                        Intervals { lower: of_box(lower), upper: of_box(upper) }
                    } else {
                        Intervals::default()
                    }
                };
                subproblem.known = Some(Arc::new((0..relaxed.values.len()).map(interval).collect()));
            }
        }
    }
    points
}

/// Bounds of all atoms of open disjuncts; of disjuncts that none of their atoms refutes also of a weighted sum.
fn atom_bounds<const B: usize>(
    relaxed: &Relaxed<B>,
    problems: &[Problem],
    subproblems: &[Subproblem],
) -> Vec<AtomBound> {
    let (mut single, mut joint) = (Vec::new(), Vec::new());
    for (b, subproblem) in subproblems.iter().enumerate().filter(|(b, _)| !relaxed.empty[*b]) {
        for &d in &subproblem.open {
            let row = problems[subproblem.region as usize].row(b, d, &[]);
            let atoms = row.functions.chunks(1);
            single.extend(atoms.map(|functions| (d, Row { functions, ..row }, vec![1.0])));
            joint.extend((row.functions.len() > 1).then_some((d, row, Vec::new())));
        }
    }
    let mut bounds = row_bounds(relaxed, (problems, subproblems), &single, 0);
    joint.retain_mut(|(d, row, weights)| {
        let own = bounds.iter().filter(|bound| bound.of == row.of && bound.disjunct == *d);
        let lower: Vec<f64> = own.map(|bound| bound.lower).collect();
        let scale = lower.iter().fold(0.0, |m: f64, l| m.max(l.abs()));
        // Nearly all of the weight on the best atom.
        weights.extend(lower.iter().map(|l| (8.0 * l / scale).exp()));
        let total: f64 = weights.iter().sum();
        for weight in weights.iter_mut() {
            *weight /= total;
        }
        lower.iter().all(|l| *l <= 0.0) && total > 0.0 && total.is_finite()
    });
    bounds.extend(row_bounds(relaxed, (problems, subproblems), &joint, WEIGHINGS));
    bounds
}

/// Bounds of rows with these weights, after as many steps that improve them.
fn row_bounds<const B: usize>(
    relaxed: &Relaxed<B>,
    (problems, subproblems): (&[Problem], &[Subproblem]),
    rows: &[(u32, Row, Vec<f64>)],
    steps: usize,
) -> Vec<AtomBound> {
    let verifier = problems[0].verifier;
    let (n, output) = (verifier.graph.input_len(), verifier.graph.output);
    let mut bounds = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(LANES) {
        let rows: Vec<Row> = chunk.iter().map(|(_, row, _)| *row).collect();
        verifier.plan.with_workspace(|memory| {
            let mut slopes = if steps > 0 {
                relaxed.default_slopes(output, &rows)
            } else {
                Slopes::learning(&rows, output)
            };
            for (multipliers, (_, _, weights)) in slopes.multipliers.iter_mut().zip(chunk) {
                multipliers.weights.clone_from(weights);
            }
            if steps > 0 {
                relaxed.ascend(output, &rows, &mut slopes, steps, memory);
            }
            // Bound and coefficients of one pass.
            let lower = relaxed.bound(output, &rows, &mut slopes, memory);
            let input = slopes.input.take();
            let proof = |lane: usize| {
                let (disjunct, row, _) = &chunk[lane];
                let all = &problems[subproblems[row.of].region as usize].disjuncts[*disjunct as usize];
                let own = (0..all.len()).find(|&i| std::ptr::eq(&raw const all[i], row.functions.as_ptr()));
                relaxed.row_proof(&slopes, &rows, lane, *disjunct, (own.unwrap_or(0), all.len()))
            };
            for (lane, (disjunct, row, _)) in chunk.iter().enumerate() {
                let (of, lower) = (row.of, lower.0[lane]);
                let coefficients: Vec<f64> =
                    input.as_ref().map_or(vec![0.0; n], |a| (0..n).map(|i| a.get(i).0[lane]).collect());
                let losses = relaxed.input_losses(&slopes, lane, of);
                let width = |i: usize| relaxed.interval(0, i, of)[1] - relaxed.interval(0, i, of)[0];
                let reach: f64 = coefficients.iter().enumerate().map(|(i, a)| a.abs() * width(i)).sum();
                // The linear function is the atom itself where it reads nothing but inputs.
                let holds = row.functions.iter().all(|f| f.value.is_empty()) && lower + reach <= 0.0;
                let proof = problems[0].proving.then(|| proof(lane));
                bounds.push(AtomBound { of, disjunct: *disjunct, lower, coefficients, losses, holds, proof });
            }
            if let Some(panel) = input {
                memory.give_back(panel);
            }
        });
    }
    bounds
}

/// Leaves the disjuncts that are not refuted, in a box that holds all their violations.
fn refute(problem: &Problem, subproblem: &mut Subproblem, bounds: &[&AtomBound], points: &mut Points) {
    let n = subproblem.input.lower.len();
    let mut weights = vec![0.0; n];
    let mut hull: Option<Intervals> = None;
    let (mut worst, mut point) = (f64::INFINITY, None);
    let mut open = std::mem::take(&mut subproblem.open);
    let mut note = |bound: &AtomBound| {
        if let (Some(found), Some(proof)) = (&mut subproblem.found, &bound.proof) {
            found.rows += proof;
        }
    };
    open.retain(|&d| {
        let own = bounds.iter().filter(|bound| bound.disjunct == d);
        // A disjunct without atoms is never refuted.
        let order = |bound: &AtomBound| (!bound.holds, bound.lower.max(f64::NEG_INFINITY));
        let best = own.clone().max_by(|a, b| {
            let ((a, low), (b, other)) = (order(a), order(b));
            a.cmp(&b).then(low.total_cmp(&other))
        });
        if let Some(best) = best.filter(|best| best.lower > 0.0) {
            note(best);
            return false;
        }
        let mut clipped = (*subproblem.input).clone();
        for bound in own {
            if clip(&mut clipped, bound) {
                note(bound);
            }
        }
        if clipped.lower.iter().zip(&clipped.upper).any(|(l, u)| l > u) {
            return false;
        }
        if let Some(best) = best {
            for (i, weight) in weights.iter_mut().enumerate() {
                let width = subproblem.input.upper[i] - subproblem.input.lower[i];
                *weight += MOVES * best.coefficients[i].abs() * width + best.losses[i];
            }
        }
        let lower = best.map_or(f64::NEG_INFINITY, |best| best.lower);
        let lower = if lower.is_nan() { f64::NEG_INFINITY } else { lower };
        if lower <= worst {
            (worst, point) = (lower, best);
        }
        match &mut hull {
            None => hull = Some(clipped),
            Some(hull) => {
                hull.lower.iter_mut().zip(&clipped.lower).for_each(|(hull, l)| *hull = hull.min(*l));
                hull.upper.iter_mut().zip(&clipped.upper).for_each(|(hull, u)| *hull = hull.max(*u));
            }
        }
        true
    });
    subproblem.open = open;
    subproblem.bound = subproblem.bound.max(worst);
    if let Some(hull) = hull {
        if let Some(bound) = point {
            let end = |i: usize| if bound.coefficients[i] > 0.0 { hull.lower[i] } else { hull.upper[i] };
            let point: Vec<f64> = (0..n).map(end).collect();
            points.push((subproblem.region, point.clone()));
            subproblem.point = Some(Arc::new(point));
        }
        subproblem.input = Arc::new(hull);
        let region = problem.region;
        let Intervals { lower, upper } = &*subproblem.input;
        let total: f64 = weights.iter().sum();
        // Coefficients may vanish by cancellation and still hide an influence: no width stays whole for ever.
        let relative = |i: usize| (upper[i] - lower[i]) / (region.upper[i] - region.lower[i]);
        let widest = (0..n).map(relative).fold(0.0, f64::max);
        let weight = |i: usize| (weights[i] / total + SPREAD * relative(i) / widest) / (upper[i] - lower[i]);
        subproblem.candidates = subproblem.input_cut(weight).into_iter().collect();
    }
}

/// Cuts off where an atom cannot hold: a violation has `0 >= g(x) >= L + |a_i| |x_i - e_i|`, where `L` is the
/// bound and `e` the corner at which the linear function is least. Whether that was anything.
fn clip(input: &mut Intervals, bound: &AtomBound) -> bool {
    if !(bound.lower <= 0.0 && bound.lower.is_finite()) {
        return false;
    }
    let mut clips = false;
    for (i, &a) in bound.coefficients.iter().enumerate() {
        // Rounded to nearest, then outward twice.
        let reach = (-bound.lower / a.abs()).next_up();
        if reach.is_finite() {
            let (lower, upper) = (&mut input.lower[i], &mut input.upper[i]);
            let before = (*lower, *upper);
            if a > 0.0 {
                *upper = upper.min((*lower + reach).next_up());
            } else {
                *lower = lower.max((*upper - reach).next_down());
            }
            clips |= before != (*lower, *upper);
        }
    }
    clips
}
