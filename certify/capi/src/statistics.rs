//! Confidence bounds and radii from counts.

use library::smoothing::confidence::{Binomial, ClopperPearson, ConfidenceBound};
use library::smoothing::quantity::{Alpha, LowerBound, Radius, Scale, UpperBound};
use library::smoothing::radius::{one_sided, two_sided};

use crate::status::{Failure, guard, place, tightrope_status};

/// Clopper-Pearson bounds on a success probability from `successes` of `trials`, each wrong with
/// probability at most `alpha`. `lower` or `upper` may be null.
///
/// # Safety
/// Pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_clopper_pearson(
    successes: u32,
    trials: u32,
    alpha: f64,
    lower: *mut f64,
    upper: *mut f64,
) -> tightrope_status {
    guard(|| {
        let counts = Binomial::new(successes, trials).ok_or_else(|| {
            Failure::input(format!("found {successes} successes of {trials}; accepted: no more than trials"))
        })?;
        let alpha = Alpha::new(alpha).map_err(|e| Failure::input(format!("alpha: {e}")))?;
        // SAFETY: as the caller promises.
        let ends = unsafe { (lower.as_mut(), upper.as_mut()) };
        if let Some(lower) = ends.0 {
            *lower = ClopperPearson.lower(&counts, alpha).get();
        }
        if let Some(upper) = ends.1 {
            *upper = ClopperPearson.upper(&counts, alpha).get();
        }
        Ok(())
    })
}

/// The certified l2 radius of Gaussian smoothing from a lower bound on the class's score and an upper
/// bound on every other (1 if there is none), rounded down; 0 where nothing is certified.
///
/// # Safety
/// `radius` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_radius(
    p_lower: f64,
    p_upper: f64,
    sigma: f64,
    radius: *mut f64,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { place(radius, "radius") }?;
        let sigma = Scale::new(sigma).map_err(|e| Failure::input(format!("sigma: {e}")))?;
        if let Some(p) = [p_lower, p_upper].into_iter().find(|p| !(0.0..=1.0).contains(p)) {
            return Err(Failure::input(format!("found the bound {p}; accepted: probabilities from 0 to 1")));
        }
        let lower = LowerBound::new(p_lower);
        // Scores add up to at most 1, which is all that is known of the others then.
        let found =
            Radius::larger(one_sided(sigma, lower), two_sided(sigma, lower, UpperBound::new(p_upper)));
        *out = found.map_or(0.0, Radius::get);
        Ok(())
    })
}
