//! Questions asked of the rows of an array, under the eyes of Python.

use std::cell::RefCell;
use std::path::PathBuf;

use ndarray::{ArrayView2, Axis};
use pyo3::prelude::*;
use serde_json::{Map, Value, json};
use tightrope::runs::provenance::{self, fingerprint_of};
use tightrope::runs::{Finished, Inputs, Pixels, Question, RunFile, Selection, answer};

use crate::error::Kind;

/// What Python raised in the middle of a run, kept aside: it is not the library's error.
pub(crate) type Raised = RefCell<Option<PyErr>>;

/// The records of the rows that are done, and what ended the run before the last of them.
pub(crate) type Ended<R> = (Vec<R>, Option<PyErr>);

/// Where records go and which inputs are asked, as keywords of the Python side.
#[derive(FromPyObject)]
pub(crate) struct Run {
    out: Option<PathBuf>,
    resume: bool,
    shard: Option<(usize, usize)>,
    /// Position of the first row in its data set.
    pub(crate) first: usize,
    /// The factor of stored numbers, for the first line.
    scale: f64,
}

/// Asks a question of the rows of `x`, or of a shard of them; `network` says what the network was made
/// from. Tells Python how many inputs are done; an exception there, or Ctrl-C, ends the run.
pub(crate) fn ask<Q: Question>(
    question: &Q,
    network: &Map<String, Value>,
    (x, y): (ArrayView2<f32>, Option<&[usize]>),
    run: &Run,
    progress: &Py<PyAny>,
    raised: &Raised,
) -> PyResult<Ended<Q::Record>> {
    let indices = (run.first, run.first + x.nrows());
    let selection = Selection { indices, skip: 1, shard: run.shard };
    let (mut file, mut earlier) = (None, Vec::new());
    if let Some(path) = &run.out {
        let mut loaded = network.clone();
        let numbers = fingerprint_of(x.iter().map(|value| value.to_le_bytes()));
        let labels = y.map(|y| fingerprint_of(y.iter().map(|&label| (label as u64).to_le_bytes())));
        loaded.extend([
            ("data".to_owned(), json!("array")),
            ("data_sha256".to_owned(), json!(numbers)),
            ("labels_sha256".to_owned(), json!(labels)),
            ("scale".to_owned(), json!(run.scale)),
        ]);
        let header = provenance::header(loaded, &selection, question);
        let opened = RunFile::open(path, &header, run.resume).map_err(|e| Kind::Input.error(e))?;
        (file, earlier) = (Some(opened.0), opened.1);
    }
    let places: Vec<usize> = selection.iter().map(|index| index - run.first).collect();
    let selected;
    let rows = if run.shard.is_some() {
        selected = x.select(Axis(0), &places);
        selected.view()
    } else {
        x
    };
    let labels = y.map(|y| places.iter().map(|&place| y[place]).collect());
    let inputs = Inputs::new(selection.iter().collect(), labels, Pixels::Rows(rows));
    let mut goes_on = |done: usize| {
        let told = Python::attach(|py| py.check_signals().and_then(|()| progress.call1(py, (done,))));
        told.map_err(|error| *raised.borrow_mut() = Some(error)).is_ok()
    };
    let Finished { records, ended } = answer(question, &inputs, file, earlier, &mut goes_on);
    let failed = ended.err().map(|failure| raised.take().unwrap_or_else(|| Kind::Input.error(failure)));
    Ok((records, failed))
}

/// Labels, if they are classes of the network and there is one for each input.
pub(crate) fn check(classes: usize, inputs: usize, y: &[usize]) -> PyResult<()> {
    if classes < 2 {
        return Err(Kind::Model.error("has one output; a classifier has at least 2"));
    }
    if let Some((i, label)) = y.iter().enumerate().find(|(_, label)| **label >= classes) {
        let text = format!("y: label {i} is {label}; the network has the classes 0..{classes}");
        return Err(Kind::Input.error(text));
    }
    if y.len() == inputs {
        return Ok(());
    }
    Err(Kind::Input.error(format!("y: {} labels for {inputs} inputs; give one for each", y.len())))
}
