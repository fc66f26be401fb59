//! Certification by bounds and attacks as columns.

use ndarray::Array2;
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tightrope::runs::CertifyRecord;

use crate::network::column;

/// Records as columns.
pub(crate) fn into_dict<'py>(
    py: Python<'py>,
    records: &[CertifyRecord],
    classes: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let name = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let mut margins = Array2::from_elem((records.len(), classes), f64::INFINITY);
    for (mut row, record) in margins.rows_mut().into_iter().zip(records) {
        for (entry, margin) in row.iter_mut().zip(&record.margin_lower) {
            *entry = margin.unwrap_or(f64::INFINITY);
        }
    }
    let of = |f: fn(&CertifyRecord) -> f64| column(py, records.iter().map(f).collect());
    let predicted = records.iter().map(|r| r.predicted.map_or(-1, |class| class as i64)).collect();
    dict.set_item("predicted", column(py, predicted))?;
    dict.set_item("index", column(py, records.iter().map(|r| r.index as i64).collect()))?;
    dict.set_item("label", column(py, records.iter().map(|r| r.label as i64).collect()))?;
    dict.set_item("certified", column(py, records.iter().map(|r| r.certified).collect()))?;
    let status = records.iter().map(|r| name(serde_json::to_value(r.status)));
    dict.set_item("status", status.collect::<Vec<_>>())?;
    let used = records.iter().map(|r| r.bounded_by.map(|m| name(serde_json::to_value(m))));
    dict.set_item("bounded_by", used.collect::<Vec<_>>())?;
    dict.set_item("margin_lower", margins.into_pyarray(py))?;
    dict.set_item("attack_margin", of(|r| r.attack_margin.unwrap_or(f64::NAN)))?;
    dict.set_item("reason", records.iter().map(|r| r.reason.clone()).collect::<Vec<_>>())?;
    dict.set_item("seconds", of(|r| r.seconds))?;
    Ok(dict)
}
