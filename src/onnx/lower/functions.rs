//! Elementwise functions of one activation.

use std::sync::Arc;

use super::{Call, Lowering, NodeError, Value, arithmetic, shapes};
use crate::graph::ValueId;
use crate::onnx::tensor::Data;
use crate::ops::{
    Abs, Clip, Cos, Elu, Erf, Exp, Function, Gelu, GeluTanh, HardSwish, LeakyRelu, Log, Mish, Op, Periodic,
    Reciprocal, Relu, Shrink, Sigmoid, Sign, Silu, Sin, Softplus, Softsign, Sqrt, Tanh, Trigonometric,
    Weights,
};

type Result<T> = std::result::Result<T, NodeError>;

pub(super) fn function(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let shape = call.shape(0)?.to_vec();
    let mut x = Lowering::activation(call.input(0)?, 0)?;
    let finite = |what: &'static str, v: f64| {
        let wrong = NodeError::Value { what, found: v.to_string(), accepted: "a finite number" };
        if v.is_finite() { Ok(v) } else { Err(wrong) }
    };
    let f: Arc<dyn Function> = match call.op {
        "Relu" => Arc::new(Relu),
        "LeakyRelu" => {
            let slope = finite("alpha", call.float("alpha", 0.01_f32.into())?)?;
            Arc::new(LeakyRelu { slope: Periodic::constant(slope) })
        }
        "PRelu" => Arc::new(LeakyRelu { slope: shapes::periodic(call.tensor(1)?, 1, &shape)? }),
        "Elu" => Arc::new(Elu { alpha: finite("alpha", call.float("alpha", 1.0)?)?, gamma: 1.0 }),
        "Selu" => Arc::new(Elu {
            alpha: finite("alpha", call.float("alpha", 1.673_263_2_f32.into())?)?,
            gamma: finite("gamma", call.float("gamma", 1.050_701_f32.into())?)?,
        }),
        "HardSigmoid" => {
            // clip(alpha x + beta, 0, 1).
            let scale = Periodic::constant(finite("alpha", call.float("alpha", 0.2_f32.into())?)?);
            let shift = Periodic::constant(finite("beta", call.float("beta", 0.5)?)?);
            let scaled = arithmetic::scaled(graph, call, x, &shape, Some(scale), Some(shift))?;
            x = Lowering::activation(&scaled, 0)?;
            Arc::new(Clip { low: Periodic::constant(0.0), high: Periodic::constant(1.0) })
        }
        "Clip" => Arc::new(Clip {
            low: Periodic::constant(limit(call, 1, "min", f64::NEG_INFINITY)?),
            high: Periodic::constant(limit(call, 2, "max", f64::INFINITY)?),
        }),
        "Gelu" => match call.attributes.string("approximate")?.unwrap_or("none") {
            "none" => Arc::new(Gelu),
            "tanh" => Arc::new(GeluTanh),
            other => {
                return Err(NodeError::Value {
                    what: "approximate",
                    found: other.into(),
                    accepted: "none or tanh",
                });
            }
        },
        "Celu" | "Swish" => return rescaled(graph, call, x, shape),
        "Mish" => Arc::new(Mish),
        "Softsign" => Arc::new(Softsign),
        "HardSwish" => Arc::new(HardSwish),
        "Sigmoid" => Arc::new(Sigmoid),
        "Tanh" => Arc::new(Tanh),
        "Softplus" => Arc::new(Softplus),
        "Erf" => Arc::new(Erf),
        "Exp" => Arc::new(Exp),
        "Log" => Arc::new(Log),
        "Sqrt" => Arc::new(Sqrt),
        "Reciprocal" => Arc::new(Reciprocal),
        "Abs" => Arc::new(Abs),
        "Sign" => Arc::new(Sign),
        "Sin" => Arc::new(Sin),
        "Cos" => Arc::new(Cos),
        "Tan" => Arc::new(Trigonometric::Tan),
        "Asin" => Arc::new(Trigonometric::Asin),
        "Acos" => Arc::new(Trigonometric::Acos),
        "Atan" => Arc::new(Trigonometric::Atan),
        "Sinh" => Arc::new(Trigonometric::Sinh),
        "Cosh" => Arc::new(Trigonometric::Cosh),
        "Asinh" => Arc::new(Trigonometric::Asinh),
        "Acosh" => Arc::new(Trigonometric::Acosh),
        "Atanh" => Arc::new(Trigonometric::Atanh),
        "ThresholdedRelu" => {
            let high = finite("alpha", call.float("alpha", 1.0)?)?;
            Arc::new(Shrink { low: f64::NEG_INFINITY, high, bias: 0.0 })
        }
        "Shrink" => {
            let lambda = finite("lambd", call.float("lambd", 0.5)?)?;
            let bias = finite("bias", call.float("bias", 0.0)?)?;
            Arc::new(Shrink { low: -lambda, high: lambda, bias })
        }
        _ => return Err(NodeError::Operator("unknown to this version")),
    };
    Ok(vec![graph.push(call, Op::Elementwise(f), vec![x], shape)?])
}

