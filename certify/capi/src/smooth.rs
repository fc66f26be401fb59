//! Randomized smoothing of networks and of callback classifiers.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ops::Range;

use library::runs::Smooth;
use library::smoothing::certifier::{Certifier, Options};
use library::smoothing::noise::Noise;
use library::smoothing::procedure::{SampleError, Stopping};
use library::smoothing::quantity::{Alpha, Radius, Scale};
use library::smoothing::radius::Lipschitz;
use library::smoothing::sampler::NoisyInputs;
use ndarray::{Array2, ArrayView2};
use serde_json::{Map, Value};

use crate::certify::ask;
use crate::network::{rows, tightrope_network};
use crate::status::{Failure, Result, array, buffer, guard, reference, string, tightrope_status};

/// A base classifier: reads `samples` noisy inputs of `entries` numbers each, and writes `classes`
/// logits for each to `logits`. `user` is what the caller gave. Returns 0, or any other number to end
/// the call with `TIGHTROPE_CLASSIFIER_ERROR`. Called on the thread that asked. It may call this
/// library, but must return: no exceptions, no `longjmp`.
pub type tightrope_classifier = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        noisy: *const f32,
        samples: usize,
        entries: usize,
        logits: *mut f32,
        classes: usize,
    ) -> c_int,
>;

/// Distribution of the noise.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum tightrope_noise {
    /// Gaussian, drawn behind a dense first layer of a network to at most half as many entries, where it
    /// is the same at less cost; l2 radii.
    TIGHTROPE_GAUSSIAN = 0,
    /// Gaussian on the grid of 8-bit pixels, exact; l2 radii.
    TIGHTROPE_LATTICE = 1,
    /// Uniform; l1 radii.
    TIGHTROPE_UNIFORM = 2,
    /// Laplace; l1 radii.
    TIGHTROPE_LAPLACE = 3,
    /// Gaussian, drawn on the input of every network, as for classifiers of the caller; l2 radii.
    TIGHTROPE_GAUSSIAN_INPUT = 4,
}

/// The library's name of a `tightrope_noise`.
fn name_of(noise: u32) -> Option<&'static str> {
    use tightrope_noise::{
        TIGHTROPE_GAUSSIAN, TIGHTROPE_GAUSSIAN_INPUT, TIGHTROPE_LAPLACE, TIGHTROPE_LATTICE, TIGHTROPE_UNIFORM,
    };
    let names = [
        (TIGHTROPE_GAUSSIAN, "gaussian"),
        (TIGHTROPE_LATTICE, "lattice"),
        (TIGHTROPE_UNIFORM, "uniform"),
        (TIGHTROPE_LAPLACE, "laplace"),
        (TIGHTROPE_GAUSSIAN_INPUT, "gaussian-input"),
    ];
    names.into_iter().find(|(number, _)| *number as u32 == noise).map(|(_, name)| name)
}

/// How to smooth. Start from `tightrope_smoothing_defaults()` and change what is wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_smoothing {
    /// Scale of the noise: standard deviation, half-width of uniform noise, scale of Laplace noise.
    pub sigma: f64,
    /// Probability with which a radius may be false.
    pub alpha: f64,
    /// A `tightrope_noise`.
    pub noise: u32,
    /// Samples for the estimation; with `radius` or `tolerance` the most.
    pub n: u32,
    /// Samples for the selection; 0 for a share of `n`, at least 100.
    pub n0: u32,
    /// Simplex map: "hardmax", "softmax:T", "sparsemax:T"; NULL for the most promising one.
    pub map: *const c_char,
    /// Confidence bound, such as "clopper-pearson" or "bernstein"; NULL for that of the map.
    pub bound: *const c_char,
    /// "one-sided", "two-sided" or "pairwise"; NULL for that of the map.
    pub rule: *const c_char,
    /// Stop as soon as it is settled whether this radius is certified; 0 for never.
    pub radius: f64,
    /// Plan the samples of each input, up to `n`, so that more could gain less than this fraction of the
    /// radius; 0 for all of `n`.
    pub tolerance: f64,
    /// Seed of all noise.
    pub seed: u64,
    /// Position of the first input in its data set: what is drawn depends on it and the seed alone.
    pub first: u64,
    /// Of a network with Gaussian noise: a Lipschitz constant of its logits that the caller vouches for, or any
    /// number below 0 for that of `tightrope_lipschitz`; adds radii that know it. 0 for none.
    pub lipschitz: f64,
}

