//! The affine maps behind the last nonlinearity merged with the margins
//! ("elision"), so that a margin is bounded directly and not as the difference
//! of two bounds.

use super::{Evaluation, Intervals};
use crate::graph::{Graph, ValueId};
use crate::ops::{Affine, Op, SingleError, Weights};
use crate::rounding::{FLUSHED, centre_radius, gamma, underflow};

/// The rows `e_label - e_other` for every other class in order.
fn margin_rows(classes: usize, label: usize) -> Vec<f64> {
    let mut rows = Vec::new();
    for other in (0..classes).filter(|&c| c != label) {
        rows.extend((0..classes).map(|c| f64::from(c == label) - f64::from(c == other)));
    }
    rows
}

/// Rows of a linear function of the output, pulled back through the affine
/// maps at the end of the network: `row = constant + sum over values v of
/// coefficients_v . v`, with bounds on the errors of both.
pub(super) struct Elision {
    rows: usize,
    constant: Vec<f64>,
    constant_error: Vec<f64>,
    terms: usize,
    values: Vec<(ValueId, Coefficients)>,
}

/// `rows x len` coefficients of one value.
struct Coefficients {
    value: Vec<f64>,
    /// Bound on the absolute error of each.
    error: Vec<f64>,
}

impl Elision {
    pub(super) fn margins(graph: &Graph, label: usize, evaluation: Evaluation) -> Self {
        let classes = graph.output_len();
        Self::new(graph, classes - 1, margin_rows(classes, label), evaluation)
    }

    fn new(graph: &Graph, rows: usize, output: Vec<f64>, evaluation: Evaluation) -> Self {
        let mut pending: Vec<Option<Coefficients>> = (0..=graph.nodes.len()).map(|_| None).collect();
        pending[graph.output] = Some(Coefficients { error: vec![0.0; output.len()], value: output });
        let mut elision = Self {
            rows,
            constant: vec![0.0; rows],
            constant_error: vec![0.0; rows],
            terms: 1,
            values: Vec::new(),
        };
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            if let (Op::Affine(op), Some(above)) = (&node.op, &pending[i + 1]) {
                // An evaluation in f32 is off by so much beside the coefficients' own errors.
                let single = match evaluation {
                    Evaluation::Real => SingleError::default(),
                    Evaluation::Float32 => op.single_error(),
                };
                elision.add_bias(op, graph.len(i + 1), above, &single);
                let below = pull_back(op, rows, above, &single, node.inputs.iter().map(|&v| graph.len(v)));
                pending[i + 1] = None;
                for (&v, part) in node.inputs.iter().zip(below) {
                    pending[v] = Some(match pending[v].take() {
                        None => part,
                        Some(sum) => sum.plus(&part),
                    });
                }
            }
        }
        elision.values = pending.into_iter().enumerate().filter_map(|(v, c)| Some((v, c?))).collect();
        elision.terms = elision.values.iter().map(|(v, _)| graph.len(*v)).sum::<usize>() + 1;
        elision
    }

    fn add_bias(&mut self, op: &Affine, len: usize, above: &Coefficients, single: &SingleError) {
        let absolute = single.before + single.underflow;
        if op.bias().is_none() && absolute == 0.0 {
            return;
        }
        let error = gamma(len);
        for row in 0..self.rows {
            let range = row * len..(row + 1) * len;
            let (mut sum, mut size) = (self.constant[row], self.constant[row].abs());
            let mut drift = 0.0;
            for (j, (a, e)) in above.value[range.clone()].iter().zip(&above.error[range]).enumerate() {
                let b = op.bias().map_or(0.0, |bias| bias.at(j));
                sum += a * b;
                size += (a * b).abs();
                drift += e * (b.abs() + op.bias_error()) + a.abs() * op.bias_error();
                drift += (a.abs() + e) * (single.relative * b.abs() + absolute);
            }
            self.constant[row] = sum;
            self.constant_error[row] =
                (self.constant_error[row] + error * size + drift) * (1.0 + error) + underflow(len);
        }
    }

    /// Lower bounds of the rows for input `i` of a batch.
    pub(super) fn lower(&self, i: usize, batch: usize, values: &[Intervals]) -> Vec<f64> {
        let error = gamma(self.terms);
        let mut sums: Vec<(f64, f64)> =
            self.constant.iter().copied().zip(self.constant_error.clone()).collect();
        for (v, coefficients) in &self.values {
            let len = values[*v].lower.len() / batch;
            let x = i * len..(i + 1) * len;
            let ball: Vec<(f64, f64)> = values[*v].lower[x.clone()]
                .iter()
                .zip(&values[*v].upper[x])
                .map(|(&l, &u)| centre_radius(l, u))
                .collect();
            let rows = coefficients.value.chunks_exact(len).zip(coefficients.error.chunks_exact(len));
            for ((centre, radius), (a, e)) in sums.iter_mut().zip(rows) {
                for ((&a, &e), &(c, r)) in a.iter().zip(e).zip(&ball) {
                    // An unbounded entry does not matter to a row that leaves it
                    // out; an undefined one does, as in evaluation.
                    if a != 0.0 || e != 0.0 || c.is_nan() {
                        *centre += a * c;
                        *radius += a.abs() * (r + error * c.abs()) + e * (c.abs() + r);
                    }
                }
            }
        }
        sums.iter()
            .zip(&self.constant)
            .map(|((centre, radius), constant)| {
                let radius = (radius + error * constant.abs()) * (1.0 + error) + underflow(self.terms);
                let lower = (centre - radius).next_down();
                // A sum that overflowed before its last terms were added has lost them.
                if centre.is_finite() && !lower.is_nan() { lower } else { f64::NEG_INFINITY }
            })
            .collect()
    }
}