/// `Gelu`, `BiasGelu`, `FastGelu` (the approximation) and `QuickGelu` (`x sigmoid(alpha x)`) of onnxruntime, of
/// a sum with a bias where there is one.
pub(super) fn biased(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let mut x = call.input(0)?.clone();
    if let Some(bias) = call.optional(1) {
        x = graph.apply(call, "Add", vec![x, bias.clone()])?;
    }
    let (shape, id) = (x.shape().to_vec(), Lowering::activation(&x, 0)?);
    let f: Arc<dyn Function> = match call.op {
        "QuickGelu" => return rescaled(graph, call, id, shape),
        "FastGelu" => Arc::new(GeluTanh),
        _ => Arc::new(Gelu),
    };
    Ok(vec![graph.push(call, Op::Elementwise(f), vec![id], shape)?])
}

/// `Celu`, `Swish` and `QuickGelu`: with `c` for `alpha` and for its reciprocal, `c f(x / c)`
/// with the function of `alpha` 1.
fn rescaled(graph: &mut Lowering, call: &Call, x: ValueId, shape: Vec<usize>) -> Result<Vec<Value>> {
    let alpha = call.float("alpha", if call.op == "QuickGelu" { 1.702_f32.into() } else { 1.0 })?;
    if alpha == 0.0 || !alpha.is_finite() || (call.op == "Celu" && alpha < 0.0) {
        let accepted = "a finite number, for Celu above zero, for Swish other than zero";
        return Err(NodeError::Value { what: "alpha", found: alpha.to_string(), accepted });
    }
    let (exact, inverse) = (Weights::new(vec![alpha]), Weights::rounded(vec![1.0 / alpha], f64::EPSILON));
    let (f, inner, outer): (Arc<dyn Function>, _, _) = if call.op == "Celu" {
        (Arc::new(Elu { alpha: 1.0, gamma: 1.0 }), inverse, exact)
    } else {
        (Arc::new(Silu), exact, inverse)
    };
    let scaled = |graph: &mut Lowering, x: ValueId, factor: Weights| -> Result<Value> {
        if alpha == 1.0 {
            return Ok(Value::Activation { id: x, shape: shape.clone() });
        }
        arithmetic::scaled(graph, call, x, &shape, Some(Periodic::new(factor, 1)), None)
    };
    let x = Lowering::activation(&scaled(graph, x, inner)?, 0)?;
    let y = graph.push(call, Op::Elementwise(f), vec![x], shape.clone())?;
    Ok(vec![scaled(graph, Lowering::activation(&y, 0)?, outer)?])
}

/// A limit of `Clip`: an input since opset 11, an attribute before.
fn limit(call: &Call, index: usize, attribute: &'static str, default: f64) -> Result<f64> {
    let value = match call.optional(index) {
        None if call.opset < 11 => call.float(attribute, default)?,
        None => default,
        Some(_) => match &call.tensor(index)?.data {
            Data::Float(v) if v.len() == 1 => v[0],
            _ => return Err(NodeError::Type { input: index, accepted: "one floating-point number" }),
        },
    };
    if value.is_nan() {
        return Err(NodeError::Value { what: attribute, found: "NaN".into(), accepted: "a number" });
    }
    Ok(value)
}
