//! Records and summary of deterministic certification.

use serde::{Deserialize, Serialize};

use crate::bounds::Margins;

/// The result for one input and one eps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertifyRecord {
    /// Position of the input in its data set.
    pub index: usize,
    /// Its label.
    pub label: usize,
    /// The class that the network gives it; absent if a logit is NaN.
    pub predicted: Option<usize>,
    /// The radius, in units of the pixels.
    pub eps: f64,
    /// Whether the input is classified correctly, and provably so for every
    /// perturbation of size eps.
    pub certified: bool,
    /// Lower bound on `logit_label - logit_class` for every class; `None` at
    /// the label.
    pub margin_lower: Vec<Option<f64>>,
    /// Seconds spent on this result.
    pub seconds: f64,
}

impl CertifyRecord {
    /// The record of input `row` of a batch.
    #[must_use]
    pub fn new(
        index: usize,
        label: usize,
        predicted: Option<usize>,
        eps: f64,
        margins: &Margins,
        row: usize,
        seconds: f64,
    ) -> Self {
        // JSON has no infinity; no bound becomes the least number there is.
        let bound = |m: f64| if m.is_finite() { m } else { f64::MIN };
        let margin_lower = margins
            .lower()
            .row(row)
            .iter()
            .enumerate()
            .map(|(class, &m)| (class != label).then(|| bound(m)))
            .collect();
        let certified = predicted == Some(label) && margins.certified(row);
        Self { index, label, predicted, eps, certified, margin_lower, seconds }
    }

    fn least_margin(&self) -> f64 {
        self.margin_lower.iter().flatten().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Summary of a run over one network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CertifySummary {
    /// The network's file.
    pub model: String,
    /// Number of inputs.
    pub inputs: usize,
    /// How many of them are classified correctly.
    pub correct: usize,
    /// `correct / inputs`.
    pub clean_accuracy: f64,
    /// One entry for each eps, in the order asked for.
    pub results: Vec<EpsSummary>,
    /// Seconds for all results together.
    pub seconds: f64,
}

/// Summary for one eps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpsSummary {
    /// The radius.
    pub eps: f64,
    /// How many inputs are certified.
    pub certified: usize,
    /// `certified / inputs`.
    pub certified_accuracy: f64,
    /// Mean over inputs of the least margin bound.
    pub mean_margin: f64,
    /// Median over inputs of the least margin bound (the lower one of two).
    pub median_margin: f64,
    /// Seconds for one input, on average.
    pub seconds_per_input: f64,
}

impl CertifySummary {
    /// Summarises records that hold one entry for every input and eps.
    #[must_use]
    pub fn new(model: String, eps: &[f64], records: &[CertifyRecord]) -> Self {
        let ratio = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        let mut results = Vec::new();
        let (mut inputs, mut correct) = (0, 0);
        for &eps in eps {
            let records: Vec<_> = records.iter().filter(|r| r.eps == eps).collect();
            inputs = records.len();
            correct = records.iter().filter(|r| r.predicted == Some(r.label)).count();
            let certified = records.iter().filter(|r| r.certified).count();
            let mut margins: Vec<f64> = records.iter().map(|r| r.least_margin()).collect();
            margins.sort_by(f64::total_cmp);
            results.push(EpsSummary {
                eps,
                certified,
                certified_accuracy: ratio(certified, inputs),
                mean_margin: margins.iter().map(|m| m / inputs.max(1) as f64).sum(),
                median_margin: margins.get(inputs.saturating_sub(1) / 2).copied().unwrap_or(f64::NAN),
                seconds_per_input: records.iter().map(|r| r.seconds).sum::<f64>() / inputs.max(1) as f64,
            });
        }
        let seconds = records.iter().map(|r| r.seconds).sum();
        Self { model, inputs, correct, clean_accuracy: ratio(correct, inputs), results, seconds }
    }
}
