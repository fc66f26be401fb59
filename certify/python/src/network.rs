//! Networks: loading, evaluation, bounds on outputs, Lipschitz constants.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tightrope::Graph;
use tightrope::attack::{Attacked, Pgd};
use tightrope::bounds::{Eps, Evaluation, MarginBounds, Method, Norm, Region};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadError, LoadOptions, load_bytes, load_with_files};
use tightrope::ops::Op;
use tightrope::runs::provenance::{fingerprint, fingerprint_of};
use tightrope::runs::{Batch, Brackets, Certify, Failure, Key, Measure, Part, Question, Record, RunError};
use tightrope::tightness::Sampling;

use crate::error::Kind;
use crate::run::{Lines, Run, Watch, ask, check};

/// A loaded network.
#[pyclass(frozen, module = "tightrope._tightrope")]
pub(crate) struct Network {
    pub(crate) graph: Graph,
    pub(crate) plan: Plan,
    /// What it was made from, for the first line of a run file.
    pub(crate) header: Map<String, Value>,
}

/// Where a network comes from.
#[derive(FromPyObject)]
enum Model {
    #[pyo3(transparent)]
    Bytes(Vec<u8>),
    #[pyo3(transparent)]
    File(PathBuf),
}

/// What a network and its weights were read from, for the first line of a run file.
fn of_files(file: &Path, weights: &[PathBuf]) -> Result<Value, RunError> {
    let model = fingerprint(file, &[file.to_owned()])?;
    let mut header = json!({"model": file.display().to_string(), "model_sha256": model});
    if !weights.is_empty() {
        let whole = file.canonicalize().map_err(|cause| RunError::Io { file: file.to_owned(), cause })?;
        header["weights_sha256"] = fingerprint(whole.parent().unwrap_or(Path::new("")), weights)?.into();
    }
    Ok(header)
}

/// What is asked of perturbed inputs, as keywords of the Python side.
#[derive(FromPyObject)]
struct Perturbed {
    eps: Vec<f64>,
    method: Vec<String>,
    norm: String,
    clip: Option<(f64, f64)>,
    attack: Option<(u32, u32)>,
    seed: u64,
    evaluation: String,
    timeout: Option<f64>,
}

/// The norm, the radii, and the range of the data.
type Regions = (Norm, Vec<Eps>, Option<(f64, f64)>);

impl Perturbed {
    fn methods(&self) -> PyResult<Vec<Option<Method>>> {
        self.method.iter().map(|name| (name != "none").then(|| named("method", name)).transpose()).collect()
    }

    fn one_method(&self) -> PyResult<Method> {
        match self.methods()?[..] {
            [Some(method)] => Ok(method),
            _ => Err(Kind::Input.error("method: found none or several; accepted: one")),
        }
    }

    fn region(&self) -> PyResult<Regions> {
        let eps = self.eps.iter().map(|&eps| radius(eps)).collect::<PyResult<_>>()?;
        Ok((named("norm", &self.norm)?, eps, self.clip))
    }

    fn attack(&self) -> Option<Pgd> {
        self.attack.map(|(steps, restarts)| Pgd { steps, restarts, seed: self.seed })
    }

    fn evaluation(&self) -> PyResult<Evaluation> {
        named("evaluation", &self.evaluation)
    }
}

/// What is asked of the tightness of bounds, as keywords of the Python side.
#[derive(FromPyObject)]
struct Diagnosed {
    eps: f64,
    mask: String,
    clip: Option<(f64, f64)>,
    layers: bool,
    samples: u32,
    seed: u64,
}

/// Lower and upper bounds, one row for each input.
pub(crate) type Pair<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<f64>>);

/// The method or bound with the name that records give it.
pub(crate) fn named<T: serde::de::DeserializeOwned>(what: &str, name: &str) -> PyResult<T> {
    serde_json::from_value(Value::from(name)).map_err(|e| Kind::Input.error(format!("{what}: {e}")))
}

/// A radius that counts as written in decimals.
fn radius(eps: f64) -> PyResult<Eps> {
    Eps::try_from(eps).map_err(|e| Kind::Input.error(e))
}

/// Bounds on all outputs, as a question.
struct Outputs<'a> {
    bounds: MarginBounds<'a>,
    region: Region,
    block: usize,
}

#[derive(Serialize, Deserialize)]
struct OutputsRecord {
    index: usize,
    ends: [Vec<f64>; 2],
}

impl Record for OutputsRecord {
    fn key(&self) -> Key {
        Key { index: self.index, part: Part::default() }
    }
}

