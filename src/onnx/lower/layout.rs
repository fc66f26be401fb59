//! Operators that move entries and compute nothing: each is a layout, the
//! array of the positions that its entries come from.

use ndarray::{ArrayD, Axis, IxDyn, Slice, concatenate};

use super::{Call, Lowering, NodeError, Value, shapes};
use crate::onnx::tensor::Data;

type Result<T> = std::result::Result<T, NodeError>;

/// `Identity`, and `Dropout` at inference.
pub(super) fn identity(_: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    if call.op == "Dropout" {
        if let Some(Value::Constant(mode)) = call.optional(2)
            && mode.data == Data::Bool(vec![true])
        {
            return Err(NodeError::Value {
                what: "training_mode",
                found: "true".into(),
                accepted: "a model exported for inference",
            });
        }
        if call.outputs > 1 {
            return Err(NodeError::Outputs { found: call.outputs, accepted: 1 });
        }
    }
    Ok(vec![call.input(0)?.clone()])
}

/// The first input in another shape of as many entries.
fn reshaped(call: &Call, shape: Vec<usize>) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    if shapes::count(&shape)? != shapes::count(value.shape())? {
        return Err(NodeError::shape(&[value.shape(), &shape], "the same number of entries"));
    }
    Ok(vec![match value {
        Value::Activation { id, .. } => Value::Activation { id: *id, shape },
        Value::Constant(tensor) => Value::constant(shape, tensor.data.clone()),
    }])
}

pub(super) fn reshape(_: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let target = call.ints(1, "shape")?.ok_or(NodeError::MissingInput(1))?;
    let from = call.shape(0)?;
    let wrong = || NodeError::Shape {
        found: format!("{from:?} to {target:?}"),
        accepted: "the same number of entries, with at most one -1",
    };
    let zero_copies = call.int("allowzero", 0)? == 0;
    let mut shape = Vec::with_capacity(target.len());
    for (i, &d) in target.iter().enumerate() {
        shape.push(match d {
            0 if zero_copies => *from.get(i).ok_or_else(wrong)?,
            -1 => 1,
            d => usize::try_from(d).map_err(|_| wrong())?,
        });
    }
    let (total, known) = (shapes::count(from)?, shapes::count(&shape)?);
    let mut free = target.iter().enumerate().filter(|(_, d)| **d == -1);
    if let Some((i, _)) = free.next() {
        if free.next().is_some() || known == 0 || total % known != 0 {
            return Err(wrong());
        }
        shape[i] = total / known;
    }
    reshaped(call, shape)
}

pub(super) fn flatten(_: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let shape = call.shape(0)?;
    let axis = shapes::axis(call.int("axis", 1)?, shape.len(), true)?;
    let shape = vec![shape[..axis].iter().product(), shape[axis..].iter().product()];
    reshaped(call, shape)
}

pub(super) fn squeeze(_: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let shape = call.shape(0)?;
    let axes = match call.ints(1, "axes")? {
        None => (0..shape.len()).filter(|&a| shape[a] == 1).collect(),
        Some(axes) => {
            axes.iter().map(|&a| shapes::axis(a, shape.len(), false)).collect::<Result<Vec<_>>>()?
        }
    };
    if axes.iter().any(|&a| shape[a] != 1) {
        return Err(NodeError::shape(&[shape], "axes of length 1 where they are removed"));
    }
    reshaped(call, (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]).collect())
}

pub(super) fn unsqueeze(_: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let shape = call.shape(0)?;
    let axes = call.ints(1, "axes")?.ok_or(NodeError::MissingInput(1))?;
    let rank = shape.len() + axes.len();
    let mut axes = axes.iter().map(|&a| shapes::axis(a, rank, false)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|w| w[0] == w[1]) {
        return Err(NodeError::Value { what: "axes", found: format!("{axes:?}"), accepted: "distinct axes" });
    }
    let mut out = shape.to_vec();
    for a in axes {
        out.insert(a, 1);
    }
    reshaped(call, out)
}

pub(super) fn transpose(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let rank = value.shape().len();
    let axes = match call.attributes.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().map(|&a| shapes::axis(a, rank, false)).collect::<Result<Vec<_>>>()?,
    };
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(NodeError::Value {
            what: "perm",
            found: format!("{axes:?}"),
            accepted: "every axis once",
        });
    }
    let layout = shapes::identity(value.shape(), 0)?.permuted_axes(IxDyn(&axes));
    Ok(vec![graph.rearrange(call, &[value], &layout, 0.0)?])
}

