//! Randomized smoothing of networks and of any function from arrays to logits.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use ndarray::{Array2, Axis, s};
use numpy::{IntoPyArray, PyReadonlyArray2};
use pyo3::prelude::*;
use tightrope::report::SmoothRecord;
use tightrope::smoothing::certifier::{Certifier, Options, Place};
use tightrope::smoothing::procedure::{SampleError, Stopping, Threat};
use tightrope::smoothing::quantity::{Alpha, Radius, Scale};
use tightrope::smoothing::radius::Lipschitz;
use tightrope::smoothing::sampler::NoisyInputs;

use crate::error::{Kind, goes_on, unless_interrupted};
use crate::network::{Network, named};

/// Who answers.
#[derive(FromPyObject)]
pub(crate) enum Base {
    #[pyo3(transparent)]
    Network(Py<Network>),
    #[pyo3(transparent)]
    Function(Py<PyAny>),
}

/// What is asked, as keywords of the Python side.
#[derive(FromPyObject)]
pub(crate) struct Asked {
    noise: String,
    sigma: f64,
    n: u32,
    n0: u32,
    alpha: f64,
    map: String,
    bound: Option<String>,
    rule: Option<String>,
    radius: Option<f64>,
    tolerance: Option<f64>,
    lipschitz: Option<f64>,
    aware: bool,
    seed: u64,
    first: u64,
    /// Most noisy inputs that a function is given at once.
    batch: usize,
}

impl Asked {
    fn certifier(&self) -> PyResult<Certifier> {
        let refused =
            |what: &'static str| move |e: &dyn std::fmt::Display| Kind::Input.error(format!("{what}: {e}"));
        let scale = Scale::new(self.sigma).map_err(|e| refused("sigma")(&e))?;
        let threat = match self.noise.as_str() {
            "gaussian" | "gaussian-input" | "lattice" => Threat::Gaussian(scale),
            "uniform" => Threat::Uniform(scale),
            "laplace" => Threat::Laplace(scale),
            other => {
                let text =
                    format!("found `{other}`; accepted: gaussian, gaussian-input, lattice, uniform, laplace");
                return Err(refused("noise")(&text));
            }
        };
        let stopping = match (self.radius, self.tolerance) {
            (Some(_), Some(_)) => {
                return Err(refused("radius")(&"found with tolerance; accepted: one of the two"));
            }
            (Some(radius), None) => {
                let radius = Radius::new(radius).ok_or_else(|| {
                    refused("radius")(&format!("found {radius}; accepted: a positive number"))
                })?;
                Stopping::Settle { radius, most: self.n }
            }
            (None, Some(fraction)) => Stopping::Tolerance { fraction, most: self.n },
            (None, None) => Stopping::Fixed(self.n),
        };
        let map =
            if self.map == "auto" { None } else { Some(self.map.parse().map_err(|e| refused("map")(&e))?) };
        let options = Options {
            threat,
            place: match self.noise.as_str() {
                "lattice" => Place::Lattice,
                "gaussian-input" => Place::Input,
                _ => Place::Narrowest,
            },
            map,
            bound: self.bound.as_deref().map(|name| named("bound", name)).transpose()?,
            rule: self.rule.as_deref().map(|name| named("rule", name)).transpose()?,
            alpha: Alpha::new(self.alpha).map_err(|e| refused("alpha")(&e))?,
            n0: self.n0,
            stopping,
            seed: self.seed,
        };
        Certifier::new(options).map_err(|e| Kind::Input.error(e))
    }
}

