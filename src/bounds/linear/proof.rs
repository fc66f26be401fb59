//! What a bound was made from, written down for the checker of certificates (`certify/checker`, whose README has
//! the format): which intervals took a backward pass, slopes of lines, weights and multipliers. The checker
//! computes offsets, intervals and bounds from these on its own; none of them has to be right.

use std::fmt::Write;

use super::Relaxed;
use super::rows::Row;
use super::slopes::{RowProof, Slopes, line};
use super::step::Kind;
use crate::kernels::{Lane, Panel};
use crate::ops::{Line, Op};

/// A number: its bits in hexadecimal, without zeros at the end.
pub(crate) fn bits(x: f64) -> String {
    // Both zeros are the same slope.
    let text = format!("{:016x}", (x + 0.0).to_bits());
    let short = text.trim_end_matches('0');
    if short.is_empty() { "0".into() } else { short.into() }
}

/// Numbers side by side.
fn list(numbers: impl Iterator<Item = f64>) -> String {
    numbers.map(bits).collect::<Vec<_>>().join(" ")
}

/// Entries in ascending order, neighbours as ranges.
fn ranges(mut entries: Vec<usize>) -> String {
    entries.sort_unstable();
    entries.dedup();
    let runs = entries.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[usize]| match run {
        [one] => one.to_string(),
        more => format!("{}-{}", more[0], more[more.len() - 1]),
    };
    runs.map(run).collect::<Vec<_>>().join(" ")
}

impl<const B: usize> Relaxed<'_, B> {
    /// How the intervals and the default lines of box `of` came to be.
    pub(crate) fn intervals_proof(&self, of: usize) -> String {
        let mut text = String::new();
        let mut told = vec![false; self.values.len()];
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if matches!(node.op, Op::Affine(_)) {
                continue;
            }
            for (slot, &v) in node.inputs.iter().enumerate() {
                let mut own = String::new();
                if !std::mem::replace(&mut told[v], true) {
                    for (word, above) in [("below", false), ("above", true)] {
                        let passes = self.passes.iter().filter(|pass| pass.0 == v && pass.2 == above);
                        let entries: Vec<usize> =
                            passes.filter(|pass| pass.1 % B == of).map(|pass| pass.1 / B).collect();
                        if !entries.is_empty() {
                            let _ = writeln!(own, "{word} {}", ranges(entries));
                        }
                    }
                }
                if let Kind::Elementwise { lines, .. } = &self.steps[index].kind {
                    let order = self.plan.orders()[index + 1];
                    let pair = |entry: usize| {
                        let sides = &lines[order.place(entry)];
                        let [low, high] = [0, 1].map(|side| bits(usable(sides.line(side, of))));
                        if low == high { low } else { format!("{low}:{high}") }
                    };
                    let pairs: Vec<String> = (0..lines.len()).map(pair).collect();
                    if pairs.iter().any(|pair| pair != "0") {
                        let _ = writeln!(own, "lines {}", pairs.join(" "));
                    }
                }
                if !own.is_empty() {
                    let _ = write!(text, "bend {slot} {}\n{own}", node.name);
                }
            }
        }
        text
    }

    /// Writes down what proves the rows that have just become positive, where that is asked for.
    pub(crate) fn prove(&self, rows: &[Row], slopes: &mut Slopes, bounds: &Lane) {
        for lane in 0..slopes.proofs.len() {
            let RowProof { number, text } = &slopes.proofs[lane];
            if text.is_none() && bounds.0[lane] > 0.0 {
                slopes.proofs[lane].text =
                    Some(self.row_proof(slopes, rows, lane, *number, (0, rows[lane].functions.len())));
            }
        }
    }

    /// The function that was bounded in a lane: its weights, its multipliers, and the lines that were chosen for
    /// it. `number` is that of the disjunct, of whose atoms, as many as there are, those of the row begin at
    /// `first`.
    pub(crate) fn row_proof(
        &self,
        slopes: &Slopes,
        rows: &[Row],
        lane: usize,
        number: u32,
        (first, atoms): (usize, usize),
    ) -> String {
        let mut text = format!("row {number}\n");
        let multipliers = &slopes.multipliers[lane];
        if atoms != 1 {
            let weight = |i: usize| i.checked_sub(first).and_then(|i| multipliers.weights.get(i)).copied();
            let _ = writeln!(text, "weights {}", list((0..atoms).map(|i| weight(i).unwrap_or(0.0))));
        }
        if multipliers.cuts.iter().any(|m| *m > 0.0) {
            let _ = writeln!(text, "multipliers {}", list(multipliers.cuts.iter().copied()));
        }
        for (index, chosen) in slopes.chosen.iter().enumerate() {
            let (Some(chosen), Kind::Elementwise { lines, choices: Some(choices) }) =
                (chosen, &self.steps[index].kind)
            else {
                continue;
            };
            let (order, of) = (self.plan.orders()[index + 1], rows[lane].of);
            let coefficients: Option<&Panel> = slopes.coefficients.get(index).and_then(Option::as_ref);
            let Some(coefficients) = coefficients else { continue };
            let slope = |entry: usize| {
                let place = order.place(entry);
                let (t, a) = (chosen[place].0[lane], coefficients.get(place).0[lane]);
                if a == 0.0 { 0.0 } else { usable(line(&lines[place], &choices[place], of, t, a)) }
            };
            let all = list((0..lines.len()).map(slope));
            let _ = write!(text, "via {}\nslopes {all}\n", self.graph.nodes[index].name);
        }
        text
    }
}

/// The slope of a line; of one without a bound that of a constant.
fn usable(line: Line) -> f64 {
    if line.offset.is_finite() { line.slope } else { 0.0 }
}
