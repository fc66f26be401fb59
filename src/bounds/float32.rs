//! What rounding in f32 adds to intervals, for [`Evaluation::Float32`].
//!
//! After a node its intervals are widened by how far an entry that is computed from numbers in the intervals
//! of its inputs may lie from the exact function of these numbers. So all intervals speak of the values as
//! computed, and every relaxation of the node behind holds for them. Where a value may overflow, both its
//! ends become NaN: nothing that depends on it is certified.

use super::Intervals;
use super::rounding::{LARGEST, gamma};
use crate::ops::{Affine, Function, Weights};
use crate::rounding::{Evaluation, FLUSHED};

/// An input in f32 may be read as zero where it is subnormal.
pub(super) fn read(evaluation: Evaluation, input: &mut Intervals) {
    if evaluation == Evaluation::Float32 {
        input.lower.iter_mut().filter(|x| **x > 0.0 && **x < FLUSHED).for_each(|x| *x = 0.0);
        input.upper.iter_mut().filter(|x| **x < 0.0 && **x > -FLUSHED).for_each(|x| *x = 0.0);
    }
}

/// Widens intervals by an error of each entry.
pub(super) fn widen(bounds: &mut Intervals, errors: &[f64]) {
    for ((low, high), &error) in bounds.lower.iter_mut().zip(&mut bounds.upper).zip(errors) {
        if error > 0.0 {
            (*low, *high) = ((*low - error).next_down(), (*high + error).next_up());
        }
        if !(error.is_finite() && low.abs() <= LARGEST && high.abs() <= LARGEST) {
            (*low, *high) = (f64::NAN, f64::NAN);
        }
    }
}

/// Errors of an elementwise function with results in these intervals, whatever the order of the entries; empty
/// if it does not round.
pub(super) fn function_errors(function: &dyn Function, input: &Intervals, result: &Intervals) -> Vec<f64> {
    if function.single_rounding(1.0, 1.0) == 0.0 {
        return Vec::new();
    }
    let sizes = input.magnitudes().into_iter().zip(result.magnitudes());
    sizes.map(|(x, y)| function.single_rounding(x, y)).collect()
}

/// What an interval through an affine map is charged, in one of `N` boxes each: relative to the magnitudes
/// that go in, and absolute; first of the roundings that make the bound.
#[derive(Clone, Copy)]
pub(super) struct Costs<const N: usize> {
    pub(super) relative: f64,
    pub(super) floor: [f64; N],
    /// Whether sums may leave the range of f32 on the way.
    pub(super) overflow: bool,
}

impl<const N: usize> Costs<N> {
    /// `largest` are the greatest absolute values that go in.
    pub(super) fn new(op: &Affine, evaluation: Evaluation, largest: impl FnOnce() -> [f64; N]) -> Self {
        let mut relative = gamma(op.terms()) + 2.0 * op.relative_error();
        let floor = op.bias_error() * (1.0 + f64::EPSILON) + super::rounding::underflow(op.terms());
        let (mut floor, mut overflow) = ([floor; N], false);
        if evaluation == Evaluation::Float32 {
            let single = op.single_error();
            let largest = largest();
            relative += single.relative;
            for (floor, largest) in floor.iter_mut().zip(largest) {
                *floor += (single.bias + single.underflow + single.flushed * largest) * (1.0 + gamma(0));
                overflow |= !(single.most * largest + single.shift <= 0.5 * LARGEST);
            }
        }
        Self { relative, floor, overflow }
    }
}

/// Makes undefined, in rows of results, what may overflow on the way.
pub(super) fn overflow(
    op: &Affine,
    batch: usize,
    inputs: &[&Intervals],
    out: &mut Intervals,
    scratch: &mut Vec<f64>,
) {
    let sizes: Vec<Vec<f64>> = inputs.iter().map(|x| x.magnitudes()).collect();
    let sizes: Vec<&[f64]> = sizes.iter().map(Vec::as_slice).collect();
    let mut sums = vec![0.0; out.lower.len()];
    op.linear(Weights::absolute, batch, &sizes, &mut sums, scratch);
    if let Some(bias) = op.bias() {
        bias.add_to(Weights::absolute, batch, &mut sums);
    }
    for ((low, high), sum) in out.lower.iter_mut().zip(&mut out.upper).zip(sums) {
        if !(sum <= LARGEST && low.abs() <= LARGEST && high.abs() <= LARGEST) {
            (*low, *high) = (f64::NAN, f64::NAN);
        }
    }
}

/// Errors of an affine map, an entry beside those of other boxes; `sums` are `|A| |x|`.
pub(super) fn affine_errors<const B: usize>(op: &Affine, inputs: &[&Intervals], sums: &[f64]) -> Vec<f64> {
    if op.is_selection() {
        return Vec::new();
    }
    let single = op.single_error();
    let largest = if single.flushed > 0.0 { largest::<B>(inputs) } else { [0.0; B] };
    let relative = single.relative * (1.0 + gamma(op.terms()));
    let absolute = (single.before + single.underflow) * (1.0 + gamma(0));
    let of = |(i, sums): (usize, &[f64; B])| {
        let bias = op.bias().map_or(0.0, |bias| bias.at(i).abs());
        std::array::from_fn::<f64, B, _>(|b| {
            relative * (sums[b] + bias) + absolute + single.flushed * largest[b] * (1.0 + gamma(0))
        })
    };
    sums.as_chunks::<B>().0.iter().enumerate().flat_map(of).collect()
}

/// The greatest absolute value that goes into an affine map in each of `B` boxes side by side.
pub(super) fn largest<const B: usize>(inputs: &[&Intervals]) -> [f64; B] {
    let mut largest = [0.0_f64; B];
    let ends = inputs.iter().flat_map(|x| [&x.lower, &x.upper]).flat_map(|ends| ends.as_chunks::<B>().0);
    for ends in ends {
        largest.iter_mut().zip(ends).for_each(|(most, end)| *most = most.max(end.abs()));
    }
    largest
}
