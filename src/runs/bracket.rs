//! `certify --radius`: between which radii the robustness of an input ends.

use std::time::{Duration, Instant};

use ndarray::ArrayView1;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::certify::Network;
use super::complete::{Asked, Complete};
use super::{Batch, Failure, Key, Part, Question, Record};
use crate::attack::Pgd;
use crate::bounds::{Eps, Evaluation, MarginBounds, Method, Norm};
use crate::exec::Plan;
use crate::graph::Graph;
use crate::lipschitz::margin_bounds;
use crate::verify::Verdict;

/// Halvings: the radius is found to a thousandth of the largest eps.
const HALVINGS: u32 = 10;

/// The bracket of one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RadiusRecord {
    /// Position of the input in its data set.
    pub index: usize,
    /// Its label.
    pub label: usize,
    /// The class that the network gives it; absent if a logit is NaN.
    pub predicted: Option<usize>,
    /// The arithmetic of the network that the proofs speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// The largest eps that was proved; 0 if none was.
    pub certified_eps: f64,
    /// The smallest eps at which an attack or a search succeeded; absent if none did.
    pub attacked_eps: Option<f64>,
    /// Seconds spent on this result.
    pub seconds: f64,
}

impl Record for RadiusRecord {
    fn key(&self) -> Key {
        Key { index: self.index, part: Part::default() }
    }
}

/// The largest certified radius of inputs up to a limit, and the smallest at which an attack succeeds.
pub struct Brackets<'a> {
    network: Network<'a>,
    bounds: MarginBounds<'a>,
    method: Method,
    complete: Option<Complete<'a>>,
    eps: Vec<Eps>,
    limit: Eps,
}

impl<'a> Brackets<'a> {
    /// The question for radii up to the largest of `eps`. [`Method::Complete`] searches until the ends of the
    /// bracket meet, for at most `timeout` for an input.
    ///
    /// # Errors
    /// A sentence that says which options cannot be used.
    pub fn new(
        network: (&'a Graph, &'a Plan),
        (norm, eps, clip): (Norm, Vec<Eps>, Option<(f64, f64)>),
        method: Method,
        attack: Option<Pgd>,
        timeout: Option<Duration>,
    ) -> Result<Self, String> {
        let bounds = margin_bounds(network.0, method);
        let complete =
            (method == Method::Complete).then(|| Complete::new(network.0, norm, timeout)).transpose()?;
        let network = Network::new(network, norm, clip, attack)?;
        let bounds = bounds.evaluated(network.evaluation);
        let limit = eps.iter().max_by(|a, b| a.upper().total_cmp(&b.upper())).cloned();
        Ok(Self {
            network,
            bounds,
            method,
            complete,
            limit: limit.ok_or("no eps; give the largest radius")?,
            eps,
        })
    }

    /// The same for a network that is evaluated in this arithmetic.
    #[must_use]
    pub fn evaluated(mut self, evaluation: Evaluation) -> Self {
        self.network.evaluation = evaluation;
        let complete = self.complete.map(|complete| complete.evaluated(evaluation));
        Self { bounds: self.bounds.evaluated(evaluation), complete, ..self }
    }

    /// The largest radius.
    #[must_use]
    pub fn limit(&self) -> &Eps {
        &self.limit
    }

    fn bracket(&self, batch: &Batch, row: usize, label: usize) -> Result<(f64, Option<f64>), Failure> {
        let proved = |eps: &Eps| -> Result<bool, Failure> {
            Ok(self.bounds.bound(&self.network.sets(batch, row..row + 1, eps)?, &[label]).certified(0))
        };
        let middle =
            |low: f64, high: f64| Eps::try_from(0.5 * (low + high)).map_err(|e| Failure::Question(e.into()));
        let limit = self.limit.value();
        let (mut low, mut high) = (0.0, limit);
        if self.method == Method::Lipschitz && self.network.norm == Norm::L2 {
            // One evaluation, and no search.
            let sets = self.network.sets(batch, row..row + 1, &self.limit)?;
            (low, high) = (self.bounds.radius(&sets, 0, label).min(limit), 0.0);
        } else if proved(&self.limit)? {
            low = limit;
        }
        for _ in 0..HALVINGS {
            let middle = middle(low, high)?;
            if low >= high {
                break;
            }
            if proved(&middle)? {
                low = middle.value();
            } else {
                high = middle.value();
            }
        }
        let Some(attack) = &self.network.attack else { return Ok((low, None)) };
        let succeeded = |eps: &Eps| {
            self.network.attacked(attack, eps, (batch.x.row(row), label, batch.indices[row])).succeeded
        };
        if !succeeded(&self.limit) {
            return Ok((low, None));
        }
        let (mut safe, mut broken) = (low, limit);
        for _ in 0..HALVINGS {
            let middle = middle(safe, broken)?;
            if succeeded(&middle) {
                broken = middle.value();
            } else {
                safe = middle.value();
            }
        }
        Ok((low, Some(broken)))
    }
}

