//! Points that may be violations, and whether they are.

use ndarray::Array2;

use super::problem::Problem;
use super::subproblem::Points;
use super::{Verifier, Witness};
use crate::bounds::{Evaluation, Intervals, propagate_evaluated};
use crate::query::{Atom, Region};
use crate::rounding::{gamma, underflow};

/// What a point shows.
pub(super) enum Shown {
    /// A violation.
    Violation(Witness),
    /// One in this `f32` evaluation only: in the arithmetic of the search there is none at this point.
    Disagreement(Witness),
}

/// The first of some points, as near as `f32` has them in the boxes, at which the `f32` network violates its
/// region and `confirm` says so, too.
///
/// The ends of a box are decimals rounded outward. A point at one may lie outside of what was asked; then the
/// one next to it inside is tried. Where an entry has no `f32` strictly inside, as where a property fixes it to
/// a decimal, the nearest stands for it, and the violation must be proved in real arithmetic, for all of the
/// interval.
pub(super) fn judge(
    problems: &[Problem],
    confirm: &dyn Fn(&[f32], &[f32]) -> bool,
    points: &Points,
) -> Option<Shown> {
    let region = |number: u32| problems[number as usize].region;
    let near: Vec<(u32, Vec<f32>)> =
        points.iter().map(|(number, point)| (*number, nearest(region(*number), point))).collect();
    let verifier = problems.first()?.verifier;
    let n = verifier.graph.input_len();
    let run = |x: Vec<f32>| {
        Some(verifier.exec.run(Array2::from_shape_vec((x.len() / n.max(1), n), x).ok()?.view()))
    };
    let y = run(near.iter().flat_map(|(_, x)| x.iter().copied()).collect())?;
    let mut disagreement = None;
    for ((number, x), y) in near.into_iter().zip(y.rows()) {
        let (region, y) = (region(number), y.to_vec());
        if !region.is_violation(&x, &y) {
            continue;
        }
        let (x, y) = if region.contains(&x) && confirm(&x, &y) {
            (x, y)
        } else {
            let x = inward(region, &x);
            let y = run(x.clone())?.row(0).to_vec();
            if !region.is_violation(&x, &y) {
                continue;
            }
            if x.iter().zip(ends(region)).any(|(x, ends)| !is_inside(*x, ends)) {
                let interval = |(&x, ends): (&f32, [f64; 2])| {
                    if is_inside(x, ends) { (f64::from(x), f64::from(x)) } else { (ends[0], ends[1]) }
                };
                let (lower, upper) = x.iter().zip(ends(region)).map(interval).unzip();
                if outputs(verifier, Evaluation::Real, lower, upper).must_hold(region) {
                    return Some(Shown::Violation(Witness { x, y }));
                }
                continue;
            }
            if !confirm(&x, &y) {
                continue;
            }
            (x, y)
        };
        let at: Vec<f64> = x.iter().copied().map(f64::from).collect();
        if outputs(verifier, verifier.plan.evaluation, at.clone(), at).may_hold(region) {
            return Some(Shown::Violation(Witness { x, y }));
        }
        disagreement.get_or_insert(Shown::Disagreement(Witness { x, y }));
    }
    disagreement
}

/// The intervals of a region's box.
fn ends(region: &Region) -> impl Iterator<Item = [f64; 2]> {
    region.lower.iter().zip(&region.upper).map(|(&lower, &upper)| [lower, upper])
}

/// Whether a number is certainly in an interval whose ends were rounded outward: only where they did not move
/// do they meet.
fn is_inside(x: f32, [lower, upper]: [f64; 2]) -> bool {
    let x = f64::from(x);
    lower < x && x < upper || lower == x && x == upper
}

/// The nearest point that `f32` has in the box; of entries for which it has none there, the nearest outside.
fn nearest(region: &Region, point: &[f64]) -> Vec<f32> {
    let entry = |(&x, [lower, upper]): (&f64, [f64; 2])| {
        let near = x.clamp(lower, upper) as f32;
        let others = [near, near.next_up(), near.next_down()];
        others.into_iter().find(|&x| (lower..=upper).contains(&f64::from(x))).unwrap_or(near)
    };
    point.iter().zip(ends(region)).map(entry).collect()
}

/// The same for a point near the box with entries strictly inside, where there are any.
fn inward(region: &Region, point: &[f32]) -> Vec<f32> {
    let entry = |(&x, ends): (&f32, [f64; 2])| {
        [x, x.next_up(), x.next_down()].into_iter().find(|&x| is_inside(x, ends)).unwrap_or(x)
    };
    point.iter().zip(ends(region)).map(entry).collect()
}

/// Intervals of input and output in some arithmetic.
struct Values {
    input: Intervals,
    output: Intervals,
}

fn outputs(verifier: &Verifier, evaluation: Evaluation, lower: Vec<f64>, upper: Vec<f64>) -> Values {
    let input = Intervals { lower, upper };
    let mut values = propagate_evaluated(evaluation, verifier.graph, 1, input.clone(), |_| false);
    Values { input, output: values.swap_remove(verifier.graph.output) }
}

impl Values {
    /// The least and the greatest value of an atom's left side less its right side, as far as intervals show;
    /// NaN may be anything.
    fn ends(&self, atom: &Atom) -> [f64; 2] {
        let of = |(terms, x): (&'_ [(usize, f64)], &Intervals)| -> Vec<[f64; 2]> {
            let ends = |&(i, c): &(usize, f64)| {
                let [low, high] = [c * x.lower[i], c * x.upper[i]];
                if c > 0.0 { [low, high] } else { [high, low] }
            };
            terms.iter().map(ends).collect()
        };
        let terms = [of((&atom.coefficients, &self.output)), of((&atom.input, &self.input))].concat();
        let error = gamma(terms.len() + 1);
        let sum = |side: usize| {
            let size: f64 = terms.iter().map(|ends| ends[side].abs()).sum::<f64>() + atom.bound.abs();
            let error = error * size * (1.0 + error) + underflow(terms.len());
            let sum = terms.iter().map(|ends| ends[side]).sum::<f64>() - atom.bound;
            if side == 0 { sum - error } else { sum + error }
        };
        [sum(0).next_down(), sum(1).next_up()]
    }

    /// Whether some disjunct may hold.
    fn may_hold(&self, region: &Region) -> bool {
        region.disjuncts.iter().any(|d| !d.atoms.iter().any(|atom| self.ends(atom)[0] > 0.0))
    }

    /// Whether some disjunct holds for certain. The bound of an atom is rounded up, so equality is not enough.
    fn must_hold(&self, region: &Region) -> bool {
        region.disjuncts.iter().any(|d| d.atoms.iter().all(|atom| self.ends(atom)[1] < 0.0))
    }
}
