//! `tightness`: how tight interval bounds are on an input, and why.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::question::name;
use super::{Batch, Failure, Key, Part, Question, Record};
use crate::attack::class_of;
use crate::bounds::{Eps, Margins, Norm, Region};
use crate::exec::Plan;
use crate::graph::Graph;
use crate::tightness::{
    CompanionFigures, Companions, LayerTightness, Mask, Radii, Sampling, Tightness, Units,
};

/// The result for one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TightnessRecord {
    /// Position of the input in its data set.
    pub index: usize,
    /// Its label.
    pub label: usize,
    /// The class that the network gives it; absent if a logit is NaN.
    pub predicted: Option<usize>,
    /// Mean over margins of optimal over layer-wise radius. Describes the
    /// linear network that the mask chooses; not a bound.
    pub tightness: f64,
    /// The ratio for every class; `None` at the label.
    pub per_margin: Vec<Option<f64>>,
    /// Mean optimal over mean layer-wise radius.
    pub ratio_of_means: f64,
    /// The mean optimal and layer-wise radius over margins; 0 below the range of `f64`.
    pub radii: [f64; 2],
    /// Whether the input is classified correctly, and provably so for every
    /// perturbation of size eps by interval bounds.
    pub certified: bool,
    /// States of units under interval bounds on the box.
    pub units: Units,
    /// States of units at the input.
    pub units_at_zero: Units,
    /// Units found unstable at sampled points.
    pub sampled_unstable: usize,
    /// Mean radius of the intervals of the outputs.
    pub box_radius: f64,
    /// `logit_label` minus the greatest other logit.
    pub logit_margin: f64,
    /// Cross-entropy of the worst case that interval bounds allow.
    pub ibp_loss: f64,
    /// Tightness of the sub-network before each activation, as asked for.
    pub layers: Vec<LayerRecord>,
    /// Seconds spent on this result.
    pub seconds: f64,
}

/// Tightness of a sub-network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Name of the activation.
    pub name: String,
    /// Mean over its units of the ratios.
    pub tightness: f64,
    /// Mean optimal over mean layer-wise radius.
    pub ratio_of_means: f64,
}

impl Record for TightnessRecord {
    fn key(&self) -> Key {
        Key { index: self.index, part: Part::default() }
    }
}

impl TightnessRecord {
    fn new(
        (index, label, predicted): (usize, usize, Option<usize>),
        radii: &Radii,
        (companions, margins): &(Companions, Margins),
        layers: Vec<LayerRecord>,
        seconds: f64,
    ) -> Self {
        let certified = predicted == Some(label) && margins.certified(0);
        let ratios = radii.ratios();
        let mean = radii.sums().map(|sum| bounded(sum.get() / ratios.len() as f64));
        let mut per_margin: Vec<Option<f64>> = ratios.into_iter().map(Some).collect();
        per_margin.insert(label, None);
        Self {
            index,
            label,
            predicted,
            tightness: radii.tightness(),
            per_margin,
            ratio_of_means: radii.ratio_of_means(),
            radii: mean,
            certified,
            units: companions.at_eps,
            units_at_zero: companions.at_zero,
            sampled_unstable: companions.sampled_unstable,
            box_radius: bounded(companions.box_radius),
            logit_margin: bounded(companions.logit_margin),
            ibp_loss: bounded(companions.ibp_loss),
            layers,
            seconds,
        }
    }
}

impl LayerRecord {
    /// The record of a sub-network before the activation of this name.
    fn new(name: String, layer: &LayerTightness) -> Self {
        let [optimal, layerwise] = layer.sums;
        Self { name, tightness: layer.tightness, ratio_of_means: optimal.over(layerwise).min(1.0) }
    }
}

/// JSON has no infinity: the greatest number there is stands for no bound.
fn bounded(x: f64) -> f64 {
    if x.is_finite() { x } else { f64::MAX.copysign(x) }
}

/// How tight interval bounds are over l-inf boxes.
pub struct Measure<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    tightness: Tightness<'a>,
    figures: CompanionFigures<'a>,
    mask: Mask,
    region: Region,
    layers: bool,
    sampling: Sampling,
}

impl<'a> Measure<'a> {
    /// The question for one radius; with `layers` also before each activation.
    ///
    /// # Errors
    /// A sentence that says why this network cannot be measured.
    pub fn new(
        (graph, plan): (&'a Graph, &'a Plan),
        mask: Mask,
        (eps, clip): (Eps, Option<(f64, f64)>),
        layers: bool,
        sampling: Sampling,
    ) -> Result<Self, String> {
        if graph.output_len() < 2 {
            return Err("has one output; a classifier has at least 2".into());
        }
        Ok(Self {
            graph,
            plan,
            tightness: Tightness::new(graph, mask).map_err(|e| e.to_string())?,
            figures: CompanionFigures::new(graph).map_err(|e| e.to_string())?,
            mask,
            region: Region { norm: Norm::Linf, eps, clip },
            layers,
            sampling,
        })
    }
}

impl Question for Measure<'_> {
    type Record = TightnessRecord;

    fn options(&self) -> Map<String, Value> {
        let options = json!({
            "command": "tightness",
            "mask": name(&self.mask),
            "norm": name(&self.region.norm),
            "eps": self.region.eps.to_string(),
            "clip": self.region.clip,
            "layers": self.layers,
            "samples": self.sampling.points,
            "seed": self.sampling.seed,
        });
        options.as_object().cloned().unwrap_or_default()
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::default()]
    }

    fn block(&self) -> usize {
        32
    }

    fn answer(
        &self,
        batch: &Batch,
        _goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<TightnessRecord>, Failure> {
        let begin = Instant::now();
        let labels = batch.labels(self.graph.output_len())?;
        let (x, indices) = (batch.x.view(), &batch.indices[..]);
        let boxes = self.region.sets(x).map_err(|e| Failure::Question(e.at(indices).into()))?;
        let radii = self.tightness.measure(x, &boxes, Some(labels));
        let figures = self.figures.measure(x, &boxes, labels, indices, self.sampling);
        let logits = self.plan.run(x);
        let layers = if self.layers { self.tightness.layers(x, &boxes) } else { Vec::new() };
        let seconds = begin.elapsed().as_secs_f64() / indices.len() as f64;
        let layer = |l: &LayerTightness| LayerRecord::new(self.graph.nodes[l.node].name.clone(), l);
        let record = |(row, &index): (usize, &usize)| {
            if radii[row].tightness().is_nan() || figures[row].0.logit_margin.is_nan() {
                return Err(Failure::input(index, "values overflow"));
            }
            let input = (index, labels[row], class_of(&logits.row(row).to_vec()));
            let layers = layers.get(row).into_iter().flatten().map(layer).collect();
            Ok(TightnessRecord::new(input, &radii[row], &figures[row], layers, seconds))
        };
        indices.iter().enumerate().map(record).collect()
    }
}
