//! Summary of tightness.

use serde::Serialize;

use crate::runs::{LayerRecord, TightnessRecord};
use crate::tightness::{Units, WeightSigns};

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
