//! Sums, means and maxima over axes.

use super::{Call, Lowering, NodeError, Value, pool, shapes};
use crate::ops::{Affine, Groups, Sparse};

/// `ReduceSum`, `ReduceMean`, `ReduceMax`.
pub(super) fn reduce(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>, NodeError> {
    let value = call.input(0)?;
    let shape = value.shape();
    let axes = call.ints(1, "axes")?.filter(|a| !a.is_empty());
    let axes = match axes {
        None if call.int("noop_with_empty_axes", 0)? != 0 => return Ok(vec![value.clone()]),
        None => (0..shape.len()).collect(),
        Some(axes) => {
            axes.iter().map(|&a| shapes::axis(a, shape.len(), false)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let kept: Vec<usize> = (0..shape.len()).map(|a| if axes.contains(&a) { 1 } else { shape[a] }).collect();
    let (total, len) = (shapes::count(shape)?, shapes::count(&kept)?);
    if total == 0 {
        return Err(NodeError::shape(&[shape], "a value that is not empty"));
    }
    let mut groups = vec![Vec::new(); len];
    for (entry, target) in shapes::broadcast_layout(&kept, shape)?.iter().enumerate() {
        groups[*target].push(entry);
    }
    let out = if call.int("keepdims", 1)? != 0 {
        kept
    } else {
        (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]).collect()
    };
    Ok(vec![match call.op {
        "ReduceMax" => pool::maxima(graph, call, out, &groups)?,
        "ReduceMean" => pool::means(graph, call, out, &groups, None)?,
        _ => {
            let op = Sparse { inputs: vec![total], groups: Groups::new(groups), weights: None, bias: None };
            graph.affine(call, Affine::Sparse(op), Lowering::activation(value, 0)?, out)?
        }
    }])
}
