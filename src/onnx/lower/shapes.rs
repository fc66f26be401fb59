//! Shape arithmetic shared by the handlers.

use ndarray::{ArrayD, IxDyn};

use super::{MAX_ENTRIES, NodeError, Value};
use crate::onnx::tensor::{Data, Tensor};
use crate::ops::{Periodic, Weights};

/// In a layout: no source, take the fill value.
pub(super) const FILL: usize = usize::MAX;

/// Number of entries of a shape, within the limit. Zero-sized values are
/// limited too, by their other axes.
pub(super) fn count(shape: &[usize]) -> Result<usize, NodeError> {
    count_within(shape, MAX_ENTRIES)
}

/// As [`count`], with another limit.
pub(super) fn count_within(shape: &[usize], limit: usize) -> Result<usize, NodeError> {
    let bound = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    match bound {
        Some(n) if n <= limit && shape.len() <= 64 => Ok(if shape.contains(&0) { 0 } else { n }),
        _ => Err(NodeError::TooLarge(format!("{shape:?}"), limit)),
    }
}

/// The identity layout of a shape: entry `i` comes from entry `i + offset`.
pub(super) fn identity(shape: &[usize], offset: usize) -> Result<ArrayD<usize>, NodeError> {
    let n = count(shape)?;
    Ok(ArrayD::from_shape_vec(IxDyn(shape), (offset..offset + n).collect()).expect("as many as counted"))
}

/// An axis given as in ONNX: negative counts from the end. `rank` itself is
/// accepted where `end` is set.
pub(super) fn axis(axis: i64, rank: usize, end: bool) -> Result<usize, NodeError> {
    let positive = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(positive) {
        Ok(a) if a < rank || (end && a == rank) => Ok(a),
        _ => Err(NodeError::Value {
            what: "axis",
            found: format!("{axis} for {rank} axes"),
            accepted: "an axis of the input",
        }),
    }
}

/// The common shape of operands under multidirectional broadcasting.
pub(super) fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>, NodeError> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for shape in shapes {
        for (o, &d) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*o, d) {
                (1, d) => *o = d,
                (o, d) if d == 1 || d == o => {}
                _ => return Err(NodeError::shape(shapes, "shapes that broadcast")),
            }
        }
    }
    count(&out)?;
    Ok(out)
}

/// The layout that broadcasts one shape to another.
pub(super) fn broadcast_layout(from: &[usize], to: &[usize]) -> Result<ArrayD<usize>, NodeError> {
    let layout = identity(from, 0)?;
    layout
        .broadcast(IxDyn(to))
        .map(|view| view.to_owned())
        .ok_or_else(|| NodeError::shape(&[from, to], "shapes that broadcast"))
}

/// A constant broadcast to `shape`, stored with as few copies as possible.
pub(super) fn periodic(tensor: &Tensor, index: usize, shape: &[usize]) -> Result<Periodic, NodeError> {
    let Data::Float(values) = &tensor.data else {
        return Err(NodeError::Type { input: index, accepted: "floating-point numbers" });
    };
    // The axes over which the constant varies.
    let pad = shape.len().saturating_sub(tensor.shape.len());
    let varies = |a: usize| a >= pad && tensor.shape[a - pad] != 1;
    let first = (0..shape.len()).find(|&a| varies(a)).unwrap_or(shape.len());
    let last = (0..shape.len()).rfind(|&a| varies(a)).map_or(first, |a| a + 1);
    let whole = (first..last).all(|a| varies(a) || shape[a] == 1);
    let values = if whole && tensor.shape.len() <= shape.len() && !values.is_empty() {
        values.clone()
    } else {
        let layout = broadcast_layout(&tensor.shape, shape)?;
        return Ok(Periodic::new(
            Weights::new(if layout.is_empty() {
                vec![0.0]
            } else {
                layout.iter().map(|&i| values[i]).collect()
            }),
            1,
        ));
    };
    // Checks that the shapes do broadcast.
    if broadcast(&[&tensor.shape, shape])? != shape {
        return Err(NodeError::shape(
            &[&tensor.shape, shape],
            "a constant that broadcasts to the other shape",
        ));
    }
    Ok(Periodic::new(Weights::new(values), shape[last..].iter().product::<usize>().max(1)))
}

/// The shapes of several values.
pub(super) fn of<'a>(values: &[&'a Value]) -> Vec<&'a [usize]> {
    values.iter().map(|v| v.shape()).collect()
}
