//! Certification, attacks and tightness.

use library::attack::{Attacked, Pgd, Region, class_of};
use library::bounds::MarginBounds;
use library::report::{CertifyRecord, Status};
use library::tightness::{CompanionFigures, Mask, Sampling, Tightness};
use rayon::prelude::*;

use crate::network::{method, number, rows, tightrope_network, tightrope_region};
use crate::status::{Failure, Result, array, buffer, guard, reference, tightrope_status};

/// What is known of one input.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum tightrope_verdict {
    /// Neither is proved.
    TIGHTROPE_UNKNOWN = 0,
    /// Classified correctly, and provably so for every perturbation.
    TIGHTROPE_CERTIFIED = 1,
    /// A perturbation, or the input itself, is classified otherwise.
    TIGHTROPE_FALSIFIED = 2,
}

/// The search for counterexamples by projected gradient descent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_attack {
    /// Gradient steps of each restart.
    pub steps: u32,
    /// Starting points.
    pub restarts: u32,
    /// Seed of the starting points.
    pub seed: u64,
}

/// The result for one input.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_certificate {
    /// The class that the network gives it; -1 if a logit is NaN.
    pub predicted: i64,
    /// A `tightrope_verdict`.
    pub verdict: u32,
    /// The `tightrope_method` tried last.
    pub bounded_by: u32,
    /// Lower bound on the least margin `logit_label - logit_other`; NaN without a method.
    pub margin: f64,
    /// The least margin that the attack found; NaN without one.
    pub attack_margin: f64,
}

/// Tightness of interval bounds for one input; a diagnostic, not a bound.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_tightness_figures {
    /// Mean over margins of optimal over layer-wise radius, in [0, 1].
    pub tightness: f64,
    /// Mean optimal over mean layer-wise radius.
    pub ratio_of_means: f64,
    /// Units that intervals prove dead, leave open, and prove active.
    pub dead: usize,
    /// See `dead`.
    pub unstable: usize,
    /// See `dead`.
    pub active: usize,
    /// Mean radius of the intervals of the outputs.
    pub box_radius: f64,
    /// `logit_label` minus the greatest other logit.
    pub logit_margin: f64,
}

/// Labels that are classes of the network.
///
/// # Safety
/// `y` is null, or valid for reads of `n` values as long as the result is used.
unsafe fn labels(network: &tightrope_network, y: *const i64, n: usize) -> Result<Vec<usize>> {
    let classes = network.graph.output_len();
    if classes < 2 {
        return Err(Failure::model("the network has one output; a classifier has at least 2"));
    }
    // SAFETY: as the caller promises.
    let y = unsafe { array(y, n, "y") }?;
    let label = |(i, &label): (usize, &i64)| {
        usize::try_from(label).ok().filter(|&label| label < classes).ok_or_else(|| {
            Failure::input(format!("y: label {i} is {label}; the network has the classes 0..{classes}"))
        })
    };
    y.iter().enumerate().map(label).collect()
}

