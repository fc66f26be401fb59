//! What is bounded below: over one of the boxes, a weighted sum of linear
//! functions of a value and the input, where cuts hold.

use super::Relaxed;
use super::backward::{Boxes, Pass};
use super::slopes::{Slopes, direction};
use crate::graph::ValueId;
use crate::kernels::{LANES, Lane, Panel};
use crate::ops::{Op, Workspace};
use crate::rounding::gamma;

/// `value . y + input . x + constant`, `y` a value such as the output; no entry stands twice in a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Function {
    pub(crate) value: Vec<(usize, f64)>,
    pub(crate) input: Vec<(usize, f64)>,
    pub(crate) constant: f64,
}

/// `sign (z - point) >= 0` for an entry `z` of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) value: ValueId,
    pub(crate) entry: usize,
    /// 1 or -1.
    pub(crate) sign: f64,
    pub(crate) point: f64,
}

/// One function of a panel.
#[derive(Clone, Copy)]
pub(crate) struct Row<'r> {
    /// The number of the box.
    pub(crate) of: usize,
    /// Whose sum with nonnegative weights is bounded.
    pub(crate) functions: &'r [Function],
    /// Where only matters what satisfies these.
    pub(crate) cuts: &'r [Cut],
}

impl Row<'_> {
    /// The box of each lane.
    pub(super) fn boxes(rows: &[Self]) -> Boxes {
        std::array::from_fn(|lane| rows.get(lane).map_or(0, |row| row.of) as u8)
    }
}

/// The weights of a row's functions, which sum to one, and the multipliers of its cuts. All are at least 0;
/// each such choice gives a sound bound: `min g >= min (g - b s (z - p))` where `s (z - p) >= 0`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Multipliers {
    pub(crate) weights: Vec<f64>,
    pub(crate) cuts: Vec<f64>,
    /// What a step of each cut's multiplier is measured in; 0 where it is not known yet.
    scales: Vec<f64>,
    moments: Vec<[f64; 2]>,
}

impl Multipliers {
    /// Equal weights, no cuts.
    pub(super) fn new(row: &Row) -> Self {
        let functions = row.functions.len();
        Self { weights: vec![1.0 / functions as f64; functions], ..Self::default() }
    }
}

