//! Tightness of the rows of an array.

use std::time::Instant;

use ndarray::{Array2, ArrayView2, s};
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tightrope::attack::class_of;
use tightrope::bounds::InputBox;
use tightrope::report::{TightnessInput, TightnessRecord};
use tightrope::tightness::{CompanionFigures, Mask, Sampling, Tightness};

use crate::certify::check;
use crate::error::{Kind, goes_on};
use crate::network::{Network, column};

/// Inputs between two looks at Ctrl-C.
const BLOCK: usize = 64;

/// What is asked.
pub(crate) struct Job<'a> {
    pub(crate) network: &'a Network,
    pub(crate) eps: f64,
    pub(crate) mask: Mask,
    pub(crate) clip: Option<(f64, f64)>,
    pub(crate) samples: u32,
    pub(crate) seed: u64,
    pub(crate) first: usize,
}

/// The mask mode of this name.
pub(crate) fn mask(name: &str) -> PyResult<Mask> {
    match name {
        "local" => Ok(Mask::Local),
        "center" => Ok(Mask::Center),
        "identity" => Ok(Mask::Identity),
        "stable" => Ok(Mask::Stable),
        _ => {
            Err(Kind::Input.error(format!("mask: found `{name}`; accepted: local, center, identity, stable")))
        }
    }
}

impl Job<'_> {
    /// The records of the inputs that are done.
    pub(crate) fn run(
        &self,
        x: ArrayView2<f32>,
        y: &[usize],
        progress: &Py<PyAny>,
    ) -> PyResult<Vec<TightnessRecord>> {
        check(self.network, x, y)?;
        let Network { graph, plan } = self.network;
        let refused = |e| Kind::Model.error(e);
        let tightness = Tightness::new(graph, self.mask).map_err(refused)?;
        let figures = CompanionFigures::new(graph).map_err(refused)?;
        let sampling = Sampling { points: self.samples, seed: self.seed };
        let mut records = Vec::new();
        while goes_on(progress, records.len())? && records.len() < x.nrows() {
            let done = records.len();
            let rows = done..(done + BLOCK).min(x.nrows());
            let begin = Instant::now();
            let (part, labels) = (x.slice(s![rows.clone(), ..]), &y[rows.clone()]);
            let boxes = InputBox::linf(part, self.eps, self.clip);
            let boxes = boxes.map_err(|e| Kind::Input.error(format!("inputs from {done}: {e}")))?;
            let radii = tightness.measure(part, &boxes, Some(labels));
            let companions = figures.measure(part, &boxes, labels, self.first + done, sampling);
            let logits = plan.run(part);
            let seconds = begin.elapsed().as_secs_f64() / rows.len() as f64;
            for (row, (radii, (companions, margins))) in radii.iter().zip(&companions).enumerate() {
                let (index, label) = (self.first + done + row, labels[row]);
                if radii.tightness().is_nan() || companions.logit_margin.is_nan() {
                    return Err(Kind::Input.error(format!("input {index}: values overflow")));
                }
                let predicted = class_of(&logits.row(row).to_vec());
                let certified = predicted == Some(label) && margins.certified(0);
                let input = TightnessInput { index, label, predicted, certified, seconds };
                records.push(TightnessRecord::new(input, radii, companions, Vec::new()));
            }
        }
        Ok(records)
    }
}

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
