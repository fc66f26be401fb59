//! Operators of the domain `ai.onnx.ml`: the linear models of scikit-learn, and what scales their inputs.

use super::{Call, Lowering, NodeError, Value};
use crate::onnx::tensor::Data;

type Result<T> = std::result::Result<T, NodeError>;

fn constant(shape: Vec<usize>, values: Vec<f64>) -> Value {
    Value::constant(shape, Data::Float(values))
}

fn floats(call: &Call, name: &'static str) -> Result<Vec<f64>> {
    let values = call.attributes.floats(name)?.unwrap_or_default();
    if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
        return Err(NodeError::Value { what: name, found: bad.to_string(), accepted: "finite numbers" });
    }
    Ok(values)
}

/// Samples x entries.
fn matrix(call: &Call) -> Result<[usize; 2]> {
    match *call.shape(0)? {
        [entries] => Ok([1, entries]),
        [samples, entries] => Ok([samples, entries]),
        ref shape => Err(NodeError::shape(&[shape], "samples x entries")),
    }
}

/// `Scaler`: `(x - offset) * scale`.
pub(super) fn scaler(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let mut x = call.input(0)?.clone();
    let entries = *call.shape(0)?.last().unwrap_or(&1);
    for (name, op) in [("offset", "Sub"), ("scale", "Mul")] {
        let values = floats(call, name)?;
        if values.is_empty() {
            continue;
        }
        if values.len() != 1 && values.len() != entries {
            return Err(NodeError::shape(
                &[call.shape(0)?, &[values.len()]],
                "one number, or one for each entry",
            ));
        }
        x = graph.apply(call, op, vec![x, constant(vec![values.len()], values)])?;
    }
    Ok(vec![x])
}

/// `Normalizer`: rows over their l1 or l2 norm.
pub(super) fn normalizer(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let op = match call.attributes.string("norm")?.unwrap_or("MAX") {
        "L1" => "ReduceL1",
        "L2" => "ReduceL2",
        other => {
            return Err(NodeError::Value { what: "norm", found: other.into(), accepted: "L1 or L2" });
        }
    };
    let x = call.input(0)?.clone();
    let last = Value::constant(vec![1], Data::Int(vec![-1]));
    let norm = graph.apply(call, op, vec![x.clone(), last])?;
    Ok(vec![graph.apply(call, "Div", vec![x, norm])?])
}

/// The linear scores `x W' + b`, one for each row of the coefficients.
fn scores(graph: &mut Lowering, call: &Call) -> Result<(Value, usize)> {
    let [samples, entries] = matrix(call)?;
    let (coefficients, intercepts) = (floats(call, "coefficients")?, floats(call, "intercepts")?);
    let rows = coefficients.len() / entries.max(1);
    if rows == 0 || rows * entries != coefficients.len() || ![0, rows].contains(&intercepts.len()) {
        let found = [call.shape(0)?, &[coefficients.len()], &[intercepts.len()]];
        return Err(NodeError::shape(&found, "coefficients and an intercept for each class"));
    }
    let weights = (0..coefficients.len()).map(|i| coefficients[(i % rows) * entries + i / rows]).collect();
    let x = match call.input(0)?.clone() {
        Value::Activation { id, .. } => Value::Activation { id, shape: vec![samples, entries] },
        Value::Constant(_) => return Err(NodeError::Constant(0)),
    };
    let mut y = graph.apply(call, "MatMul", vec![x, constant(vec![entries, rows], weights)])?;
    if !intercepts.is_empty() {
        y = graph.apply(call, "Add", vec![y, constant(vec![rows], intercepts)])?;
    }
    Ok((y, rows))
}

/// `LinearClassifier`: its scores. The label, its first output, is no number that can be bounded.
pub(super) fn classifier(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let (mut y, rows) = scores(graph, call)?;
    let transform = call.attributes.string("post_transform")?.unwrap_or("NONE").to_owned();
    let labels = call.attributes.ints("classlabels_ints")?.map_or(0, <[i64]>::len)
        + call.attributes.strings("classlabels_strings")?.map_or(0, |names| names.len());
    let both = rows == 1 && labels == 2;
    y = match &*transform {
        "NONE" => y,
        "LOGISTIC" => graph.apply(call, "Sigmoid", vec![y])?,
        "SOFTMAX" if !both => graph.apply(call, "Softmax", vec![y])?,
        other => {
            let accepted = "NONE, LOGISTIC, or SOFTMAX of several scores";
            return Err(NodeError::Value { what: "post_transform", found: other.into(), accepted });
        }
    };
    if both {
        // One score stands for two classes.
        let other = match &*transform {
            "LOGISTIC" => graph.apply(call, "Sub", vec![constant(vec![], vec![1.0]), y.clone()])?,
            _ => graph.apply(call, "Neg", vec![y.clone()])?,
        };
        let [samples, _] = matrix(call)?;
        let layout = ndarray::ArrayD::from_shape_fn(vec![samples, 2], |at| at[1] * samples + at[0]);
        y = graph.rearrange(call, &[&other, &y], &layout, 0.0)?;
    }
    Ok(vec![Value::constant(vec![0], Data::Bool(Vec::new())), y])
}

/// `LinearRegressor`.
pub(super) fn regressor(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    match call.attributes.string("post_transform")?.unwrap_or("NONE") {
        "NONE" => Ok(vec![scores(graph, call)?.0]),
        other => Err(NodeError::Value { what: "post_transform", found: other.into(), accepted: "NONE" }),
    }
}