/// Certifies the rows of `x`; `call(array)` turns a function's noisy inputs into logits. Returns a
/// JSON record for each input that is done; fewer than there are inputs after Ctrl-C.
#[pyfunction]
pub(crate) fn smooth(
    py: Python,
    base: Base,
    x: PyReadonlyArray2<f32>,
    y: Vec<i64>,
    asked: Asked,
    progress: Py<PyAny>,
) -> PyResult<Vec<String>> {
    let mut certifier = asked.certifier()?;
    let x = x.as_array();
    if y.len() != x.nrows() {
        return Err(Kind::Input.error(format!(
            "y: {} labels for {} inputs; give one for each",
            y.len(),
            x.nrows()
        )));
    }
    if let Base::Network(network) = &base {
        let classes = network.get().graph.output_len();
        let outside = |label: &i64| usize::try_from(*label).is_ok_and(|label| label >= classes);
        if let Some((i, label)) = y.iter().enumerate().find(|(_, label)| outside(label)) {
            return Err(Kind::Input
                .error(format!("y: label {i} is {label}; the network has the classes 0..{classes}")));
        }
    }
    if let Some((entry, value)) = x.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        return Err(Kind::Input.error(format!("x: entry {entry} is {value}; inputs must be finite")));
    }
    if asked.aware {
        let Base::Network(network) = &base else {
            return Err(Kind::Input.error("lipschitz: found with a function; accepted: a loaded network"));
        };
        let constant = asked.lipschitz.map(Lipschitz::new).transpose();
        let constant = constant.map_err(|e| Kind::Input.error(format!("lipschitz: {e}")))?;
        certifier = py
            .detach(|| certifier.aware(&network.get().graph, constant))
            .map_err(|e| Kind::Input.error(format!("lipschitz: {e}")))?;
    }
    py.detach(|| {
        let network = match &base {
            Base::Network(network) => Some(certifier.base(&network.get().graph)),
            Base::Function(_) => None,
        };
        let mut records: Vec<String> = Vec::new();
        for (row, x) in x.axis_iter(Axis(0)).enumerate() {
            if !goes_on(&progress, row)? {
                break;
            }
            let begin = Instant::now();
            let x = x.to_vec();
            let z = network.as_ref().map_or(Cow::Borrowed(&x[..]), |network| network.input(&x));
            // What Python raised, kept aside: it is not the library's error.
            let mut raised: Option<PyErr> = None;
            let outcome = certifier.certify(asked.first + row as u64, &z, |inputs, range| {
                let answered = match (&base, &network) {
                    (Base::Function(call), _) => ask(call, inputs, range, asked.batch),
                    (_, Some(network)) => signals().map(|()| network.logits(inputs, range)),
                    (_, None) => unreachable!("a network has a base"),
                };
                answered.map_err(|error| {
                    raised = Some(error);
                    SampleError::from("the classifier failed")
                })
            });
            if let Some(error) = raised {
                Python::attach(|py| unless_interrupted(py, &progress, Err(error)))?;
                break;
            }
            let index = asked.first as usize + row;
            let outcome = outcome.map_err(|e| Kind::Input.error(format!("input {index}: {e}")))?;
            let label = usize::try_from(y[row]).unwrap_or(usize::MAX);
            let record = SmoothRecord::new(index, label, outcome, begin.elapsed().as_secs_f64());
            records.push(serde_json::to_string(&record).map_err(|e| Kind::Input.error(e))?);
        }
        goes_on(&progress, records.len())?;
        Ok(records)
    })
}

/// Ctrl-C, if there was one.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is not general enough")]
fn signals() -> PyResult<()> {
    Python::attach(|py| py.check_signals())
}

/// The answers of a function, at most `batch` at once.
fn ask(call: &Py<PyAny>, inputs: &NoisyInputs, range: Range<u32>, batch: usize) -> PyResult<Array2<f32>> {
    let mut logits: Option<Array2<f32>> = None;
    let mut done = 0;
    while done < range.len() {
        let end = (done + batch.max(1)).min(range.len());
        let noisy = inputs.batch(range.start + done as u32..range.start + end as u32);
        Python::attach(|py| {
            py.check_signals()?;
            let answer = call.call1(py, (noisy.into_pyarray(py),))?;
            let answer: PyReadonlyArray2<f32> = answer.extract(py)?;
            let answer = answer.as_array();
            if answer.nrows() != end - done {
                let (found, given) = (answer.nrows(), end - done);
                let text =
                    format!("found {found} rows of logits for {given} inputs; accepted: one row for each");
                return Err(Kind::Classifier.error(text));
            }
            let all = logits.get_or_insert_with(|| Array2::zeros((range.len(), answer.ncols())));
            if all.ncols() != answer.ncols() {
                let (found, before) = (answer.ncols(), all.ncols());
                let text =
                    format!("found {found} classes after {before}; accepted: the same number at every call");
                return Err(Kind::Classifier.error(text));
            }
            all.slice_mut(s![done..end, ..]).assign(&answer);
            Ok(())
        })?;
        done = end;
    }
    Ok(logits.unwrap_or_default())
}
