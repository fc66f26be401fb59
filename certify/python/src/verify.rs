//! Branch and bound on properties and on boxes with linear constraints.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndarray::Array2;
use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Map;
use tightrope::Graph;
use tightrope::bounds::Evaluation;
use tightrope::query::{Property, Query, Region};
use tightrope::runs::verify::instances;
use tightrope::runs::{Inputs, Pixels, Selection, Verify};
use tightrope::verify::{Limits, Outcome, Verdict, Verifier};

use crate::error::Kind;
use crate::network::{Network, named};
use crate::run::{Lines, Run, Watch, ask_inputs};

/// A time to give up after.
pub(crate) fn limit(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    let wrong = |seconds: f64| Kind::Input.error(format!("timeout: found {seconds}; accepted: seconds > 0"));
    let time = |seconds: f64| {
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
        time.ok_or_else(|| wrong(seconds))
    };
    timeout.map(time).transpose()
}

/// The answer to the property in a file about the networks in files; with a name each, or one without.
#[pyfunction]
pub(crate) fn verify(
    py: Python<'_>,
    property: PathBuf,
    networks: Vec<(Option<String>, PathBuf)>,
    limits: (Option<f64>, Option<usize>),
    real: bool,
    progress: Py<PyAny>,
) -> PyResult<Bound<'_, PyDict>> {
    let (begin, timeout, threads) = (Instant::now(), limit(limits.0)?, limits.1);
    let query = py.detach(|| {
        let property = Property::read(&property).map_err(|e| Kind::Input.error(e))?;
        let declared: Vec<&str> = property.networks.iter().map(|n| n.name.as_str()).collect();
        if let Some((Some(name), _)) =
            networks.iter().find(|(name, _)| name.as_deref().is_some_and(|name| !declared.contains(&name)))
        {
            let text = format!(
                "networks: {name} is none of those that the property declares: {}",
                declared.join(", ")
            );
            return Err(Kind::Input.error(text));
        }
        let of = |name: &&str| -> PyResult<&Path> {
            let named = |(n, _): &&(Option<String>, PathBuf)| n.as_deref().is_none_or(|n| n == *name);
            let file = networks.iter().find(named).filter(|(n, _)| n.is_some() || declared.len() == 1);
            file.map(|(_, file)| file.as_path()).ok_or_else(|| {
                Kind::Input.error(format!("networks: the property declares {name}; give its file"))
            })
        };
        let files: Vec<&Path> = declared.iter().map(of).collect::<PyResult<_>>()?;
        Query::load(property.clone(), &files, real).map_err(|e| Kind::Input.error(e))
    })?;
    let confirm = |x: &[f32], y: &[f32]| query.holds(x, y);
    let network = (&query.graph, query.evaluation);
    let outcome = search(py, network, &query.regions, &confirm, (begin, timeout, threads), progress)?;
    let assignment = (outcome.witness.as_ref().filter(|_| outcome.verdict == Verdict::Sat))
        .map(|witness| query.assignment(&witness.x, &witness.y));
    let dict = into_dict(py, outcome, begin)?;
    dict.set_item("assignment", assignment)?;
    Ok(dict)
}

/// Whether `c . y <= b` for all rows `(c, b)` of one of `disjuncts`, somewhere in a box. Limits are seconds
/// and threads.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
pub(crate) fn verify_box<'py>(
    py: Python<'py>,
    network: &Network,
    lower: PyReadonlyArray1<f64>,
    upper: PyReadonlyArray1<f64>,
    disjuncts: Vec<Vec<(Vec<f64>, f64)>>,
    evaluation: &str,
    limits: (Option<f64>, Option<usize>),
    progress: Py<PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let (begin, timeout, threads) = (Instant::now(), limit(limits.0)?, limits.1);
    let [lower, upper] = [lower, upper].map(|side| side.as_array().to_vec());
    if lower.len() != network.graph.input_len() {
        let (found, wanted) = (lower.len(), network.graph.input_len());
        return Err(Kind::Input.error(format!("lower: {found} entries; the network's input has {wanted}")));
    }
    let rows = |rows: &Vec<(Vec<f64>, f64)>| rows.iter().map(|(c, b)| (c.clone(), *b)).collect::<Vec<_>>();
    let owned: Vec<Vec<(Vec<f64>, f64)>> = disjuncts.iter().map(rows).collect();
    let borrowed: Vec<Vec<(&[f64], f64)>> =
        owned.iter().map(|rows| rows.iter().map(|(c, b)| (&c[..], *b)).collect()).collect();
    let region = Region::constraints(lower, upper, &borrowed, network.graph.output_len());
    let region = region.map_err(|e| Kind::Input.error(e))?;
    let confirm = |_: &[f32], _: &[f32]| true;
    let regions = [region];
    let network = (&network.graph, named("evaluation", evaluation)?);
    let outcome = search(py, network, &regions, &confirm, (begin, timeout, threads), progress)?;
    into_dict(py, outcome, begin)
}

