//! Choosing the lines of elementwise functions by gradient ascent on the bound
//! (alpha-CROWN, Xu et al. 2021).
//!
//! Each function has its own choice for each entry of each function: a number in
//! `[-1, 1]` that moves the line from the default (0) towards those at the
//! ends of what the function allows. A convex combination of valid lines is
//! valid, so every choice gives a sound bound, and the first is CROWN's.

use rayon::prelude::*;

use super::Relaxed;
use super::step::Kind;
use crate::bounds::Intervals;
use crate::graph::ValueId;
use crate::kernels::{LANES, Lane, Panel};
use crate::ops::{Line, Lines, Op, Weights, Workspace};

/// The choices, and what the last backward pass found.
#[derive(Default)]
pub(super) struct Slopes {
    /// Choices for each entry of each node that has any.
    pub(super) chosen: Vec<Option<Vec<Lane>>>,
    /// Coefficients on the result of each node with lines or planes.
    pub(super) coefficients: Vec<Option<Panel>>,
    /// Coefficients on the network's input.
    pub(super) input: Option<Panel>,
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
    /// Lower bounds of functions with these coefficients (`rows x len`) of
    /// the value `from`, the best of `iterations` choices of lines for each.
    pub(super) fn optimised(
        &self,
        from: ValueId,
        coefficients: &[f64],
        rows: usize,
        iterations: usize,
    ) -> Vec<f64> {
        let (len, order) = (self.graph.len(from), self.plan.orders[from]);
        let start = |rows: &[usize], panel: &mut Panel| {
            for (lane, row) in rows.iter().enumerate() {
                for (i, &a) in coefficients[row * len..][..len].iter().enumerate().filter(|(_, a)| **a != 0.0)
                {
                    panel.entry(order.place(i)).0[lane] = a;
                }
            }
        };
        let panels = |rows: &[usize], iterations| -> Vec<f64> {
            let bound = |rows: &[usize]| {
                self.plan.with_workspace(|memory| {
                    let start = |panel: &mut Panel| start(rows, panel);
                    let bounds = match iterations {
                        0 => self.lower(from, start, None, memory),
                        _ => self.ascend(from, start, rows.len(), iterations, memory),
                    };
                    bounds.0[..rows.len()].to_vec()
                })
            };
            rows.par_chunks(LANES).flat_map_iter(bound).collect()
        };
        let all: Vec<usize> = (0..rows).collect();
        let mut best = panels(&all, 0);
        let open: Vec<usize> = all.into_iter().filter(|&row| !(best[row] > 0.0)).collect();
        if iterations > 0 {
            for (&row, bound) in open.iter().zip(panels(&open, iterations)) {
                best[row] = best[row].max(bound);
            }
        }
        best
    }

    /// The best bounds of one panel over `iterations` steps. Ends when those
    /// of the first `rows` functions are positive.
    fn ascend(
        &self,
        from: ValueId,
        start: impl Fn(&mut Panel),
        rows: usize,
        iterations: usize,
        memory: &mut Workspace,
    ) -> Lane {
        let free =
            |index: usize| matches!(&self.steps[index].kind, Kind::Elementwise { choices: Some(_), .. });
        let zeros = || -> Vec<Option<Vec<Lane>>> {
            (0..from).map(|i| free(i).then(|| vec![Lane::ZERO; self.graph.len(i + 1)])).collect()
        };
        let mut slopes = Slopes { chosen: zeros(), ..Slopes::default() };
        let [mut first, mut second] = [zeros(), zeros()];
        let mut best = Lane([f64::NEG_INFINITY; LANES]);
        for iteration in 0..=iterations {
            slopes.coefficients = (0..from).map(|_| None).collect();
            let bounds = self.lower(from, &start, Some(&mut slopes), memory);
            best.0.iter_mut().zip(bounds.0).for_each(|(best, bound)| *best = best.max(bound));
            if iteration == iterations || best.0[..rows].iter().all(|&b| b > 0.0) {
                break;
            }
            let gradients = self.gradients(from, &slopes);
            let rate = STEP * 0.5_f64.powf(2.0 * iteration as f64 / iterations as f64);
            for (index, gradient) in gradients.into_iter().enumerate() {
                let (Some(gradient), Some(chosen)) = (gradient, &mut slopes.chosen[index]) else { continue };
                let (Some(first), Some(second)) = (&mut first[index], &mut second[index]) else { continue };
                adam(chosen, &gradient, first, second, rate, iteration);
            }
        }
        best
    }

