//! `certify` and `attack`: does an input keep its class under every perturbation of a region?

use std::time::{Duration, Instant};

use ndarray::ArrayView1;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::certificate::{Certificate, Shown};
use super::complete::{Asked, Complete};
use super::engine::Cause;
use super::question::name;
use super::{Batch, Failure, Key, Part, Question, Record};
use crate::attack::{Attacked, Pgd, class_of};
use crate::bounds::{Eps, Evaluation, InputBox, MarginBounds, Margins, Method, Norm, Region};
use crate::exec::Plan;
use crate::graph::Graph;
use crate::lipschitz::margin_bounds;
use crate::verify::{Outcome, Verdict};

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
    /// The arithmetic of the network that the bounds speak of; absent for an attack alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
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
    /// Subproblems of branch and bound, where there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subproblems: Option<u64>,
    /// Why branch and bound left the input open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds spent on this result: on its bounds and on branch and bound, without the prediction, or on the
    /// attack where it stands alone.
    pub seconds: f64,
}

impl Record for CertifyRecord {
    fn key(&self) -> Key {
        Key { index: self.index, part: part(self.eps, self.method) }
    }
}

fn part(eps: f64, method: Option<Method>) -> Part {
    Part { eps: Some(eps), method, ..Part::default() }
}

impl CertifyRecord {
    /// The record of an input with the bounds of row `row` and the result of
    /// an attack, as far as there are any.
    fn new(
        (index, label, predicted): (usize, usize, Option<usize>),
        (eps, method, evaluation): (f64, Option<Method>, Evaluation),
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
            evaluation: bounds.map(|_| evaluation),
            bounded_by: bounds.map(|(margins, row)| margins.method(row)),
            certified,
            status,
            margin_lower,
            attack_margin: attacked.map(|a| f64::from(a.margin)).filter(|m| m.is_finite()),
            counterexample,
            subproblems: None,
            reason: None,
            seconds,
        }
    }

    /// Takes over what branch and bound found.
    fn take(&mut self, outcome: &Outcome, seconds: f64) {
        let Outcome { verdict, progress, reason, .. } = outcome;
        (self.certified, self.status) = match verdict {
            Verdict::Unsat => (true, Status::Certified),
            Verdict::Sat => (false, Status::Falsified),
            Verdict::Unknown | Verdict::TimedOut => (false, Status::Unknown),
        };
        // What is refuted has positive margins, what is open the least bound of the search.
        let least = if self.certified { 0.0 } else { progress.lower.min(0.0) };
        if *verdict != Verdict::Sat && least.is_finite() {
            self.margin_lower.iter_mut().flatten().for_each(|bound| *bound = bound.max(least));
        }
        self.bounded_by = Some(Method::Complete);
        self.subproblems = Some(progress.subproblems);
        self.reason.clone_from(reason);
        self.seconds += seconds;
    }

    /// The least margin bound.
    #[must_use]
    pub fn least_margin(&self) -> f64 {
        self.margin_lower.iter().flatten().copied().fold(f64::INFINITY, f64::min)
    }
}

/// What is done with the point that an attack found for an input at a radius: the name of the file that
/// it was written to, if it was.
pub type Keep<'a> = dyn Fn(usize, &Eps, &Attacked) -> Result<Option<String>, Cause> + 'a;

/// What is done with what proves a result.
pub type Prove<'a> = dyn Fn(&Certificate) -> Result<(), Cause> + 'a;

/// Whether inputs keep their class, for every radius and method.
pub struct Certify<'a> {
    pub(super) network: Network<'a>,
    eps: Vec<Eps>,
    methods: Vec<(Option<Method>, Option<MarginBounds<'a>>)>,
    /// For [`Method::Complete`].
    complete: Option<Complete<'a>>,
    /// Told of every point that the attack found.
    pub keep: Option<&'a Keep<'a>>,
    /// Told of what proves every input that is certified or falsified.
    pub prove: Option<&'a Prove<'a>>,
}

/// A network, the perturbations of its inputs, and how they are searched.
pub(super) struct Network<'a> {
    pub(super) graph: &'a Graph,
    plan: &'a Plan,
    pub(super) norm: Norm,
    clip: Option<(f64, f64)>,
    pub(super) attack: Option<Pgd>,
    /// The arithmetic that bounds speak of.
    pub(super) evaluation: Evaluation,
}

impl<'a> Network<'a> {
    /// Checks that there is something to classify.
    pub(super) fn new(
        (graph, plan): (&'a Graph, &'a Plan),
        norm: Norm,
        clip: Option<(f64, f64)>,
        attack: Option<Pgd>,
    ) -> Result<Self, String> {
        // With a single class every decision would be certified.
        if graph.output_len() < 2 {
            return Err("has one output; a classifier has at least 2".into());
        }
        Ok(Self { graph, plan, norm, clip, attack, evaluation: Evaluation::default() })
    }

    /// The classes of some inputs.
    pub(super) fn predict(&self, batch: &Batch) -> Vec<Option<usize>> {
        let logits = self.plan.run(batch.x.view());
        logits.rows().into_iter().map(|row| class_of(&row.to_vec())).collect()
    }

