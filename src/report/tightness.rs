//! Records and summary of tightness.

use serde::{Deserialize, Serialize};

use crate::tightness::{Companions, LayerTightness, Radii, Units, WeightSigns};

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

/// What a record is made of, apart from the figures.
#[derive(Clone, Copy, Debug)]
pub struct TightnessInput {
    /// Position of the input in its data set.
    pub index: usize,
    /// Its label.
    pub label: usize,
    /// The class that the network gives it.
    pub predicted: Option<usize>,
    /// Whether it is provably classified correctly.
    pub certified: bool,
    /// Seconds spent on it.
    pub seconds: f64,
}

impl TightnessRecord {
    /// The record of one input.
    #[must_use]
    pub fn new(
        input: TightnessInput,
        radii: &Radii,
        companions: &Companions,
        layers: Vec<LayerRecord>,
    ) -> Self {
        let TightnessInput { index, label, predicted, certified, seconds } = input;
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
    #[must_use]
    pub fn new(name: String, layer: &LayerTightness) -> Self {
        let [optimal, layerwise] = layer.sums;
        Self { name, tightness: layer.tightness, ratio_of_means: optimal.over(layerwise).min(1.0) }
    }
}

/// JSON has no infinity: the greatest number there is stands for no bound.
fn bounded(x: f64) -> f64 {
    if x.is_finite() { x } else { f64::MAX.copysign(x) }
}

/// Summary of a run over one network. Means are over inputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TightnessSummary {
    /// The network's file.
    pub model: String,
    /// Number of inputs.
    pub inputs: usize,
    /// Mean tightness.
    pub mean_tightness: f64,
    /// Mean optimal over mean layer-wise radius, over all margins and inputs.
    pub ratio_of_means: f64,
    /// How many inputs are classified correctly.
    pub correct: usize,
    /// `correct / inputs`.
    pub clean_accuracy: f64,
    /// How many inputs are certified by interval bounds.
    pub certified: usize,
    /// `certified / inputs`.
    pub certified_accuracy: f64,
    /// Shares of dead, unstable and active units under interval bounds.
    pub units: [f64; 3],
    /// The same at the inputs themselves.
    pub units_at_zero: [f64; 3],
    /// Share of units found unstable at sampled points.
    pub sampled_unstable: f64,
    /// Mean radius of the intervals of outputs.
    pub box_radius: f64,
    /// Mean logit margin.
    pub logit_margin: f64,
    /// `box_radius / logit_margin`, the ratio of the means.
    pub radius_over_margin: f64,
    /// Mean cross-entropy of the worst case that interval bounds allow.
    pub ibp_loss: f64,
    /// Mean tightness before each activation, if asked for.
    pub layers: Vec<LayerRecord>,
    /// Signs of weights.
    pub weights: Vec<WeightSigns>,
    /// Seconds for all inputs.
    pub seconds: f64,
}

impl TightnessSummary {
    /// Summarises the records of a network.
    #[must_use]
    pub fn new(model: String, weights: Vec<WeightSigns>, records: &[TightnessRecord]) -> Self {
        let n = records.len().max(1) as f64;
        let mean = |of: &dyn Fn(&TightnessRecord) -> f64| records.iter().map(|r| of(r) / n).sum::<f64>();
        let shares = |of: fn(&TightnessRecord) -> Units| {
            let share = |part: fn(Units) -> usize| {
                mean(&|r| {
                    let units = of(r);
                    part(units) as f64 / (units.dead + units.unstable + units.active).max(1) as f64
                })
            };
            [share(|u| u.dead), share(|u| u.unstable), share(|u| u.active)]
        };
        let layer = |(i, first): (usize, &LayerRecord)| LayerRecord {
            name: first.name.clone(),
            tightness: mean(&|r| r.layers[i].tightness),
            ratio_of_means: mean(&|r| r.layers[i].ratio_of_means),
        };
        // Radii may all lie below the range of f64; inputs then weigh the same.
        let [optimal, layerwise] = [0, 1].map(|side| mean(&|r| r.radii[side]));
        let ratio_of_means = if layerwise > f64::MIN_POSITIVE && optimal > f64::MIN_POSITIVE {
            (optimal / layerwise).min(1.0)
        } else {
            mean(&|r| r.ratio_of_means)
        };
        let count = |what: fn(&TightnessRecord) -> bool| records.iter().filter(|r| what(r)).count();
        let (correct, certified) = (count(|r| r.predicted == Some(r.label)), count(|r| r.certified));
        let (box_radius, logit_margin) = (mean(&|r| r.box_radius), mean(&|r| r.logit_margin));
        Self {
            model,
            inputs: records.len(),
            mean_tightness: mean(&|r| r.tightness),
            ratio_of_means,
            correct,
            clean_accuracy: correct as f64 / n,
            certified,
            certified_accuracy: certified as f64 / n,
            units: shares(|r| r.units),
            units_at_zero: shares(|r| r.units_at_zero),
            sampled_unstable: mean(&|r| {
                let units = r.units.dead + r.units.unstable + r.units.active;
                r.sampled_unstable as f64 / units.max(1) as f64
            }),
            box_radius,
            logit_margin,
            radius_over_margin: box_radius / logit_margin,
            ibp_loss: mean(&|r| r.ibp_loss),
            layers: records.first().map_or(Vec::new(), |r| r.layers.iter().enumerate().map(layer).collect()),
            weights,
            seconds: records.iter().map(|r| r.seconds).sum(),
        }
    }
}