impl Brackets<'_> {
    /// Halves a bracket by branch and bound until it is as narrow as bisection leaves it, or time is over.
    fn narrow(
        &self,
        complete: &Complete,
        x: ArrayView1<f32>,
        record: &mut RadiusRecord,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let (begin, deadline, limit) = (Instant::now(), complete.deadline(), self.limit.value());
        let narrow = limit * 0.5_f64.powi(HALVINGS as i32);
        // What is known or feared to be too much; the whole range first, as many inputs end there. Searches
        // are harder the larger the radius is, so what was too hard is tried again well below.
        let mut part_of_gap = 0.5;
        let (mut high, mut eps) = (record.attacked_eps.unwrap_or(f64::INFINITY), self.limit.clone());
        while record.certified_eps < limit && high - record.certified_eps > narrow {
            if high.is_finite() {
                let gap = high - record.certified_eps;
                let middle = Eps::try_from(record.certified_eps + part_of_gap * gap);
                eps = middle.map_err(|e| Failure::Question(e.into()))?;
            }
            let perturbations = self.network.region(&eps);
            let asked = Asked { x, label: record.label, perturbations: &perturbations };
            // A part of the time that is left, so that some is for smaller radii.
            let now = Instant::now();
            let part = deadline.map(|deadline| now + deadline.saturating_duration_since(now) / 4);
            match complete.search(&asked, part, false, goes_on)?.verdict {
                Verdict::Unsat => {
                    record.certified_eps = eps.value();
                    part_of_gap = 0.5;
                }
                Verdict::Sat => {
                    record.attacked_eps = Some(eps.value());
                    high = eps.value();
                }
                Verdict::Unknown | Verdict::TimedOut => {
                    high = eps.value();
                    part_of_gap = 0.125;
                }
            }
        }
        record.seconds += begin.elapsed().as_secs_f64();
        Ok(())
    }
}

impl Question for Brackets<'_> {
    type Record = RadiusRecord;

    fn options(&self) -> Map<String, Value> {
        let mut options = self.network.options(&self.eps, &[self.method]);
        options.insert("radius".into(), json!(self.limit.value()));
        options.extend(self.complete.as_ref().map(Complete::option));
        options
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::default()]
    }

    fn block(&self) -> usize {
        if self.complete.is_some() { 1 } else { 4 }
    }

    fn answer(&self, batch: &Batch, goes_on: &mut dyn FnMut() -> bool) -> Result<Vec<RadiusRecord>, Failure> {
        let labels = batch.labels(self.network.graph.output_len())?;
        let predicted = self.network.predict(batch);
        let one = |row: usize| {
            let begin = Instant::now();
            let (index, label, predicted) = (batch.indices[row], labels[row], predicted[row]);
            let right = predicted == Some(label);
            let (certified_eps, attacked_eps) =
                if right { self.bracket(batch, row, label)? } else { (0.0, None) };
            let seconds = begin.elapsed().as_secs_f64();
            let evaluation = Some(self.network.evaluation);
            Ok(RadiusRecord { index, label, predicted, evaluation, certified_eps, attacked_eps, seconds })
        };
        let mut records: Vec<RadiusRecord> =
            (0..labels.len()).into_par_iter().map(one).collect::<Result<_, Failure>>()?;
        if let Some(complete) = &self.complete {
            for (row, record) in records.iter_mut().enumerate().filter(|(_, r)| r.predicted == Some(r.label))
            {
                self.narrow(complete, batch.x.row(row), record, goes_on)?;
            }
        }
        Ok(records)
    }
}