    pub(super) fn region(&self, eps: &Eps) -> Region {
        Region { norm: self.norm, eps: eps.clone(), clip: self.clip }
    }

    /// The perturbations of some inputs that a certificate speaks of.
    pub(super) fn sets(
        &self,
        batch: &Batch,
        rows: std::ops::Range<usize>,
        eps: &Eps,
    ) -> Result<InputBox, Failure> {
        let x = batch.x.slice(ndarray::s![rows.clone(), ..]);
        self.region(eps).sets(x).map_err(|e| Failure::Question(e.at(&batch.indices[rows]).into()))
    }

    /// What the attack finds for one input.
    pub(super) fn attacked(
        &self,
        attack: &Pgd,
        eps: &Eps,
        (x, label, index): (ArrayView1<f32>, usize, usize),
    ) -> Attacked {
        attack.attack(self.graph, self.plan, &self.region(eps), x, label, index)
    }

    /// The options that it brings.
    pub(super) fn options(&self, eps: &[Eps], methods: &[Method]) -> Map<String, Value> {
        let names: Vec<String> = methods.iter().map(name).collect();
        let options = json!({
            "command": if names.is_empty() { "attack" } else { "certify" },
            "method": names.join(","),
            "evaluation": (!names.is_empty()).then_some(self.evaluation),
            "norm": name(&self.norm),
            "eps": eps.iter().map(Eps::to_string).collect::<Vec<_>>(),
            "clip": self.clip,
            "attack": self.attack.map(|a| format!("{}x{}", a.steps, a.restarts)),
            "seed": self.attack.map(|a| a.seed),
        });
        options.as_object().cloned().unwrap_or_default()
    }
}

impl<'a> Certify<'a> {
    /// The question for every radius, by bounds with every method (`None` for an attack alone) and by an
    /// attack if there is one. [`Method::Complete`] gives up an input after `timeout`, or never.
    ///
    /// # Errors
    /// A sentence that says which options cannot be used, and what would be accepted.
    pub fn new(
        network: (&'a Graph, &'a Plan),
        (norm, eps, clip): (Norm, Vec<Eps>, Option<(f64, f64)>),
        methods: &[Option<Method>],
        attack: Option<Pgd>,
        timeout: Option<Duration>,
    ) -> Result<Self, String> {
        let network = Network::new(network, norm, clip, attack)?;
        for (i, e) in eps.iter().enumerate() {
            if let Some(same) = eps[..i].iter().find(|other| other.value() == e.value()) {
                return Err(format!("eps {same} and {e} are the same; give each once"));
            }
        }
        for (i, method) in methods.iter().enumerate() {
            if methods[..i].contains(method) {
                return Err(format!("method {} twice; give each once", name(method)));
            }
        }
        if eps.is_empty() || methods.is_empty() {
            return Err("no eps or no method; give at least one of each".into());
        }
        let graph = network.graph;
        let bounds =
            |&m: &Option<Method>| (m, m.map(|m| margin_bounds(graph, m).evaluated(network.evaluation)));
        let searched = methods.contains(&Some(Method::Complete));
        let complete = searched.then(|| Complete::new(graph, norm, timeout)).transpose()?;
        Ok(Self {
            eps,
            methods: methods.iter().map(bounds).collect(),
            complete,
            keep: None,
            prove: None,
            network,
        })
    }

    /// Decides by branch and bound what a record leaves open.
    fn settle(
        &self,
        complete: &Complete,
        eps: &Eps,
        x: ArrayView1<f32>,
        record: &mut CertifyRecord,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Outcome>, Failure> {
        if record.status != Status::Unknown {
            return Ok(None);
        }
        let (begin, perturbations) = (Instant::now(), self.network.region(eps));
        let asked = Asked { x, label: record.label, perturbations: &perturbations };
        let outcome = complete.search(&asked, complete.deadline(), self.prove.is_some(), goes_on)?;
        if let (Verdict::Sat, Some(witness), Some(keep)) = (outcome.verdict, &outcome.witness, self.keep) {
            let found = Attacked::at(&witness.y, record.label, witness.x.clone());
            record.counterexample = keep(record.index, eps, &found).map_err(Failure::Output)?;
        }
        record.take(&outcome, begin.elapsed().as_secs_f64());
        Ok(Some(outcome))
    }

    /// Hands out what proves a record: of the bounds, of the attack, or of the search.
    fn hand_out(
        &self,
        record: &CertifyRecord,
        (x, eps): (ArrayView1<f32>, &Eps),
        (proof, attacked, outcome): (Option<&str>, Option<&Attacked>, Option<&Outcome>),
    ) -> Result<(), Failure> {
        let Some(prove) = self.prove else { return Ok(()) };
        let clean = x.to_vec();
        let searched = outcome.and_then(|outcome| outcome.witness.as_ref());
        let shown = match record.status {
            Status::Unknown => None,
            Status::Certified => {
                proof.or(outcome.and_then(|outcome| outcome.proof.as_deref())).map(Shown::Proof)
            }
            Status::Falsified if record.predicted != Some(record.label) => Some(Shown::Witness(&clean)),
            Status::Falsified => match (attacked.filter(|found| found.succeeded), searched) {
                (Some(found), _) => Some(Shown::Witness(&found.point)),
                (None, found) => found.map(|found| Shown::Witness(&found.x)),
            },
        };
        let Some(shown) = shown else { return Ok(()) };
        let (region, arithmetic) = (self.network.region(eps), (record.method, self.network.evaluation));
        let certificate = Certificate::new((record.index, x, record.label), &region, arithmetic, &shown);
        prove(&certificate).map_err(Failure::Output)
    }

    /// The same for a network that is evaluated in this arithmetic.
    #[must_use]
    pub fn evaluated(mut self, evaluation: Evaluation) -> Self {
        self.network.evaluation = evaluation;
        let evaluated = |bounds: Option<MarginBounds<'a>>| bounds.map(|bounds| bounds.evaluated(evaluation));
        self.methods = self.methods.into_iter().map(|(method, bounds)| (method, evaluated(bounds))).collect();
        self.complete = self.complete.map(|complete| complete.evaluated(evaluation));
        self
    }
}

impl Question for Certify<'_> {
    type Record = CertifyRecord;