/// The result for one input.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_smoothed {
    /// The certified class; -1 for an abstention.
    pub predicted: i64,
    /// The certified radius; 0 for an abstention.
    pub radius: f64,
    /// Lower bound on the class's smoothed score.
    pub p_lower: f64,
    /// Upper bound on every other score; 1 where it was not bounded.
    pub p_upper: f64,
    /// Noisy evaluations used, those of the selection included.
    pub samples: u64,
}

/// sigma .25, alpha .001, 100,000 samples after 2,000, Gaussian noise, the most promising map.
#[unsafe(no_mangle)]
pub extern "C" fn tightrope_smoothing_defaults() -> tightrope_smoothing {
    tightrope_smoothing {
        sigma: 0.25,
        alpha: 0.001,
        noise: 0,
        n: 100_000,
        n0: 0,
        map: std::ptr::null(),
        bound: std::ptr::null(),
        rule: std::ptr::null(),
        radius: 0.0,
        tolerance: 0.0,
        seed: 0,
        first: 0,
        lipschitz: 0.0,
    }
}

/// The certifier that is asked for.
///
/// # Safety
/// Strings are null or end in 0.
unsafe fn certifier(asked: &tightrope_smoothing) -> Result<Certifier> {
    fn named<T: serde::de::DeserializeOwned>(what: &str, name: Option<&str>) -> Result<Option<T>> {
        let read = name.map(|name| serde_json::from_value(Value::from(name)));
        read.transpose().map_err(|e| Failure::input(format!("{what}: {e}")))
    }
    // SAFETY: as the caller promises.
    let [map, bound, rule] =
        unsafe { [string(asked.map, "map")?, string(asked.bound, "bound")?, string(asked.rule, "rule")?] };
    let scale = Scale::new(asked.sigma).map_err(|e| Failure::input(format!("sigma: {e}")))?;
    let unknown = || Failure::input(format!("noise: found {}; accepted: a tightrope_noise", asked.noise));
    let noise = Noise::new(name_of(asked.noise).ok_or_else(unknown)?, scale);
    let noise = noise.map_err(|e| Failure::input(format!("sigma: {e}")))?;
    let most = asked.n;
    let stopping = if asked.radius != 0.0 && asked.tolerance != 0.0 {
        return Err(Failure::input("radius: found with tolerance; accepted: one of the two"));
    } else if asked.radius != 0.0 {
        let radius = Radius::new(asked.radius);
        let wrong = || Failure::input(format!("radius: found {}; accepted: a positive number", asked.radius));
        Stopping::Settle { radius: radius.ok_or_else(wrong)?, most }
    } else if asked.tolerance != 0.0 {
        Stopping::Tolerance { fraction: asked.tolerance, most }
    } else {
        Stopping::Fixed(most)
    };
    let map = map.filter(|name| *name != "auto").map(str::parse).transpose();
    let options = Options {
        noise,
        map: map.map_err(|e| Failure::input(format!("map: {e}")))?,
        bound: named("bound", bound)?,
        rule: named("rule", rule)?,
        alpha: Alpha::new(asked.alpha).map_err(|e| Failure::input(format!("alpha: {e}")))?,
        n0: (asked.n0 > 0).then_some(asked.n0),
        stopping,
        seed: asked.seed,
    };
    Certifier::new(options).map_err(Failure::input)
}

