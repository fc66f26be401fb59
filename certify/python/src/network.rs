//! Networks: loading, evaluation, bounds on outputs, Lipschitz constants.

use ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;
use tightrope::Graph;
use tightrope::bounds::{InputBox, MarginBounds, Method, Norm};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};
use tightrope::ops::Op;

use crate::certify::Attack;
use crate::error::{Kind, goes_on};

/// A loaded network.
#[pyclass(frozen, module = "tightrope._tightrope")]
pub(crate) struct Network {
    pub(crate) graph: Graph,
    pub(crate) plan: Plan,
}

/// Lower and upper bounds, one row for each input.
pub(crate) type Pair<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<f64>>);

/// The method or bound with the name that records give it.
pub(crate) fn named<T: serde::de::DeserializeOwned>(what: &str, name: &str) -> PyResult<T> {
    serde_json::from_value(Value::from(name)).map_err(|e| Kind::Input.error(format!("{what}: {e}")))
}

/// The norm of this name.
pub(crate) fn norm(name: &str) -> PyResult<Norm> {
    match name {
        "linf" => Ok(Norm::Linf),
        "l2" => Ok(Norm::L2),
        "l1" => Ok(Norm::L1),
        _ => Err(Kind::Input.error(format!("norm: found `{name}`; accepted: linf, l2, l1"))),
    }
}

/// A radius that is not below what was written: decimals and quotients come rounded to nearest.
pub(crate) fn upper(eps: f64) -> f64 {
    if eps > 0.0 { eps.next_up() } else { eps }
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
            let mut graph = load(path, &LoadOptions { input_shape }).map_err(|e| Kind::Model.error(e))?;
            if !mean.is_empty() || !std.is_empty() {
                graph = graph.normalized(&mean, &std).map_err(|e| Kind::Input.error(e))?;
            }
            let plan = Plan::new(&graph);
            Ok(Self { graph, plan })
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
        norm_name: &str,
        clip: Option<(f64, f64)>,
        progress: Py<PyAny>,
    ) -> PyResult<(Pair<'py>, usize)> {
        let (method, norm): (Method, Norm) = (named("method", method)?, norm(norm_name)?);
        let x = x.as_array();
        let (bounds, done) = py.detach(|| {
            let margins = MarginBounds::new(&self.graph, method);
            let mut all = [(); 2].map(|()| Array2::zeros((x.nrows(), self.graph.output_len())));
            let mut done = 0;
            let block = if method == Method::Ibp { 64 } else { 4 };
            while goes_on(&progress, done)? && done < x.nrows() {
                let rows = done..(done + block).min(x.nrows());
                let part = x.slice(ndarray::s![rows.clone(), ..]);
                let sets = InputBox::ball(norm, part, upper(eps), clip);
                let sets = sets.map_err(|e| Kind::Input.error(format!("inputs from {done}: {e}")))?;
                for (all, part) in all.iter_mut().zip(margins.outputs(&sets)) {
                    all.slice_mut(ndarray::s![rows.clone(), ..]).assign(&part);
                }
                done = rows.end;
            }
            PyResult::Ok((all, done))
        })?;
        let [lower, upper] = bounds.map(|b| b.into_pyarray(py));
        Ok(((lower, upper), done))
    }

    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn certify<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<f32>,
        y: Vec<usize>,
        eps: f64,
        method: &str,
        norm_name: &str,
        clip: Option<(f64, f64)>,
        attack: Option<(u32, u32)>,
        seed: u64,
        first: usize,
        progress: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let method = (method != "none").then(|| named("method", method)).transpose()?;
        let attack = attack.map(|(steps, restarts)| Attack { steps, restarts, seed });
        let job =
            crate::certify::Job { network: self, eps, method, norm: norm(norm_name)?, clip, attack, first };
        let x = x.as_array();
        let found = py.detach(|| job.run(x, &y, &progress))?;
        found.into_dict(py)
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
        first: usize,
        progress: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let job = crate::tightness::Job {
            network: self,
            eps,
            mask: crate::tightness::mask(mask)?,
            clip,
            samples,
            seed,
            first,
        };
        let x = x.as_array();
        let records = py.detach(|| job.run(x, &y, &progress))?;
        crate::tightness::into_dict(py, &records)
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
