//! Certification, attacks and tightness.

use std::cell::RefCell;
use std::time::Duration;

use library::attack::{Attacked, Pgd};
use library::bounds::{Eps, Evaluation, Method};
use library::runs::{
    Certify, Failure as RunFailure, Finished, Inputs, Measure, Pixels, Question, Status, answer,
};
use library::tightness::{Mask, Sampling};
use ndarray::ArrayView2;

use crate::network::{method, number, rows, tightrope_network, tightrope_region};
use crate::status::{Failure, Result, array, buffer, goes_on, guard, reference, tightrope_status};

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
/// labels `y`, or refutes it by an attack (none for a null pointer). `TIGHTROPE_COMPLETE` leaves an input open
/// after `timeout_seconds`, or never if that is 0. Writes `n` certificates; where
/// they are not null, also `n * classes` lower bounds on the margins (`margins_len`; infinite at the
/// label, NaN without a method) to `margins`, and the best point that the attack or the search found for each
/// input (`n * inputs` numbers, `points_len`; the input itself where there was none) to `points`.
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
    timeout_seconds: f64,
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
        let attack = attack.map(|a| Pgd { steps: a.steps, restarts: a.restarts, seed: a.seed });
        let around = (region.norm()?, vec![region.eps()?], region.clip());
        let timeout = timeout(timeout_seconds)?;
        let question = Certify::new((&network.graph, &network.plan), around, &[method], attack, timeout);
        // Constants speak of real arithmetic.
        let real = method == Some(Method::Lipschitz);
        let evaluation = if real { Evaluation::Real } else { Evaluation::default() };
        let mut question = question.map_err(Failure::input)?.evaluated(evaluation);
        // The input itself without an attack.
        points.iter_mut().zip(x).for_each(|(to, from)| *to = *from);
        let points = RefCell::new(points);
        let keep = |index: usize, _: &Eps, found: &Attacked| {
            if let Some(row) = points.borrow_mut().get_mut(index * inputs..(index + 1) * inputs) {
                row.copy_from_slice(&found.point);
            }
            Ok(None)
        };
        question.keep = Some(&keep);
        out.fill(tightrope_certificate {
            predicted: -1,
            verdict: tightrope_verdict::TIGHTROPE_UNKNOWN as u32,
            bounded_by: 0,
            margin: f64::NAN,
            attack_margin: f64::NAN,
        });
        margins.fill(f64::NAN);
        let (records, ended) = ask(&question, x, Some(y), 0);
        for (i, record) in records.iter().enumerate() {
            let verdict = match record.status {
                Status::Certified => tightrope_verdict::TIGHTROPE_CERTIFIED,
                Status::Falsified => tightrope_verdict::TIGHTROPE_FALSIFIED,
                Status::Unknown => tightrope_verdict::TIGHTROPE_UNKNOWN,
            };
            let bounds = record.margin_lower.iter().map(|margin| margin.unwrap_or(f64::INFINITY));
            out[i] = tightrope_certificate {
                predicted: record.predicted.map_or(-1, |class| class as i64),
                verdict: verdict as u32,
                bounded_by: number(record.bounded_by),
                margin: bounds.clone().reduce(f64::min).unwrap_or(f64::NAN),
                attack_margin: record.attack_margin.unwrap_or(f64::NAN),
            };
            if let Some(row) = margins.get_mut(i * classes..(i + 1) * classes) {
                row.iter_mut().zip(bounds).for_each(|(to, from)| *to = from);
            }
        }
        ended
    })
}

/// Seconds after which a search gives up; never for 0.
pub(crate) fn timeout(seconds: f64) -> Result<Option<Duration>> {
    let time = Duration::try_from_secs_f64(seconds)
        .map_err(|_| Failure::input(format!("timeout_seconds: found {seconds}; accepted: seconds >= 0")))?;
    Ok(Some(time).filter(|time| !time.is_zero()))
}

/// The records of the inputs that were reached, the first of which has the number `first` in its data set, and
/// what came before the last.
pub(crate) fn ask<Q: Question>(
    question: &Q,
    x: ArrayView2<f32>,
    y: Option<Vec<usize>>,
    first: usize,
) -> (Vec<Q::Record>, Result<()>) {
    let inputs = Inputs::new((first..).take(x.nrows()).collect(), y, Pixels::Rows(x));
    let Finished { records, ended } =
        answer(question, &inputs, None, Vec::new(), &mut |done| goes_on(done as u64));
    let failure = |failure: RunFailure| match failure {
        RunFailure::Stopped => Failure::interrupted(records.len()),
        other => Failure::input(other),
    };
    let ended = ended.map_err(failure);
    (records, ended)
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
        let sampling = Sampling { points: 0, seed: 0 };
        let around = (region.eps()?, region.clip());
        let question = Measure::new((&network.graph, &network.plan), Mask::Local, around, false, sampling);
        let unreached = tightrope_tightness_figures {
            tightness: f64::NAN,
            ratio_of_means: f64::NAN,
            dead: 0,
            unstable: 0,
            active: 0,
            box_radius: f64::NAN,
            logit_margin: f64::NAN,
        };
        out.fill(unreached);
        let (records, ended) = ask(&question.map_err(Failure::model)?, x, Some(y), 0);
        for (out, record) in out.iter_mut().zip(&records) {
            *out = tightrope_tightness_figures {
                tightness: record.tightness,
                ratio_of_means: record.ratio_of_means,
                dead: record.units.dead,
                unstable: record.units.unstable,
                active: record.units.active,
                box_radius: record.box_radius,
                logit_margin: record.logit_margin,
            };
        }
        ended
    })
}
