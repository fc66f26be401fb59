//! Lower bounds of linear functions of a value, pulled back to the network's
//! input (CROWN, Zhang et al. 2018, Theorem 3.2; `DeepPoly`, Singh et al. 2019).

use super::Relaxed;
use super::slopes::Slopes;
use super::step::{Kind, Step, magnitudes};
use crate::bounds::rounding::{centre_radius, gamma};
use crate::bounds::{Ball, Norm};
use crate::graph::ValueId;
use crate::kernels::is_zero;
use crate::ops::{Op, Weights};

/// `rows` linear functions on their way back: `constant + sum over values of
/// pending . value`, each known up to `error`.
pub(super) struct Pass {
    pub(super) rows: usize,
    pub(super) pending: Vec<Option<Vec<f64>>>,
    constant: Vec<f64>,
    error: Vec<f64>,
}

impl Relaxed<'_> {
    /// Lower bounds, over all inputs of the set, of the functions with these
    /// coefficients (`rows x len`) of the value `from`; NaN or `-inf` if there
    /// is none. Lines are the default ones, or chosen by `slopes`, which also
    /// learns the coefficients at every elementwise function.
    pub(super) fn lower(
        &self,
        from: ValueId,
        rows: usize,
        coefficients: Vec<f64>,
        mut slopes: Option<&mut Slopes>,
    ) -> Vec<f64> {
        let mut pass = Pass {
            rows,
            pending: (0..=from).map(|_| None).collect(),
            constant: vec![0.0; rows],
            error: vec![0.0; rows],
        };
        pass.pending[from] = Some(coefficients);
        let mut scratch = Vec::new();
        for index in (0..from).rev() {
            if let Some(a) = pass.pending[index + 1].take() {
                if let (Some(slopes), false) =
                    (&mut slopes, matches!(self.steps[index].kind, Kind::Affine { .. }))
                {
                    slopes.coefficients[index] = Some(a.clone());
                }
                self.through(index, a, &mut pass, slopes.as_deref(), &mut scratch);
            }
        }
        let a = pass.pending[0].take();
        let bounds = self.concretise(&pass, a.as_deref());
        if let Some(slopes) = slopes {
            slopes.input = a;
        }
        bounds
    }

    /// Replaces the coefficients `a` on the result of a node by ones on its
    /// inputs.
    fn through(
        &self,
        index: usize,
        mut a: Vec<f64>,
        pass: &mut Pass,
        slopes: Option<&Slopes>,
        scratch: &mut Vec<f64>,
    ) {
        let (graph, node, step) = (self.graph, &self.graph.nodes[index], &self.steps[index]);
        let len = graph.len(index + 1);
        let rows = pass.rows;
        pass.error.iter_mut().for_each(|e| *e += step.floor);
        match &step.kind {
            Kind::Affine { offset } => {
                let Op::Affine(op) = &node.op else { unreachable!("the step of an affine map") };
                pass.absorb(&mut a, len, step, |_, i, _| offset.get(i).copied().unwrap_or(0.0));
                let mut parts: Vec<Vec<f64>> =
                    node.inputs.iter().map(|&v| vec![0.0; rows * graph.len(v)]).collect();
                let mut below: Vec<&mut [f64]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
                op.adjoint(Weights::exact, rows, &a, &mut below, scratch);
                for (&v, part) in node.inputs.iter().zip(parts) {
                    self.deposit(pass, v, part);
                }
            }
            Kind::Elementwise { lines, choices } => {
                let chosen = slopes.and_then(|s| s.chosen[index].as_deref()).zip(choices.as_ref());
                pass.absorb(&mut a, len, step, |row, i, a| {
                    let line = match chosen {
                        Some((chosen, choices)) => {
                            super::slopes::line(&lines[i], &choices[i], chosen[row * len + i], *a)
                        }
                        None => lines[i][usize::from(*a < 0.0)],
                    };
                    *a *= line.slope;
                    line.offset
                });
                self.deposit(pass, node.inputs[0], a);
            }
            Kind::Product { planes } => {
                let mut parts: Vec<Vec<f64>> =
                    node.inputs.iter().map(|&v| vec![0.0; rows * graph.len(v)]).collect();
                let lens: Vec<usize> = node.inputs.iter().map(|&v| graph.len(v)).collect();
                pass.absorb(&mut a, len, step, |row, i, a| {
                    let plane = &planes[i][usize::from(*a < 0.0)];
                    for &(v, j, c) in &plane.terms {
                        parts[v][row * lens[v] + j] += *a * c;
                    }
                    plane.offset
                });
                for (&v, part) in node.inputs.iter().zip(parts) {
                    self.deposit(pass, v, part);
                }
            }
        }
    }

    /// Adds coefficients to what is pending on a value.
    fn deposit(&self, pass: &mut Pass, v: ValueId, part: Vec<f64>) {
        let Some(sum) = &mut pass.pending[v] else {
            pass.pending[v] = Some(part);
            return;
        };
        let sizes = magnitudes(&self.values[v]);
        let rows = sum.chunks_exact_mut(sizes.len()).zip(part.chunks_exact(sizes.len()));
        for ((sum, part), error) in rows.zip(&mut pass.error) {
            let mut cost = 0.0;
            for ((s, p), size) in sum.iter_mut().zip(part).zip(&sizes) {
                *s += p;
                if *s != 0.0 {
                    cost += s.abs() * size;
                }
            }
            *error += f64::EPSILON * cost;
        }
    }

    /// The least values over the input set.
    fn concretise(&self, pass: &Pass, a: Option<&[f64]>) -> Vec<f64> {
        let input = &self.values[0];
        let n = input.lower.len();
        let sides: Vec<(f64, f64)> =
            input.lower.iter().zip(&input.upper).map(|(&l, &u)| centre_radius(l, u)).collect();
        let total =
            self.graph.nodes.iter().map(|node| node.shape.iter().product::<usize>()).sum::<usize>() + n;
        (0..pass.rows)
            .map(|row| {
                let (constant, error) = (pass.constant[row], pass.error[row]);
                let Some(a) = a.map(|a| &a[row * n..(row + 1) * n]) else {
                    return (constant - error * (1.0 + gamma(total))).next_down();
                };
                let (mut centre, mut radius) = (0.0, 0.0);
                for (&a, &(c, r)) in a.iter().zip(&sides) {
                    centre += a * c;
                    radius += a.abs() * (r + gamma(n) * c.abs());
                }
                let mut least = centre - radius * (1.0 + gamma(n));
                if let Some((ball, x)) = &self.ball {
                    least = least.max(in_ball(a, ball, x));
                }
                // The sum of the errors was rounded too; the last three
                // operations round once each.
                let error =
                    (error + gamma(0) * (constant.abs() + centre.abs() + least.abs())) * (1.0 + gamma(total));
                (constant + least - error).next_down()
            })
            .collect()
    }
}

