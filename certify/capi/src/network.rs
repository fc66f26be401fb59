//! Networks: loading, evaluation, bounds on outputs.

use std::ffi::c_char;

use library::Graph;
use library::bounds::{Eps, InputBox, Method, Norm, Region};
use library::exec::Plan;
use library::onnx::{LoadOptions, load, load_bytes};
use ndarray::ArrayView2;

use crate::status::{Failure, Result, array, buffer, guard, place, reference, string, tightrope_status};

/// A loaded network. Functions that take it as `const` may run at the same time on several threads.
pub struct tightrope_network {
    pub(crate) graph: Graph,
    pub(crate) plan: Plan,
}

/// A norm of perturbations.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum tightrope_norm {
    /// Greatest entry.
    TIGHTROPE_LINF = 0,
    /// Euclidean length.
    TIGHTROPE_L2 = 1,
    /// Sum of absolute values.
    TIGHTROPE_L1 = 2,
}

/// How bounds are computed, from the fastest to the tightest.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum tightrope_method {
    /// No bounds: an attack alone.
    TIGHTROPE_NONE = 0,
    /// Interval bound propagation.
    TIGHTROPE_IBP = 1,
    /// One backward pass over the intervals of IBP.
    TIGHTROPE_CROWN_IBP = 2,
    /// Backward passes for every value.
    TIGHTROPE_CROWN = 3,
    /// The same with optimised slopes.
    TIGHTROPE_ALPHA_CROWN = 4,
    /// For each input the first of these that certifies it, with `TIGHTROPE_LIPSCHITZ` behind
    /// `TIGHTROPE_IBP` for balls of the l2 or l1 norm.
    TIGHTROPE_BEST = 5,
    /// The margin at the input less its Lipschitz constant times the l2 distance.
    TIGHTROPE_LIPSCHITZ = 6,
    /// `TIGHTROPE_BEST`, then branch and bound until the input is certified or falsified.
    TIGHTROPE_COMPLETE = 7,
}

/// The perturbations around an input.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_region {
    /// Radius.
    pub eps: f64,
    /// Norm: a `tightrope_norm`.
    pub norm: u32,
    /// Whether perturbed inputs stay between `clip_low` and `clip_high`.
    pub clip: bool,
    /// Least value of an entry.
    pub clip_low: f64,
    /// Greatest value of an entry.
    pub clip_high: f64,
}

impl tightrope_region {
    pub(crate) fn norm(&self) -> Result<Norm> {
        use tightrope_norm::{TIGHTROPE_L1, TIGHTROPE_L2, TIGHTROPE_LINF};
        match self.norm {
            n if n == TIGHTROPE_LINF as u32 => Ok(Norm::Linf),
            n if n == TIGHTROPE_L2 as u32 => Ok(Norm::L2),
            n if n == TIGHTROPE_L1 as u32 => Ok(Norm::L1),
            other => Err(Failure::input(format!("region.norm: found {other}; accepted: a tightrope_norm"))),
        }
    }

    pub(crate) fn clip(&self) -> Option<(f64, f64)> {
        self.clip.then_some((self.clip_low, self.clip_high))
    }

    /// The radius, which counts as written in decimals.
    pub(crate) fn eps(&self) -> Result<Eps> {
        Eps::try_from(self.eps).map_err(Failure::input)
    }

    /// The sets around the rows of `x`.
    fn sets(&self, x: ArrayView2<f32>) -> Result<InputBox> {
        let region = Region { norm: self.norm()?, eps: self.eps()?, clip: self.clip() };
        region.sets(x).map_err(Failure::input)
    }
}

/// Every method with its number.
const METHODS: [(tightrope_method, Option<Method>); 8] = [
    (tightrope_method::TIGHTROPE_NONE, None),
    (tightrope_method::TIGHTROPE_IBP, Some(Method::Ibp)),
    (tightrope_method::TIGHTROPE_CROWN_IBP, Some(Method::CrownIbp)),
    (tightrope_method::TIGHTROPE_CROWN, Some(Method::Crown)),
    (tightrope_method::TIGHTROPE_ALPHA_CROWN, Some(Method::AlphaCrown)),
    (tightrope_method::TIGHTROPE_BEST, Some(Method::Best)),
    (tightrope_method::TIGHTROPE_LIPSCHITZ, Some(Method::Lipschitz)),
    (tightrope_method::TIGHTROPE_COMPLETE, Some(Method::Complete)),
];

