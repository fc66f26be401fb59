//! Questions asked of the rows of an array, under the eyes of Python.

use std::cell::RefCell;

use ndarray::ArrayView2;
use pyo3::prelude::*;
use tightrope::runs::{Finished, Inputs, Pixels, Question, answer};

use crate::error::Kind;

/// What Python raised in the middle of a run, kept aside: it is not the library's error.
pub(crate) type Raised = RefCell<Option<PyErr>>;

/// The records of the rows that are done, and what ended the run before the last of them.
pub(crate) type Ended<R> = (Vec<R>, Option<PyErr>);

/// Asks a question of the rows of `x`, the first of which has the number `first` in its data set. Tells
/// Python how many inputs are done; an exception there, or Ctrl-C, ends the run.
pub(crate) fn ask<Q: Question>(
    question: &Q,
    x: ArrayView2<f32>,
    y: Option<Vec<usize>>,
    first: usize,
    progress: &Py<PyAny>,
    raised: &Raised,
) -> Ended<Q::Record> {
    let inputs = Inputs::new((first..).take(x.nrows()).collect(), y, Pixels::Rows(x));
    let mut goes_on = |done: usize| {
        let told = Python::attach(|py| py.check_signals().and_then(|()| progress.call1(py, (done,))));
        told.map_err(|error| *raised.borrow_mut() = Some(error)).is_ok()
    };
    let Finished { records, ended } = answer(question, &inputs, None, Vec::new(), &mut goes_on);
    let failed = ended.err().map(|failure| match (raised.take(), failure) {
        (Some(error), _) => error,
        (None, failure) => Kind::Input.error(failure),
    });
    (records, failed)
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
