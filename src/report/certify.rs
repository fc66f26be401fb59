//! Records and summary of deterministic certification.

use serde::{Deserialize, Serialize};

use crate::attack::Attacked;
use crate::bounds::{Margins, Method};

/// What is known of one input at one eps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Classified correctly, and provably so for every perturbation.
    Certified,
    /// A perturbation (or the input itself) is classified otherwise.
    Falsified,
    /// Neither is proved.
    Unknown,
}

/// The result for one input, one eps and one method.
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
    /// How margins were to be bounded; absent for an attack alone.
    pub method: Option<Method>,
    /// The last method tried, which for `best` says what it took.
    pub bounded_by: Option<Method>,
    /// Whether the input is classified correctly, and provably so for every
    /// perturbation of size eps.
    pub certified: bool,
    /// Certified, falsified or neither.
    pub status: Status,
    /// Lower bound on `logit_label - logit_class` for every class; `None` at
    /// the label.
    pub margin_lower: Vec<Option<f64>>,
    /// The least margin that an attack found.
    pub attack_margin: Option<f64>,
    /// File of the perturbed input that is classified otherwise.
    pub counterexample: Option<String>,
    /// Seconds spent on this result: on its bounds, without the prediction, or on the attack where it stands
    /// alone.
    pub seconds: f64,
}

impl CertifyRecord {
    /// The record of an input with the bounds of row `row` and the result of
    /// an attack, as far as there are any.
    #[must_use]
    pub fn new(
        (index, label, predicted): (usize, usize, Option<usize>),
        (eps, method): (f64, Option<Method>),
        bounds: Option<(&Margins, usize)>,
        attacked: Option<&Attacked>,
        counterexample: Option<String>,
        seconds: f64,
    ) -> Self {
        // JSON has no infinity; no bound becomes the least number there is.
        let bound = |m: f64| if m.is_finite() { m } else { f64::MIN };
        let margin_lower = bounds.map_or(Vec::new(), |(margins, row)| {
            let row = margins.lower().row(row);
            row.iter().enumerate().map(|(class, &m)| (class != label).then(|| bound(m))).collect()
        });
        let falsified = predicted != Some(label) || attacked.is_some_and(|a| a.succeeded);
        let certified = !falsified && bounds.is_some_and(|(margins, row)| margins.certified(row));
        let status = match (certified, falsified) {
            (true, _) => Status::Certified,
            (_, true) => Status::Falsified,
            _ => Status::Unknown,
        };
        Self {
            index,
            label,
            predicted,
            eps,
            method,
            bounded_by: bounds.map(|(margins, row)| margins.method(row)),
            certified,
            status,
            margin_lower,
            attack_margin: attacked.map(|a| f64::from(a.margin)).filter(|m| m.is_finite()),
            counterexample,
            seconds,
        }
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

/// Summary for one eps and one method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpsSummary {
    /// The radius.
    pub eps: f64,
    /// The method asked for; absent for an attack alone.
    pub method: Option<Method>,
    /// How many inputs are classified correctly and no attack changed that;
    /// absent without an attack.
    pub attacked: Option<usize>,
    /// `attacked / inputs`.
    pub attacked_accuracy: Option<f64>,
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
    /// Summarises the records of one run: for each eps and method asked for,
    /// those of all inputs.
    #[must_use]
    pub fn new(model: String, groups: &[(f64, Option<Method>, Vec<&CertifyRecord>)]) -> Self {
        let ratio = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        let mut results = Vec::new();
        let (mut inputs, mut correct, mut seconds) = (0, 0, 0.0);
        for (eps, method, records) in groups {
            inputs = records.len();
            correct = records.iter().filter(|r| r.predicted == Some(r.label)).count();
            seconds += records.iter().map(|r| r.seconds).sum::<f64>();
            let certified = records.iter().filter(|r| r.certified).count();
            let tried = records.iter().any(|r| r.attack_margin.is_some());
            let attacked = tried.then(|| records.iter().filter(|r| r.status != Status::Falsified).count());
            let mut margins: Vec<f64> = records.iter().map(|r| r.least_margin()).collect();
            margins.sort_by(f64::total_cmp);
            results.push(EpsSummary {
                eps: *eps,
                method: *method,
                attacked,
                attacked_accuracy: attacked.map(|a| ratio(a, inputs)),
                certified,
                certified_accuracy: ratio(certified, inputs),
                mean_margin: margins.iter().map(|m| m / inputs.max(1) as f64).sum(),
                median_margin: margins.get(inputs.saturating_sub(1) / 2).copied().unwrap_or(f64::NAN),
                seconds_per_input: records.iter().map(|r| r.seconds).sum::<f64>() / inputs.max(1) as f64,
            });
        }
        Self { model, inputs, correct, clean_accuracy: ratio(correct, inputs), results, seconds }
    }
}