/// Certifies the rows of `x`.
fn each(
    asked: &tightrope_smoothing,
    question: &Smooth,
    x: ArrayView2<f32>,
    out: &mut [tightrope_smoothed],
) -> Result<()> {
    let first = usize::try_from(asked.first).ok().filter(|first| first.checked_add(x.nrows()).is_some());
    let first =
        first.ok_or_else(|| Failure::input(format!("first: found {}, which overflows", asked.first)))?;
    out.fill(tightrope_smoothed { predicted: -1, radius: 0.0, p_lower: 0.0, p_upper: 1.0, samples: 0 });
    let (records, ended) = ask(question, x, None, first);
    for (out, record) in out.iter_mut().zip(records) {
        *out = tightrope_smoothed {
            predicted: record.predicted.map_or(-1, |class| class as i64),
            radius: record.radius,
            p_lower: record.p_lower,
            p_upper: record.p_upper,
            samples: record.samples,
        };
    }
    ended
}

/// Certifies radii of a network, smoothed, at `n` inputs `x`; writes `n` results.
///
/// # Safety
/// Pointers are null, or valid for as many values as said; strings end in 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_smooth(
    network: *const tightrope_network,
    x: *const f32,
    n: usize,
    how: *const tightrope_smoothing,
    results: *mut tightrope_smoothed,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (network, x, how, certifier, out) = unsafe {
            let (network, how) = (reference(network, "network")?, reference(how, "how")?);
            (network, rows(network, x, n)?, how, certifier(how)?, buffer(results, n, n, "results")?)
        };
        let certifier = if how.lipschitz == 0.0 {
            certifier
        } else {
            let wrong = |e: &dyn std::fmt::Display| Failure::input(format!("lipschitz: {e}"));
            let constant = (how.lipschitz >= 0.0).then(|| Lipschitz::new(how.lipschitz)).transpose();
            certifier.aware(&network.graph, constant.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?
        };
        each(how, &Smooth::new(&[certifier], &network.graph, Map::new()), x, out)
    })
}

/// Certifies radii of a base classifier of the caller, smoothed, at `n` inputs `x` of `entries`
/// numbers each; writes `n` results.
///
/// # Safety
/// Pointers are null, or valid for as many values as said; strings end in 0; `classifier` does what
/// its type says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_smooth_classifier(
    classifier: tightrope_classifier,
    user: *mut c_void,
    classes: usize,
    x: *const f32,
    n: usize,
    entries: usize,
    how: *const tightrope_smoothing,
    results: *mut tightrope_smoothed,
) -> tightrope_status {
    let ended = Cell::new(0);
    let status = guard(|| {
        let call = classifier.ok_or_else(|| Failure::input("classifier: found a null pointer"))?;
        let len = n.checked_mul(entries).filter(|_| entries > 0 && (2..=1 << 20).contains(&classes));
        let len = len.ok_or_else(|| {
            let text = format!("found {n} inputs of {entries} entries and {classes} classes");
            Failure::input(format!("{text}; accepted: at least one entry and two classes"))
        })?;
        // SAFETY: as the caller promises.
        let (x, how, certifier, out) = unsafe {
            let how = reference(how, "how")?;
            (array(x, len, "x")?, how, certifier(how)?, buffer(results, n, n, "results")?)
        };
        if how.lipschitz != 0.0 {
            return Err(Failure::input("lipschitz: found with a classifier; accepted: with a network"));
        }
        let x = ArrayView2::from_shape((n, entries), x).map_err(Failure::input)?;
        let classifier = |inputs: &NoisyInputs, range: Range<u32>| {
            let noisy = inputs.batch(range);
            let samples = noisy.nrows();
            let mut logits = Array2::zeros((samples, classes));
            // SAFETY: the arrays are contiguous and hold as many values as said; the classifier does
            // what its type says.
            ended.set(unsafe { call(user, noisy.as_ptr(), samples, entries, logits.as_mut_ptr(), classes) });
            if ended.get() == 0 { Ok(logits) } else { Err(SampleError::from("the classifier failed")) }
        };
        each(how, &Smooth::of(&[certifier], &classifier, Map::new()), x, out)
    });
    let ended = ended.get();
    if ended == 0 {
        return status;
    }
    guard(|| Err(Failure::classifier(format!("the classifier returned {ended}"))))
}
