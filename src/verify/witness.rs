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
/// Where an entry has no `f32` in its interval, as where a property fixes it to a decimal, the nearest stands
/// for it; then the violation must also be proved in real arithmetic, for all of the interval.
pub(super) fn judge(
    problems: &[Problem],
    confirm: &dyn Fn(&[f32], &[f32]) -> bool,
    points: &Points,
) -> Option<Shown> {
    let region = |number: u32| problems[number as usize].region;
    let near: Vec<(u32, Vec<f32>)> =
        points.iter().map(|(number, point)| (*number, nearest(region(*number), point))).collect();
    let verifier = problems.first()?.verifier;
    let shape = (near.len(), verifier.graph.input_len());
    let x = Array2::from_shape_vec(shape, near.iter().flat_map(|(_, x)| x.iter().copied()).collect()).ok()?;
    let mut disagreement = None;
    for ((number, x), y) in near.into_iter().zip(verifier.exec.run(x.view()).rows()) {
        let (region, y) = (region(number), y.to_vec());
        let sides = || x.iter().zip(region.lower.iter().zip(&region.upper));
        let inside = |(&x, (&l, &u)): (&f32, (&f64, &f64))| (l..=u).contains(&f64::from(x));
        let disjuncts = || region.disjuncts.iter().filter(|d| d.atoms.iter().all(|atom| atom.holds(&x, &y)));
        if sides().all(inside) {
            if disjuncts().next().is_some() && confirm(&x, &y) {
                let at: Vec<f64> = x.iter().copied().map(f64::from).collect();
                let values = outputs(verifier, verifier.plan.evaluation, at.clone(), at);
                if region.disjuncts.iter().any(|d| d.atoms.iter().all(|atom| values.may_hold(atom))) {
                    return Some(Shown::Violation(Witness { x, y }));
                }
                disagreement.get_or_insert(Shown::Disagreement(Witness { x, y }));
            }
        } else if disjuncts().next().is_some() {
            let ends = |(&x, (&l, &u)): (&f32, (&f64, &f64))| {
                let x = f64::from(x);
                if (l..=u).contains(&x) { (x, x) } else { (l, u) }
            };
            let (lower, upper) = sides().map(ends).unzip();
            let values = outputs(verifier, Evaluation::Real, lower, upper);
            if disjuncts().any(|d| d.atoms.iter().all(|atom| values.must_hold(atom))) {
                return Some(Shown::Violation(Witness { x, y }));
            }
        }
    }
    disagreement
}

/// The nearest point that `f32` has in the box; of entries for which it has none there, the nearest outside.
fn nearest(region: &Region, point: &[f64]) -> Vec<f32> {
    let entry = |((&x, &lower), &upper): ((&f64, &f64), &f64)| {
        let near = x.clamp(lower, upper) as f32;
        let others = [near, near.next_up(), near.next_down()];
        others.into_iter().find(|&x| (lower..=upper).contains(&f64::from(x))).unwrap_or(near)
    };
    point.iter().zip(&region.lower).zip(&region.upper).map(entry).collect()
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

    fn may_hold(&self, atom: &Atom) -> bool {
        !(self.ends(atom)[0] > 0.0)
    }

    /// The bound of an atom is rounded up, so equality is not enough.
    fn must_hold(&self, atom: &Atom) -> bool {
        self.ends(atom)[1] < 0.0
    }
}