fn search(
    py: Python,
    (graph, evaluation): (&Graph, Evaluation),
    regions: &[Region],
    confirm: &(dyn Fn(&[f32], &[f32]) -> bool + Sync),
    (begin, timeout, threads): (Instant, Option<Duration>, Option<usize>),
    progress: Py<PyAny>,
) -> PyResult<Outcome> {
    let watch = Watch::new(progress);
    let outcome = watch.compute(py, threads, || {
        let timeout = timeout.map(|timeout| timeout.saturating_sub(begin.elapsed()));
        let limits = Limits { timeout, ..Limits::default() };
        let verifier = Verifier::new(graph).evaluated(evaluation);
        verifier.verify(regions, confirm, &limits, &mut |found| watch.goes_on(found.subproblems))
    })?;
    match watch.take() {
        // A verdict that is there is not thrown away.
        Some(error) if !outcome.verdict.is_settled() => Err(error),
        _ => Ok(outcome),
    }
}

/// The verdicts of the instances of a table, or of those from one place to another. The arithmetic: whether
/// variables are real, what `unsat` speaks of, and whether the first line tells the files.
#[pyfunction]
pub(crate) fn verify_table(
    py: Python,
    table: PathBuf,
    indices: Option<(usize, usize)>,
    arithmetic: (bool, Option<String>, bool),
    timeout: Option<f64>,
    run: Run,
    progress: Py<PyAny>,
) -> PyResult<Lines> {
    let (watch, timeout) = (Watch::new(progress), limit(timeout)?);
    let (real, evaluation, identified) = arithmetic;
    let evaluation = evaluation.map(|name| named("evaluation", &name)).transpose()?;
    let asked = watch.compute(py, run.threads, || {
        let refused = |e: &dyn std::fmt::Display| Kind::Input.error(e);
        let all = instances(&table).map_err(|e| refused(&e))?;
        let (from, to) = indices.unwrap_or((0, all.len()));
        if from >= to || to > all.len() {
            let text = format!("indices {from}..{to}: the table has the instances 0..{}", all.len());
            return Err(Kind::Input.error(text));
        }
        let mut question = Verify::new(all, (real, evaluation), timeout);
        if identified {
            question = question.of_table(&table).map_err(|e| refused(&e))?;
        }
        let selection = Selection { indices: (from, to), skip: 1, shard: run.shard };
        let indices: Vec<usize> = selection.iter().collect();
        // Instances bring inputs of their own.
        let none = Array2::zeros((indices.len(), 0));
        let inputs = Inputs::new(indices, None, Pixels::Rows(none.view()));
        ask_inputs(&question, Map::new(), (&selection, &inputs), &run, &watch)
    })??;
    asked.lines()
}

fn into_dict(py: Python, outcome: Outcome, begin: Instant) -> PyResult<Bound<PyDict>> {
    let dict = PyDict::new(py);
    let name = serde_json::to_value(outcome.verdict).ok();
    dict.set_item("verdict", name.as_ref().and_then(|v| v.as_str()))?;
    dict.set_item("subproblems", outcome.progress.subproblems)?;
    dict.set_item("depth", outcome.progress.depth)?;
    dict.set_item("root", outcome.root)?;
    dict.set_item("lower", outcome.progress.lower)?;
    dict.set_item("reason", outcome.reason)?;
    let (x, y) = outcome.witness.map(|witness| (witness.x, witness.y)).unzip();
    dict.set_item("x", x.map(|x| x.into_pyarray(py)))?;
    dict.set_item("y", y.map(|y| y.into_pyarray(py)))?;
    dict.set_item("seconds", begin.elapsed().as_secs_f64())?;
    Ok(dict)
}
