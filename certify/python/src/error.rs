//! The library's errors as Python exceptions.

use std::fmt::Display;

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
