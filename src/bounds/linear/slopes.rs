//! Choosing the lines of elementwise functions by gradient ascent on the bound
//! (alpha-CROWN, Xu et al. 2021).
//!
//! Each row has its own choice for each entry of each function: a number in
//! `[-1, 1]` that moves the line from the default (0) towards those at the
//! ends of what the function allows. A convex combination of valid lines is
//! valid, so every choice gives a sound bound, and the first is CROWN's.

use super::Relaxed;
use super::step::Kind;
use crate::graph::ValueId;
use crate::ops::{Line, Lines, Op, Weights};

/// The choices, and what the last backward pass found.
#[derive(Default)]
pub(super) struct Slopes {
    /// `rows x len` choices for each node that has any.
    pub(super) chosen: Vec<Option<Vec<f64>>>,
    /// Coefficients on the result of each node with lines or planes.
    pub(super) coefficients: Vec<Option<Vec<f64>>>,
    /// Coefficients on the network's input.
    pub(super) input: Option<Vec<f64>>,
}

/// The line for the coefficient `a` and choice `t`. Computed with a few
/// roundings, which the charge of the step covers.
pub(super) fn line(default: &[Line; 2], choices: &[Lines; 2], t: f64, a: f64) -> Line {
    let from = default[usize::from(a < 0.0)];
    let to = &choices[usize::from(t > 0.0)];
    let to = if a < 0.0 { to.upper } else { to.lower };
    if t == 0.0 || from == to {
        return from;
    }
    let t = t.abs();
    Line {
        slope: from.slope + t * (to.slope - from.slope),
        offset: from.offset + t * (to.offset - from.offset),
    }
}

/// Size of the steps; halves over the iterations.
const STEP: f64 = 0.5;