pub(super) fn concat(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let values: Vec<&Value> = (0..call.inputs.len()).map(|i| call.input(i)).collect::<Result<_>>()?;
    let rank = values.first().ok_or(NodeError::MissingInput(0))?.shape().len();
    let axis = shapes::axis(call.int("axis", i64::from(call.opset < 4))?, rank, false)?;
    let mut offset = 0;
    let mut layouts = Vec::new();
    for value in &values {
        layouts.push(shapes::identity(value.shape(), offset)?);
        offset += layouts[layouts.len() - 1].len();
    }
    shapes::count(&[offset])?;
    let views: Vec<_> = layouts.iter().map(|l| l.view()).collect();
    let layout = concatenate(Axis(axis), &views)
        .map_err(|_| NodeError::shape(&shapes::of(&values), "shapes that agree but for one axis"))?;
    Ok(vec![graph.rearrange(call, &values, &layout, 0.0)?])
}

pub(super) fn split(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let shape = value.shape();
    let axis = shapes::axis(call.int("axis", 0)?, shape.len(), false)?;
    let parts = call.named.max(1);
    let sizes = if let Some(sizes) = call.ints(1, "split")? {
        sizes
    } else {
        let size = shape[axis].div_ceil(parts);
        (0..parts).map(|i| shape[axis].saturating_sub(i * size).min(size) as i64).collect()
    };
    let fits = sizes.len() == parts
        && sizes.iter().all(|&s| s >= 0)
        && sizes.iter().try_fold(0i64, |sum, &s| sum.checked_add(s)) == Some(shape[axis] as i64);
    if !fits {
        return Err(NodeError::Value {
            what: "split",
            found: format!("{sizes:?} of an axis of {}", shape[axis]),
            accepted: "one size per output, summing to the axis",
        });
    }
    let whole = shapes::identity(shape, 0)?;
    let mut start = 0;
    sizes
        .iter()
        .map(|&size| {
            let part = whole.slice_axis(Axis(axis), Slice::from(start..start + size as isize)).to_owned();
            start += size as isize;
            graph.rearrange(call, &[value], &part, 0.0)
        })
        .collect()
}

pub(super) fn slice(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let shape = value.shape();
    let starts = call.ints(1, "starts")?.ok_or(NodeError::MissingInput(1))?;
    let ends = call.ints(2, "ends")?.ok_or(NodeError::MissingInput(2))?;
    let axes = call.ints(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.ints(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        return Err(NodeError::Value {
            what: "the slice",
            found: format!("{starts:?}..{ends:?} on {axes:?} by {steps:?}"),
            accepted: "lists of one length",
        });
    }
    let mut layout = shapes::identity(shape, 0)?;
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = shapes::axis(axis, shape.len(), false)?;
        let n = layout.shape()[axis] as i64;
        let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        let kept: Vec<usize> = match step {
            0 => {
                return Err(NodeError::Value {
                    what: "the step of a slice",
                    found: "0".into(),
                    accepted: "another integer",
                });
            }
            1.. => {
                let (start, end) = (from_end(start).clamp(0, n), from_end(end).clamp(0, n));
                (start..end.max(start))
                    .step_by(usize::try_from(step).unwrap_or(usize::MAX))
                    .map(|i| i as usize)
                    .collect()
            }
            _ => {
                // A start before the first entry is the first, an end there lets it in.
                let (start, end) = (from_end(start).max(0).min(n - 1), from_end(end).clamp(-1, n - 1));
                let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
                (end + 1..=start).rev().step_by(stride).map(|i| i as usize).collect()
            }
        };
        layout = layout.select(Axis(axis), &kept);
    }
    Ok(vec![graph.rearrange(call, &[value], &layout, 0.0)?])
}

pub(super) fn gather(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let shape = value.shape();
    let axis = shapes::axis(call.int("axis", 0)?, shape.len(), false)?;
    let picked = call.ints(1, "")?.ok_or(NodeError::MissingInput(1))?;
    let positions = picked
        .iter()
        .map(|&i| match usize::try_from(if i < 0 { i.saturating_add(shape[axis] as i64) } else { i }) {
            Ok(p) if p < shape[axis] => Ok(p),
            _ => Err(NodeError::Value {
                what: "an index",
                found: format!("{i} on an axis of {}", shape[axis]),
                accepted: "a position on the axis",
            }),
        })
        .collect::<Result<Vec<_>>>()?;
    // The gathered axis is replaced by the axes of the indices.
    let indices = call.shape(1)?;
    let out = [&shape[..axis], indices, &shape[axis + 1..]].concat();
    shapes::count(&out)?;
    let layout = shapes::identity(shape, 0)?.select(Axis(axis), &positions);
    // A selection may come in another memory order, so its entries are copied.
    let layout = layout.into_shape_clone(IxDyn(&out)).expect("as many entries as gathered");
    Ok(vec![graph.rearrange(call, &[value], &layout, 0.0)?])
}

