//! Attention of several heads, by its parts: products of matrices around a softmax.

use std::sync::Arc;

use super::matmul::{swap_last, with_shape};
use super::{Call, Lowering, NodeError, Value, arithmetic, shapes, softmax};
use crate::onnx::tensor::{Data, Tensor};
use crate::ops::{Op, Periodic, Tanh, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// How scores are made of queries and keys.
struct Scores {
    scale: Weights,
    softcap: f64,
    /// Whether a query sees no key behind its own position.
    causal: bool,
    /// What is added; minus infinity hides a key.
    mask: Option<Value>,
}

/// One of `q_num_heads` and such; an error if there is none, or if it does not divide the width.
fn heads(call: &Call, name: &'static str, width: usize) -> Result<usize> {
    let found = call.int(name, 0)?;
    match usize::try_from(found) {
        Ok(n) if n > 0 && width > 0 && width.is_multiple_of(n) => Ok(n),
        _ => Err(NodeError::Value {
            what: name,
            found: format!("{found} for {width} entries"),
            accepted: "a divisor of the entries",
        }),
    }
}

/// Batch x tokens x (heads side by side) to batch x heads x tokens x entries.
fn apart(graph: &mut Lowering, call: &Call, x: &Value, heads: usize) -> Result<Value> {
    let [batch, tokens, width] = *x.shape() else {
        return Err(NodeError::shape(&[x.shape()], "batch x tokens x entries"));
    };
    let mut layout = shapes::identity(&[batch, tokens, heads, width / heads], 0)?;
    layout.swap_axes(1, 2);
    graph.rearrange(call, &[x], &layout, 0.0)
}

/// The way back.
fn joined(graph: &mut Lowering, call: &Call, x: &Value) -> Result<Value> {
    let [batch, heads, tokens, width] = *x.shape() else {
        return Err(NodeError::shape(&[x.shape()], "batch x heads x tokens x entries"));
    };
    let mut layout = shapes::identity(x.shape(), 0)?;
    layout.swap_axes(1, 2);
    let moved = graph.rearrange(call, &[x], &layout, 0.0)?;
    Ok(with_shape(&moved, vec![batch, tokens, heads * width]))
}

/// The factor of the scores: what the attribute says, else the inverse root of the entries of a head. With
/// a bound on what computing it rounds.
fn scale(call: &Call, entries: usize, zero_is_default: bool) -> Result<Weights> {
    let given = call.attributes.float("scale")?.filter(|s| !(zero_is_default && *s == 0.0));
    match given {
        None => Ok(Weights::rounded(vec![1.0 / (entries as f64).sqrt()], 2.0 * f64::EPSILON)),
        Some(scale) if scale > 0.0 && scale.is_finite() => Ok(Weights::new(vec![scale])),
        Some(scale) => Err(NodeError::Value {
            what: "scale",
            found: scale.to_string(),
            accepted: "a finite number above zero",
        }),
    }
}

/// `softmax(scale q k' + mask) v` for batch x heads x tokens x entries; of keys and values there may be fewer
/// heads, each of which serves several in a row.
fn attend(graph: &mut Lowering, call: &Call, [q, k, v]: [Value; 3], how: Scores) -> Result<Value> {
    let wrong = || {
        let found = [q.shape(), k.shape(), v.shape()];
        NodeError::shape(&found, "batch x heads x tokens x entries of queries, keys and values that fit")
    };
    let ([batch, many, tokens, entries], [kb, few, keys, ke], [vb, vh, vt, out]) =
        (quadruple(&q)?, quadruple(&k)?, quadruple(&v)?);
    let fits = [kb, vb] == [batch; 2] && vh == few && ke == entries && vt == keys;
    if !fits || few == 0 || !many.is_multiple_of(few) || [batch, tokens, entries, keys, out].contains(&0) {
        return Err(wrong());
    }
    // Any order of the factors is within what products of matrices are charged in f32.
    let q = match &q {
        Value::Activation { id, .. } => {
            let factor = Some(Periodic::new(how.scale, 1));
            arithmetic::scaled(graph, call, *id, q.shape(), factor, None)?
        }
        Value::Constant(_) => return Err(NodeError::Constant(0)),
    };
    let q = with_shape(&q, vec![batch, few, many / few, tokens, entries]);
    let k = with_shape(&swap_last(graph, call, &k)?, vec![batch, few, 1, entries, keys]);
    let v = with_shape(&v, vec![batch, few, 1, keys, out]);
    let product = graph.apply(call, "MatMul", vec![q, k])?;
    let shape = [batch, many, tokens, keys];
    let mut scores = with_shape(&product, shape.to_vec());
    if how.softcap > 0.0 {
        let through = |graph: &mut Lowering, x: &Value, factor: Weights| {
            let factor = Some(Periodic::new(factor, 1));
            arithmetic::scaled(graph, call, Lowering::activation(x, 0)?, &shape, factor, None)
        };
        let small = through(graph, &scores, Weights::rounded(vec![1.0 / how.softcap], f64::EPSILON))?;
        let input = vec![Lowering::activation(&small, 0)?];
        let tanh = graph.push(call, Op::Elementwise(Arc::new(Tanh)), input, shape.to_vec())?;
        scores = through(graph, &tanh, Weights::new(vec![how.softcap]))?;
    }
    let mut kept = vec![true; shapes::count(&shape)?];
    if how.causal {
        kept.iter_mut().enumerate().for_each(|(i, kept)| *kept = i % keys <= i / keys % tokens);
    }
    match how.mask {
        None => {}
        Some(Value::Constant(mask)) => {
            let Data::Float(values) = &mask.data else {
                return Err(NodeError::Type { input: 3, accepted: "truth values or floating-point numbers" });
            };
            let layout = shapes::broadcast_layout(&mask.shape, &shape)?;
            let hides = |at: usize| values[at] == f64::NEG_INFINITY;
            kept.iter_mut().zip(&layout).for_each(|(kept, &at)| *kept &= !hides(at));
            if values.iter().any(|x| *x != 0.0 && *x != f64::NEG_INFINITY) {
                let finite = (0..values.len()).map(|at| if hides(at) { 0.0 } else { values[at] }).collect();
                let finite = Value::constant(mask.shape.clone(), Data::Float(finite));
                scores = graph.apply(call, "Add", vec![scores, finite])?;
            }
        }
        Some(mask) => scores = graph.apply(call, "Add", vec![scores, mask])?,
    }
    if scores.shape() != shape {
        return Err(NodeError::shape(&[&shape, scores.shape()], "a mask that broadcasts to the scores"));
    }
    let shares = softmax::along(graph, call, &scores, [keys, 1], |i| kept[i])?;
    let shares = with_shape(&shares, vec![batch, few, many / few, tokens, keys]);
    let y = graph.apply(call, "MatMul", vec![shares, v])?;
    Ok(with_shape(&y, vec![batch, many, tokens, out]))
}

fn quadruple(x: &Value) -> Result<[usize; 4]> {
    x.shape().try_into().map_err(|_| NodeError::shape(&[x.shape()], "batch x heads x tokens x entries"))
}

fn absent(call: &Call, inputs: &[(usize, &'static str)]) -> Result<()> {
    match inputs.iter().find(|(at, _)| call.optional(*at).is_some()) {
        None => Ok(()),
        Some((_, name)) => Err(NodeError::Value {
            what: name,
            found: "given".into(),
            accepted: "whole sequences: no state of earlier tokens, no packed ones",
        }),
    }
}

/// A mask as numbers: truth values hide what is false. Keys that it does not reach are hidden.
fn mask(value: &Value, keys: usize) -> Result<Value> {
    let Value::Constant(tensor) = value else { return Ok(value.clone()) };
    let hide = |seen: &bool| if *seen { 0.0 } else { f64::NEG_INFINITY };
    let values: Vec<f64> = match &tensor.data {
        Data::Bool(seen) => seen.iter().map(hide).collect(),
        Data::Float(values) => values.clone(),
        Data::Int(_) => {
            return Err(NodeError::Type { input: 3, accepted: "truth values or floating-point numbers" });
        }
    };
    let mut shape = tensor.shape.clone();
    let Some(last) = shape.last_mut().filter(|last| **last > 0) else {
        return Ok(Value::constant(shape, Data::Float(values)));
    };
    let (given, wanted) = (*last, keys.max(*last));
    // One entry could as well stand for all keys: runtimes disagree.
    if given < wanted && given == 1 {
        *last = given;
        return Ok(Value::constant(shape, Data::Float(values)));
    }
    *last = wanted;
    shapes::count(&shape)?;
    let rows = values.chunks(given).map(|row| {
        let rest = std::iter::repeat_n(f64::NEG_INFINITY, wanted - given);
        row.iter().copied().chain(rest)
    });
    Ok(Value::constant(shape, Data::Float(rows.flatten().collect())))
}

/// `Attention` of the standard. Its further results are keys and values as it used them.
pub(super) fn attention(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    absent(call, &[(4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")])?;
    let inputs = [call.input(0)?.clone(), call.input(1)?.clone(), call.input(2)?.clone()];
    let flat = inputs[0].shape().len() == 3;
    let mut parts = Vec::new();
    for (x, name) in inputs.iter().zip(["q_num_heads", "kv_num_heads", "kv_num_heads"]) {
        parts.push(match x.shape() {
            [_, _, width] if flat => apart(graph, call, x, heads(call, name, *width)?)?,
            _ => x.clone(),
        });
    }
    let [q, k, v] = <[Value; 3]>::try_from(parts).expect("three");
    let (entries, keys) = (quadruple(&q)?[3], quadruple(&k)?[2]);
    let softcap = call.float("softcap", 0.0)?;
    if !(softcap >= 0.0 && softcap.is_finite()) {
        let accepted = "a finite number, not negative";
        return Err(NodeError::Value { what: "softcap", found: softcap.to_string(), accepted });
    }
    let how = Scores {
        scale: scale(call, entries, false)?,
        softcap,
        causal: call.int("is_causal", 0)? != 0,
        mask: call.optional(3).map(|value| mask(value, keys)).transpose()?,
    };
    let y = attend(graph, call, [q, k.clone(), v.clone()], how)?;
    Ok(vec![if flat { joined(graph, call, &y)? } else { y }, k, v])
}

/// The scores of onnxruntime's operators, with a mask of integers (the number of tokens that are seen of each
/// sample, or 1 for each that is) and numbers that are added.
fn scores(call: &Call, [entries, keys]: [usize; 2], seen: usize, bias: usize) -> Result<Scores> {
    let filter = call.float("mask_filter_value", -10000.0)?;
    let hidden = match call.optional(seen) {
        None => None,
        Some(value) => {
            let Value::Constant(tensor) = value else { return Err(NodeError::NotConstant(seen)) };
            let Tensor { shape, data: Data::Int(values) } = &**tensor else {
                return Err(NodeError::Type { input: seen, accepted: "integers" });
            };
            let seen: Vec<bool> = match shape[..] {
                [_] => values.iter().flat_map(|&n| (0..keys as i64).map(move |key| key < n)).collect(),
                [_, n] if n == keys => values.iter().map(|&v| v > 0).collect(),
                _ => {
                    return Err(NodeError::shape(
                        &[shape],
                        "one length for each sample, or one mark for each key",
                    ));
                }
            };
            let numbers = seen.iter().map(|&seen| if seen { 0.0 } else { filter }).collect();
            let all = seen.iter().all(|&seen| seen);
            (!all).then(|| Value::constant(vec![seen.len() / keys.max(1), 1, 1, keys], Data::Float(numbers)))
        }
    };
    let mask = match (hidden, call.optional(bias).cloned()) {
        (Some(_), Some(_)) => {
            let (what, found) = ("attention_bias", "given beside hidden tokens".to_owned());
            return Err(NodeError::Value { what, found, accepted: "one of the two" });
        }
        (hidden, bias) => hidden.or(bias),
    };
    let causal = call.int("unidirectional", 0)? != 0;
    Ok(Scores { scale: scale(call, entries, true)?, softcap: 0.0, causal, mask })
}

/// `Attention` of onnxruntime: queries, keys and values by one dense layer.
pub(super) fn of_layer(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    absent(call, &[(4, "past"), (6, "past_sequence_length")])?;
    if call.attributes.ints("qkv_hidden_sizes")?.is_some() || call.int("do_rotary", 0)? != 0 {
        let accepted = "queries, keys and values of one width, as they are";
        return Err(NodeError::Value {
            what: "qkv_hidden_sizes or do_rotary",
            found: "given".into(),
            accepted,
        });
    }
    let mut y = graph.apply(call, "MatMul", vec![call.input(0)?.clone(), call.input(1)?.clone()])?;
    if let Some(bias) = call.optional(2) {
        y = graph.apply(call, "Add", vec![y, bias.clone()])?;
    }
    let [batch, tokens, width] = *y.shape() else {
        return Err(NodeError::shape(&[call.shape(0)?, call.shape(1)?], "batch x tokens x entries"));
    };
    let n = heads(call, "num_heads", width / 3)?;
    let entries = width / 3 / n;
    let part = |graph: &mut Lowering, which: usize| {
        let layout = ndarray::ArrayD::from_shape_fn(vec![batch, n, tokens, entries], |at| {
            (at[0] * tokens + at[2]) * width + which * n * entries + at[1] * entries + at[3]
        });
        graph.rearrange(call, &[&y], &layout, 0.0)
    };
    let parts = [part(graph, 0)?, part(graph, 1)?, part(graph, 2)?];
    let how = scores(call, [entries, tokens], 3, 5)?;
    let y = attend(graph, call, parts, how)?;
    Ok(vec![joined(graph, call, &y)?])
}

/// `MultiHeadAttention` of onnxruntime.
pub(super) fn of_heads(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    absent(call, &[(6, "past_key"), (7, "past_value"), (8, "past_sequence_length")])?;
    let inputs = [call.input(0)?.clone(), call.input(1)?.clone(), call.input(2)?.clone()];
    let biases = call.optional(3).map(|_| call.floats(3)).transpose()?;
    let (mut parts, mut first) = (Vec::new(), 0);
    for x in &inputs {
        // Keys and values of another sequence may come head by head.
        let (width, apart_already) = match *x.shape() {
            [_, _, width] => (width, false),
            [_, heads, _, entries] => (heads * entries, true),
            _ => return Err(NodeError::shape(&[x.shape()], "batch x tokens x entries")),
        };
        let n = heads(call, "num_heads", width)?;
        let mut x = x.clone();
        if let Some(biases) = biases {
            let Some(part) = biases.get(first..first + width).filter(|_| !apart_already) else {
                return Err(NodeError::shape(&[x.shape(), &[biases.len()]], "one number for each entry"));
            };
            let part = Value::constant(vec![width], Data::Float(part.to_vec()));
            x = graph.apply(call, "Add", vec![x, part])?;
            first += width;
        }
        parts.push(if apart_already { x } else { apart(graph, call, &x, n)? });
    }
    let [q, k, v] = <[Value; 3]>::try_from(parts).expect("three");
    let how = scores(call, [quadruple(&q)?[3], quadruple(&k)?[2]], 4, 5)?;
    let y = attend(graph, call, [q, k, v], how)?;
    Ok(vec![joined(graph, call, &y)?])
}
