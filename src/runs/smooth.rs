//! `smooth`: the radius that randomized smoothing certifies for an input.

use std::borrow::Cow;
use std::time::Instant;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Batch, Failure, Key, Part, Question, Record};
use crate::graph::Graph;
use crate::smoothing::certifier::{BaseNetwork, Certifier};
use crate::smoothing::ledger::Ledger;
use crate::smoothing::procedure::{Bound, Outcome, SampleError};
use crate::smoothing::sampler::NoisyInputs;

/// The result for one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmoothRecord {
    /// Position of the input in its data set.
    pub index: usize,
    /// Its label, if it is known.
    pub label: Option<usize>,
    /// The scale of the noise.
    pub sigma: f64,
    /// The certified class; absent for an abstention.
    pub predicted: Option<usize>,
    /// The certified radius, 0 for an abstention.
    pub radius: f64,
    /// Whether the certified class is the label, 0 or 1; absent where that is not known.
    pub correct: Option<u8>,
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

/// What tells the records of an input apart.
fn of(sigma: f64) -> Part {
    Part { sigma: Some(sigma), ..Part::default() }
}

impl Record for SmoothRecord {
    fn key(&self) -> Key {
        Key { index: self.index, part: of(self.sigma) }
    }
}

impl SmoothRecord {
    /// Whether the radius counts: it is that of the label, or of the predicted class where no label is
    /// known.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.predicted.is_some() && self.correct != Some(0)
    }

    /// The scales of the noise among records, in the order in which they appear.
    #[must_use]
    pub fn sigmas(records: &[Self]) -> Vec<f64> {
        let mut sigmas: Vec<f64> = Vec::new();
        for record in records {
            if !sigmas.contains(&record.sigma) {
                sigmas.push(record.sigma);
            }
        }
        sigmas
    }

    /// The record of an outcome.
    #[must_use]
    pub fn new(index: usize, label: Option<usize>, outcome: Outcome, seconds: f64) -> Self {
        let predicted = outcome.predicted();
        Self {
            index,
            label,
            sigma: outcome.noise.scale().get(),
            predicted,
            radius: outcome.radius.map_or(0.0, crate::smoothing::quantity::Radius::get),
            correct: label.map(|label| u8::from(predicted == Some(label))),
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

/// A classifier of the caller: logits (`samples x classes`) for the noisy inputs of a range of samples.
pub type Classifier<'a> = dyn Fn(&NoisyInputs, std::ops::Range<u32>) -> Result<Array2<f32>, SampleError> + 'a;

enum Base<'a> {
    /// As each certifier asks for it.
    Network(Vec<BaseNetwork>, usize),
    Function(&'a Classifier<'a>),
}

/// The radii of smoothed classifiers, one for each scale of the noise. Each radius is false with
/// probability at most alpha; the noise at two scales is the same but for the scale, so that they are not
/// independent.
pub struct Smooth<'a> {
    certifiers: &'a [Certifier],
    base: Base<'a>,
    options: Map<String, Value>,
}

impl<'a> Smooth<'a> {
    /// The question for a network; `options` are those that the certifiers, which differ in the scale of
    /// the noise, were made with, as the first line of a run file has them.
    #[must_use]
    pub fn new(certifiers: &'a [Certifier], graph: &Graph, options: Map<String, Value>) -> Self {
        let networks = certifiers.iter().map(|certifier| certifier.base(graph)).collect();
        Self { certifiers, base: Base::Network(networks, graph.output_len()), options }
    }

    /// The question for any classifier.
    #[must_use]
    pub fn of(certifiers: &'a [Certifier], classifier: &'a Classifier, options: Map<String, Value>) -> Self {
        Self { certifiers, base: Base::Function(classifier), options }
    }
}

impl Question for Smooth<'_> {
    type Record = SmoothRecord;

    fn options(&self) -> Map<String, Value> {
        self.options.clone()
    }

    fn parts(&self) -> Vec<Part> {
        self.certifiers.iter().map(|certifier| of(certifier.noise().scale().get())).collect()
    }

    fn block(&self) -> usize {
        1
    }

    fn answer(&self, batch: &Batch, goes_on: &mut dyn FnMut() -> bool) -> Result<Vec<SmoothRecord>, Failure> {
        if let (Base::Network(_, classes), Some(_)) = (&self.base, &batch.labels) {
            batch.labels(*classes)?;
        }
        let mut records = Vec::new();
        for (row, &index) in batch.indices.iter().enumerate() {
            let x = batch.x.row(row).to_vec();
            if let Some((entry, value)) = x.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                let text = format!("entry {entry} is {value}; inputs must be finite");
                return Err(Failure::input(index, text));
            }
            let label = batch.labels.as_ref().map(|labels| labels[row]);
            for (level, certifier) in self.certifiers.iter().enumerate() {
                let (begin, mut stopped) = (Instant::now(), false);
                let mut ask = |answer: &dyn Fn() -> Result<Array2<f32>, SampleError>| {
                    stopped = stopped || !goes_on();
                    if stopped { Err("stopped".into()) } else { answer() }
                };
                let outcome = match &self.base {
                    Base::Network(networks, _) => {
                        let network = &networks[level];
                        certifier.certify(index as u64, &network.input(&x), |inputs, range| {
                            ask(&|| Ok(network.logits(inputs, range.clone())))
                        })
                    }
                    Base::Function(classifier) => {
                        certifier.certify(index as u64, &Cow::Borrowed(&x), |inputs, range| {
                            ask(&|| classifier(inputs, range.clone()))
                        })
                    }
                };
                if stopped {
                    return Err(Failure::Stopped);
                }
                let outcome = outcome.map_err(|e| Failure::input(index, e))?;
                records.push(SmoothRecord::new(index, label, outcome, begin.elapsed().as_secs_f64()));
            }
        }
        Ok(records)
    }
}
