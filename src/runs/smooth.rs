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

impl Record for SmoothRecord {
    fn key(&self) -> Key {
        Key { index: self.index, part: Part::default() }
    }
}

impl SmoothRecord {
    /// Whether the radius counts: it is that of the label, or of the predicted class where no label is
    /// known.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.predicted.is_some() && self.correct != Some(0)
    }

    /// The record of an outcome.
    #[must_use]
    pub fn new(index: usize, label: Option<usize>, outcome: Outcome, seconds: f64) -> Self {
        let predicted = outcome.predicted();
        Self {
            index,
            label,
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
    Network(Box<BaseNetwork>, usize),
    Function(&'a Classifier<'a>),
}

/// The radii of a smoothed classifier.
pub struct Smooth<'a> {
    certifier: &'a Certifier,
    base: Base<'a>,
    options: Map<String, Value>,
}

impl<'a> Smooth<'a> {
    /// The question for a network; `options` are those that the certifier was made with, as the first
    /// line of a run file has them.
    #[must_use]
    pub fn new(certifier: &'a Certifier, graph: &Graph, options: Map<String, Value>) -> Self {
        let base = Base::Network(Box::new(certifier.base(graph)), graph.output_len());
        Self { certifier, base, options }
    }

    /// The question for any classifier.
    #[must_use]
    pub fn of(certifier: &'a Certifier, classifier: &'a Classifier, options: Map<String, Value>) -> Self {
        Self { certifier, base: Base::Function(classifier), options }
    }
}

impl Question for Smooth<'_> {
    type Record = SmoothRecord;

    fn options(&self) -> Map<String, Value> {
        self.options.clone()
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::default()]
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
            let begin = Instant::now();
            let x = batch.x.row(row).to_vec();
            if let Some((entry, value)) = x.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                let text = format!("entry {entry} is {value}; inputs must be finite");
                return Err(Failure::input(index, text));
            }
            let mut stopped = false;
            let outcome = match &self.base {
                Base::Network(network, _) => {
                    self.certifier.certify(index as u64, &network.input(&x), |inputs, range| {
                        stopped = stopped || !goes_on();
                        if stopped { Err("stopped".into()) } else { Ok(network.logits(inputs, range)) }
                    })
                }
                Base::Function(classifier) => {
                    self.certifier.certify(index as u64, &Cow::Borrowed(&x), |inputs, range| {
                        stopped = stopped || !goes_on();
                        if stopped { Err("stopped".into()) } else { classifier(inputs, range) }
                    })
                }
            };
            if stopped {
                return Err(Failure::Stopped);
            }
            let outcome = outcome.map_err(|e| Failure::input(index, e))?;
            let label = batch.labels.as_ref().map(|labels| labels[row]);
            records.push(SmoothRecord::new(index, label, outcome, begin.elapsed().as_secs_f64()));
        }
        Ok(records)
    }
}
