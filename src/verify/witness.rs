//! Points that may be violations, and whether they are.

use ndarray::Array2;

use super::problem::Problem;
use super::subproblem::Points;
use super::{Verifier, Witness};
use crate::bounds::{Intervals, propagate_evaluated};
use crate::query::Region;

/// What a point shows.
pub(super) enum Shown {
    /// A violation.
    Violation(Witness),
    /// One in this `f32` evaluation only: in the arithmetic of the search there is none at this point.
    Disagreement(Witness),
}

/// The first of some points, as near as `f32` has them in the boxes, at which the `f32` network violates its
/// region and `confirm` says so, too.
pub(super) fn judge(
    problems: &[Problem],
    confirm: &dyn Fn(&[f32], &[f32]) -> bool,
    points: &Points,
) -> Option<Shown> {
    let region = |number: u32| problems[number as usize].region;
    let inside: Vec<(u32, Vec<f32>)> = points
        .iter()
        .filter_map(|(number, point)| Some((*number, nearest(region(*number), point)?)))
        .collect();
    let verifier = problems.first()?.verifier;
    let shape = (inside.len(), verifier.graph.input_len());
    let x =
        Array2::from_shape_vec(shape, inside.iter().flat_map(|(_, x)| x.iter().copied()).collect()).ok()?;
    let mut disagreement = None;
    for ((number, x), y) in inside.into_iter().zip(verifier.exec.run(x.view()).rows()) {
        let y = y.to_vec();
        if region(number).holds(&x, &y) && confirm(&x, &y) {
            if is_possible(verifier, region(number), &x) {
                return Some(Shown::Violation(Witness { x, y }));
            }
            disagreement.get_or_insert(Shown::Disagreement(Witness { x, y }));
        }
    }
    disagreement
}

/// The nearest point that `f32` has in the box; none if it has none.
fn nearest(region: &Region, point: &[f64]) -> Option<Vec<f32>> {
    let entry = |((&x, &lower), &upper): ((&f64, &f64), &f64)| {
        let x = x.clamp(lower, upper) as f32;
        let x = if f64::from(x) < lower { x.next_up() } else { x };
        let x = if f64::from(x) > upper { x.next_down() } else { x };
        (lower..=upper).contains(&f64::from(x)).then_some(x)
    };
    point.iter().zip(&region.lower).zip(&region.upper).map(entry).collect()
}

/// Whether some disjunct may hold at `x` in the arithmetic of the search, as far as bounds show.
fn is_possible(verifier: &Verifier, region: &Region, x: &[f32]) -> bool {
    let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
    let input = Intervals { lower: x.clone(), upper: x.clone() };
    let values = propagate_evaluated(verifier.plan.evaluation, verifier.graph, 1, input, |_| false);
    let Intervals { lower, upper } = &values[verifier.graph.output];
    region.disjuncts.iter().any(|disjunct| {
        disjunct.atoms.iter().all(|atom| {
            let outputs = atom.coefficients.iter().map(|&(i, c)| (c, lower[i], upper[i]));
            let inputs = atom.input.iter().map(|&(i, c)| (c, x[i], x[i]));
            let (mut least, mut size) = (-atom.bound, atom.bound.abs());
            for (c, low, high) in outputs.chain(inputs) {
                let term = if c > 0.0 { c * low } else { c * high };
                least += term;
                size += term.abs();
            }
            // NaN may be anything.
            !(least > crate::rounding::gamma(atom.coefficients.len() + atom.input.len() + 1) * size)
        })
    })
}