/// The method of a number.
pub(crate) fn method(number: u32) -> Result<Option<Method>> {
    let known = METHODS.iter().find(|(name, _)| *name as u32 == number);
    let unknown = || Failure::input(format!("method: found {number}; accepted: a tightrope_method"));
    known.map(|(_, method)| *method).ok_or_else(unknown)
}

/// The number of a method.
pub(crate) fn number(method: Option<Method>) -> u32 {
    METHODS.iter().find(|(_, known)| *known == method).map_or(0, |(name, _)| *name as u32)
}

/// Inputs as rows.
///
/// # Safety
/// `x` is null, or valid for reads of `n` inputs of the network as long as the result is used.
pub(crate) unsafe fn rows<'a>(
    network: &tightrope_network,
    x: *const f32,
    n: usize,
) -> Result<ArrayView2<'a, f32>> {
    let entries = network.graph.input_len();
    let len =
        n.checked_mul(entries).ok_or_else(|| Failure::input(format!("n: found {n}, which overflows")))?;
    // SAFETY: as the caller promises.
    let x = unsafe { array(x, len, "x") }?;
    ArrayView2::from_shape((n, entries), x).map_err(Failure::input)
}

/// Where a network comes from, and what stands before it. What is 0 or null is not given.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_model {
    /// The file (UTF-8), plain or gzipped; or
    pub path: *const c_char,
    /// the bytes of one, without external data,
    pub data: *const u8,
    /// and how many.
    pub data_len: usize,
    /// Shape of one input, for networks that leave it open,
    pub input_shape: *const usize,
    /// and how many axes it has.
    pub input_axes: usize,
    /// Normalisation before the network, by which perturbations are of the pixels before it: one mean, or one
    /// per channel,
    pub mean: *const f64,
    /// as many standard deviations,
    pub std: *const f64,
    /// and how many of each.
    pub channels: usize,
}

/// Loads an ONNX network, plain or gzipped, from the file `path` (UTF-8) into `*network`, to be given
/// back to `tightrope_network_free`.
///
/// # Safety
/// Pointers are null, or valid as their types say; `path` ends in 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_network_load(
    path: *const c_char,
    network: *mut *mut tightrope_network,
) -> tightrope_status {
    let model = tightrope_model {
        path,
        data: std::ptr::null(),
        data_len: 0,
        input_shape: std::ptr::null(),
        input_axes: 0,
        mean: std::ptr::null(),
        std: std::ptr::null(),
        channels: 0,
    };
    // SAFETY: as the caller promises.
    unsafe { tightrope_network_open(&raw const model, network) }
}

/// Loads an ONNX network as `model` says into `*network`, to be given back to `tightrope_network_free`.
///
/// # Safety
/// Pointers are null, or valid for as many values as said; the path ends in 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_network_open(
    model: *const tightrope_model,
    network: *mut *mut tightrope_network,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (model, network) = unsafe { (reference(model, "model")?, place(network, "network")?) };
        // SAFETY: as the caller promises.
        let (path, data, shape, mean, std) = unsafe {
            (
                string(model.path, "path")?,
                array(model.data, model.data_len, "data")?,
                array(model.input_shape, model.input_axes, "input_shape")?,
                array(model.mean, model.channels, "mean")?,
                array(model.std, model.channels, "std")?,
            )
        };
        let options = LoadOptions {
            input_shape: (!shape.is_empty()).then(|| shape.to_vec()),
            ..LoadOptions::default()
        };
        let graph = match (path, data) {
            (Some(path), []) => load(path, &options),
            (None, data @ [_, ..]) => load_bytes(data, &options),
            (None, []) => return Err(Failure::input("path: found a null pointer, and no data")),
            (Some(_), _) => return Err(Failure::input("path: found with data; accepted: one of the two")),
        };
        let mut graph = graph.map_err(Failure::model)?;
        if !mean.is_empty() {
            graph = graph.normalized(mean, std).map_err(Failure::input)?;
        }
        let plan = Plan::new(&graph);
        *network = Box::into_raw(Box::new(tightrope_network { graph, plan }));
        Ok(())
    })
}