impl Question for Outputs<'_> {
    type Record = OutputsRecord;

    fn options(&self) -> Map<String, Value> {
        Map::new()
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::default()]
    }

    fn block(&self) -> usize {
        self.block
    }

    fn answer(&self, batch: &Batch, _: &mut dyn FnMut() -> bool) -> Result<Vec<OutputsRecord>, Failure> {
        let sets =
            self.region.sets(batch.x.view()).map_err(|e| Failure::Question(e.at(&batch.indices).into()))?;
        let ends = self.bounds.outputs(&sets);
        let record = |(row, &index): (usize, &usize)| OutputsRecord {
            index,
            ends: [0, 1].map(|side: usize| ends[side].row(row).to_vec()),
        };
        Ok(batch.indices.iter().enumerate().map(record).collect())
    }
}

#[pymethods]
impl Network {
    /// Reads an ONNX file, or the bytes of one.
    #[new]
    #[pyo3(signature = (model, input_shape, mean, std, fix, output))]
    fn new(
        py: Python,
        model: Model,
        input_shape: Option<Vec<usize>>,
        mean: Vec<f64>,
        std: Vec<f64>,
        fix: HashMap<String, PyReadonlyArrayDyn<f32>>,
        output: Option<String>,
    ) -> PyResult<Self> {
        let fixed: BTreeMap<String, ArrayD<f32>> =
            fix.into_iter().map(|(name, values)| (name, values.as_array().to_owned())).collect();
        py.detach(|| {
            let digest = |values: &ArrayD<f32>| fingerprint_of(values.iter().map(|x| x.to_le_bytes()));
            let digests: BTreeMap<&String, String> =
                fixed.iter().map(|(name, x)| (name, digest(x))).collect();
            let stated = json!({"fixed_sha256": digests, "output": output});
            let options = LoadOptions { input_shape, fixed: fixed.clone(), output: output.clone() };
            let wrong = |e: LoadError| Kind::Model.error(e);
            let (mut graph, mut header) = match &model {
                Model::Bytes(bytes) => {
                    let header = json!({"model": null, "model_sha256": fingerprint_of([bytes].iter())});
                    (load_bytes(bytes, &options).map_err(wrong)?, header)
                }
                Model::File(file) => {
                    let (graph, weights) = load_with_files(file, &options).map_err(wrong)?;
                    (graph, of_files(file, &weights).map_err(|e| Kind::Model.error(e))?)
                }
            };
            for (name, value) in stated.as_object().into_iter().flatten() {
                if !value.is_null() && *value != json!({}) {
                    header[name] = value.clone();
                }
            }
            header["mean"] = json!(mean);
            header["std"] = json!(std);
            header["input_shape"] = json!(graph.input_shape);
            let header = header.as_object().cloned().unwrap_or_default();
            if !mean.is_empty() || !std.is_empty() {
                graph = graph.normalized(&mean, &std).map_err(|e| Kind::Input.error(e))?;
            }
            let plan = Plan::new(&graph);
            Ok(Self { graph, plan, header })
        })
    }

    #[getter]
    fn input_shape(&self) -> Vec<usize> {
        self.graph.input_shape.clone()
    }

    #[getter]
    fn output_shape(&self) -> Vec<usize> {
        self.graph.output_shape.clone()
    }

    /// `(name, operator, kind, shape)` of every node.
    #[getter]
    fn nodes(&self) -> Vec<(String, String, &'static str, Vec<usize>)> {
        let kind = |op: &Op| match op {
            Op::Affine(_) => "affine",
            Op::Elementwise(_) => "elementwise",
            Op::Product(_) => "product",
        };
        let nodes = self.graph.nodes.iter();
        nodes.map(|n| (n.name.clone(), n.origin.clone(), kind(&n.op), n.shape.clone())).collect()
    }