pub(super) fn expand(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let target = call.ints(1, "shape")?.ok_or(NodeError::MissingInput(1))?;
    let target =
        target.iter().map(|&d| usize::try_from(d)).collect::<std::result::Result<Vec<_>, _>>().map_err(
            |_| NodeError::Value { what: "the shape", found: format!("{target:?}"), accepted: "lengths" },
        )?;
    let shape = shapes::broadcast(&[value.shape(), &target])?;
    broadcast(graph, call, value, &shape).map(|v| vec![v])
}

/// `value` in a shape that it broadcasts to.
pub(super) fn broadcast(graph: &mut Lowering, call: &Call, value: &Value, shape: &[usize]) -> Result<Value> {
    if value.shape() == shape {
        return Ok(value.clone());
    }
    graph.rearrange(call, &[value], &shapes::broadcast_layout(value.shape(), shape)?, 0.0)
}

pub(super) fn pad(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let rank = value.shape().len();
    let amounts = call.ints(1, "pads")?.ok_or(NodeError::MissingInput(1))?;
    let axes = match call.ints(3, "")? {
        Some(axes) => axes.iter().map(|&a| shapes::axis(a, rank, false)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if amounts.len() != 2 * axes.len() {
        return Err(NodeError::Value {
            what: "pads",
            found: format!("{amounts:?}"),
            accepted: "a start and an end for every axis",
        });
    }
    let mode = call.attributes.string("mode")?.unwrap_or("constant");
    let fill = match call.optional(2) {
        Some(Value::Constant(tensor)) => match &tensor.data {
            Data::Float(v) => v.first().copied().unwrap_or(0.0),
            Data::Int(v) => v.first().map_or(0.0, |&x| x as f64),
            Data::Bool(_) => 0.0,
        },
        Some(Value::Activation { .. }) => return Err(NodeError::NotConstant(2)),
        None => call.float("value", 0.0)?,
    };
    let wrong = || NodeError::Value {
        what: "pads",
        found: format!("{amounts:?}"),
        accepted: "moderate amounts that leave something",
    };
    let mut layout = shapes::identity(value.shape(), 0)?;
    for (i, &axis) in axes.iter().enumerate() {
        // Negative amounts cut first, so that nothing cut off is repeated.
        let [before, after] = [amounts[i], amounts[axes.len() + i]];
        let cut = [before, after].map(|p| if p < 0 { p.unsigned_abs() as usize } else { 0 });
        let kept = cut[0]..layout.shape()[axis].saturating_sub(cut[1]);
        if kept.start > kept.end {
            return Err(wrong());
        }
        layout.slice_axis_inplace(Axis(axis), Slice::from(kept));
        let [before, after] = [before, after].map(|p| p.max(0));
        let n = layout.shape()[axis] as i64;
        let mut shape = layout.shape().to_vec();
        let total = before.checked_add(after).and_then(|p| p.checked_add(n));
        shape[axis] = total.ok_or_else(wrong)? as usize;
        shapes::count(&shape)?;
        let source = |o: usize| -> Result<Option<usize>> {
            let at = o as i64 - before;
            let inside = match mode {
                _ if (0..n).contains(&at) => at,
                "constant" => return Ok(None),
                "edge" if n > 0 => at.clamp(0, n - 1),
                "reflect" if n > 1 => {
                    let turn = at.rem_euclid(2 * (n - 1));
                    turn.min(2 * (n - 1) - turn)
                }
                "wrap" if n > 0 => at.rem_euclid(n),
                _ => {
                    return Err(NodeError::Value {
                        what: "mode",
                        found: format!("{mode} on an axis of {n}"),
                        accepted: "constant, edge, reflect or wrap",
                    });
                }
            };
            Ok(Some(inside as usize))
        };
        let sources = (0..shape[axis]).map(source).collect::<Result<Vec<_>>>()?;
        let mut padded = ArrayD::from_elem(IxDyn(&shape), shapes::FILL);
        for (o, source) in sources.iter().enumerate() {
            if let Some(i) = source {
                padded.index_axis_mut(Axis(axis), o).assign(&layout.index_axis(Axis(axis), *i));
            }
        }
        layout = padded;
    }
    Ok(vec![graph.rearrange(call, &[value], &layout, fill)?])
}

/// `DepthToSpace` and `SpaceToDepth`: axes that are split, exchanged and joined.
pub(super) fn depth(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let b = usize::try_from(call.int("blocksize", 0)?).unwrap_or(0);
    let wrong = || NodeError::Shape {
        found: format!("{:?} in blocks of {b}", value.shape()),
        accepted: "N x C x H x W that divides into blocks",
    };
    let &[n, c, h, w] = value.shape() else { return Err(wrong()) };
    let layout = shapes::identity(value.shape(), 0)?;
    let spread = call.op == "DepthToSpace";
    let divides = if spread {
        c.is_multiple_of(b.saturating_mul(b))
    } else {
        h.is_multiple_of(b) && w.is_multiple_of(b)
    };
    if b == 0 || !divides || layout.is_empty() {
        return Err(wrong());
    }
    let (split, order, out) = if spread {
        let out = [n, c / (b * b), h * b, w * b];
        match call.attributes.string("mode")?.unwrap_or("DCR") {
            "DCR" => ([n, b, b, out[1], h, w], [0, 3, 4, 1, 5, 2], out),
            "CRD" => ([n, out[1], b, b, h, w], [0, 1, 4, 2, 5, 3], out),
            other => {
                return Err(NodeError::Value { what: "mode", found: other.into(), accepted: "DCR or CRD" });
            }
        }
    } else {
        ([n, c, h / b, b, w / b, b], [0, 3, 5, 1, 2, 4], [n, c * b * b, h / b, w / b])
    };
    let layout = layout.into_shape_with_order(IxDyn(&split)).map_err(|_| wrong())?;
    let layout = layout.permuted_axes(IxDyn(&order)).into_shape_clone(IxDyn(&out)).map_err(|_| wrong())?;
    Ok(vec![graph.rearrange(call, &[value], &layout, 0.0)?])
}

/// `Tile`.
pub(super) fn tile(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let repeats = call.ints(1, "")?.ok_or(NodeError::MissingInput(1))?;
    let wrong = || NodeError::Value {
        what: "the repeats",
        found: format!("{repeats:?} of {:?}", value.shape()),
        accepted: "a moderate number for every axis",
    };
    if repeats.len() != value.shape().len() {
        return Err(wrong());
    }
    let mut layout = shapes::identity(value.shape(), 0)?;
    for (axis, &repeats) in repeats.iter().enumerate() {
        let len = layout.shape()[axis];
        let times = usize::try_from(repeats).map_err(|_| wrong())?;
        let mut shape = layout.shape().to_vec();
        shape[axis] = len.checked_mul(times).ok_or_else(wrong)?;
        shapes::count(&shape)?;
        let kept: Vec<usize> = (0..shape[axis]).map(|i| i % len).collect();
        layout = layout.select(Axis(axis), &kept);
    }
    Ok(vec![graph.rearrange(call, &[value], &layout, 0.0)?])
}

/// `Trilu`: one triangle of the last two axes, the rest zero.
pub(super) fn triangle(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let diagonal = match call.optional(1) {
        Some(_) => call.ints(1, "")?.and_then(|k| k.first().copied()).ok_or(NodeError::MissingInput(1))?,
        None => 0,
    };
    let upper = call.int("upper", 1)? != 0;
    let &[.., rows, columns] = value.shape() else {
        return Err(NodeError::shape(&[value.shape()], "matrices"));
    };
    let mut layout = shapes::identity(value.shape(), 0)?;
    for (at, source) in layout.iter_mut().enumerate() {
        let (i, j) = ((at / columns % rows) as i64, (at % columns) as i64);
        let kept = if upper { j - i >= diagonal } else { j - i <= diagonal };
        if !kept {
            *source = shapes::FILL;
        }
    }
    Ok(vec![graph.rearrange(call, &[value], &layout, 0.0)?])
}

/// `Where` with a constant condition.
pub(super) fn select(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let condition = call.tensor(0)?;
    let Data::Bool(chosen) = &condition.data else {
        return Err(NodeError::Type { input: 0, accepted: "truth values" });
    };
    let (a, b) = (call.input(1)?, call.input(2)?);
    let shape = shapes::broadcast(&[&condition.shape, a.shape(), b.shape()])?;
    let which = shapes::broadcast_layout(&condition.shape, &shape)?;
    let from_a = shapes::broadcast_layout(a.shape(), &shape)?;
    let from_b = shapes::broadcast_layout(b.shape(), &shape)?;
    let offset = shapes::count(a.shape())?;
    let mut layout = from_a;
    for ((position, &b), &c) in layout.iter_mut().zip(&from_b).zip(&which) {
        if !chosen[c] {
            *position = offset + b;
        }
    }
    Ok(vec![graph.rearrange(call, &[a, b], &layout, 0.0)?])
}
