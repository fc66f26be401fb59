//! Tightness as columns.

use ndarray::Array2;
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tightrope::runs::TightnessRecord;

use crate::error::Kind;
use crate::network::column;

/// One number of a record.
type Figure = fn(&TightnessRecord) -> f64;

pub(crate) fn into_dict<'py>(py: Python<'py>, records: &[TightnessRecord]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let classes = records.first().map_or(0, |r| r.per_margin.len());
    let ratios = records.iter().flat_map(|r| r.per_margin.iter().map(|ratio| ratio.unwrap_or(f64::NAN)));
    let per_margin = Array2::from_shape_vec((records.len(), classes), ratios.collect());
    dict.set_item("per_margin", per_margin.map_err(|e| Kind::Input.error(e))?.into_pyarray(py))?;
    let predicted = records.iter().map(|r| r.predicted.map_or(-1, |class| class as i64)).collect();
    dict.set_item("predicted", column(py, predicted))?;
    dict.set_item("index", column(py, records.iter().map(|r| r.index as i64).collect()))?;
    dict.set_item("label", column(py, records.iter().map(|r| r.label as i64).collect()))?;
    dict.set_item("certified", column(py, records.iter().map(|r| r.certified).collect()))?;
    let columns: [(&str, Figure); 12] = [
        ("tightness", |r| r.tightness),
        ("ratio_of_means", |r| r.ratio_of_means),
        ("optimal_radius", |r| r.radii[0]),
        ("layerwise_radius", |r| r.radii[1]),
        ("dead", |r| r.units.dead as f64),
        ("unstable", |r| r.units.unstable as f64),
        ("active", |r| r.units.active as f64),
        ("sampled_unstable", |r| r.sampled_unstable as f64),
        ("box_radius", |r| r.box_radius),
        ("logit_margin", |r| r.logit_margin),
        ("ibp_loss", |r| r.ibp_loss),
        ("seconds", |r| r.seconds),
    ];
    for (name, of) in columns {
        dict.set_item(name, column(py, records.iter().map(of).collect()))?;
    }
    Ok(dict)
}
