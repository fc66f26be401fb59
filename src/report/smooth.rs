//! Summary of randomized smoothing, and the table of the field's scripts.

use std::fmt::Write;

use serde::Serialize;

use crate::runs::SmoothRecord;

/// The table that the field's scripts read: tab-separated, one line per input,
/// radii rounded down.
#[must_use]
pub fn cohen_tsv(records: &[SmoothRecord]) -> String {
    let mut text = String::from("idx\tlabel\tpredict\tradius\tcorrect\ttime\n");
    for r in records {
        let radius = (r.radius * 1e4).floor() / 1e4;
        let class = |class: Option<usize>| class.map_or("-1".into(), |class| class.to_string());
        let (index, label, predicted) = (r.index, class(r.label), class(r.predicted));
        let correct = r.correct.unwrap_or(0);
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
    /// The summaries of the scales of the noise among records, in the order in which they appear.
    #[must_use]
    pub fn of_levels(model: &str, records: &[SmoothRecord]) -> Vec<(f64, Self)> {
        let level = |sigma| {
            let of: Vec<SmoothRecord> = records.iter().filter(|r| r.sigma == sigma).cloned().collect();
            (sigma, Self::new(model.to_owned(), &of))
        };
        SmoothRecord::sigmas(records).into_iter().map(level).collect()
    }

    /// Summarises records that hold one entry for every input.
    #[must_use]
    pub fn new(model: String, records: &[SmoothRecord]) -> Self {
        let inputs = records.len();
        let correct: Vec<f64> = records.iter().filter(|r| r.counts()).map(|r| r.radius).collect();
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
            abstentions: records.iter().filter(|r| r.predicted.is_none()).count(),
            average_certified_radius: correct.iter().fold(0.0, |sum, r| sum + r) / inputs.max(1) as f64,
            results,
            samples,
            samples_per_second: samples as f64 / seconds.max(1e-9),
            seconds,
        }
    }
}
