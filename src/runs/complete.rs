//! Method `complete`: what bounds and attack leave open is settled by branch and bound.

use std::time::{Duration, Instant};

use ndarray::{ArrayView1, Axis};

use serde_json::{Value, json};

use super::Failure;
use crate::attack::{class_of, ends};
use crate::bounds::{self, Evaluation, Norm};
use crate::graph::Graph;
use crate::query::Region;
use crate::verify::{Limits, Outcome, Verdict, Verifier};

/// Branch and bound on single inputs.
pub(super) struct Complete<'a> {
    verifier: Verifier<'a>,
    classes: usize,
    timeout: Option<Duration>,
}

/// What was asked of one input.
pub(super) struct Asked<'s> {
    pub(super) x: ArrayView1<'s, f32>,
    pub(super) label: usize,
    pub(super) perturbations: &'s bounds::Region,
}

impl<'a> Complete<'a> {
    /// Searches that give up an input after `timeout`.
    ///
    /// # Errors
    /// A sentence that says which norms are possible.
    pub(super) fn new(graph: &'a Graph, norm: Norm, timeout: Option<Duration>) -> Result<Self, String> {
        if norm != Norm::Linf {
            return Err("method complete searches boxes; accepted: norm linf".into());
        }
        Ok(Self { verifier: Verifier::new(graph), classes: graph.output_len(), timeout })
    }

    /// The same for a network that is evaluated in this arithmetic.
    pub(super) fn evaluated(self, evaluation: Evaluation) -> Self {
        Self { verifier: self.verifier.evaluated(evaluation), ..self }
    }

    /// What a run's first line says of it.
    pub(super) fn option(&self) -> (String, Value) {
        ("timeout".into(), json!(self.timeout.map(|timeout| timeout.as_secs_f64())))
    }

    /// When an input whose turn has come is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Searches for a perturbation that is classified otherwise, within eps as it was written.
    pub(super) fn search(
        &self,
        asked: &Asked,
        deadline: Option<Instant>,
        prove: bool,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Outcome, Failure> {
        let Asked { x, label, perturbations } = asked;
        let sets =
            perturbations.sets(x.view().insert_axis(Axis(0))).map_err(|e| Failure::Question(e.into()))?;
        let [lower, upper] = [sets.lower(), sets.upper()].map(|side| side.row(0).to_vec());
        let region = Region::robustness(lower, upper, *label, self.classes);
        let region = region.map_err(|e| Failure::Question(e.into()))?;
        // The box is rounded outward; what refutes lies within the radius that was written.
        let [least, greatest] = ends(&x.to_vec(), perturbations);
        let within =
            |z: &[f32]| z.iter().zip(least.iter().zip(&greatest)).all(|(z, (l, g))| (l..=g).contains(&z));
        let confirm = |z: &[f32], y: &[f32]| class_of(y) != Some(*label) && within(z);
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limits = Limits { timeout, prove, ..Limits::default() };
        let mut stopped = false;
        let mut outcome = self.verifier.verify(&[region], &confirm, &limits, &mut |_| {
            stopped |= !goes_on();
            !stopped
        });
        // A verdict that is there is not thrown away.
        if stopped && !outcome.verdict.is_settled() {
            return Err(Failure::Stopped);
        }
        // In a box too narrow for f32 a violation may be one of real arithmetic alone.
        let deployed = outcome.witness.as_ref().is_some_and(|witness| confirm(&witness.x, &witness.y));
        if outcome.verdict == Verdict::Sat && !deployed {
            outcome.verdict = Verdict::Unknown;
            outcome.reason = Some("a violation in real arithmetic is none of the f32 network".into());
        }
        Ok(outcome)
    }
}
