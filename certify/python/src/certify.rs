//! Certification by bounds and attacks of the rows of an array.

use std::time::Instant;

use ndarray::{Array2, ArrayView2, s};
use numpy::IntoPyArray;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::prelude::*;
use tightrope::attack::{Attacked, Pgd, Region, class_of};
use tightrope::bounds::{InputBox, MarginBounds, Method, Norm};
use tightrope::report::CertifyRecord;

use crate::error::{Kind, goes_on};
use crate::network::{Network, column, upper};

/// How hard to attack.
pub(crate) type Attack = Pgd;

/// What is asked.
pub(crate) struct Job<'a> {
    pub(crate) network: &'a Network,
    pub(crate) eps: f64,
    pub(crate) method: Option<Method>,
    pub(crate) norm: Norm,
    pub(crate) clip: Option<(f64, f64)>,
    pub(crate) attack: Option<Attack>,
    pub(crate) first: usize,
}

/// What was found for the inputs that are done.
pub(crate) struct Found {
    classes: usize,
    records: Vec<CertifyRecord>,
    points: Option<Array2<f32>>,
}

/// The labels, if they are classes of the network and there is one for each input.
pub(crate) fn check(network: &Network, x: ArrayView2<f32>, y: &[usize]) -> PyResult<()> {
    let classes = network.graph.output_len();
    if classes < 2 {
        return Err(Kind::Model.error("has one output; a classifier has at least 2"));
    }
    if let Some((i, label)) = y.iter().enumerate().find(|(_, label)| **label >= classes) {
        return Err(
            Kind::Input.error(format!("y: label {i} is {label}; the network has the classes 0..{classes}"))
        );
    }
    if y.len() == x.nrows() {
        return Ok(());
    }
    Err(Kind::Input.error(format!("y: {} labels for {} inputs; give one for each", y.len(), x.nrows())))
}

impl Job<'_> {
    pub(crate) fn run(&self, x: ArrayView2<f32>, y: &[usize], progress: &Py<PyAny>) -> PyResult<Found> {
        check(self.network, x, y)?;
        let Network { graph, plan } = self.network;
        let bounds = self.method.map(|method| MarginBounds::new(graph, method));
        let mut found = Found { classes: graph.output_len(), records: Vec::new(), points: None };
        if self.attack.is_some() {
            found.points = Some(x.to_owned());
        }
        let block = if self.attack.is_none() && self.method == Some(Method::Ibp) { 64 } else { 4 };
        let region = Region { norm: self.norm, eps: self.eps, clip: self.clip };
        // Asked once more at the end, so that a late Ctrl-C does not cost the results.
        while goes_on(progress, found.records.len())? && found.records.len() < x.nrows() {
            let done = found.records.len();
            let rows = done..(done + block).min(x.nrows());
            let begin = Instant::now();
            let part = x.slice(s![rows.clone(), ..]);
            let logits = plan.run(part);
            let sets = InputBox::ball(self.norm, part, upper(self.eps), self.clip);
            let sets = sets.map_err(|e| Kind::Input.error(format!("inputs from {done}: {e}")))?;
            let margins = bounds.as_ref().map(|bounds| bounds.bound(&sets, &y[rows.clone()]));
            let bounded = begin.elapsed();
            let attacked: Option<Vec<Attacked>> = self.attack.map(|attack| {
                let attack = |i: usize| attack.attack(graph, plan, &region, x.row(i), y[i], self.first + i);
                rows.clone().into_par_iter().map(attack).collect()
            });
            // As on the command line, the time of an attack counts where it is the only thing.
            let spent = if bounds.is_some() { bounded } else { begin.elapsed() };
            let seconds = spent.as_secs_f64() / rows.len() as f64;
            for (row, i) in rows.enumerate() {
                let attacked = attacked.as_ref().map(|all| &all[row]);
                let input = (self.first + i, y[i], class_of(&logits.row(row).to_vec()));
                let margins = margins.as_ref().map(|margins| (margins, row));
                found.records.push(CertifyRecord::new(
                    input,
                    (self.eps, self.method),
                    margins,
                    attacked,
                    None,
                    seconds,
                ));
                if let (Some(points), Some(attacked)) = (&mut found.points, attacked) {
                    points.row_mut(i).assign(&ndarray::aview1(&attacked.point));
                }
            }
        }
        Ok(found)
    }
}

impl Found {
    pub(crate) fn into_dict(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        let records = &self.records;
        let name = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let mut margins = Array2::from_elem((records.len(), self.classes), f64::INFINITY);
        for (mut row, record) in margins.rows_mut().into_iter().zip(records) {
            for (entry, margin) in row.iter_mut().zip(&record.margin_lower) {
                *entry = margin.unwrap_or(f64::INFINITY);
            }
        }
        let of = |f: fn(&CertifyRecord) -> f64| column(py, records.iter().map(f).collect());
        let predicted = records.iter().map(|r| r.predicted.map_or(-1, |class| class as i64)).collect();
        dict.set_item("predicted", column(py, predicted))?;
        dict.set_item("certified", column(py, records.iter().map(|r| r.certified).collect()))?;
        let status = records.iter().map(|r| name(serde_json::to_value(r.status)));
        dict.set_item("status", status.collect::<Vec<_>>())?;
        let used = records.iter().map(|r| r.bounded_by.map(|m| name(serde_json::to_value(m))));
        dict.set_item("bounded_by", used.collect::<Vec<_>>())?;
        dict.set_item("margin_lower", margins.into_pyarray(py))?;
        dict.set_item("attack_margin", of(|r| r.attack_margin.unwrap_or(f64::NAN)))?;
        dict.set_item("seconds", of(|r| r.seconds))?;
        dict.set_item("points", self.points.map(|points| points.into_pyarray(py)))?;
        Ok(dict)
    }
}
