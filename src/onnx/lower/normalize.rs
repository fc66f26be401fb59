//! Normalisation by statistics of the activations themselves, by its parts:
//! `(x - mean) / sqrt(mean((x - mean)^2) + epsilon)`.

use std::sync::Arc;

use super::{Call, Lowering, NodeError, Value, arithmetic, shapes};
use crate::graph::ValueId;
use crate::onnx::tensor::Data;
use crate::ops::{
    Affine, Clip, Function, Groups, Op, Periodic, Pow, Product, Reciprocal, Relu, Sparse, Sqrt, Sum, Weights,
    Within,
};

type Result<T> = std::result::Result<T, NodeError>;

/// Entries that share their statistics: for every entry, its group.
struct Sharing {
    group: Vec<usize>,
    count: usize,
}

impl Sharing {
    /// Entries that agree on all axes but these.
    fn over(shape: &[usize], axes: &[usize]) -> Result<Self> {
        let kept: Vec<usize> =
            (0..shape.len()).map(|a| if axes.contains(&a) { 1 } else { shape[a] }).collect();
        let group = shapes::broadcast_layout(&kept, shape)?.iter().copied().collect();
        Ok(Self { group, count: shapes::count(&kept)? })
    }

    /// The mean, or sum, of every group.
    fn total(&self, graph: &mut Lowering, call: &Call, x: ValueId, mean: bool) -> Result<ValueId> {
        let mut members = vec![Vec::new(); self.count];
        self.group.iter().enumerate().for_each(|(i, &g)| members[g].push(i));
        let weights = members.iter().flat_map(|m| vec![1.0 / m.len() as f64; m.len()]).collect();
        let weights = mean.then(|| Weights::rounded(weights, f64::EPSILON));
        let op = Sparse { inputs: vec![self.group.len()], groups: Groups::new(members), weights, bias: None };
        Lowering::activation(&graph.affine(call, Affine::Sparse(op), x, vec![self.count])?, 0)
    }

    /// A value of every group, given to its entries.
    fn spread(&self, graph: &mut Lowering, call: &Call, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        let op = Sparse::select(vec![self.count], self.group.iter().copied());
        Lowering::activation(&graph.affine(call, Affine::Sparse(op), x, shape.to_vec())?, 0)
    }
}

fn apply(graph: &mut Lowering, call: &Call, f: impl Function + 'static, x: ValueId) -> Result<ValueId> {
    let shape = vec![graph.lens[x]];
    let value = graph.push(call, Op::Elementwise(Arc::new(f)), vec![x], shape)?;
    Lowering::activation(&value, 0)
}

/// `x`, less its mean if `centred`, over the root of its mean square.
fn standardized(
    graph: &mut Lowering,
    call: &Call,
    x: &Value,
    sharing: &Sharing,
    centred: bool,
) -> Result<ValueId> {
    let (shape, mut x) = (x.shape(), Lowering::activation(x, 0)?);
    let usual = if call.op.starts_with("Skip") { 1e-12_f32 } else { 1e-5 };
    let epsilon = call.float("epsilon", usual.into())?;
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        let accepted = "a finite number, not negative";
        return Err(NodeError::Value { what: "epsilon", found: epsilon.to_string(), accepted });
    }
    if centred {
        let mean = sharing.total(graph, call, x, true)?;
        let mean = sharing.spread(graph, call, mean, shape)?;
        let op = Sum { len: shapes::count(shape)?, coefficients: Weights::new(vec![1.0, -1.0]) };
        let rest = graph.push(call, Op::Affine(Affine::Sum(op)), vec![x, mean], shape.to_vec())?;
        x = Lowering::activation(&rest, 0)?;
    }
    let squares = apply(graph, call, Pow { exponent: 2.0 }, x)?;
    let variance = sharing.total(graph, call, squares, true)?;
    let shift = Some(Periodic::constant(epsilon));
    let sum = arithmetic::scaled(graph, call, variance, &[sharing.count], None, shift)?;
    // Bounds of a mean of squares may be negative, linear ones and those that are widened for f32; the mean never
    // is, so that the sum is not below `epsilon`, rounded to f32 or not.
    let low = if epsilon < f64::from(f32::MIN_POSITIVE) { 0.0 } else { epsilon };
    let least = Clip { low: Periodic::constant(low), high: Periodic::constant(f64::INFINITY) };
    let sum = apply(graph, call, least, Lowering::activation(&sum, 0)?)?;
    let root = apply(graph, call, Sqrt, sum)?;
    let factor = apply(graph, call, Reciprocal, root)?;
    let factor = sharing.spread(graph, call, factor, shape)?;
    let product = graph.push(call, Op::Product(Product::Multiply), vec![x, factor], shape.to_vec())?;
    let product = Lowering::activation(&product, 0)?;
    match limit(sharing.group.len() / sharing.count.max(1), epsilon) {
        None => Ok(product),
        Some(limit) => {
            let within = Op::Elementwise(Arc::new(Within { limit }));
            Lowering::activation(&graph.push(call, within, vec![product], shape.to_vec())?, 0)
        }
    }
}

