//! Median smoothing of regression outputs (Chiang et al., "Detection as Regression: Certified Object
//! Detection by Median Smoothing", 2020).

use serde::{Deserialize, Serialize};

use super::confidence::{lower_tail_upper, upper_tail_upper};
use super::normal::{cdf_lower, cdf_upper, quantile_lower, quantile_upper};
use super::quantity::{Alpha, OutOfRange, Scale};
use crate::rounding::directed::{add_up, div_up, sub_down};

/// What is certified of a smoothed output: under every l2 perturbation of at most the radius, the
/// quantile of the output lies in `[lower, upper]`, with probability at least `1 - alpha`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MedianInterval {
    /// The empirical quantile, an estimate; NaN if every output is.
    pub estimate: f64,
    /// Lower end; `-inf` if the sample is too small for one.
    pub lower: f64,
    /// Upper end; `inf` if the sample is too small for one.
    pub upper: f64,
}

/// Bounds the `p`-quantile (1/2 for the median) of the outputs under `N(0, sigma^2)` noise, for every
/// perturbation of l2 norm at most `radius` (Chiang et al. 2020, Lemma 1 and Theorem 1): the quantile
/// lies between those at the levels `Phi(Phi^-1(p) -/+ radius / sigma)` of the unperturbed input,
/// which order statistics bound, each at `alpha / 2`.
///
/// `outputs` holds one output for each of `n` independent noise samples, in any order. A NaN counts as
/// `-inf` below and as `inf` above.
///
/// # Errors
/// Unless `radius` is finite and at least 0 and `0 < p < 1`.
pub fn certify_quantile(
    outputs: &[f64],
    p: f64,
    sigma: Scale,
    radius: f64,
    alpha: Alpha,
) -> Result<MedianInterval, OutOfRange> {
    if !(radius >= 0.0 && radius.is_finite()) {
        return Err(OutOfRange { quantity: "the radius", found: radius, accepted: "a finite number >= 0" });
    }
    if !(p > 0.0 && p < 1.0) {
        return Err(OutOfRange { quantity: "the quantile", found: p, accepted: "a number between 0 and 1" });
    }
    let shift = div_up(radius, sigma.get());
    let below = cdf_lower(sub_down(quantile_lower(p), shift));
    let above = cdf_upper(add_up(quantile_upper(p), shift));
    let level = alpha.half().get();
    let sorted = |nan: f64| {
        let mut values: Vec<f64> = outputs.iter().map(|&y| if y.is_nan() { nan } else { y }).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let n = u32::try_from(outputs.len()).unwrap_or(u32::MAX);
    let (low, high) = (sorted(f64::NEG_INFINITY), sorted(f64::INFINITY));
    let pick = |values: &[f64], index: Option<u32>, none: f64| {
        index.and_then(|k| values.get(k as usize - 1)).copied().unwrap_or(none)
    };
    let middle = outputs.iter().filter(|y| !y.is_nan()).count();
    let at = ((p * middle as f64) as usize).min(middle.saturating_sub(1));
    let skipped = outputs.len() - middle;
    Ok(MedianInterval {
        // NaN sorts to the front of `low`.
        estimate: if middle == 0 { f64::NAN } else { low[skipped + at] },
        lower: pick(&low, lower_order(n, below, level), f64::NEG_INFINITY),
        upper: pick(&high, upper_order(n, above, level), f64::INFINITY),
    })
}

/// The greatest `k` such that the k-th smallest of `n` is at most the q-quantile except with probability
/// alpha: it is, whenever at least `k` samples are, so `P(Bin(n, q) <= k - 1) <= alpha`.
fn lower_order(n: u32, q: f64, alpha: f64) -> Option<u32> {
    let fails = |k: u32| lower_tail_upper(k - 1, n, q) > alpha;
    let (mut good, mut bad) = (0, n.checked_add(1)?);
    while bad - good > 1 {
        let k = good + (bad - good) / 2;
        if fails(k) {
            bad = k;
        } else {
            good = k;
        }
    }
    (good > 0).then_some(good)
}

/// The least `k` such that the k-th smallest of `n` is at least the q-quantile except with probability
/// alpha: it is, whenever fewer than `k` samples lie below it, so `P(Bin(n, q) >= k) <= alpha`.
fn upper_order(n: u32, q: f64, alpha: f64) -> Option<u32> {
    let fails = |k: u32| upper_tail_upper(k, n, q) > alpha;
    let (mut bad, mut good) = (0, n.checked_add(1)?);
    while good - bad > 1 {
        let k = bad + (good - bad) / 2;
        if fails(k) {
            bad = k;
        } else {
            good = k;
        }
    }
    (good <= n).then_some(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certify(outputs: &[f64], radius: f64) -> MedianInterval {
        let sigma = Scale::new(0.5).expect("a scale");
        certify_quantile(outputs, 0.5, sigma, radius, Alpha::new(0.01).expect("a level"))
            .expect("an interval")
    }

    #[test]
    fn order_statistics_enclose_the_median_more_widely_for_larger_radii() {
        let outputs: Vec<f64> = (0..1001).rev().map(f64::from).collect();
        let mut last = certify(&outputs, 0.0);
        assert_eq!(last.estimate, 500.0);
        assert!(last.lower < 500.0 && last.lower > 450.0 && last.upper > 500.0 && last.upper < 550.0);
        for radius in [0.1, 0.25, 0.5] {
            let next = certify(&outputs, radius);
            assert!(next.lower < last.lower && next.upper > last.upper);
            last = next;
        }
        let none = certify(&outputs, 5.0);
        assert_eq!((none.lower, none.upper), (f64::NEG_INFINITY, f64::INFINITY));
    }

    #[test]
    fn outputs_that_are_not_numbers_never_narrow_the_interval() {
        let mut outputs: Vec<f64> = (0..1001).map(f64::from).collect();
        let clean = certify(&outputs, 0.1);
        outputs[500..520].fill(f64::NAN);
        let dirty = certify(&outputs, 0.1);
        assert!(dirty.lower <= clean.lower && dirty.upper >= clean.upper);
        let empty = certify(&[], 0.1);
        assert!(empty.estimate.is_nan() && empty.lower == f64::NEG_INFINITY && empty.upper == f64::INFINITY);
        assert!(certify(&[f64::NAN; 3], 0.1).estimate.is_nan());
    }

    #[test]
    fn the_orders_are_exact_for_small_samples() {
        // n = 10, q = 1/2: P(B <= 1) = 11/1024, P(B <= 0) = 1/1024.
        assert_eq!(lower_order(10, 0.5, 0.01), Some(1));
        assert_eq!(lower_order(10, 0.5, 0.011), Some(2));
        assert_eq!(upper_order(10, 0.5, 0.01), Some(10));
        assert_eq!(upper_order(10, 0.5, 0.011), Some(9));
        assert_eq!(lower_order(10, 0.5, 0.0001), None);
        assert_eq!(upper_order(10, 0.5, 0.0001), None);
    }

    #[test]
    fn impossible_questions_are_errors() {
        let (sigma, alpha) = (Scale::new(0.5).expect("a scale"), Alpha::new(0.01).expect("a level"));
        for (p, radius) in [(0.5, -1.0), (0.5, f64::NAN), (0.5, f64::INFINITY), (0.0, 1.0), (f64::NAN, 1.0)] {
            assert!(certify_quantile(&[1.0; 9], p, sigma, radius, alpha).is_err());
        }
    }
}