impl<const B: usize> Relaxed<'_, B> {
    /// Lower bounds of these rows, of functions of the value `from`, with the
    /// given choices, which learn the coefficients.
    pub(crate) fn bound(
        &self,
        from: ValueId,
        rows: &[Row],
        slopes: &mut Slopes,
        memory: &mut Workspace,
    ) -> Lane {
        let multipliers = std::mem::take(&mut slopes.multipliers);
        let start =
            |pass: &mut Pass<B>, memory: &mut Workspace| self.seed(pass, from, rows, &multipliers, memory);
        let bounds = self.lower(from, Row::boxes(rows), start, Some(slopes), memory);
        slopes.multipliers = multipliers;
        bounds
    }

    /// The same with the default lines, equal weights and no use of cuts; also the coefficients on the input.
    pub(crate) fn bound_plainly(
        &self,
        from: ValueId,
        rows: &[Row],
        memory: &mut Workspace,
    ) -> (Lane, Option<Panel>) {
        let mut slopes = Slopes::plain(rows);
        (self.bound(from, rows, &mut slopes, memory), slopes.input)
    }

    fn seed(
        &self,
        pass: &mut Pass<B>,
        from: ValueId,
        rows: &[Row],
        multipliers: &[Multipliers],
        memory: &mut Workspace,
    ) {
        for (lane, (row, multipliers)) in rows.iter().zip(multipliers).enumerate() {
            let size = |v: ValueId, place: usize| self.sizes[v][place][row.of & (B - 1)];
            for (function, &weight) in row.functions.iter().zip(&multipliers.weights) {
                if weight == 0.0 {
                    continue;
                }
                pass.add_constant(lane, weight * function.constant);
                for (v, terms) in [(from, &function.value), (0, &function.input)] {
                    if terms.is_empty() {
                        continue;
                    }
                    let order = self.plan.orders()[v];
                    let (panel, mut error) = (pass.pending.on(v, self.graph, memory), 0.0);
                    for &(i, c) in terms {
                        let place = order.place(i);
                        let (sum, term) = (&mut panel.entry(place).0[lane], weight * c);
                        *sum += term;
                        // A single function is taken as it is.
                        if row.functions.len() > 1 {
                            error += gamma(0) * (term.abs() + sum.abs()) * size(v, place);
                        }
                    }
                    pass.add_error(lane, error);
                }
            }
            for (cut, &multiplier) in row.cuts.iter().zip(&multipliers.cuts) {
                if multiplier == 0.0 || cut.value > from {
                    continue;
                }
                let place = self.plan.orders()[cut.value].place(cut.entry);
                let sum = &mut pass.pending.on(cut.value, self.graph, memory).entry(place).0[lane];
                *sum -= multiplier * cut.sign;
                let error = gamma(0) * (multiplier + sum.abs()) * size(cut.value, place);
                pass.add_error(lane, error);
                pass.add_constant(lane, multiplier * cut.sign * cut.point);
            }
        }
    }

    /// A step of the weights and the multipliers of cuts, from the values
    /// (`LANES x entries`) where the rows are least: the derivatives are the
    /// functions there, and how far the values are on the wrong side of the cuts.
    pub(super) fn improve_multipliers(
        &self,
        from: ValueId,
        rows: &[Row],
        slopes: &mut Slopes,
        values: &[Option<Vec<f64>>],
        rate: f64,
        iteration: usize,
    ) {
        let at = |v: ValueId, lane: usize, entry: usize| -> Option<f64> {
            let values = values.get(v)?.as_ref()?;
            let bias = v.checked_sub(1).filter(|&before| self.plan.folded[before]);
            let bias = bias.map_or(0.0, |before| self.bias(before, entry));
            Some(values[lane * (values.len() / LANES) + entry] + bias)
        };
        for (lane, row) in rows.iter().enumerate() {
            let usual = usual_coefficient(slopes, lane);
            let scale = |cut: &Cut| {
                let place = self.plan.orders()[cut.value].place(cut.entry);
                let readers = self.plan.readers[cut.value].iter().filter(|&&reader| reader < from);
                let here = readers.filter_map(|&reader| {
                    let function = matches!(self.graph.nodes[reader].op, Op::Elementwise(_));
                    let a = slopes.coefficients[reader].as_ref().filter(|_| function)?;
                    Some(a.get(place).0[lane].abs())
                });
                here.fold(0.1 * usual, f64::max)
            };
            let scales: Vec<f64> = row.cuts.iter().map(scale).collect();
            let multipliers = &mut slopes.multipliers[lane];
            multipliers.cuts.resize(row.cuts.len(), 0.0);
            if iteration == 0 {
                multipliers.moments = vec![[0.0; 2]; row.cuts.len()];
                multipliers.scales = scales;
            }
            for (k, cut) in row.cuts.iter().enumerate() {
                let Some(z) = at(cut.value, lane, cut.entry) else { continue };
                let [first, second] = &mut multipliers.moments[k];
                let step = direction(-cut.sign * (z - cut.point), first, second, iteration);
                let moved = multipliers.cuts[k] + rate * step * multipliers.scales[k];
                multipliers.cuts[k] = if moved.is_finite() { moved.max(0.0) } else { 0.0 };
            }
            if row.functions.len() > 1 {
                let sum = |v: ValueId, terms: &[(usize, f64)]| -> f64 {
                    terms.iter().filter_map(|&(i, c)| Some(c * at(v, lane, i)?)).sum()
                };
                let g: Vec<f64> = (row.functions.iter())
                    .map(|f| f.constant + sum(from, &f.value) + sum(0, &f.input))
                    .collect();
                let most = g.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
                if most > 0.0 && most.is_finite() {
                    let moved =
                        multipliers.weights.iter().zip(&g).map(|(w, g)| w * (2.0 * rate * g / most).exp());
                    let moved: Vec<f64> = moved.collect();
                    let total: f64 = moved.iter().sum();
                    if total > 0.0 && total.is_finite() {
                        multipliers.weights = moved.into_iter().map(|w| w / total).collect();
                    }
                }
            }
        }
    }
}

/// The mean size of a lane's coefficients that are not zero.
fn usual_coefficient(slopes: &Slopes, lane: usize) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for a in slopes.coefficients.iter().flatten() {
        for i in a.live() {
            let a = a.get(i).0[lane].abs();
            if a > 0.0 {
                (sum, count) = (sum + a, count + 1.0);
            }
        }
    }
    if count > 0.0 { sum / count } else { 1.0 }
}
