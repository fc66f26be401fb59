//! Summary of deterministic certification.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bounds::Method;
use crate::runs::{CertifyRecord, RadiusRecord, Status};

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
    /// How many inputs are falsified: by the input itself, an attack or a search.
    pub falsified: usize,
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
            let falsified = records.iter().filter(|r| r.status == Status::Falsified).count();
            let attacked = tried.then_some(records.len() - falsified);
            let mut margins: Vec<f64> = records.iter().map(|r| r.least_margin()).collect();
            margins.sort_by(f64::total_cmp);
            results.push(EpsSummary {
                eps: *eps,
                method: *method,
                attacked,
                attacked_accuracy: attacked.map(|a| ratio(a, inputs)),
                certified,
                certified_accuracy: ratio(certified, inputs),
                falsified,
                mean_margin: margins.iter().map(|m| m / inputs.max(1) as f64).sum(),
                median_margin: margins.get(inputs.saturating_sub(1) / 2).copied().unwrap_or(f64::NAN),
                seconds_per_input: records.iter().map(|r| r.seconds).sum::<f64>() / inputs.max(1) as f64,
            });
        }
        Self { model, inputs, correct, clean_accuracy: ratio(correct, inputs), results, seconds }
    }
}

/// Summary of a run that brackets radii over one network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BracketSummary {
    /// The network's file.
    pub model: String,
    /// Number of inputs.
    pub inputs: usize,
    /// How many of them are classified correctly.
    pub correct: usize,
    /// How margins were bounded.
    pub method: Method,
    /// The largest radius that was tried.
    pub largest_eps: f64,
    /// Mean of the certified radii, 0 where the class is wrong.
    pub mean_certified_eps: f64,
    /// Quantiles of the certified radii: at .1, .5 and .9.
    pub certified_eps_quantiles: BTreeMap<&'static str, f64>,
    /// How many inputs are classified wrong, somewhere; absent without an attack.
    pub attacked: Option<usize>,
    /// Mean of the least radii at which that is, where the largest tried stands for what is not known.
    pub mean_attacked_eps: Option<f64>,
    /// Seconds for one input, on average.
    pub seconds_per_input: f64,
}

impl BracketSummary {
    /// Summarises the records of one run.
    #[must_use]
    pub fn new(model: String, method: Method, limit: f64, attack: bool, records: &[RadiusRecord]) -> Self {
        let inputs = records.len();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / inputs.max(1) as f64;
        let wrong = |r: &RadiusRecord| r.predicted != Some(r.label);
        let mut certified: Vec<f64> = records.iter().map(|r| r.certified_eps).collect();
        certified.sort_by(f64::total_cmp);
        let at = |share: f64| certified.get((share * inputs.saturating_sub(1) as f64) as usize).copied();
        let quantiles = [("0.1", 0.1), ("0.5", 0.5), ("0.9", 0.9)];
        let least = |r: &RadiusRecord| if wrong(r) { 0.0 } else { r.attacked_eps.unwrap_or(limit) };
        let attacked: Vec<f64> = records.iter().map(least).collect();
        let broken = records.iter().filter(|r| wrong(r) || r.attacked_eps.is_some()).count();
        Self {
            model,
            inputs,
            correct: records.iter().filter(|r| !wrong(r)).count(),
            method,
            largest_eps: limit,
            mean_certified_eps: mean(&certified),
            certified_eps_quantiles: quantiles.map(|(name, share)| (name, at(share).unwrap_or(0.0))).into(),
            attacked: attack.then_some(broken),
            mean_attacked_eps: attack.then(|| mean(&attacked)),
            seconds_per_input: mean(&records.iter().map(|r| r.seconds).collect::<Vec<_>>()),
        }
    }
}
