//! Randomized smoothing of networks and of any function from arrays to logits.

use std::ops::Range;

use ndarray::{Array2, s};
use numpy::{IntoPyArray, PyReadonlyArray2};
use pyo3::prelude::*;
use serde_json::{Map, Value, json};
use tightrope::runs::Smooth;
use tightrope::smoothing::certifier::{Certifier, Options};
use tightrope::smoothing::noise::{Noise, NoiseError};
use tightrope::smoothing::procedure::{SampleError, Stopping};
use tightrope::smoothing::quantity::{Alpha, Radius, Scale};
use tightrope::smoothing::radius::Lipschitz;
use tightrope::smoothing::sampler::NoisyInputs;

use crate::error::Kind;
use crate::network::{Network, named};
use crate::run::{Lines, Run, Watch, ask, check};

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
    sigma: Vec<f64>,
    n: u32,
    n0: Option<u32>,
    alpha: f64,
    map: String,
    bound: Option<String>,
    rule: Option<String>,
    radius: Option<f64>,
    tolerance: Option<f64>,
    lipschitz: Option<f64>,
    aware: bool,
    seed: u64,
    /// Most noisy inputs that a function is given at once.
    batch: usize,
}

impl Asked {
    /// The options in the first line of a run file.
    fn options(&self) -> Map<String, Value> {
        let lipschitz = self.lipschitz.map_or_else(|| json!("auto"), |constant| json!(constant));
        let options = json!({
            "command": "smooth",
            "noise": self.noise,
            "sigma": self.sigma,
            "n": self.n,
            "n0": self.n0.or_else(|| self.stopping().ok().map(Stopping::pilot)),
            "alpha": self.alpha,
            "map": self.map,
            "lipschitz": self.aware.then_some(lipschitz),
            "bound": self.bound,
            "rule": self.rule,
            "radius": self.radius,
            "tolerance": self.tolerance,
            "seed": self.seed,
        });
        options.as_object().cloned().unwrap_or_default()
    }

    fn stopping(&self) -> PyResult<Stopping> {
        match (self.radius, self.tolerance) {
            (Some(_), Some(_)) => Err(refused("radius")(&"found with tolerance; accepted: one of the two")),
            (Some(radius), None) => {
                let radius = Radius::new(radius).ok_or_else(|| {
                    refused("radius")(&format!("found {radius}; accepted: a positive number"))
                })?;
                Ok(Stopping::Settle { radius, most: self.n })
            }
            (None, Some(fraction)) => Ok(Stopping::Tolerance { fraction, most: self.n }),
            (None, None) => Ok(Stopping::Fixed(self.n)),
        }
    }

    /// One certifier for each scale of the noise.
    fn certifiers(&self) -> PyResult<Vec<Certifier>> {
        if let Some(twice) = (1..self.sigma.len()).find(|&i| self.sigma[..i].contains(&self.sigma[i])) {
            let text = format!("found {} twice; accepted: different scales", self.sigma[twice]);
            return Err(refused("sigma")(&text));
        }
        self.sigma.iter().map(|&sigma| self.certifier(sigma)).collect()
    }

    fn certifier(&self, sigma: f64) -> PyResult<Certifier> {
        let scale = Scale::new(sigma).map_err(|e| refused("sigma")(&e))?;
        let noise = Noise::new(&self.noise, scale).map_err(|e| match e {
            NoiseError::Name { .. } => refused("noise")(&e),
            _ => refused("sigma")(&e),
        })?;
        let map =
            if self.map == "auto" { None } else { Some(self.map.parse().map_err(|e| refused("map")(&e))?) };
        let options = Options {
            noise,
            map,
            bound: self.bound.as_deref().map(|name| named("bound", name)).transpose()?,
            rule: self.rule.as_deref().map(|name| named("rule", name)).transpose()?,
            alpha: Alpha::new(self.alpha).map_err(|e| refused("alpha")(&e))?,
            n0: self.n0,
            stopping: self.stopping()?,
            seed: self.seed,
        };
        Certifier::new(options).map_err(|e| Kind::Input.error(e))
    }
}

fn refused(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> PyErr {
    move |e| Kind::Input.error(format!("{what}: {e}"))
}

/// Certifies the rows of `x`; `call(array)` turns a function's noisy inputs into logits. Returns the
/// run.
#[pyfunction]
pub(crate) fn smooth(
    py: Python,
    base: Base,
    x: PyReadonlyArray2<f32>,
    y: Option<Vec<usize>>,
    asked: Asked,
    run: Run,
    progress: Py<PyAny>,
) -> PyResult<Lines> {
    let mut certifiers = asked.certifiers()?;
    let x = x.as_array();
    let classes = match &base {
        Base::Network(network) => network.get().graph.output_len(),
        Base::Function(_) => usize::MAX,
    };
    y.as_ref().map_or(Ok(()), |y| check(classes, x.nrows(), y))?;
    if asked.aware {
        let Base::Network(network) = &base else {
            return Err(Kind::Input.error("lipschitz: found with a function; accepted: a loaded network"));
        };
        let constant = asked.lipschitz.map(Lipschitz::new).transpose();
        let constant = constant.map_err(|e| Kind::Input.error(format!("lipschitz: {e}")))?;
        let aware = |certifier: Certifier| certifier.aware(&network.get().graph, constant);
        certifiers = py
            .detach(|| certifiers.into_iter().map(aware).collect::<Result<_, _>>())
            .map_err(|e| Kind::Input.error(format!("lipschitz: {e}")))?;
    }
    let watch = Watch::new(progress);
    let asked = watch.compute(py, run.threads, || {
        let classifier = |inputs: &NoisyInputs, range: Range<u32>| {
            let Base::Function(call) = &base else { return Err(SampleError::from("no function")) };
            ask_function(call, inputs, range, asked.batch).map_err(|error| {
                watch.raise(error);
                SampleError::from("the classifier failed")
            })
        };
        let options = asked.options();
        let question = match &base {
            Base::Network(network) => Smooth::new(&certifiers, &network.get().graph, options),
            Base::Function(_) => Smooth::of(&certifiers, &classifier, options),
        };
        let none = Map::new();
        let made_from = match &base {
            Base::Network(network) => &network.get().header,
            Base::Function(_) => &none,
        };
        ask(&question, made_from, (x, y.as_deref()), &run, &watch)
    })??;
    asked.lines()
}

/// The answers of a function, at most `batch` at once.
fn ask_function(
    call: &Py<PyAny>,
    inputs: &NoisyInputs,
    range: Range<u32>,
    batch: usize,
) -> PyResult<Array2<f32>> {
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
