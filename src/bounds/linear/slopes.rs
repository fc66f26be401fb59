//! Choosing the lines of elementwise functions by gradient ascent on the bound
//! (alpha-CROWN, Xu et al. 2021), together with the multipliers of cuts
//! (beta-CROWN, Wang et al. 2021) and the weights of functions.
//!
//! Each function has its own choice for each entry of each row: a number in
//! `[-1, 1]` that moves the line from the default (0) towards those at the
//! ends of what the function allows. A convex combination of valid lines is
//! valid, so every choice gives a sound bound, and the first is CROWN's.

use super::Relaxed;
use super::rows::{Multipliers, Row};
use super::step::{Kind, Sides};
use crate::bounds::Intervals;
use crate::graph::ValueId;
use crate::kernels::{LANES, Lane, Panel};
use crate::ops::{Line, Op, Weights, Workspace};

/// The choices of a panel of rows, and what the last backward pass found.
#[derive(Default)]
pub(crate) struct Slopes {
    /// Choices for each entry of each node that has any.
    pub(crate) chosen: Vec<Option<Vec<Lane>>>,
    /// Multipliers of each row.
    pub(crate) multipliers: Vec<Multipliers>,
    /// Coefficients on the result of each node with lines or planes, as far as the list has room.
    pub(crate) coefficients: Vec<Option<Panel>>,
    /// Coefficients on the network's input.
    pub(crate) input: Option<Panel>,
    /// For each row what proves that it is positive, where that is asked for.
    pub(crate) proofs: Vec<RowProof>,
}

/// What proves that a row is positive.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowProof {
    /// The number of its disjunct.
    pub(crate) number: u32,
    /// As the checker of certificates reads it; none yet where the row has not become positive.
    pub(crate) text: Option<String>,
}

impl Slopes {
    /// The default lines, equal weights and no use of cuts.
    pub(super) fn plain(rows: &[Row]) -> Self {
        Self { multipliers: rows.iter().map(Multipliers::new).collect(), ..Self::default() }
    }

    /// The same, to learn the coefficients on the results of `nodes` nodes.
    pub(crate) fn learning(rows: &[Row], nodes: usize) -> Self {
        let mut slopes = Self::plain(rows);
        slopes.coefficients.resize_with(nodes, || None);
        slopes
    }
}

/// The line of box `of` for the coefficient `a` and choice `t`. Computed with a
/// few roundings, which the charge of the step covers.
#[inline(always)]
pub(super) fn line<const B: usize>(
    default: &Sides<B>,
    choices: &[Sides<B>; 2],
    of: usize,
    t: f64,
    a: f64,
) -> Line {
    let side = usize::from(a < 0.0);
    let (from, to) = (default.line(side, of), choices[usize::from(t > 0.0)].line(side, of));
    if t == 0.0 || from == to {
        return from;
    }
    let t = t.abs();
    Line {
        slope: from.slope + t * (to.slope - from.slope),
        offset: from.offset + t * (to.offset - from.offset),
    }
}

/// Size of the steps; halves twice over the iterations, more often over many.
const STEP: f64 = 0.5;