    /// How the bounds grow with each choice. By the envelope theorem that is
    /// the derivative at the input where the linear function is least: the
    /// coefficient times the distance between the lines there.
    fn gradients(&self, from: ValueId, slopes: &Slopes) -> Vec<Option<Vec<Lane>>> {
        let mut values: Vec<Option<Vec<f64>>> = (0..=from).map(|_| None).collect();
        let mut gradients: Vec<Option<Vec<Lane>>> = (0..from).map(|_| None).collect();
        values[0] = slopes.input.as_ref().map(|a| self.least_inputs(a));
        let mut scratch = Vec::new();
        for index in 0..from {
            let node = &self.graph.nodes[index];
            let len = self.graph.len(index + 1);
            let inputs: Option<Vec<&[f64]>> = node.inputs.iter().map(|&v| values[v].as_deref()).collect();
            let Some(inputs) = inputs else { continue };
            let mut out = vec![0.0; LANES * len];
            match (&self.steps[index].kind, &slopes.coefficients[index]) {
                (Kind::Affine { .. }, _) => {
                    let Op::Affine(op) = &node.op else { unreachable!("the step of an affine map") };
                    op.linear(Weights::exact, LANES, &inputs, &mut out, &mut scratch);
                    if let (Some(bias), false) = (op.bias(), self.plan.folded[index]) {
                        bias.add_to(Weights::exact, LANES, &mut out);
                    }
                }
                (Kind::Elementwise { lines, choices }, Some(a)) => {
                    let chosen = choices.as_ref().zip(slopes.chosen[index].as_ref());
                    let mut gradient = vec![Lane::ZERO; if chosen.is_some() { len } else { 0 }];
                    for (i, entry) in self.plan.orders[index + 1].entries(len).enumerate() {
                        for (lane, &a) in a.get(i).0.iter().enumerate() {
                            let k = lane * len + entry;
                            let at = |line: Line| line.slope * inputs[0][k] + line.offset;
                            let default = lines[i][usize::from(a < 0.0)];
                            let Some((choices, chosen)) = chosen else {
                                out[k] = at(default);
                                continue;
                            };
                            let t = chosen[i].0[lane];
                            out[k] = at(line(&lines[i], &choices[i], t, a));
                            if a != 0.0 {
                                let side =
                                    |lines: &Lines| at(if a > 0.0 { lines.lower } else { lines.upper });
                                let [down, up] = [0, 1].map(|end| a * (side(&choices[i][end]) - at(default)));
                                gradient[i].0[lane] = match t {
                                    t if t > 0.0 => up,
                                    t if t < 0.0 => -down,
                                    _ if up > down.max(0.0) => up,
                                    _ if down > 0.0 => -down,
                                    _ => 0.0,
                                };
                            }
                        }
                    }
                    gradients[index] = chosen.map(|_| gradient);
                }
                (Kind::Product { planes }, Some(a)) => {
                    for i in 0..len {
                        for (lane, &a) in a.get(i).0.iter().enumerate() {
                            let plane = &planes[i][usize::from(a < 0.0)];
                            let at = |&(v, j, c): &(usize, usize, f64)| {
                                let entry = self.plan.orders[node.inputs[v]].entry(j);
                                c * inputs[v][lane * (inputs[v].len() / LANES) + entry]
                            };
                            out[lane * len + i] = plane.offset + plane.terms.iter().map(at).sum::<f64>();
                        }
                    }
                }
                _ => continue,
            }
            values[index + 1] = Some(out);
        }
        gradients
    }

    /// For every function the point of the input set at which it is least
    /// (`LANES x entries`).
    fn least_inputs(&self, a: &Panel) -> Vec<f64> {
        let Intervals { lower, upper } = &self.values[0];
        let entries = |lane: usize| {
            let at = move |i: usize| if a.get(i).0[lane] > 0.0 { lower[i] } else { upper[i] };
            (0..lower.len()).map(at)
        };
        (0..LANES).flat_map(entries).collect()
    }
}

/// One step of projected Adam (Kingma and Ba 2015) upward.
fn adam(
    chosen: &mut [Lane],
    gradient: &[Lane],
    first: &mut [Lane],
    second: &mut [Lane],
    rate: f64,
    iteration: usize,
) {
    let steps = iteration as i32 + 1;
    let (scale, squares) = (1.0 - 0.9_f64.powi(steps), 1.0 - 0.999_f64.powi(steps));
    for (((chosen, gradient), first), second) in chosen.iter_mut().zip(gradient).zip(first).zip(second) {
        for lane in 0..LANES {
            let (g, m, v) = (gradient.0[lane], &mut first.0[lane], &mut second.0[lane]);
            if !g.is_finite() {
                continue;
            }
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            if *v > 0.0 {
                let step = rate * (*m / scale) / ((*v / squares).sqrt() + 1e-12);
                chosen.0[lane] = (chosen.0[lane] + step).clamp(-1.0, 1.0);
            }
        }
    }
}
