//! Certified accuracy as a function of the radius.

use serde::Serialize;

use super::Results;
use crate::smoothing::confidence::upper_tail_upper;
use crate::smoothing::quantity::Alpha;

/// Most radii that are listed unless they are asked for.
const MOST_RADII: f64 = 40.0;

/// Certified accuracy of one file of results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurveSummary {
    /// The file.
    pub file: String,
    /// The scale of the noise, if the file has results for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Number of inputs.
    pub inputs: usize,
    /// How many inputs were abstained on.
    pub abstentions: usize,
    /// Mean over inputs of the radius, 0 where the certified class is wrong.
    pub average_certified_radius: f64,
    /// The risk of a false certificate, for each input.
    pub alpha: f64,
    /// The risk that `high_probability_accuracy` is too large.
    pub rho: f64,
    /// One entry for each radius.
    pub results: Vec<CurvePoint>,
    /// Seconds for all inputs together.
    pub seconds: f64,
    /// What cannot be right in the file.
    pub findings: Vec<String>,
}

/// Certified accuracy at one radius.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The radius.
    pub radius: f64,
    /// How many inputs are certified for the label with at least this radius.
    pub certified: usize,
    /// `certified / inputs`.
    pub certified_accuracy: f64,
    /// The accuracy without [`Results::false_share`], 0 or above.
    pub high_probability_accuracy: f64,
}

impl Results {
    /// Number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Radii of the inputs certified for their label, ascending.
    #[must_use]
    pub fn radii(&self) -> &[f64] {
        &self.radii
    }

    /// How many inputs are certified for their label with at least this radius.
    #[must_use]
    pub fn certified(&self, radius: f64) -> usize {
        self.radii.len() - self.radii.partition_point(|&r| r < radius)
    }

    /// The share of false certificates to allow for: what is left of the measured accuracy `m` holds for
    /// the smoothed classifier on these inputs, at all radii together, with probability `1 - rho`, where
    /// each of the `N` certificates may be false with probability `alpha`. The larger of two numbers:
    ///
    /// - `alpha + sqrt(alpha (1 - alpha) ln(1/rho) / N) + ln(1/rho) / (3 N)`, as the field's scripts have it;
    /// - `k / N` with the least `k` such that more than `k` of `N` certificates are false with probability at
    ///   most `rho` (binomial). The formula is below it for large `N`, because Bernstein's inequality has
    ///   `2 alpha (1 - alpha)` under the root: for `N` = 10,000 and `alpha` = `rho` = .001 it fails with
    ///   probability .0016.
    #[must_use]
    pub fn false_share(&self, rho: Alpha) -> f64 {
        let (n, alpha, log) = (self.inputs as f64, self.alpha, -libm::log(rho.get()));
        let formula = alpha + (alpha * (1.0 - alpha) * log / n).sqrt() + log / (3.0 * n);
        let trials = u32::try_from(self.inputs).unwrap_or(u32::MAX);
        let (mut low, mut high) = (0, trials);
        while low < high {
            let middle = low + (high - low) / 2;
            if upper_tail_upper(middle + 1, trials, alpha) <= rho.get() {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        // The roundings of both numbers are far below this.
        formula.max(f64::from(low) / f64::from(trials)) + 1e-13
    }

    /// The curve at some radii.
    #[must_use]
    pub fn summary(&self, radii: &[f64], rho: Alpha) -> CurveSummary {
        let share = self.false_share(rho);
        let results = radii.iter().map(|&radius| {
            let certified = self.certified(radius);
            let certified_accuracy = certified as f64 / self.inputs as f64;
            let high_probability_accuracy = (certified_accuracy - share).max(0.0);
            CurvePoint { radius, certified, certified_accuracy, high_probability_accuracy }
        });
        let name = self.file.display();
        CurveSummary {
            file: name.to_string(),
            sigma: self.sigma,
            inputs: self.inputs,
            abstentions: self.abstentions,
            average_certified_radius: self.radii.iter().sum::<f64>() / self.inputs as f64,
            alpha: self.alpha,
            rho: rho.get(),
            results: results.collect(),
            seconds: self.seconds,
            findings: self
                .findings
                .iter()
                .map(|f| format!("{name}: line {}: {}", f.line, f.reason))
                .collect(),
        }
    }
}

/// Radii 0, .25, ... up to the largest of all files, in larger steps if there would be too many.
#[must_use]
pub fn usual_radii(runs: &[Results]) -> Vec<f64> {
    let largest = runs.iter().filter_map(|run| run.radii.last()).copied().fold(0.0, f64::max);
    let mut step = 0.25;
    while largest / step > MOST_RADII {
        step *= 2.0;
    }
    (0..=(largest / step) as u32).map(|i| f64::from(i) * step).collect()
}