/// Certifies that no perturbation in `region` changes the decision on any of `n` inputs `x` with
/// labels `y`, or refutes it by an attack (none for a null pointer). Writes `n` certificates; where
/// they are not null, also `n * classes` lower bounds on the margins (`margins_len`; infinite at the
/// label, NaN without a method) to `margins`, and the best point that the attack found for each input
/// (`n * inputs` numbers, `points_len`; the input itself without an attack) to `points`.
///
/// # Safety
/// Pointers are null, or valid for as many values as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_certify(
    network: *const tightrope_network,
    x: *const f32,
    y: *const i64,
    n: usize,
    region: *const tightrope_region,
    method_number: u32,
    attack: *const tightrope_attack,
    certificates: *mut tightrope_certificate,
    margins: *mut f64,
    margins_len: usize,
    points: *mut f32,
    points_len: usize,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (network, x, y, region, attack, out) = unsafe {
            let network = reference(network, "network")?;
            let out = buffer(certificates, n, n, "certificates")?;
            (
                network,
                rows(network, x, n)?,
                labels(network, y, n)?,
                reference(region, "region")?,
                attack.as_ref(),
                out,
            )
        };
        let (classes, inputs) = (network.graph.output_len(), network.graph.input_len());
        let wanted = |none: bool, m: usize| if none { 0 } else { n * m };
        let (all_margins, all_points) =
            (wanted(margins.is_null(), classes), wanted(points.is_null(), inputs));
        // SAFETY: as the caller promises.
        let (margins, points) = unsafe {
            (
                buffer(margins, margins_len, all_margins, "margins")?,
                buffer(points, points_len, all_points, "points")?,
            )
        };
        let method = method(method_number)?;
        if let Some(a) = attack
            && ![a.steps, a.restarts].iter().all(|n| (1..=100_000).contains(n))
        {
            return Err(Failure::input(format!(
                "attack: found {} steps and {} restarts; accepted: 1 to 100000 of each",
                a.steps, a.restarts
            )));
        }
        let sets = region.sets(x)?;
        let bounds = method.map(|method| MarginBounds::new(&network.graph, method).bound(&sets, &y));
        let around = Region { norm: region.norm()?, eps: region.eps, clip: region.clip() };
        let attacked: Option<Vec<Attacked>> = attack.map(|a| {
            let pgd = Pgd { steps: a.steps, restarts: a.restarts, seed: a.seed };
            let one = |i| pgd.attack(&network.graph, &network.plan, &around, x.row(i), y[i], i);
            (0..n).into_par_iter().map(one).collect()
        });
        let logits = network.plan.run(x);
        for i in 0..n {
            let predicted = class_of(&logits.row(i).to_vec());
            let (bound, found) = (bounds.as_ref().map(|b| (b, i)), attacked.as_ref().map(|a| &a[i]));
            let record =
                CertifyRecord::new((i, y[i], predicted), (region.eps, method), bound, found, None, 0.0);
            let verdict = match record.status {
                Status::Certified => tightrope_verdict::TIGHTROPE_CERTIFIED,
                Status::Falsified => tightrope_verdict::TIGHTROPE_FALSIFIED,
                Status::Unknown => tightrope_verdict::TIGHTROPE_UNKNOWN,
            };
            out[i] = tightrope_certificate {
                predicted: predicted.map_or(-1, |class| class as i64),
                verdict: verdict as u32,
                bounded_by: number(record.bounded_by),
                margin: bounds.as_ref().map_or(f64::NAN, |b| b.least(i)),
                attack_margin: record.attack_margin.unwrap_or(f64::NAN),
            };
            if let Some(row) = margins.get_mut(i * classes..(i + 1) * classes) {
                match &bounds {
                    Some(bounds) => {
                        row.iter_mut().zip(bounds.lower().row(i)).for_each(|(to, from)| *to = *from);
                    }
                    None => row.fill(f64::NAN),
                }
            }
            if let Some(row) = points.get_mut(i * inputs..(i + 1) * inputs) {
                match found {
                    Some(found) => row.copy_from_slice(&found.point),
                    None => row.iter_mut().zip(x.row(i)).for_each(|(to, from)| *to = *from),
                }
            }
        }
        Ok(())
    })
}

/// Measures how tight interval bounds are for `n` inputs `x` with labels `y` over the l-inf boxes of
/// `region`, on the linear network that is active at each input.
///
/// # Safety
/// Pointers are null, or valid for as many values as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_tightness(
    network: *const tightrope_network,
    x: *const f32,
    y: *const i64,
    n: usize,
    region: *const tightrope_region,
    figures: *mut tightrope_tightness_figures,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (network, x, y, region, out) = unsafe {
            let network = reference(network, "network")?;
            let out = buffer(figures, n, n, "figures")?;
            (network, rows(network, x, n)?, labels(network, y, n)?, reference(region, "region")?, out)
        };
        if region.norm != 0 {
            return Err(Failure::input(
                "region.norm: tightness is measured over l-inf boxes; accepted: TIGHTROPE_LINF",
            ));
        }
        let boxes = library::bounds::InputBox::linf(x, region.eps, region.clip()).map_err(Failure::input)?;
        let tightness = Tightness::new(&network.graph, Mask::Local).map_err(Failure::model)?;
        let companions = CompanionFigures::new(&network.graph).map_err(Failure::model)?;
        let radii = tightness.measure(x, &boxes, Some(&y));
        let found = companions.measure(x, &boxes, &y, 0, Sampling { points: 0, seed: 0 });
        let undefined = radii
            .iter()
            .zip(&found)
            .position(|(radii, (found, _))| radii.tightness().is_nan() || found.logit_margin.is_nan());
        if let Some(i) = undefined {
            return Err(Failure::input(format!("input {i}: values overflow")));
        }
        for ((out, radii), (found, _)) in out.iter_mut().zip(&radii).zip(&found) {
            *out = tightrope_tightness_figures {
                tightness: radii.tightness(),
                ratio_of_means: radii.ratio_of_means(),
                dead: found.at_eps.dead,
                unstable: found.at_eps.unstable,
                active: found.at_eps.active,
                box_radius: found.box_radius,
                logit_margin: found.logit_margin,
            };
        }
        Ok(())
    })
}
