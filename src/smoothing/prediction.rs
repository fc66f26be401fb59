//! Prediction without a radius: the smoothed classifier's class, or an abstention.

use super::confidence::{Binomial, upper_tail_upper};
use super::quantity::Alpha;

/// Cohen's PREDICT (Cohen, Rosenfeld and Kolter 2019, Section 3.2.1): the class counted most often, if a
/// two-sided binomial test of the two highest counts rejects equality at level alpha; else `None`.
/// A class other than the smoothed classifier's is returned with probability at most alpha (Hung and
/// Fithian 2019).
///
/// `counts` holds one count for each class, over one set of samples used for nothing else.
#[must_use]
pub fn predict(counts: &[u32], alpha: Alpha) -> Option<usize> {
    let top = counts.iter().max()?;
    let class = counts.iter().position(|count| count == top)?;
    let second = counts.iter().enumerate().filter(|&(other, _)| other != class).map(|(_, &c)| c).max();
    (equality_p_value(*top, second.unwrap_or(0)) <= alpha.get()).then_some(class)
}

/// A number at least the p-value of the two-sided test that two classes are equally likely, given how
/// often each was counted; at most 1. More than `2^32 - 1` counts together give 1.
#[must_use]
pub fn equality_p_value(a: u32, b: u32) -> f64 {
    let Some(both) = a.checked_add(b) else { return 1.0 };
    let Some(counts) = Binomial::new(a.max(b), both) else { return 1.0 };
    if a == b {
        return 1.0;
    }
    (2.0 * upper_tail_upper(counts.successes(), both, 0.5)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alpha(x: f64) -> Alpha {
        Alpha::new(x).expect("a level")
    }

    #[test]
    fn p_values_are_exact_for_small_counts() {
        assert!((equality_p_value(10, 0) - 2.0 / 1024.0).abs() < 1e-14);
        assert!((equality_p_value(1, 9) - 22.0 / 1024.0).abs() < 1e-12);
        assert_eq!(equality_p_value(5, 5), 1.0);
        assert_eq!(equality_p_value(0, 0), 1.0);
        assert_eq!(equality_p_value(1, 0), 1.0);
    }

    #[test]
    fn it_predicts_or_abstains() {
        assert_eq!(predict(&[3, 90, 7], alpha(0.001)), Some(1));
        assert_eq!(predict(&[45, 55, 0], alpha(0.001)), None);
        assert_eq!(predict(&[50, 50], alpha(0.5)), None);
        assert_eq!(predict(&[], alpha(0.5)), None);
        assert_eq!(predict(&[0, 0], alpha(0.5)), None);
        // Ten of ten: p = 2/1024 > .001.
        assert_eq!(predict(&[10], alpha(0.001)), None);
        assert_eq!(predict(&[11], alpha(0.001)), Some(0));
    }

    #[test]
    fn a_wrong_class_is_rare_even_when_two_classes_tie() {
        // Exact enumeration: both classes at 1/2, n = 40; whichever is returned, at most alpha of the
        // probability returns one.
        let n = 40_u32;
        let choose = |k: u32| (0..k).fold(1.0, |c, i| c * f64::from(n - i) / f64::from(i + 1));
        let returned: f64 = (0..=n)
            .filter(|&k| predict(&[k, n - k], alpha(0.05)).is_some())
            .map(|k| choose(k) * 0.5_f64.powi(n as i32))
            .sum();
        assert!(returned <= 0.05 && returned > 0.01, "{returned}");
    }
}
