//! What theory says about random networks, to hold measurements against.
//!
//! Sources: Mao, Müller, Fischer and Vechev, "Understanding Certified Training
//! with Interval Bound Propagation" (ICLR 2024, arXiv 2306.10426) for two
//! layers and depth; the frame formulas follow from the moments of entries of
//! Haar-random frames.

use std::f64::consts::{LN_2, PI};

/// `Gamma(a / 2) / Gamma(b / 2)`.
fn gamma_ratio(a: usize, b: usize) -> f64 {
    libm::exp(libm::lgamma(a as f64 / 2.0) - libm::lgamma(b as f64 / 2.0))
}

/// Mean optimal over mean layer-wise radius of two linear layers with
/// independent Gaussian weights and `width` >= 1 units between them:
/// `sqrt(pi) Gamma((d + 1) / 2) / (d Gamma(d / 2))`, about `sqrt(pi / 2d)`.
#[must_use]
pub fn two_layers(width: usize) -> f64 {
    PI.sqrt() * gamma_ratio(width + 1, width) / width as f64
}

/// As [`two_layers`], with relu between the layers and local masks: the mean
/// over the number of active units, which is binomial with probability 1/2.
/// About `sqrt(2)` times the linear value.
#[must_use]
pub fn two_layers_relu(width: usize) -> f64 {
    let log_binomial = |m: usize| {
        let [d, m] = [width, m].map(|n| n as f64);
        libm::lgamma(d + 1.0) - libm::lgamma(m + 1.0) - libm::lgamma(d - m + 1.0)
    };
    let share = |m: usize| libm::exp(log_binomial(m) - width as f64 * LN_2);
    (1..=width).map(|m| share(m) * m as f64 * two_layers(m)).sum::<f64>() / (0.5 * width as f64)
}

/// Approximate ratio of means for `layers` >= 1 Gaussian linear layers with
/// `width` units between each: `(pi / 2d)^((L - 1) / 2)`.
#[must_use]
pub fn depth(width: usize, layers: usize) -> f64 {
    (PI / (2.0 * width as f64)).powf(0.5 * (layers as f64 - 1.0))
}

/// Upper bound on the ratio of means for `layers` Gaussian linear layers with at
/// least `width` units between each: `two_layers(width)^floor(layers / 2)`.
#[must_use]
pub fn depth_bound(width: usize, layers: usize) -> f64 {
    two_layers(width).powi((layers / 2) as i32)
}

/// Optimal and layer-wise radius of an output of the reconstruction `U U^T x`
/// over a box of radius 1, in expectation over Haar-random orthonormal frames
/// `U` of `dimension` rows and `rank` columns; `1 < rank < dimension`.
#[must_use]
pub fn embedding(dimension: usize, rank: usize) -> [f64; 2] {
    let (d, k) = (dimension as f64, rank as f64);
    let layerwise = k * (1.0 / d + 2.0 * (d - 1.0) / (PI * d));
    // E|P_ij| off the diagonal: projections have norm sqrt(beta) and split uniformly.
    let uniform = (d - 1.0) * gamma_ratio(dimension - 1, dimension) / PI.sqrt();
    let norm = gamma_ratio(rank + 1, rank)
        * gamma_ratio(dimension - rank + 1, dimension - rank)
        * gamma_ratio(dimension, dimension + 2);
    [k / d + uniform * norm, layerwise]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values() {
        let widths = [
            (1, 1.0),
            (2, std::f64::consts::FRAC_PI_4),
            (4, 0.58905),
            (8, 0.42951),
            (16, 0.30847),
            (64, 0.15605),
            (256, 0.07826),
            (1024, 0.03916),
        ];
        for (width, expected) in widths {
            assert!((two_layers(width) - expected).abs() < 6e-6, "{width}");
        }
        let [optimal, layerwise] = embedding(100, 40);
        assert!((optimal - 4.2587).abs() < 5e-5 && (layerwise - 25.61).abs() < 5e-3);
        assert!((two_layers_relu(1) - 1.0).abs() < 1e-12);
        assert!((two_layers_relu(1024) / two_layers(1024) - 2f64.sqrt()).abs() < 1e-3);
        assert!((two_layers(4096) - depth(4096, 2)).abs() < 1e-4 * depth(4096, 2));
        assert!((1..20).all(|l| depth(64, l) <= depth_bound(64, l) * 1.01));
    }
}
