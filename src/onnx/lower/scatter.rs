//! Entries by positions that are constants: `GatherND`, `GatherElements`, `ScatterND`, `ScatterElements`; and
//! running sums.

use ndarray::{ArrayD, IxDyn};

use super::{Call, Lowering, NodeError, Value, shapes};
use crate::onnx::tensor::{Data, Tensor};
use crate::ops::{Affine, Groups, Sparse};

type Result<T> = std::result::Result<T, NodeError>;

/// A constant of positions.
fn positions<'a>(call: &'a Call, index: usize) -> Result<(&'a Tensor, &'a [i64])> {
    let tensor = call.tensor(index)?;
    match &tensor.data {
        Data::Int(values) => Ok((tensor, values)),
        _ => Err(NodeError::Type { input: index, accepted: "integers" }),
    }
}

/// A position on an axis, from the end if it is negative.
fn position(at: i64, len: usize) -> Result<usize> {
    let from_end = if at < 0 { at.checked_add(len as i64) } else { Some(at) };
    let found = from_end.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len);
    let wrong =
        || NodeError::Value { what: "a position", found: at.to_string(), accepted: "one on the axis" };
    found.ok_or_else(wrong)
}

/// `GatherND`: for every row of positions the part of the value that it names.
pub(super) fn gather(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (x, (indices, rows)) = (call.input(0)?, positions(call, 1)?);
    let (shape, leading) = (x.shape(), usize::try_from(call.int("batch_dims", 0)?).unwrap_or(usize::MAX));
    let wrong =
        || NodeError::shape(&[shape, &indices.shape], "rows of at most as many positions as there are axes");
    let depth = *indices.shape.last().ok_or_else(wrong)?;
    if leading >= indices.shape.len()
        || depth == 0
        || leading + depth > shape.len()
        || shape[..leading] != indices.shape[..leading]
    {
        return Err(wrong());
    }
    let mut result = indices.shape[..indices.shape.len() - 1].to_vec();
    result.extend(&shape[leading + depth..]);
    shapes::count(&result)?;
    let batches: usize = shape[..leading].iter().product();
    let inner: usize = shape[leading + depth..].iter().product();
    let row_count = rows.len() / depth;
    let mut layout = Vec::with_capacity(row_count * inner);
    for (k, row) in rows.chunks_exact(depth).enumerate() {
        let mut at = k / (row_count / batches.max(1)).max(1);
        for (&p, &len) in row.iter().zip(&shape[leading..]) {
            at = at * len + position(p, len)?;
        }
        layout.extend((0..inner).map(|i| at * inner + i));
    }
    let layout = ArrayD::from_shape_vec(IxDyn(&result), layout).map_err(|_| wrong())?;
    Ok(vec![graph.rearrange(call, &[x], &layout, 0.0)?])
}

/// `GatherElements`: for every position the entry there on the axis, elsewhere in the same place.
pub(super) fn gather_elements(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (x, (indices, at)) = (call.input(0)?, positions(call, 1)?);
    let layout = elements(call, x.shape(), indices, at)?;
    let layout = ArrayD::from_shape_vec(IxDyn(&indices.shape), layout);
    let layout = layout.map_err(|_| NodeError::shape(&[&indices.shape], "positions"))?;
    Ok(vec![graph.rearrange(call, &[x], &layout, 0.0)?])
}

/// The entry of a value of `shape` that each position names.
fn elements(call: &Call, shape: &[usize], indices: &Tensor, at: &[i64]) -> Result<Vec<usize>> {
    let axis = shapes::axis(call.int("axis", 0)?, shape.len(), false)?;
    let fits = indices.shape.len() == shape.len()
        && indices.shape.iter().zip(shape).enumerate().all(|(a, (i, s))| a == axis || i <= s);
    if !fits {
        return Err(NodeError::shape(&[shape, &indices.shape], "positions of as many axes, none longer"));
    }
    let mut entries = Vec::with_capacity(at.len());
    for (k, &p) in at.iter().enumerate() {
        let (mut rest, mut place) = (k, vec![0; shape.len()]);
        for a in (0..shape.len()).rev() {
            place[a] = rest % indices.shape[a];
            rest /= indices.shape[a];
        }
        place[axis] = position(p, shape[axis])?;
        entries.push(place.iter().zip(shape).fold(0, |entry, (p, len)| entry * len + p));
    }
    Ok(entries)
}