    fn options(&self) -> Map<String, Value> {
        let methods: Vec<Method> = self.methods.iter().filter_map(|(method, _)| *method).collect();
        let mut options = self.network.options(&self.eps, &methods);
        options.extend(self.complete.as_ref().map(Complete::option));
        options
    }

    fn parts(&self) -> Vec<Part> {
        let of = |eps: &Eps| self.methods.iter().map(|(m, _)| part(eps.value(), *m)).collect::<Vec<_>>();
        self.eps.iter().flat_map(of).collect()
    }

    fn block(&self) -> usize {
        if self.complete.is_some() {
            return 1;
        }
        let quick = self.methods.iter().all(|(method, _)| *method == Some(Method::Ibp));
        if quick && self.network.attack.is_none() { 64 } else { 4 }
    }

    fn answer(
        &self,
        batch: &Batch,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<CertifyRecord>, Failure> {
        let Self { network, eps, methods, complete, keep, prove } = self;
        let labels = batch.labels(network.graph.output_len())?;
        let inputs = batch.indices.len();
        let predicted = network.predict(batch);
        let mut records: Vec<Vec<CertifyRecord>> = vec![Vec::new(); inputs];
        for eps in eps {
            // The same points for every method.
            let mut found: Option<Vec<(Attacked, Option<String>)>> = None;
            for (method, bounds) in methods {
                if !goes_on() {
                    return Err(Failure::Stopped);
                }
                let begin = Instant::now();
                // Also refuses inputs outside the range of the data for an attack alone.
                let sets = network.sets(batch, 0..inputs, eps)?;
                let (margins, proofs) = match bounds {
                    Some(bounds) if prove.is_some() => {
                        let (margins, proofs) = bounds.prove(&sets, labels);
                        (Some(margins), proofs)
                    }
                    Some(bounds) => (Some(bounds.bound(&sets, labels)), Vec::new()),
                    None => (None, Vec::new()),
                };
                let bounded = begin.elapsed();
                if let (Some(attack), None) = (&network.attack, &found) {
                    let one = |row: usize| {
                        let input = (batch.x.row(row), labels[row], batch.indices[row]);
                        network.attacked(attack, eps, input)
                    };
                    let points: Vec<Attacked> = (0..inputs).into_par_iter().map(one).collect();
                    let kept = |(found, &index): (Attacked, &usize)| {
                        let file = keep.map_or(Ok(None), |keep| keep(index, eps, &found));
                        Ok((found, file.map_err(Failure::Output)?))
                    };
                    let points = points.into_iter().zip(&batch.indices).map(kept);
                    found = Some(points.collect::<Result<_, Failure>>()?);
                }
                // The time of an attack counts where it is the only thing.
                let spent = if bounds.is_some() { bounded } else { begin.elapsed() };
                let seconds = spent.as_secs_f64() / inputs as f64;
                for (row, records) in records.iter_mut().enumerate() {
                    let found = found.as_ref().map(|found| &found[row]);
                    let mut record = CertifyRecord::new(
                        (batch.indices[row], labels[row], predicted[row]),
                        (eps.value(), *method, network.evaluation),
                        margins.as_ref().map(|m| (m, row)),
                        found.map(|(attacked, _)| attacked),
                        found.and_then(|(_, file)| file.clone()),
                        seconds,
                    );
                    let x = batch.x.row(row);
                    let outcome = match (method, complete) {
                        (Some(Method::Complete), Some(complete)) => {
                            self.settle(complete, eps, x, &mut record, goes_on)?
                        }
                        _ => None,
                    };
                    let proof = proofs.get(row).and_then(Option::as_deref);
                    let attacked = found.map(|(attacked, _)| attacked);
                    self.hand_out(&record, (x, eps), (proof, attacked, outcome.as_ref()))?;
                    records.push(record);
                }
            }
        }
        Ok(records.into_iter().flatten().collect())
    }
}