impl Coefficients {
    fn plus(mut self, other: &Self) -> Self {
        for (i, (a, e)) in other.value.iter().zip(&other.error).enumerate() {
            self.value[i] += a;
            self.error[i] = (self.error[i] + e) * (1.0 + gamma(0)) + f64::EPSILON * self.value[i].abs();
        }
        self
    }
}

/// `A^T` applied to every row, with its rounding error and the uncertainty of
/// `A` bounded through `|A|^T`.
fn pull_back(
    op: &Affine,
    rows: usize,
    above: &Coefficients,
    single: &SingleError,
    lens: impl Iterator<Item = usize>,
) -> Vec<Coefficients> {
    let error = gamma(op.adjoint_terms()) + 2.0 * op.relative_error() + single.relative;
    let size: Vec<f64> = above
        .value
        .iter()
        .zip(&above.error)
        .map(|(a, e)| {
            let floor = if *a == 0.0 && *e == 0.0 { 0.0 } else { underflow(0) };
            (error * a.abs() + e) * (1.0 + error) + floor
        })
        .collect();
    let mut below: Vec<Coefficients> =
        lens.map(|len| Coefficients { value: vec![0.0; rows * len], error: vec![0.0; rows * len] }).collect();
    let mut scratch = Vec::new();
    let mut values: Vec<&mut [f64]> = below.iter_mut().map(|b| &mut b.value[..]).collect();
    op.adjoint(Weights::exact, rows, &above.value, &mut values, &mut scratch);
    let mut errors: Vec<&mut [f64]> = below.iter_mut().map(|b| &mut b.error[..]).collect();
    op.adjoint(Weights::absolute, rows, &size, &mut errors, &mut scratch);
    if single.flushed > 0.0 {
        // Subnormal coefficients may be taken for zero, each with any entry.
        for (row, number) in above.value.chunks_exact(above.value.len() / rows.max(1)).zip(0_usize..) {
            let errors = &above.error[number * row.len()..(number + 1) * row.len()];
            let total: f64 = row.iter().zip(errors).map(|(a, e)| a.abs() + e).sum();
            for part in &mut below {
                let len = part.error.len() / rows;
                part.error[number * len..(number + 1) * len]
                    .iter_mut()
                    .for_each(|e| *e += 2.0 * FLUSHED * total);
            }
        }
    }
    below
}