/// An upper bound on the Lipschitz constant of the logits (l2 to l2), which holds under floating point, into
/// `*constant`. A network for which none is known is a `TIGHTROPE_MODEL_ERROR` that names the node.
///
/// # Safety
/// Pointers are null, or valid as their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_lipschitz(
    network: *const tightrope_network,
    constant: *mut f64,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (network, constant) = unsafe { (reference(network, "network")?, place(constant, "constant")?) };
        let report = library::lipschitz::network(&network.graph);
        let node = report.obstacle.unwrap_or_else(|| "the output".into());
        let none = || Failure::model(format!("no Lipschitz constant is known for the node {node}"));
        *constant = report.total.ok_or_else(none)?;
        Ok(())
    })
}

/// Frees a network, once; nothing happens for a null pointer.
///
/// # Safety
/// `network` is null, or was made by this library and is used by nobody any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_network_free(network: *mut tightrope_network) {
    if !network.is_null() {
        // SAFETY: made by `Box::into_raw`, and not used any more.
        drop(unsafe { Box::from_raw(network) });
    }
}

/// Number of entries of one input; 0 for a null pointer.
///
/// # Safety
/// `network` is null or a loaded network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_network_inputs(network: *const tightrope_network) -> usize {
    // SAFETY: as the caller promises.
    unsafe { network.as_ref() }.map_or(0, |network| network.graph.input_len())
}

/// Number of outputs: the classes of a classifier; 0 for a null pointer.
///
/// # Safety
/// `network` is null or a loaded network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_network_classes(network: *const tightrope_network) -> usize {
    // SAFETY: as the caller promises.
    unsafe { network.as_ref() }.map_or(0, |network| network.graph.output_len())
}

/// Logits of `n` inputs: `x` holds `n * inputs` numbers, `logits` takes `n * classes` (`logits_len`).
///
/// # Safety
/// Pointers are null, or valid for as many values as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_evaluate(
    network: *const tightrope_network,
    x: *const f32,
    n: usize,
    logits: *mut f32,
    logits_len: usize,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (network, x, logits) = unsafe {
            let network = reference(network, "network")?;
            let x = rows(network, x, n)?;
            (network, x, buffer(logits, logits_len, n * network.graph.output_len(), "logits")?)
        };
        let found = network.plan.run(x);
        logits.iter_mut().zip(&found).for_each(|(to, from)| *to = *from);
        Ok(())
    })
}

/// Bounds on the outputs over all perturbations: `lower` and `upper` take `n * classes` numbers each
/// (`bounds_len`); both are NaN where the network may be undefined. `method` is a `tightrope_method`
/// other than `TIGHTROPE_NONE`.
///
/// # Safety
/// Pointers are null, or valid for as many values as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_bounds(
    network: *const tightrope_network,
    x: *const f32,
    n: usize,
    region: *const tightrope_region,
    method_number: u32,
    lower: *mut f64,
    upper: *mut f64,
    bounds_len: usize,
) -> tightrope_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (network, x, region, ends) = unsafe {
            let network = reference(network, "network")?;
            let expected = n * network.graph.output_len();
            let ends = [
                buffer(lower, bounds_len, expected, "lower")?,
                buffer(upper, bounds_len, expected, "upper")?,
            ];
            (network, rows(network, x, n)?, reference(region, "region")?, ends)
        };
        let method = method(method_number)?.ok_or_else(|| {
            Failure::input("method: found TIGHTROPE_NONE; accepted: any other tightrope_method")
        })?;
        let found = library::lipschitz::margin_bounds(&network.graph, method).outputs(&region.sets(x)?);
        for (to, from) in ends.into_iter().zip(&found) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    })
}
