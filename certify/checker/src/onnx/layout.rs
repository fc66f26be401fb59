//! Operators that move entries.

use super::{Builder, Call, Value, count, places, strides};
use crate::Result;

impl Builder {
    #[expect(clippy::too_many_lines, reason = "an operator after the other")]
    pub(super) fn layout(&mut self, call: &Call) -> Result<Vec<Value>> {
        let x = call.value(0)?;
        let (shape, rank, steps) = (&x.shape, x.shape.len(), strides(&x.shape));
        let flat = |place: &[usize]| place.iter().zip(&steps).map(|(p, s)| p * s).sum::<usize>();
        let reshaped = |builder: &mut Self, to: Vec<usize>| {
            let entries = count(shape)?;
            if count(&to)? != entries {
                return call.fail("a shape of other size");
            }
            let from = (0..entries).map(|i| Some((0, i))).collect();
            Ok(vec![builder.moved(call, &[x], to, from, 0.0)?])
        };
        match call.node.op_type.as_str() {
            "Reshape" => {
                let asked = call.numbers(1)?;
                let keep = call.int("allowzero", 0) == 0;
                let mut to: Vec<usize> = Vec::new();
                for (axis, &n) in asked.iter().enumerate() {
                    let copied = n == 0.0 && keep;
                    to.push(if copied { shape.get(axis).copied().unwrap_or(0) } else { n.max(0.0) as usize });
                }
                if let Some(free) = asked.iter().position(|n| *n == -1.0) {
                    to[free] = 1;
                    to[free] = count(shape)? / count(&to)?.max(1);
                }
                reshaped(self, to)
            }
            "Flatten" => {
                let axis = call.int("axis", 1);
                let axis = if axis == rank as i64 { rank } else { call.axis(axis, rank)? };
                reshaped(self, vec![count(&shape[..axis])?, count(&shape[axis..])?])
            }
            "Squeeze" => {
                let axes = call.ints("axes", 1)?;
                let mut gone = vec![axes.is_none(); rank];
                for axis in axes.into_iter().flatten() {
                    gone[call.axis(axis, rank)?] = true;
                }
                let kept = shape.iter().zip(gone).filter(|(n, gone)| !(*gone && **n == 1));
                reshaped(self, kept.map(|(n, _)| *n).collect())
            }
            "Unsqueeze" => {
                let axes = call.ints("axes", 1)?.unwrap_or_default();
                let mut new = vec![false; rank + axes.len()];
                for &axis in &axes {
                    new[call.axis(axis, rank + axes.len())?] = true;
                }
                let mut old = shape.iter().copied();
                reshaped(
                    self,
                    new.into_iter().map(|new| if new { 1 } else { old.next().unwrap_or(1) }).collect(),
                )
            }
            "Transpose" => {
                let reversed = (0..rank as i64).rev().collect();
                let order = call.attribute("perm").map_or(reversed, |a| a.ints.clone());
                let order = order.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?;
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if !sorted.into_iter().eq(0..rank) {
                    return call.fail("an order of axes that is none");
                }
                let to: Vec<usize> = order.iter().map(|&a| shape[a]).collect();
                let from =
                    places(&to).map(|p| Some((0, p.iter().zip(&order).map(|(p, &a)| p * steps[a]).sum())));
                let from = from.collect();
                Ok(vec![self.moved(call, &[x], to, from, 0.0)?])
            }
            "Concat" => {
                let values = (0..call.inputs.len()).map(|i| call.value(i)).collect::<Result<Vec<_>>>()?;
                let axis = call.axis(call.int("axis", 0), rank)?;
                let fits = |v: &&Value| {
                    v.shape.len() == rank && (0..rank).all(|a| a == axis || v.shape[a] == shape[a])
                };
                if !values.iter().all(fits) {
                    return call.fail("shapes that do not fit");
                }
                let mut to = shape.clone();
                to[axis] = values.iter().map(|v| v.shape[axis]).sum();
                count(&to)?;
                let from = places(&to).map(|mut p| {
                    let mut v = 0;
                    while p[axis] >= values[v].shape[axis] {
                        p[axis] -= values[v].shape[axis];
                        v += 1;
                    }
                    Some((v, p.iter().zip(strides(&values[v].shape)).map(|(p, s)| p * s).sum()))
                });
                let from = from.collect();
                Ok(vec![self.moved(call, &values, to, from, 0.0)?])
            }
            "Split" => {
                let (axis, parts) = (call.axis(call.int("axis", 0), rank)?, call.node.output.len());
                let even = shape[axis].div_ceil(parts.max(1));
                let sizes = match call.ints("split", 1)? {
                    Some(sizes) => sizes.iter().map(|&n| n.max(0) as usize).collect(),
                    None => {
                        (0..parts).map(|k| even.min(shape[axis].saturating_sub(k * even))).collect::<Vec<_>>()
                    }
                };
                if sizes.iter().sum::<usize>() != shape[axis] || sizes.len() != parts {
                    return call.fail("parts that do not fit");
                }
                let mut begin = 0;
                let mut results = Vec::new();
                for size in sizes {
                    let mut to = shape.clone();
                    to[axis] = size;
                    let from = places(&to).map(|mut p| {
                        p[axis] += begin;
                        Some((0, flat(&p)))
                    });
                    let from = from.collect();
                    results.push(self.moved(call, &[x], to, from, 0.0)?);
                    begin += size;
                }
                Ok(results)
            }
            "Slice" => {
                let (starts, ends) = (call.ints("starts", 1)?, call.ints("ends", 2)?);
                let (Some(starts), Some(ends)) = (starts, ends) else { return call.fail("no ends") };
                let axes = call.ints("axes", 3)?.unwrap_or((0..starts.len() as i64).collect());
                let strides = call.ints("steps", 4)?.unwrap_or(vec![1; starts.len()]);
                if [ends.len(), axes.len(), strides.len()] != [starts.len(); 3] {
                    return call.fail("ends that do not fit");
                }
                let (mut to, mut walk) = (shape.clone(), vec![(0_i64, 1_i64); rank]);
                for (k, &axis) in axes.iter().enumerate() {
                    let axis = call.axis(axis, rank)?;
                    let (n, step) = (shape[axis] as i64, strides[k]);
                    if step == 0 || step.unsigned_abs() > 1 << 40 {
                        return call.fail("a step");
                    }
                    let place = |at: i64, low: i64, high: i64| {
                        (if at < 0 { at.saturating_add(n) } else { at }).clamp(low, high)
                    };
                    let (from, until) = if step > 0 {
                        (place(starts[k], 0, n), place(ends[k], 0, n))
                    } else {
                        (place(starts[k], -1, n - 1), place(ends[k], -1, n - 1))
                    };
                    let distance = if step > 0 { until - from } else { from - until };
                    to[axis] = (distance.max(0) as usize).div_ceil(step.unsigned_abs() as usize);
                    walk[axis] = (from, step);
                }
                let from = places(&to).map(|p| {
                    let at = p.iter().zip(&walk).map(|(p, (from, step))| (from + *p as i64 * step) as usize);
                    Some((0, flat(&at.collect::<Vec<_>>())))
                });
                let from = from.collect();
                Ok(vec![self.moved(call, &[x], to, from, 0.0)?])
            }
            "Gather" => {
                let (axis, indices) = (call.axis(call.int("axis", 0), rank)?, call.value(1)?);
                let all = call.numbers(1)?.iter().map(|&i| call.axis(i as i64, shape[axis]));
                let all = all.collect::<Result<Vec<_>>>()?;
                let to = [&shape[..axis], &indices.shape, &shape[axis + 1..]].concat();
                let (inner, own) = (strides(&indices.shape), indices.shape.len());
                let from = places(&to).map(|p| {
                    let which: usize = p[axis..axis + own].iter().zip(&inner).map(|(p, s)| p * s).sum();
                    Some((0, flat(&[&p[..axis], &[all[which]], &p[axis + own..]].concat())))
                });
                let from = from.collect();
                Ok(vec![self.moved(call, &[x], to, from, 0.0)?])
            }
            "Pad" if matches!(call.text("mode").as_str(), "" | "constant") && call.inputs.len() < 4 => {
                let pads = call.ints("pads", 1)?.unwrap_or_default();
                let fill = call.optional(2)?.and_then(|data| data.first().copied());
                let fill = fill.unwrap_or(call.float("value", 0.0));
                if pads.len() != 2 * rank || pads.iter().any(|p| *p < 0) {
                    return call.fail("pads that do not fit");
                }
                let to: Vec<usize> =
                    (0..rank).map(|a| shape[a] + (pads[a] + pads[rank + a]) as usize).collect();
                count(&to)?;
                let from = places(&to).map(|p| {
                    let at = (0..rank).map(|a| p[a].checked_sub(pads[a] as usize).filter(|p| *p < shape[a]));
                    at.collect::<Option<Vec<_>>>().map(|at| (0, flat(&at)))
                });
                let from = from.collect();
                Ok(vec![self.moved(call, &[x], to, from, fill)?])
            }
            _ => call.fail("an operator that this program does not know"),
        }
    }
}