/// Entries that are looked at together: rows of convolutional layers are
/// mostly zero, and whole runs of zeros are skipped.
const RUN: usize = 16;

impl Pass {
    /// For every coefficient that is not zero: adds `a * offset` to the
    /// constant and `|a| charge` to the error, where `each(row, entry, a)`
    /// gives the offset and may change the coefficient.
    fn absorb(
        &mut self,
        a: &mut [f64],
        len: usize,
        step: &Step,
        mut each: impl FnMut(usize, usize, &mut f64) -> f64,
    ) {
        for (row, a) in a.chunks_exact_mut(len).enumerate() {
            // One sum for each place in a run: additions need not wait for
            // each other.
            let (mut sums, mut costs) = ([0.0; RUN], [0.0; RUN]);
            for (run, (a, charge)) in a.chunks_mut(RUN).zip(step.charge.chunks(RUN)).enumerate() {
                if is_zero(a) {
                    continue;
                }
                for (i, (a, &charge)) in a.iter_mut().zip(charge).enumerate() {
                    if step.finite || *a != 0.0 {
                        let before = *a;
                        sums[i] += before * each(row, run * RUN + i, a);
                        costs[i] += before.abs() * charge;
                    }
                }
            }
            self.constant[row] += sums.iter().sum::<f64>();
            self.error[row] += costs.iter().sum::<f64>() + f64::EPSILON * self.constant[row].abs();
        }
    }
}

/// A lower bound of `a . z` over a ball, by the dual norm.
fn in_ball(a: &[f64], ball: &Ball, centre: &[f64]) -> f64 {
    let n = a.len();
    let (mut middle, mut size) = (0.0, 0.0);
    for (a, c) in a.iter().zip(centre) {
        middle += a * c;
        size += (a * c).abs();
    }
    let dual = match ball.norm {
        Norm::Linf => a.iter().map(|a| a.abs()).sum(),
        // Scaled by the greatest entry: squares neither overflow nor vanish.
        Norm::L2 => {
            let most = a.iter().fold(0.0, |m: f64, a| m.max(a.abs()));
            if most == 0.0 {
                0.0
            } else {
                most * a.iter().map(|a| (a / most) * (a / most)).sum::<f64>().sqrt()
            }
        }
        Norm::L1 => a.iter().fold(0.0, |m: f64, a| if a.abs() > m || a.is_nan() { a.abs() } else { m }),
    };
    let reach = ball.eps * dual * (1.0 + gamma(n)) + crate::bounds::rounding::underflow(n) * (1.0 + ball.eps);
    middle - (reach + gamma(n) * size) * (1.0 + gamma(0))
}
