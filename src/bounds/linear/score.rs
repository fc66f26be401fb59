//! Where a cut would help most.

use super::rows::Cut;
use super::slopes::Slopes;
use super::step::{Kind, Plane};
use super::{Plan, Relaxed};
use crate::graph::ValueId;
use crate::ops::Op;

/// A place to cut an interval of a value, and how much of a bound hangs on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) value: ValueId,
    pub(crate) entry: usize,
    pub(crate) point: f64,
    pub(crate) score: f64,
}

impl Candidate {
    /// The two cuts, below and above; together they leave nothing out.
    pub(crate) fn cuts(&self) -> [Cut; 2] {
        let Self { value, entry, point, .. } = *self;
        [-1.0, 1.0].map(|sign| Cut { value, entry, sign, point })
    }
}

impl Plan<'_> {
    /// Whether cuts of a value are of use: functions or products read it.
    pub(crate) fn is_cut(&self, v: ValueId) -> bool {
        v > 0 && !self.readers[v].is_empty()
    }
}

impl<const B: usize> Relaxed<'_, B> {
    /// The best places to cut a value that a function or product reads, at most `most`, best first, for the
    /// row of a lane over box `of`: by its coefficients, times the distance between the lines or planes there
    /// (for a relu the intercept of its upper line, as `BaBSR` has it; Bunel et al. 2020).
    pub(crate) fn candidates(&self, slopes: &Slopes, lane: usize, of: usize, most: usize) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        self.losses(slopes, lane, of, |candidate| {
            let full = found.len() == 4 * most;
            if full && found.last().is_some_and(|last| last.score >= candidate.score) {
                return;
            }
            let same = |c: &&mut Candidate| c.value == candidate.value && c.entry == candidate.entry;
            if let Some(known) = found.iter_mut().find(same) {
                known.score += candidate.score;
            } else {
                found.push(candidate);
            }
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(4 * most);
        });
        found.truncate(most);
        found
    }

    /// How much of what the row of a lane over box `of` loses hangs on the widths of the input's entries: the
    /// losses at all functions and products, each shared out by what the entries add to the interval there.
    pub(crate) fn input_losses(&self, slopes: &Slopes, lane: usize, of: usize) -> Vec<f64> {
        let mut losses = vec![0.0; self.sides.len()];
        let Some(influence) = &self.influence else { return losses };
        self.losses(slopes, lane, of, |Candidate { value, entry, score, .. }| {
            let Some(shares) = influence.get(&(value, entry * B + of)) else { return };
            let total: f64 = shares.iter().sum();
            if total > 0.0 && score.is_finite() {
                losses.iter_mut().zip(shares).for_each(|(loss, share)| *loss += score * share / total);
            }
        });
        losses
    }

    /// Shows where the row of a lane over box `of` loses something to lines or planes, and how much.
    fn losses(&self, slopes: &Slopes, lane: usize, of: usize, mut each: impl FnMut(Candidate)) {
        let mut add = |candidate: Candidate| {
            if candidate.score > 0.0 && candidate.point.is_finite() {
                each(candidate);
            }
        };
        for (index, a) in slopes.coefficients.iter().enumerate() {
            let Some(a) = a else { continue };
            let node = &self.graph.nodes[index];
            match (&self.steps[index].kind, &node.op) {
                (Kind::Elementwise { lines, .. }, Op::Elementwise(function)) => {
                    let v = node.inputs[0];
                    let folded = v.checked_sub(1).filter(|&before| self.plan.folded[before]);
                    for place in a.live() {
                        let size = a.get(place).0[lane].abs();
                        if size == 0.0 {
                            continue;
                        }
                        let entry = self.plan.orders()[index + 1].entry(place);
                        let [lower, upper] = self.interval(v, entry, of);
                        let Some(point) = function.split_point(entry, lower, upper) else { continue };
                        let [below, above] = [0, 1].map(|side| lines[place].line(side, of));
                        let bias = folded.map_or(0.0, |before| self.bias(before, entry));
                        let gap =
                            (above.slope - below.slope) * (point - bias) + (above.offset - below.offset);
                        add(Candidate { value: v, entry, point, score: size * gap });
                    }
                }
                (Kind::Product { planes }, _) => {
                    for (i, pair) in planes[of].iter().enumerate() {
                        let size = a.get(i).0[lane].abs();
                        if size == 0.0 {
                            continue;
                        }
                        let middle = |plane: &Plane| -> f64 {
                            let at = |&(input, place, c): &(usize, usize, f64)| {
                                let v = node.inputs[input];
                                let [lower, upper] = self.interval(v, self.plan.orders()[v].entry(place), of);
                                c * (0.5 * lower + 0.5 * upper)
                            };
                            plane.offset + plane.terms.iter().map(at).sum::<f64>()
                        };
                        let gap = middle(&pair[1]) - middle(&pair[0]);
                        for &(input, place, c) in &pair[usize::from(a.get(i).0[lane] < 0.0)].terms {
                            let v = node.inputs[input];
                            let entry = self.plan.orders()[v].entry(place);
                            let [lower, upper] = self.interval(v, entry, of);
                            let point = 0.5 * lower + 0.5 * upper;
                            if lower < point && point < upper && v > 0 && c != 0.0 {
                                add(Candidate { value: v, entry, point, score: size * gap });
                            }
                        }
                    }
                }
                _ => (),
            }
        }
    }

    /// The interval of an entry of a value over box `of`.
    pub(crate) fn interval(&self, v: ValueId, entry: usize, of: usize) -> [f64; 2] {
        let values = &self.values[v];
        [values.lower[entry * B + of], values.upper[entry * B + of]]
    }
}