impl<const B: usize> Relaxed<'_, B> {
    /// CROWN's choices for these rows, without multipliers.
    pub(crate) fn default_slopes(&self, from: ValueId, rows: &[Row]) -> Slopes {
        let free =
            |index: usize| matches!(&self.steps[index].kind, Kind::Elementwise { choices: Some(_), .. });
        let zeros = |index| free(index).then(|| vec![Lane::ZERO; self.graph.len(index + 1)]);
        Slopes {
            chosen: (0..from).map(zeros).collect(),
            multipliers: rows.iter().map(Multipliers::new).collect(),
            ..Slopes::default()
        }
    }

    /// The best bounds of a panel of rows over `iterations` steps from the given
    /// choices, which end at those of the last. Ends when all are positive.
    pub(crate) fn ascend(
        &self,
        from: ValueId,
        rows: &[Row],
        slopes: &mut Slopes,
        iterations: usize,
        memory: &mut Workspace,
    ) -> Lane {
        let mut moments: Vec<Option<Vec<[Lane; 2]>>> = slopes
            .chosen
            .iter()
            .map(|chosen| chosen.as_ref().map(|c| vec![[Lane::ZERO; 2]; c.len()]))
            .collect();
        let mut best = Lane([f64::NEG_INFINITY; LANES]);
        for iteration in 0..=iterations {
            slopes.coefficients.clear();
            slopes.coefficients.resize_with(from, || None);
            let bounds = self.bound(from, rows, slopes, memory);
            best.0.iter_mut().zip(bounds.0).for_each(|(best, bound)| *best = best.max(bound));
            self.prove(rows, slopes, &bounds);
            let proved = best.0[..rows.len()].iter().all(|&b| b > 0.0);
            if iteration == iterations || proved || self.is_late() {
                break;
            }
            let (gradients, values) = self.gradients(from, rows, slopes);
            let halvings = (iterations as f64 / 12.0).max(2.0);
            let rate = STEP * 0.5_f64.powf(halvings * iteration as f64 / iterations as f64);
            let all = gradients.into_iter().zip(&mut slopes.chosen).zip(&mut moments);
            for ((gradient, chosen), moments) in all {
                if let (Some(gradient), Some(chosen), Some(moments)) = (gradient, chosen, moments) {
                    adam(chosen, &gradient, moments, rate, iteration);
                }
            }
            self.improve_multipliers(from, rows, slopes, &values, rate, iteration);
        }
        best
    }

    /// How the bounds grow with each choice. By the envelope theorem that is
    /// the derivative at the input where the linear function is least: the
    /// coefficient times the distance between the lines there. Also all values
    /// there, through the chosen lines (`LANES x entries`).
    #[expect(clippy::type_complexity, reason = "two lists, one entry for each node and each value")]
    fn gradients(
        &self,
        from: ValueId,
        rows: &[Row],
        slopes: &Slopes,
    ) -> (Vec<Option<Vec<Lane>>>, Vec<Option<Vec<f64>>>) {
        let boxes = Row::boxes(rows);
        let mut values: Vec<Option<Vec<f64>>> = (0..=from).map(|_| None).collect();
        let mut gradients: Vec<Option<Vec<Lane>>> = (0..from).map(|_| None).collect();
        values[0] = slopes.input.as_ref().map(|a| self.least_inputs(rows, a));
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
                    let chosen = choices.as_ref().zip(slopes.chosen.get(index).and_then(Option::as_ref));
                    let mut gradient = vec![Lane::ZERO; if chosen.is_some() { len } else { 0 }];
                    for (i, entry) in self.plan.orders()[index + 1].entries(len).enumerate() {
                        for (lane, &a) in a.get(i).0.iter().enumerate() {
                            let (k, of) = (lane * len + entry, usize::from(boxes[lane]) & (B - 1));
                            let at = |line: Line| line.slope * inputs[0][k] + line.offset;
                            let default = lines[i].line(usize::from(a < 0.0), of);
                            let Some((choices, chosen)) = chosen else {
                                out[k] = at(default);
                                continue;
                            };
                            let t = chosen[i].0[lane];
                            out[k] = at(line(&lines[i], &choices[i], of, t, a));
                            if a != 0.0 {
                                let side = |sides: &Sides<B>| at(sides.line(usize::from(a < 0.0), of));
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
                    for (lane, &of) in boxes.iter().enumerate() {
                        for (i, pair) in planes[usize::from(of) & (B - 1)].iter().enumerate() {
                            let plane = &pair[usize::from(a.get(i).0[lane] < 0.0)];
                            let at = |&(v, j, c): &(usize, usize, f64)| {
                                let entry = self.plan.orders()[node.inputs[v]].entry(j);
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
        (gradients, values)
    }

    /// For every row the point of its box at which its linear function is least
    /// (`LANES x entries`).
    pub(crate) fn least_inputs(&self, rows: &[Row], a: &Panel) -> Vec<f64> {
        let Intervals { lower, upper } = &self.values[0];
        let order = self.plan.orders()[0];
        let mut out = Vec::with_capacity(LANES * self.sides.len());
        for (lane, &of) in Row::boxes(rows).iter().enumerate() {
            out.extend((0..self.sides.len()).map(|i| {
                let ends = if a.get(order.place(i)).0[lane] > 0.0 { lower } else { upper };
                ends[i * B + usize::from(of)]
            }));
        }
        out
    }
}

/// One step of projected Adam (Kingma and Ba 2015) upward.
fn adam(chosen: &mut [Lane], gradient: &[Lane], moments: &mut [[Lane; 2]], rate: f64, iteration: usize) {
    for ((chosen, gradient), [first, second]) in chosen.iter_mut().zip(gradient).zip(moments) {
        for lane in 0..LANES {
            let step = direction(gradient.0[lane], &mut first.0[lane], &mut second.0[lane], iteration);
            chosen.0[lane] = (chosen.0[lane] + rate * step).clamp(-1.0, 1.0);
        }
    }
}

/// Adam's step of size one from a gradient and the moments of those before it.
pub(super) fn direction(gradient: f64, first: &mut f64, second: &mut f64, iteration: usize) -> f64 {
    if !gradient.is_finite() {
        return 0.0;
    }
    let steps = iteration as i32 + 1;
    *first = 0.9 * *first + 0.1 * gradient;
    *second = 0.999 * *second + 0.001 * gradient * gradient;
    if *second > 0.0 {
        *first / (1.0 - 0.9_f64.powi(steps)) / ((*second / (1.0 - 0.999_f64.powi(steps))).sqrt() + 1e-12)
    } else {
        0.0
    }
}