/// The greatest absolute value of an entry over the root of the mean square of `n` entries, itself among them,
/// and `epsilon`: its own square is at most `n` times that mean. For centred entries `sqrt(n - 1)` would do in
/// real arithmetic; but computed in f32 their sum is not zero.
///
/// Evaluated in f32, the mean of squares loses `gamma_{n+4}` of itself, the other operations 8 units in the last
/// place each; what underflows is small beside `epsilon`. `None` where there is no such bound.
fn limit(n: usize, epsilon: f64) -> Option<f64> {
    let rounding = (n as f64 + 64.0) * f64::from(f32::EPSILON);
    (n > 0 && epsilon >= 1e-20 && rounding < 0.01).then(|| (n as f64).sqrt() * (1.0 + rounding))
}

/// `InstanceNormalization`, `GroupNormalization`, `LayerNormalization`, `RMSNormalization`.
pub(super) fn normalization(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let x = call.input(0)?;
    let shape = x.shape().to_vec();
    let (rank, total) = (shape.len(), shapes::count(&shape)?);
    if call.outputs > 1 {
        return Err(NodeError::Outputs { found: call.outputs, accepted: 1 });
    }
    let channelled = matches!(call.op, "InstanceNormalization" | "GroupNormalization");
    if total == 0 || (channelled && rank < 3) {
        return Err(NodeError::shape(&[&shape], "a value that is not empty; with channels, N x C x image"));
    }
    let pixels = if channelled { shape[2..].iter().product() } else { 1 };
    let mut per_group = false;
    let sharing = match call.op {
        "InstanceNormalization" => Sharing::over(&shape, &(2..rank).collect::<Vec<_>>())?,
        "GroupNormalization" => {
            let groups = usize::try_from(call.int("num_groups", 0)?).unwrap_or(0);
            if groups == 0 || !shape[1].is_multiple_of(groups) {
                return Err(NodeError::Value {
                    what: "num_groups",
                    found: format!("{groups} for {} channels", shape[1]),
                    accepted: "a divisor of the channels",
                });
            }
            // Before operator set 21 one factor for a group.
            per_group = call.opset < 21;
            Sharing::over(&[shape[0], groups, total / shape[0] / groups], &[2])?
        }
        _ => {
            let axis = shapes::axis(call.int("axis", -1)?, rank, false)?;
            Sharing::over(&shape, &(axis..rank).collect::<Vec<_>>())?
        }
    };
    let id = standardized(
        graph,
        call,
        x,
        &sharing,
        !(call.op == "RMSNormalization" || call.op.contains("Simplified")),
    )?;
    let constant = |index: usize| -> Result<Option<Periodic>> {
        let Some(Value::Constant(tensor)) = call.optional(index) else {
            return if call.optional(index).is_none() {
                Ok(None)
            } else {
                Err(NodeError::NotConstant(index))
            };
        };
        if !channelled {
            return shapes::periodic(tensor, index, &shape).map(Some);
        }
        let values = call.floats(index)?;
        let inner = if per_group { total / shape[0] / values.len().max(1) } else { pixels };
        let wanted = if per_group { sharing.count / shape[0] } else { shape[1] };
        if values.len() != wanted {
            return Err(NodeError::shape(
                &[&shape, &tensor.shape],
                "one parameter for every channel or group",
            ));
        }
        Ok(Some(Periodic::new(Weights::new(values.to_vec()), inner)))
    };
    let (scale, shift) = (constant(1)?, constant(2)?);
    Ok(vec![if scale.is_some() || shift.is_some() {
        arithmetic::scaled(graph, call, id, &shape, scale, shift)?
    } else {
        Value::Activation { id, shape }
    }])
}

/// `SkipLayerNormalization` and `SkipSimplifiedLayerNormalization` of onnxruntime: of a sum, which is the last
/// of the results.
pub(super) fn of_sum(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let mut sum = graph.apply(call, "Add", vec![call.input(0)?.clone(), call.input(1)?.clone()])?;
    let centred = call.op == "SkipLayerNormalization";
    if let Some(bias) = call.optional(if centred { 4 } else { 3 }) {
        sum = graph.apply(call, "Add", vec![sum, bias.clone()])?;
    }
    let shift = if centred { call.optional(3).cloned() } else { None };
    let inputs = vec![Some(sum.clone()), call.optional(2).cloned(), shift];
    let mut results = normalization(graph, &Call { inputs, outputs: 1, ..*call })?;
    // Mean and deviation in between are computed in training only.
    let unused = || Value::constant(vec![0], Data::Float(Vec::new()));
    results.extend([unused(), unused(), sum]);
    Ok(results)
}

