//! The library's errors as Python exceptions.

use std::fmt::Display;

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// The exceptions of `tightrope.errors`.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A network that cannot be loaded or analysed.
    Model,
    /// Arrays or options that cannot be used.
    Input,
    /// A base classifier whose answers cannot be used.
    Classifier,
}

impl Kind {
    /// The exception with the library's message.
    pub(crate) fn error(self, error: impl Display) -> PyErr {
        let name = match self {
            Self::Model => "ModelError",
            Self::Input => "InputError",
            Self::Classifier => "ClassifierError",
        };
        let message = error.to_string();
        Python::attach(|py| {
            let made = py.import("tightrope.errors").and_then(|m| m.getattr(name)?.call1((message,)));
            made.map_or_else(|failed| failed, PyErr::from_value)
        })
    }
}

/// Tells Python how many inputs are done, and learns whether to go on: false after Ctrl-C.
pub(crate) fn goes_on(progress: &Py<PyAny>, done: usize) -> PyResult<bool> {
    Python::attach(|py| {
        let told = py.check_signals().and_then(|()| progress.call1(py, (done,)).map(|_| ()));
        unless_interrupted(py, progress, told)
    })
}

/// Whether there was no Ctrl-C, which `progress` is told of; any other exception stays one.
pub(crate) fn unless_interrupted(py: Python, progress: &Py<PyAny>, outcome: PyResult<()>) -> PyResult<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
            progress.setattr(py, "interrupted", true)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