impl Relaxed<'_> {
    /// Lower bounds as [`Relaxed::lower`], the best of `iterations` choices of
    /// lines for each row. Ends when all are positive.
    pub(super) fn optimised(
        &self,
        from: ValueId,
        coefficients: &[f64],
        rows: usize,
        iterations: usize,
    ) -> Vec<f64> {
        let len = self.graph.len(from);
        let free = |index: usize| {
            let kind = self.steps.get(index).map(|step| &step.kind);
            matches!(kind, Some(Kind::Elementwise { choices: Some(_), .. }))
        };
        let mut best = self.lower(from, rows, coefficients.to_vec(), None);
        let mut active: Vec<usize> = (0..rows).filter(|&row| !(best[row] > 0.0)).collect();
        if active.is_empty() || iterations == 0 {
            return best;
        }
        let start = |count: usize| -> Vec<Option<Vec<f64>>> {
            (0..from).map(|i| free(i).then(|| vec![0.0; count * self.graph.len(i + 1)])).collect()
        };
        let mut slopes = Slopes { chosen: start(active.len()), ..Slopes::default() };
        let [mut first, mut second] = [start(active.len()), start(active.len())];
        for iteration in 0..=iterations {
            let rows: Vec<f64> =
                active.iter().flat_map(|&row| &coefficients[row * len..(row + 1) * len]).copied().collect();
            slopes.coefficients = (0..from).map(|_| None).collect();
            let bounds = self.lower(from, active.len(), rows, Some(&mut slopes));
            for (&row, bound) in active.iter().zip(bounds) {
                best[row] = best[row].max(bound);
            }
            let done: Vec<bool> = active.iter().map(|&row| best[row] > 0.0).collect();
            if iteration == iterations || done.iter().all(|&d| d) {
                break;
            }
            let gradients = self.gradients(from, active.len(), &slopes);
            let rate = STEP * 0.5_f64.powf(2.0 * iteration as f64 / iterations as f64);
            for (index, gradient) in gradients.into_iter().enumerate() {
                let (Some(gradient), Some(chosen)) = (gradient, &mut slopes.chosen[index]) else { continue };
                let (Some(first), Some(second)) = (&mut first[index], &mut second[index]) else { continue };
                adam(chosen, &gradient, first, second, rate, iteration);
            }
            // Rows that are certified leave.
            if done.iter().any(|&d| d) {
                for store in slopes.chosen.iter_mut().chain(&mut first).chain(&mut second).flatten() {
                    let width = store.len() / active.len();
                    let kept = store.chunks_exact(width).zip(&done).filter(|(_, done)| !**done);
                    *store = kept.flat_map(|(row, _)| row).copied().collect();
                }
                active.retain(|&row| !(best[row] > 0.0));
            }
        }
        best
    }

    /// How the bound grows with each choice. By the envelope theorem that is
    /// the derivative at the input where the linear function is least: the
    /// coefficient times the distance between the lines there.
    fn gradients(&self, from: ValueId, rows: usize, slopes: &Slopes) -> Vec<Option<Vec<f64>>> {
        let mut values: Vec<Option<Vec<f64>>> = (0..=from).map(|_| None).collect();
        let mut gradients: Vec<Option<Vec<f64>>> = (0..from).map(|_| None).collect();
        values[0] = slopes.input.as_ref().map(|a| self.least_inputs(rows, a));
        let mut scratch = Vec::new();
        for index in 0..from {
            let node = &self.graph.nodes[index];
            let len = self.graph.len(index + 1);
            let inputs: Option<Vec<&[f64]>> = node.inputs.iter().map(|&v| values[v].as_deref()).collect();
            let Some(inputs) = inputs else { continue };
            let mut out = vec![0.0; rows * len];
            match (&self.steps[index].kind, &slopes.coefficients[index]) {
                (Kind::Affine { .. }, _) => {
                    let Op::Affine(op) = &node.op else { unreachable!("the step of an affine map") };
                    op.apply(Weights::exact, rows, &inputs, &mut out, &mut scratch);
                }
                (Kind::Elementwise { lines, choices: Some(choices) }, Some(a)) => {
                    let chosen = slopes.chosen[index].as_deref().unwrap_or_default();
                    let mut gradient = vec![0.0; rows * len];
                    for (k, (&a, &x)) in a.iter().zip(inputs[0]).enumerate() {
                        let (i, t) = (k % len, chosen[k]);
                        let at = |line: Line| line.slope * x + line.offset;
                        out[k] = at(line(&lines[i], &choices[i], t, a));
                        if a != 0.0 {
                            let side = |lines: &Lines| at(if a > 0.0 { lines.lower } else { lines.upper });
                            let here = at(lines[i][usize::from(a < 0.0)]);
                            let [down, up] = [0, 1].map(|end| a * (side(&choices[i][end]) - here));
                            gradient[k] = match t {
                                t if t > 0.0 => up,
                                t if t < 0.0 => -down,
                                _ if up > down.max(0.0) => up,
                                _ if down > 0.0 => -down,
                                _ => 0.0,
                            };
                        }
                    }
                    gradients[index] = Some(gradient);
                }
                (Kind::Elementwise { lines, .. }, Some(a)) => {
                    for (k, (&a, &x)) in a.iter().zip(inputs[0]).enumerate() {
                        let line = lines[k % len][usize::from(a < 0.0)];
                        out[k] = line.slope * x + line.offset;
                    }
                }
                (Kind::Product { planes }, Some(a)) => {
                    for (k, &a) in a.iter().enumerate() {
                        let plane = &planes[k % len][usize::from(a < 0.0)];
                        let at = |&(v, j, c): &(usize, usize, f64)| {
                            c * inputs[v][k / len * (inputs[v].len() / rows) + j]
                        };
                        out[k] = plane.offset + plane.terms.iter().map(at).sum::<f64>();
                    }
                }
                _ => continue,
            }
            values[index + 1] = Some(out);
        }
        gradients
    }

    /// For every row the point of the input set at which it is least.
    fn least_inputs(&self, rows: usize, a: &[f64]) -> Vec<f64> {
        let input = &self.values[0];
        let n = input.lower.len();
        let mut points = Vec::with_capacity(rows * n);
        for a in a.chunks_exact(n) {
            let ends = input.lower.iter().zip(&input.upper);
            points.extend(a.iter().zip(ends).map(|(&a, (&l, &u))| if a > 0.0 { l } else { u }));
        }
        points
    }
}

/// One step of projected Adam (Kingma and Ba 2015) upward.
fn adam(
    chosen: &mut [f64],
    gradient: &[f64],
    first: &mut [f64],
    second: &mut [f64],
    rate: f64,
    iteration: usize,
) {
    let steps = iteration as i32 + 1;
    let (scale, squares) = (1.0 - 0.9_f64.powi(steps), 1.0 - 0.999_f64.powi(steps));
    for (((t, &g), m), v) in chosen.iter_mut().zip(gradient).zip(first).zip(second) {
        if !g.is_finite() {
            continue;
        }
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        if *v > 0.0 {
            *t = (*t + rate * (*m / scale) / ((*v / squares).sqrt() + 1e-12)).clamp(-1.0, 1.0);
        }
    }
}
