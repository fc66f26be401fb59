//! Networks: loading, evaluation, bounds on outputs, Lipschitz constants.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tightrope::Graph;
use tightrope::attack::{Attacked, Pgd};
use tightrope::bounds::{Eps, MarginBounds, Method, Region};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load_with_files};
use tightrope::ops::Op;
use tightrope::runs::provenance::fingerprint;
use tightrope::runs::{Batch, Certify, Failure, Key, Measure, Part, Question, Record};
use tightrope::tightness::Sampling;

use crate::error::Kind;
use crate::run::{Raised, Run, ask, check};

/// A loaded network.
#[pyclass(frozen, module = "tightrope._tightrope")]
pub(crate) struct Network {
    pub(crate) graph: Graph,
    pub(crate) plan: Plan,
    /// What it was made from, for the first line of a run file.
    pub(crate) header: Map<String, Value>,
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
    /// Reads an ONNX file.
    #[new]
    #[pyo3(signature = (path, input_shape, mean, std))]
    fn new(
        py: Python,
        path: &str,
        input_shape: Option<Vec<usize>>,
        mean: Vec<f64>,
        std: Vec<f64>,
    ) -> PyResult<Self> {
        py.detach(|| {
            let loaded = load_with_files(path, &LoadOptions { input_shape });
            let (mut graph, weights) = loaded.map_err(|e| Kind::Model.error(e))?;
            let file = Path::new(path);
            let digest =
                |root: &Path, files: &[PathBuf]| fingerprint(root, files).map_err(|e| Kind::Model.error(e));
            let header = json!({
                "model": path,
                "model_sha256": digest(file, &[file.to_owned()])?,
                "mean": mean,
                "std": std,
                "input_shape": graph.input_shape,
            });
            let mut header = header.as_object().cloned().unwrap_or_default();
            if !weights.is_empty() {
                let file = file.canonicalize().map_err(|e| Kind::Model.error(e))?;
                let weights = digest(file.parent().unwrap_or(Path::new("")), &weights)?;
                header.insert("weights_sha256".into(), weights.into());
            }
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

    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn bounds<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<f32>,
        eps: f64,
        method: &str,
        norm: &str,
        clip: Option<(f64, f64)>,
        run: Run,
        progress: Py<PyAny>,
    ) -> PyResult<(Pair<'py>, Option<PyErr>)> {
        let method = named("method", method)?;
        let region = Region { norm: named("norm", norm)?, eps: radius(eps)?, clip };
        let x = x.as_array();
        let (records, failed) = py.detach(|| {
            let block = if method == Method::Ibp { 64 } else { 4 };
            let question =
                Outputs { bounds: tightrope::lipschitz::margin_bounds(&self.graph, method), region, block };
            ask(&question, &self.header, (x, None), &run, &progress, &Raised::default())
        })?;
        let mut ends = [(); 2].map(|()| Array2::zeros((records.len(), self.graph.output_len())));
        for (row, record) in records.into_iter().enumerate() {
            for (all, end) in ends.iter_mut().zip(record.ends) {
                all.row_mut(row).assign(&ndarray::aview1(&end));
            }
        }
        let [lower, upper] = ends.map(|b| b.into_pyarray(py));
        Ok(((lower, upper), failed))
    }

    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn certify<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<f32>,
        y: Vec<usize>,
        eps: f64,
        method: &str,
        norm: &str,
        clip: Option<(f64, f64)>,
        attack: Option<(u32, u32)>,
        seed: u64,
        evaluation: &str,
        timeout: Option<f64>,
        run: Run,
        progress: Py<PyAny>,
    ) -> PyResult<(Bound<'py, PyDict>, Option<PyErr>)> {
        let (timeout, evaluation) = (crate::verify::limit(timeout)?, named("evaluation", evaluation)?);
        let method = (method != "none").then(|| named("method", method)).transpose()?;
        let attack = attack.map(|(steps, restarts)| Pgd { steps, restarts, seed });
        let (region, x) = ((named("norm", norm)?, vec![radius(eps)?], clip), x.as_array());
        check(self.graph.output_len(), x.nrows(), &y)?;
        let (records, failed, points) = py.detach(|| {
            let question = Certify::new((&self.graph, &self.plan), region, &[method], attack, timeout);
            let mut question = question.map_err(|e| Kind::Input.error(e))?.evaluated(evaluation);
            let searched = attack.is_some() || method == Some(Method::Complete);
            let points = RefCell::new(searched.then(|| x.to_owned()));
            let keep = |index: usize, _: &Eps, found: &Attacked| {
                if let Some(points) = &mut *points.borrow_mut() {
                    points.row_mut(index - run.first).assign(&ndarray::aview1(&found.point));
                }
                Ok(None)
            };
            question.keep = Some(&keep);
            let inputs = (x, Some(&y[..]));
            let (records, failed) =
                ask(&question, &self.header, inputs, &run, &progress, &Raised::default())?;
            PyResult::Ok((records, failed, points.take()))
        })?;
        let dict = crate::certify::into_dict(py, &records, self.graph.output_len())?;
        dict.set_item("points", points.map(|points| points.into_pyarray(py)))?;
        Ok((dict, failed))
    }

    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn tightness<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<f32>,
        y: Vec<usize>,
        eps: f64,
        mask: &str,
        clip: Option<(f64, f64)>,
        samples: u32,
        seed: u64,
        run: Run,
        progress: Py<PyAny>,
    ) -> PyResult<(Bound<'py, PyDict>, Option<PyErr>)> {
        let (mask, eps, x) = (named("mask", mask)?, radius(eps)?, x.as_array());
        check(self.graph.output_len(), x.nrows(), &y)?;
        let (records, failed) = py.detach(|| {
            let sampling = Sampling { points: samples, seed };
            let question = Measure::new((&self.graph, &self.plan), mask, (eps, clip), false, sampling);
            let question = question.map_err(|e| Kind::Model.error(e))?;
            ask(&question, &self.header, (x, Some(&y[..])), &run, &progress, &Raised::default())
        })?;
        Ok((crate::tightness::into_dict(py, &records)?, failed))
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