    fn evaluate<'py>(&self, py: Python<'py>, x: PyReadonlyArray2<f32>) -> Bound<'py, PyArray2<f32>> {
        let x = x.as_array();
        py.detach(|| self.plan.run(x)).into_pyarray(py)
    }

    fn bounds<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<f32>,
        asked: Perturbed,
        run: Run,
        progress: Py<PyAny>,
    ) -> PyResult<(Pair<'py>, Option<PyErr>)> {
        let (x, watch) = (x.as_array(), Watch::new(progress));
        let (method, (norm, mut eps, clip)) = (asked.one_method()?, asked.region()?);
        let region =
            Region { norm, eps: eps.pop().ok_or_else(|| Kind::Input.error("eps: found none"))?, clip };
        let asked = watch.compute(py, run.threads, || {
            let block = if method == Method::Ibp { 64 } else { 4 };
            let question =
                Outputs { bounds: tightrope::lipschitz::margin_bounds(&self.graph, method), region, block };
            ask(&question, &self.header, (x, None), &run, &watch)
        })??;
        let mut ends = [(); 2].map(|()| Array2::zeros((asked.records.len(), self.graph.output_len())));
        for (row, record) in asked.records.into_iter().enumerate() {
            for (all, end) in ends.iter_mut().zip(record.ends) {
                all.row_mut(row).assign(&ndarray::aview1(&end));
            }
        }
        let [lower, upper] = ends.map(|b| b.into_pyarray(py));
        Ok(((lower, upper), asked.failed))
    }

    /// The run, and the point that an attack or a search found for every record.
    fn certify<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<f32>,
        y: Vec<usize>,
        asked: Perturbed,
        run: Run,
        progress: Py<PyAny>,
    ) -> PyResult<(Lines, Option<Bound<'py, PyArray2<f32>>>)> {
        let (x, watch) = (x.as_array(), Watch::new(progress));
        let (methods, region) = (asked.methods()?, asked.region()?);
        let (timeout, evaluation) = (crate::verify::limit(asked.timeout)?, asked.evaluation()?);
        check(self.graph.output_len(), x.nrows(), &y)?;
        let (asked, points) = watch.compute(py, run.threads, || {
            let attack = asked.attack();
            let question = Certify::new((&self.graph, &self.plan), region, &methods, attack, timeout);
            let mut question = question.map_err(|e| Kind::Input.error(e))?.evaluated(evaluation);
            let searched = attack.is_some() || methods.contains(&Some(Method::Complete));
            let found = RefCell::new(HashMap::new());
            let keep = |index: usize, eps: &Eps, attacked: &Attacked| {
                found.borrow_mut().insert((index, eps.value().to_bits()), attacked.point.clone());
                Ok(None)
            };
            question.keep = Some(&keep);
            let asked = ask(&question, &self.header, (x, Some(&y[..])), &run, &watch)?;
            let found = found.borrow();
            let points = searched.then(|| {
                let mut points = Array2::zeros((asked.records.len(), x.ncols()));
                for (mut point, record) in points.rows_mut().into_iter().zip(&asked.records) {
                    match found.get(&(record.index, record.eps.to_bits())) {
                        Some(found) => point.assign(&ndarray::aview1(found)),
                        None => point.assign(&x.row(record.index - run.first)),
                    }
                }
                points
            });
            PyResult::Ok((asked, points))
        })??;
        Ok((asked.lines()?, points.map(|points| points.into_pyarray(py))))
    }

    /// Between which radii up to the largest of those asked for the robustness of every input ends.
    fn brackets(
        &self,
        py: Python,
        x: PyReadonlyArray2<f32>,
        y: Vec<usize>,
        asked: Perturbed,
        run: Run,
        progress: Py<PyAny>,
    ) -> PyResult<Lines> {
        let (x, watch) = (x.as_array(), Watch::new(progress));
        let (method, region) = (asked.one_method()?, asked.region()?);
        let (timeout, evaluation) = (crate::verify::limit(asked.timeout)?, asked.evaluation()?);
        check(self.graph.output_len(), x.nrows(), &y)?;
        let asked = watch.compute(py, run.threads, || {
            let question = Brackets::new((&self.graph, &self.plan), region, method, asked.attack(), timeout);
            let question = question.map_err(|e| Kind::Input.error(e))?.evaluated(evaluation);
            ask(&question, &self.header, (x, Some(&y[..])), &run, &watch)
        })??;
        asked.lines()
    }

    fn tightness(
        &self,
        py: Python,
        x: PyReadonlyArray2<f32>,
        y: Vec<usize>,
        asked: Diagnosed,
        run: Run,
        progress: Py<PyAny>,
    ) -> PyResult<Lines> {
        let (x, watch) = (x.as_array(), Watch::new(progress));
        let (mask, eps) = (named("mask", &asked.mask)?, radius(asked.eps)?);
        check(self.graph.output_len(), x.nrows(), &y)?;
        let asked = watch.compute(py, run.threads, || {
            let sampling = Sampling { points: asked.samples, seed: asked.seed };
            let region = (eps, asked.clip);
            let question = Measure::new((&self.graph, &self.plan), mask, region, asked.layers, sampling);
            let question = question.map_err(|e| Kind::Model.error(e))?;
            ask(&question, &self.header, (x, Some(&y[..])), &run, &watch)
        })??;
        asked.lines()
    }

    /// `(name, operator, shape, norm, constant)` of every node, the total, and the node that has none.
    #[expect(clippy::type_complexity, reason = "one tuple for Python")]
    fn lipschitz(
        &self,
        py: Python,
    ) -> (Vec<(String, String, Vec<usize>, Option<f64>, Option<f64>)>, Option<f64>, Option<String>) {
        let report = py.detach(|| tightrope::lipschitz::network(&self.graph));
        let nodes = report.nodes.into_iter().map(|n| (n.name, n.origin, n.shape, n.norm, n.constant));
        (nodes.collect(), report.total, report.obstacle)
    }
}

/// A column of numbers.
pub(crate) fn column<T: numpy::Element>(py: Python<'_>, numbers: Vec<T>) -> Bound<'_, PyArray1<T>> {
    numbers.into_pyarray(py)
}
