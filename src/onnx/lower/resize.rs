//! `Upsample` and `Resize`: along every axis, each position of the output copies
//! one of the input, or lies between two.
//!
//! Which may hang on the last bit, so lengths and positions are computed in
//! `f32`, as the runtimes do that a model was made for.

use ndarray::Axis;

use super::{Call, Lowering, MAX_ENTRIES, NodeError, Value, shapes};
use crate::ops::{Affine, Groups, Sparse, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// What becomes of one axis.
#[derive(Clone, Copy)]
struct Target {
    from: usize,
    to: usize,
    scale: f32,
}

pub(super) fn resize(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let shape = value.shape();
    let mode = call.attributes.string("mode")?.unwrap_or("nearest");
    if !matches!(mode, "nearest" | "linear") {
        return Err(NodeError::Value { what: "mode", found: mode.into(), accepted: "nearest or linear" });
    }
    if call.int("antialias", 0)? != 0 {
        return Err(NodeError::Value { what: "antialias", found: "1".into(), accepted: "0" });
    }
    // Opset 11 brought the choice of coordinates and of rounding.
    let old = call.op == "Upsample" || call.opset < 11;
    let targets = targets(call, shape, old)?;
    shapes::count(&targets.iter().map(|t| t.to).collect::<Vec<_>>())?;
    let coordinates = call.attributes.string("coordinate_transformation_mode")?;
    let coordinates = coordinates.unwrap_or(if old { "asymmetric" } else { "half_pixel" });
    // A mode that crops is refused where no length changes, too.
    position(coordinates, 0.0, Target { from: 1, to: 1, scale: 1.0 })?;
    // Runtimes copy then, even where a scale is not quite 1.
    if targets.iter().all(|t| t.to == t.from) {
        return Ok(vec![value.clone()]);
    }
    if mode == "linear" {
        return linear(graph, call, value, &targets, coordinates);
    }
    let mut layout = shapes::identity(shape, 0)?;
    for (axis, &target) in targets.iter().enumerate() {
        if target.to == target.from && target.scale == 1.0 {
            continue;
        }
        let rounding = match call.attributes.string("nearest_mode")? {
            Some(mode) => mode,
            None if !old => "round_prefer_floor",
            None if target.scale < 1.0 => "ceil",
            None => "floor",
        };
        let source = |o: usize| nearest(rounding, position(coordinates, o as f32, target)?, target.from);
        let kept = (0..target.to).map(source).collect::<Result<Vec<_>>>()?;
        layout = layout.select(Axis(axis), &kept);
    }
    Ok(vec![graph.rearrange(call, &[value], &layout, 0.0)?])
}

/// Mode linear: along every axis the mean of two neighbours, weighted by their nearness.
fn linear(
    graph: &mut Lowering,
    call: &Call,
    value: &Value,
    targets: &[Target],
    coordinates: &str,
) -> Result<Vec<Value>> {
    // For every entry so far, which entries of the input it sums, with their weights.
    let mut entries: Vec<Vec<(usize, f64)>> = vec![vec![(0, 1.0)]];
    let mut resized = 0;
    for &target in targets {
        let keeps = target.to == target.from && target.scale == 1.0;
        resized += usize::from(!keeps);
        let taps = |o: usize| -> Result<Vec<(usize, f64)>> {
            if keeps {
                return Ok(vec![(o, 1.0)]);
            }
            let last = target.from - 1;
            let at = position(coordinates, o as f32, target)?.clamp(0.0, last as f32);
            let (first, share) = (at as usize, at.fract());
            let pair = [(first, 1.0 - share), ((first + 1).min(last), share)];
            Ok(pair.into_iter().filter(|(_, w)| *w != 0.0).map(|(i, w)| (i, f64::from(w))).collect())
        };
        let taps: Vec<Vec<(usize, f64)>> = (0..target.to).map(taps).collect::<Result<_>>()?;
        shapes::count(&[entries.len(), target.to, entries.iter().map(Vec::len).max().unwrap_or(1), 2])?;
        let joined = |before: &Vec<(usize, f64)>, taps: &Vec<(usize, f64)>| {
            let with = |&(i, w): &(usize, f64)| taps.iter().map(move |&(j, v)| (i * target.from + j, w * v));
            before.iter().flat_map(with).collect()
        };
        entries =
            entries.iter().flat_map(|before| taps.iter().map(move |taps| joined(before, taps))).collect();
    }
    // The product of two weights in f32 is exact.
    let error = if resized > 2 { resized as f64 * f64::EPSILON } else { 0.0 };
    let weights = entries.iter().flatten().map(|(_, w)| *w).collect();
    let op = Sparse {
        inputs: vec![shapes::count(value.shape())?],
        groups: Groups::new(entries.iter().map(|list| list.iter().map(|(i, _)| *i))),
        weights: Some(Weights::rounded(weights, error)),
        bias: None,
    };
    let shape = targets.iter().map(|t| t.to).collect();
    Ok(vec![graph.affine(call, Affine::Sparse(op), Lowering::activation(value, 0)?, shape)?])
}

/// The new length of every axis, from scales or sizes.
fn targets(call: &Call, shape: &[usize], old: bool) -> Result<Vec<Target>> {
    // Opset 11 put the region of interest before the scales.
    let at = if old { 1 } else { 2 };
    let scales = match call.optional(at) {
        Some(_) => Some(call.floats(at)?.to_vec()),
        None => call.attributes.floats("scales")?,
    };
    let scales = scales.filter(|s| !s.is_empty());
    let sizes = call.ints(3, "")?.filter(|s| !s.is_empty());
    let axes = match call.attributes.ints("axes")? {
        Some(axes) => {
            axes.iter().map(|&a| shapes::axis(a, shape.len(), false)).collect::<Result<Vec<_>>>()?
        }
        None => (0..shape.len()).collect(),
    };
    let wrong = || NodeError::Value {
        what: "the target",
        found: format!("scales {scales:?}, sizes {sizes:?} for axes {axes:?} of {shape:?}"),
        accepted: "scales or sizes, a positive number for every axis, that leave something",
    };
    let mut targets: Vec<Target> = shape.iter().map(|&n| Target { from: n, to: n, scale: 1.0 }).collect();
    let fits = |n: usize| n == axes.len() && !shape.contains(&0);
    match (&scales, &sizes) {
        (Some(scales), None) if fits(scales.len()) => {
            for (&axis, &scale) in axes.iter().zip(scales) {
                targets[axis].scale = scale as f32;
                targets[axis].to = length((shape[axis] as f32 * scale as f32).floor()).ok_or_else(wrong)?;
            }
        }
        (None, Some(sizes)) if fits(sizes.len()) => {
            for (&axis, &size) in axes.iter().zip(sizes) {
                targets[axis].to = usize::try_from(size).ok().filter(|&n| n > 0).ok_or_else(wrong)?;
                targets[axis].scale = targets[axis].to as f32 / shape[axis] as f32;
            }
            let ratios = axes.iter().map(|&a| targets[a].scale);
            // One scale for all axes, so that none gets too long, or too short.
            let common = match call.attributes.string("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
                "stretch" => None,
                "not_larger" => ratios.reduce(f32::min),
                "not_smaller" => ratios.reduce(f32::max),
                other => {
                    return Err(NodeError::Value {
                        what: "keep_aspect_ratio_policy",
                        found: other.into(),
                        accepted: "stretch, not_larger or not_smaller",
                    });
                }
            };
            if let Some(scale) = common {
                for &axis in &axes {
                    targets[axis].scale = scale;
                    targets[axis].to = length((shape[axis] as f32 * scale).round()).ok_or_else(wrong)?;
                }
            }
        }
        _ => return Err(wrong()),
    }
    Ok(targets)
}

/// A length that was computed, if it is one.
fn length(n: f32) -> Option<usize> {
    (n >= 1.0 && n <= MAX_ENTRIES as f32).then_some(n as usize)
}

/// Where position `o` of the output lies in the input.
fn position(mode: &str, o: f32, Target { from, to, scale }: Target) -> Result<f32> {
    let half_pixel = (o + 0.5) / scale - 0.5;
    Ok(match mode {
        "asymmetric" => o / scale,
        "half_pixel" => half_pixel,
        "half_pixel_symmetric" => {
            let surplus = 1.0 - to as f32 / (from as f32 * scale);
            let offset = f64::from(from as f32 / 2.0 * surplus);
            // Only the offset is in f32 here.
            (offset + (f64::from(o) + 0.5) / f64::from(scale) - 0.5) as f32
        }
        "pytorch_half_pixel" if to > 1 => half_pixel,
        "tf_half_pixel_for_nn" => (o + 0.5) / scale,
        "align_corners" if to > 1 => o * (from as f32 - 1.0) / (to as f32 - 1.0),
        "pytorch_half_pixel" | "align_corners" => 0.0,
        other => {
            return Err(NodeError::Value {
                what: "coordinate_transformation_mode",
                found: other.into(),
                accepted: "asymmetric, half_pixel, half_pixel_symmetric, pytorch_half_pixel, \
                           tf_half_pixel_for_nn or align_corners",
            });
        }
    })
}

/// The entry of an axis of `from` entries that is nearest to a position.
fn nearest(mode: &str, at: f32, from: usize) -> Result<usize> {
    // A half is preferred one way or the other even where rounding missed it.
    let half = at.floor() + 0.5;
    let between = (at - half).abs() < 1e-6;
    let nearest = match mode {
        "floor" => at.floor(),
        "ceil" => at.ceil(),
        "round_prefer_floor" if between => half - 0.5,
        "round_prefer_ceil" if between => half + 0.5,
        "round_prefer_floor" | "round_prefer_ceil" => at.round(),
        other => {
            return Err(NodeError::Value {
                what: "nearest_mode",
                found: other.into(),
                accepted: "floor, ceil, round_prefer_floor or round_prefer_ceil",
            });
        }
    };
    Ok((nearest.max(0.0) as usize).min(from - 1))
}
