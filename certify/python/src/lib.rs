//! The compiled part of the Python package `tightrope`: networks, and functions on arrays that
//! release the interpreter's lock while they compute. What a user sees is in `python/tightrope`.

mod error;
mod files;
mod network;
mod run;
mod smooth;
mod statistics;
mod verify;

use pyo3::prelude::*;

/// Runs on arrays of inputs, one row each; see the Python files for their documentation.
#[pymodule(gil_used = false)]
fn _tightrope(module: &Bound<PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<network::Network>()?;
    module.add_function(wrap_pyfunction!(smooth::smooth, module)?)?;
    module.add_function(wrap_pyfunction!(verify::verify, module)?)?;
    module.add_function(wrap_pyfunction!(verify::verify_box, module)?)?;
    module.add_function(wrap_pyfunction!(verify::verify_table, module)?)?;
    module.add_function(wrap_pyfunction!(files::images, module)?)?;
    module.add_function(wrap_pyfunction!(files::read, module)?)?;
    module.add_function(wrap_pyfunction!(statistics::bound_counts, module)?)?;
    module.add_function(wrap_pyfunction!(statistics::bound_scores, module)?)?;
    module.add_function(wrap_pyfunction!(statistics::radius, module)?)?;
    Ok(())
}