/// `ScatterND`, `ScatterElements` and its elder `Scatter`: a value with some entries replaced, of several for one the last.
pub(super) fn scatter(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (x, (indices, at), updates) = (call.input(0)?, positions(call, 1)?, call.input(2)?);
    let reduction = call.attributes.string("reduction")?.unwrap_or("none");
    if reduction != "none" {
        return Err(NodeError::Value { what: "reduction", found: reduction.into(), accepted: "none" });
    }
    let shape = x.shape();
    let wrong =
        || NodeError::shape(&[shape, &indices.shape, updates.shape()], "an update for every position");
    let (entries, each) = if call.op == "ScatterND" {
        let depth = *indices.shape.last().ok_or_else(wrong)?;
        if depth == 0 || depth > shape.len() {
            return Err(wrong());
        }
        let row = |row: &[i64]| {
            row.iter().zip(shape).try_fold(0, |entry, (&p, &len)| Ok(entry * len + position(p, len)?))
        };
        let rows: Vec<usize> = at.chunks_exact(depth).map(row).collect::<Result<_>>()?;
        (rows, shape[depth..].iter().product::<usize>())
    } else {
        (elements(call, shape, indices, at)?, 1)
    };
    if shapes::count(updates.shape())? != entries.len() * each {
        return Err(wrong());
    }
    let offset = shapes::count(shape)?;
    let mut layout = shapes::identity(shape, 0)?;
    if let Some(flat) = layout.as_slice_mut() {
        for (k, entry) in entries.into_iter().enumerate() {
            for i in 0..each {
                flat[entry * each + i] = offset + k * each + i;
            }
        }
    }
    Ok(vec![graph.rearrange(call, &[x, updates], &layout, 0.0)?])
}

/// `ReverseSequence` by constant lengths: the first entries on the time axis in reverse.
pub(super) fn reverse_sequence(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (x, (_, lengths)) = (call.input(0)?, positions(call, 1)?);
    let (batch, time) = (call.int("batch_axis", 1)?, call.int("time_axis", 0)?);
    let shape = x.shape();
    let (batch, time) = (shapes::axis(batch, shape.len(), false)?, shapes::axis(time, shape.len(), false)?);
    let longest = shape[time] as i64;
    if batch == time || lengths.len() != shape[batch] || !lengths.iter().all(|n| (0..=longest).contains(n)) {
        return Err(NodeError::shape(&[shape, &[lengths.len()]], "a length that fits for each of the batch"));
    }
    let all = shapes::identity(shape, 0)?;
    let layout = ArrayD::from_shape_fn(shape, |at| {
        let (mut from, n) = (at.clone(), lengths[at[batch]] as usize);
        if at[time] < n {
            from[time] = n - 1 - at[time];
        }
        all[&from]
    });
    Ok(vec![graph.rearrange(call, &[x], &layout, 0.0)?])
}

/// `CumSum` along a constant axis.
pub(super) fn running_sum(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let shape = call.shape(0)?.to_vec();
    let axis = positions(call, 1)?.1.first().copied().unwrap_or(0);
    let axis = shapes::axis(axis, shape.len(), false)?;
    let (exclusive, reverse) = (call.int("exclusive", 0)? != 0, call.int("reverse", 0)? != 0);
    let (len, total) = (shape[axis], shapes::count(&shape)?);
    let inner: usize = shape[axis + 1..].iter().product();
    shapes::count(&[total, len])?;
    let members = (0..total).map(|i| {
        let at = i / inner % len;
        let first = i - at * inner;
        let range = match (reverse, exclusive) {
            (false, false) => 0..at + 1,
            (false, true) => 0..at,
            (true, false) => at..len,
            (true, true) => at + 1..len,
        };
        range.map(move |k| first + k * inner)
    });
    let op = Sparse { inputs: vec![total], groups: Groups::new(members), weights: None, bias: None };
    let id = Lowering::activation(call.input(0)?, 0)?;
    Ok(vec![graph.affine(call, Affine::Sparse(op), id, shape)?])
}