/// `LpNormalization`: over the l1 or l2 norm along an axis.
pub(super) fn norm(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let x = call.input(0)?.clone();
    let axis = shapes::axis(call.int("axis", -1)?, x.shape().len(), false)?;
    let op = match call.int("p", 2)? {
        1 => "ReduceL1",
        2 => "ReduceL2",
        other => return Err(NodeError::Value { what: "p", found: other.to_string(), accepted: "1 or 2" }),
    };
    let norm = graph.apply(call, op, vec![x.clone(), axes(&[axis])])?;
    Ok(vec![graph.apply(call, "Div", vec![x, norm])?])
}

fn axes(axes: &[usize]) -> Value {
    Value::constant(vec![axes.len()], Data::Int(axes.iter().map(|&a| a as i64).collect()))
}

/// `MeanVarianceNormalization`: less the mean over some axes, over the deviation and 1e-9.
pub(super) fn mean_variance(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let x = call.input(0)?.clone();
    let asked = call.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let over = asked.iter().map(|&a| shapes::axis(a, x.shape().len(), false)).collect::<Result<Vec<_>>>()?;
    let mean = graph.apply(call, "ReduceMean", vec![x.clone(), axes(&over)])?;
    let rest = graph.apply(call, "Sub", vec![x, mean])?;
    let squares = graph.apply(call, "Mul", vec![rest.clone(), rest.clone()])?;
    let variance = graph.apply(call, "ReduceMean", vec![squares, axes(&over)])?;
    // Linear bounds of a sum of squares may be negative.
    let variance = graph.apply(call, "Relu", vec![variance])?;
    let deviation = graph.apply(call, "Sqrt", vec![variance])?;
    let little = Value::constant(vec![], Data::Float(vec![1e-9]));
    let deviation = graph.apply(call, "Add", vec![deviation, little])?;
    Ok(vec![graph.apply(call, "Div", vec![rest, deviation])?])
}

/// `LRN`: over a power of the sum of squares of neighbouring channels.
pub(super) fn local_response(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let x = call.input(0)?.clone();
    let shape = x.shape().to_vec();
    let size = usize::try_from(call.int("size", 0)?).unwrap_or(0);
    if shape.len() < 2 || size == 0 {
        return Err(NodeError::shape(&[&shape, &[size]], "N x C x image, and a size above 0"));
    }
    let (alpha, beta) = (call.float("alpha", 1e-4_f32.into())?, call.float("beta", 0.75)?);
    let bias = call.float("bias", 1.0)?;
    if ![alpha, beta, bias].iter().all(|v| v.is_finite()) || bias <= 0.0 || alpha < 0.0 {
        let found = format!("{alpha}, {beta}, {bias}");
        let accepted = "finite numbers, alpha not negative, bias above zero";
        return Err(NodeError::Value { what: "alpha, beta or bias", found, accepted });
    }
    let (channels, total) = (shape[1], shapes::count(&shape)?);
    let inner: usize = shape[2..].iter().product();
    shapes::count(&[total, size.min(channels)])?;
    let near = (0..total).map(|i| {
        let channel = i / inner % channels;
        let first = i - channel * inner;
        let range = channel.saturating_sub((size - 1) / 2)..(channel + size / 2 + 1).min(channels);
        range.map(move |k| first + k * inner)
    });
    let squares = Lowering::activation(&graph.apply(call, "Mul", vec![x.clone(), x.clone()])?, 0)?;
    let op = Sparse { inputs: vec![total], groups: Groups::new(near), weights: None, bias: None };
    let sums = Lowering::activation(&graph.affine(call, Affine::Sparse(op), squares, shape.clone())?, 0)?;
    // Linear bounds of a sum of squares may be negative.
    let sums = apply(graph, call, Relu, sums)?;
    let factor = Weights::rounded(vec![alpha / size as f64], f64::EPSILON);
    let shift = Some(Periodic::constant(bias));
    let base = arithmetic::scaled(graph, call, sums, &shape, Some(Periodic::new(factor, 1)), shift)?;
    let power = apply(graph, call, Pow { exponent: -beta }, Lowering::activation(&base, 0)?)?;
    Ok(vec![graph.apply(call, "Mul", vec![x, Value::Activation { id: power, shape }])?])
}
