//! Records and summary of randomized smoothing.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::smoothing::ledger::Ledger;
use crate::smoothing::procedure::{Bound, Outcome};

/// The result for one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmoothRecord {
    /// Position of the input in its data set.
    pub index: usize,
    /// Its label.
    pub label: usize,
    /// The certified class, or -1 for an abstention.
    pub predicted: i64,
    /// The certified radius, 0 for an abstention.
    pub radius: f64,
    /// Whether the certified class is the label: 0 or 1.
    pub correct: u8,
    /// Noisy evaluations used, those of the selection included.
    pub samples: u64,
    /// The simplex map that the selection froze.
    pub map: String,
    /// The confidence bound, as in the outcome.
    pub bound: Bound,
    /// Lower bound on the class's smoothed score.
    pub p_lower: f64,
    /// Upper bound on every other score; 1 where it was not bounded.
    pub p_upper: f64,
    /// Where alpha went.
    pub ledger: Ledger,
    /// Seconds spent on this input.
    pub seconds: f64,
    /// All that the bounds were computed from.
    pub outcome: Outcome,
}

impl SmoothRecord {
    /// The record of an outcome.
    #[must_use]
    pub fn new(index: usize, label: usize, outcome: Outcome, seconds: f64) -> Self {
        let predicted = outcome.predicted();
        Self {
            index,
            label,
            predicted: predicted.map_or(-1, |class| class as i64),
            radius: outcome.radius.map_or(0.0, crate::smoothing::quantity::Radius::get),
            correct: u8::from(predicted == Some(label)),
            samples: u64::from(outcome.n0) + u64::from(outcome.samples),
            map: outcome.candidate.map().to_string(),
            bound: outcome.candidate.bound(),
            p_lower: outcome.p_lower.get(),
            p_upper: outcome.p_upper.get(),
            ledger: outcome.ledger.clone(),
            seconds,
            outcome,
        }
    }
}

/// The table that the field's scripts read: tab-separated, one line per input,
/// radii rounded down.
#[must_use]
pub fn cohen_tsv(records: &[SmoothRecord]) -> String {
    let mut text = String::from("idx\tlabel\tpredict\tradius\tcorrect\ttime\n");
    for r in records {
        let radius = (r.radius * 1e4).floor() / 1e4;
        let (index, label, predicted, correct) = (r.index, r.label, r.predicted, r.correct);
        writeln!(text, "{index}\t{label}\t{predicted}\t{radius:.4}\t{correct}\t{:.3}", r.seconds)
            .expect("writing to a string");
    }
    text
}

/// Summary of a run over one network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SmoothSummary {
    /// The network's file.
    pub model: String,
    /// Number of inputs.
    pub inputs: usize,
    /// How many inputs were abstained on.
    pub abstentions: usize,
    /// Mean over inputs of the radius, 0 where the certified class is wrong.
    pub average_certified_radius: f64,
    /// Certified accuracy at radii 0, 0.25, ... up to the largest.
    pub results: Vec<RadiusSummary>,
    /// Noisy evaluations of all inputs together.
    pub samples: u64,
    /// Evaluations per second.
    pub samples_per_second: f64,
    /// Seconds for all inputs together.
    pub seconds: f64,
}

/// Certified accuracy at one radius.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RadiusSummary {
    /// The radius.
    pub radius: f64,
    /// How many inputs are certified for the label with at least this radius.
    pub certified: usize,
    /// `certified / inputs`.
    pub certified_accuracy: f64,
}

impl SmoothSummary {
    /// Summarises records that hold one entry for every input.
    #[must_use]
    pub fn new(model: String, records: &[SmoothRecord]) -> Self {
        let inputs = records.len();
        let correct: Vec<f64> = records.iter().filter(|r| r.correct == 1).map(|r| r.radius).collect();
        let largest = correct.iter().copied().fold(0.0, f64::max);
        let results = (0..=(largest * 4.0) as usize)
            .map(|step| {
                let radius = step as f64 / 4.0;
                let certified = correct.iter().filter(|&&r| r >= radius).count();
                RadiusSummary {
                    radius,
                    certified,
                    certified_accuracy: certified as f64 / inputs.max(1) as f64,
                }
            })
            .collect();
        let samples = records.iter().map(|r| r.samples).sum::<u64>();
        let seconds = records.iter().map(|r| r.seconds).sum::<f64>();
        Self {
            model,
            inputs,
            abstentions: records.iter().filter(|r| r.predicted < 0).count(),
            average_certified_radius: correct.iter().fold(0.0, |sum, r| sum + r) / inputs.max(1) as f64,
            results,
            samples,
            samples_per_second: samples as f64 / seconds.max(1e-9),
            seconds,
        }
    }
}
