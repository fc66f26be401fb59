//! ONNX files to [`Model`]s, through a parser that the library does not use.
//!
//! Constants are folded where they are only moved, or whole numbers; what moves entries (reshapes, transposes,
//! slices, ...) is one list of sources, whatever it moves.

use std::collections::HashMap;
use std::path::Path;

use onnx_protobuf::{GraphProto, ModelProto, NodeProto, TensorProto};
use protobuf::Message;

use crate::functions::Function;
use crate::model::{Affine, Kind, Model, Node, Weights};
use crate::{Refusal, Result, cannot, files};

/// Versions of the operators that are read.
const VERSIONS: std::ops::RangeInclusive<i64> = 7..=24;
/// No value may have more entries.
const MOST: usize = 1 << 25;

/// What a name stands for.
#[derive(Clone)]
struct Value {
    shape: Vec<usize>,
    what: What,
}

#[derive(Clone)]
enum What {
    Constant(Vec<f64>),
    Computed(usize),
}

impl Value {
    fn constant(&self) -> Option<&[f64]> {
        if let What::Constant(data) = &self.what { Some(data) } else { None }
    }
}

struct Builder {
    nodes: Vec<Node>,
    names: HashMap<String, Value>,
    /// Entries of the network's input.
    inputs: usize,
}

/// A node with its inputs.
struct Call<'a> {
    node: &'a NodeProto,
    name: String,
    inputs: Vec<Option<Value>>,
}

/// Reads a model; also the fingerprints of its file and of its external data.
pub(crate) fn load(path: &Path) -> Result<(Model, String, Option<String>)> {
    let (raw, bytes) = files::read(path)?;
    let wrong = |e: String| Refusal::Usage(format!("{}: {e}", path.display()));
    let mut proto = ModelProto::parse_from_bytes(&bytes).map_err(|e| wrong(format!("no ONNX model: {e}")))?;
    let weights = files::external(path, &mut proto)?;
    // Before 7 operators broadcast in another way.
    let own = proto.opset_import.iter().filter(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    if let Some(set) = own.map(|set| set.version).find(|version| !VERSIONS.contains(version)) {
        return cannot(format!("operators of version {set}, only those of {VERSIONS:?}"));
    }
    let graph = proto.graph.as_ref().ok_or_else(|| wrong("no graph".into()))?;
    Ok((build(graph)?, files::sha256(&raw), weights))
}

fn build(graph: &GraphProto) -> Result<Model> {
    let mut builder = Builder { nodes: Vec::new(), names: HashMap::new(), inputs: 0 };
    for tensor in &graph.initializer {
        builder.names.insert(tensor.name.clone(), constant(tensor)?);
    }
    let inputs: Vec<_> =
        graph.input.iter().filter(|input| !builder.names.contains_key(&input.name)).collect();
    let ([input], [output]) = (&inputs[..], &graph.output[..]) else {
        return cannot("a model that has not one input and one output");
    };
    let dims = &input.type_.tensor_type().shape.dim;
    // A free dimension is the batch.
    let shape: Vec<usize> =
        dims.iter().map(|dim| usize::try_from(dim.dim_value()).unwrap_or(0).max(1)).collect();
    let entries = count(&shape)?;
    builder.inputs = entries;
    builder.names.insert(input.name.clone(), Value { shape, what: What::Computed(0) });
    for (place, node) in graph.node.iter().enumerate() {
        builder.node(place, node)?;
    }
    match builder.names.get(&output.name).map(|value| &value.what) {
        Some(What::Computed(id)) => Ok(Model::new(entries, builder.nodes, *id)),
        _ => cannot("a model whose output does not depend on its input"),
    }
}

fn count(shape: &[usize]) -> Result<usize> {
    match shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n)) {
        Some(n) if n <= MOST => Ok(n),
        _ => cannot(format!("a tensor of shape {shape:?}")),
    }
}

fn numbers<const N: usize>(raw: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    raw.as_chunks::<N>().0.iter().map(|&bytes| of(bytes)).collect()
}

/// Numbers of a tensor, all of which are f64 numbers.
fn constant(tensor: &TensorProto) -> Result<Value> {
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    let raw = &tensor.raw_data;
    let data = match (tensor.data_type, raw.is_empty()) {
        (1, false) => numbers(raw, |b| f32::from_le_bytes(b).into()),
        (1, true) => tensor.float_data.iter().map(|&x| x.into()).collect(),
        (11, false) => numbers(raw, f64::from_le_bytes),
        (11, true) => tensor.double_data.clone(),
        (7, false) => numbers(raw, |b| i64::from_le_bytes(b) as f64),
        (7, true) => tensor.int64_data.iter().map(|&x| x as f64).collect(),
        (6, false) => numbers(raw, |b| i32::from_le_bytes(b).into()),
        (6 | 9, true) => tensor.int32_data.iter().map(|&x| x.into()).collect(),
        (9, false) => raw.iter().map(|&x| x.into()).collect(),
        (kind, _) => return cannot(format!("the tensor `{}` of element type {kind}", tensor.name)),
    };
    if data.len() != count(&shape)? {
        return cannot(format!(
            "the tensor `{}` with {} numbers for shape {shape:?}",
            tensor.name,
            data.len()
        ));
    }
    Ok(Value { shape, what: What::Constant(data) })
}

impl Call<'_> {
    fn fail<T>(&self, what: &str) -> Result<T> {
        cannot(format!("node `{}` ({}): {what}", self.name, self.node.op_type))
    }

    fn value(&self, i: usize) -> Result<&Value> {
        match self.inputs.get(i) {
            Some(Some(value)) => Ok(value),
            _ => self.fail("an input is missing"),
        }
    }

    fn computed(&self, i: usize) -> Result<usize> {
        match self.value(i)?.what {
            What::Computed(id) => Ok(id),
            What::Constant(_) => self.fail("a constant where a computed value was expected"),
        }
    }

    fn numbers(&self, i: usize) -> Result<&[f64]> {
        match self.value(i)?.constant() {
            Some(data) => Ok(data),
            None => self.fail("a computed value where a constant was expected"),
        }
    }

    fn optional(&self, i: usize) -> Result<Option<&[f64]>> {
        if matches!(self.inputs.get(i), Some(Some(_))) { self.numbers(i).map(Some) } else { Ok(None) }
    }

    fn attribute(&self, name: &str) -> Option<&onnx_protobuf::AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    fn float(&self, name: &str, default: f32) -> f64 {
        self.attribute(name).map_or(default, |a| a.f).into()
    }

    fn text(&self, name: &str) -> String {
        self.attribute(name).map_or(String::new(), |a| String::from_utf8_lossy(&a.s).into_owned())
    }

    /// Integers from an attribute, or from an input.
    fn ints(&self, name: &str, input: usize) -> Result<Option<Vec<i64>>> {
        if let Some(attribute) = self.attribute(name) {
            return Ok(Some(attribute.ints.clone()));
        }
        Ok(self.optional(input)?.map(|data| data.iter().map(|&x| x as i64).collect()))
    }

    /// A place of an axis, which may be counted from the end.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let place = if axis < 0 { axis + rank as i64 } else { axis };
        if (0..rank as i64).contains(&place) { Ok(place as usize) } else { self.fail("an axis out of range") }
    }
}

/// Distances between neighbours along each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// The multi-index of every entry.
fn places(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let (strides, shape) = (strides(shape), shape.to_vec());
    (0..shape.iter().product()).map(move |o| strides.iter().zip(&shape).map(|(s, n)| o / s % n).collect())
}

/// The shape of two that are broadcast against each other, and for each the entry that an entry of it reads.
fn broadcast(a: &[usize], b: &[usize]) -> Option<(Vec<usize>, [Vec<usize>; 2])> {
    let rank = a.len().max(b.len());
    let padded = |s: &[usize]| [vec![1; rank - s.len()], s.to_vec()].concat();
    let (a, b) = (padded(a), padded(b));
    let meet = |(&a, &b): (&usize, &usize)| if a == b || b == 1 { Some(a) } else { (a == 1).then_some(b) };
    let shape: Vec<usize> = a.iter().zip(&b).map(meet).collect::<Option<_>>()?;
    count(&shape).ok()?;
    let reads = |own: &[usize]| -> Vec<usize> {
        let strides = strides(own);
        let of = |place: Vec<usize>| {
            place.iter().zip(own).zip(&strides).map(|((p, n), s)| if *n == 1 { 0 } else { p * s }).sum()
        };
        places(&shape).map(of).collect()
    };
    let reads = [reads(&a), reads(&b)];
    Some((shape, reads))
}

impl Builder {
    fn push(&mut self, name: &str, inputs: Vec<usize>, shape: Vec<usize>, kind: Kind) -> Result<Value> {
        let len = count(&shape)?;
        self.nodes.push(Node { name: name.to_owned(), inputs, len, kind });
        Ok(Value { shape, what: What::Computed(self.nodes.len()) })
    }

    fn affine(
        &mut self,
        call: &Call,
        inputs: Vec<usize>,
        shape: Vec<usize>,
        weights: Weights,
        bias: Vec<f64>,
    ) -> Result<Value> {
        if bias.iter().any(|b| !b.is_finite()) {
            return call.fail("a constant that is not finite");
        }
        let affine = Affine { weights, bias, relative: 0.0, bias_error: 0.0, moves: false };
        self.push(&call.name, inputs, shape, Kind::Affine(affine))
    }

    /// The last affine node has coefficients that are only known so well.
    fn uncertain(&mut self, relative: f64, bias_error: f64) {
        if let Some(Node { kind: Kind::Affine(affine), .. }) = self.nodes.last_mut() {
            (affine.relative, affine.bias_error) = (relative, bias_error);
        }
    }

    /// Entries of values moved: for each result its value and entry there, or nothing for `fill`.
    fn moved(
        &mut self,
        call: &Call,
        values: &[&Value],
        shape: Vec<usize>,
        from: Vec<Option<(usize, usize)>>,
        fill: f64,
    ) -> Result<Value> {
        count(&shape)?;
        let of = |at: &Option<(usize, usize)>| {
            at.map_or(Some(fill), |(v, i)| values[v].constant().map(|data| data[i]))
        };
        if let Some(data) = from.iter().map(of).collect::<Option<Vec<f64>>>() {
            return Ok(Value { shape, what: What::Constant(data) });
        }
        if let ([Value { what: What::Computed(id), .. }], true) =
            (values, from.iter().enumerate().all(|(i, at)| *at == Some((0, i))))
            && from.len() == id.checked_sub(1).map_or(self.inputs, |node| self.nodes[node].len)
        {
            return Ok(Value { shape, what: What::Computed(*id) });
        }
        let mut inputs = Vec::new();
        let slots: Vec<usize> = (values.iter())
            .map(|value| {
                if let What::Computed(id) = value.what {
                    inputs.push(id);
                }
                inputs.len().saturating_sub(1)
            })
            .collect();
        let bias: Vec<f64> = from.iter().map(|at| of(at).unwrap_or(0.0)).collect();
        let bias = if bias.iter().any(|b| *b != 0.0) { bias } else { Vec::new() };
        let moves = from.iter().all(|at| at.is_some_and(|(v, _)| values[v].constant().is_none()));
        let rows = from.iter().map(|at| match at {
            Some((v, i)) if values[*v].constant().is_none() => vec![(slots[*v], *i, 1.0)],
            _ => Vec::new(),
        });
        let value = self.affine(call, inputs, shape, Weights::sparse(rows), bias)?;
        if let Some(Node { kind: Kind::Affine(affine), .. }) = self.nodes.last_mut() {
            affine.moves = moves;
        }
        Ok(value)
    }

    fn node(&mut self, place: usize, node: &NodeProto) -> Result<()> {
        let name = if node.name.is_empty() { format!("{}_{place}", node.op_type) } else { node.name.clone() };
        let inputs = node.input.iter().map(|name| self.names.get(name).cloned()).collect();
        let call = Call { node, name, inputs };
        if !(node.domain.is_empty() || node.domain == "ai.onnx") {
            return call.fail("an operator of another domain");
        }
        for (name, i) in node.input.iter().zip(0..) {
            if !name.is_empty() {
                call.value(i)?;
            }
        }
        let results = self.results(&call)?;
        for (name, value) in node.output.iter().zip(results) {
            if self.names.insert(name.clone(), value).is_some() {
                return call.fail("a name is given twice");
            }
        }
        Ok(())
    }

    fn results(&mut self, call: &Call) -> Result<Vec<Value>> {
        let function = |builder: &mut Self, function| {
            let (id, shape) = (call.computed(0)?, call.value(0)?.shape.clone());
            Ok(vec![builder.push(&call.name, vec![id], shape, Kind::Function(function))?])
        };
        let one = |value: Result<Value>| Ok(vec![value?]);
        match call.node.op_type.as_str() {
            "Relu" => function(self, Function::Relu),
            "LeakyRelu" => function(self, Function::Leaky(vec![call.float("alpha", 0.01)])),
            "PRelu" => {
                let x = call.value(0)?;
                let (slopes, of) = (call.numbers(1)?, broadcast(&x.shape, &call.value(1)?.shape));
                match of {
                    Some((shape, [_, reads])) if shape == x.shape => {
                        function(self, Function::Leaky(reads.iter().map(|&i| slopes[i]).collect()))
                    }
                    _ => call.fail("slopes that do not fit"),
                }
            }
            "Abs" => function(self, Function::Abs),
            "Sigmoid" => function(self, Function::Sigmoid),
            "Tanh" => function(self, Function::Tanh),
            "Exp" => function(self, Function::Exp),
            "Clip" => {
                let end = |i: usize, name: &str, default: f64| -> Result<f64> {
                    let of = |data: &[f64]| data.first().copied().unwrap_or(default);
                    Ok(match call.optional(i)? {
                        Some(data) => of(data),
                        None => call.attribute(name).map_or(default, |a| a.f.into()),
                    })
                };
                let (low, high) = (end(1, "min", f64::NEG_INFINITY)?, end(2, "max", f64::INFINITY)?);
                if !(low <= high) {
                    return call.fail("limits that cross");
                }
                function(self, Function::Clip(low, high))
            }
            "Gemm" | "MatMul" => one(self.product(call)),
            "Conv" => one(self.convolution(call)),
            "ConvTranspose" => one(self.transposed(call)),
            "AveragePool" | "MaxPool" | "GlobalAveragePool" | "GlobalMaxPool" => one(self.pool(call)),
            "BatchNormalization" => one(self.normalised(call)),
            "Add" | "Sub" | "Mul" | "Div" => one(self.binary(call)),
            "Neg" => {
                let (id, shape) = (call.computed(0)?, call.value(0)?.shape.clone());
                let rows = (0..count(&shape)?).map(|i| vec![(0, i, -1.0)]);
                one(self.affine(call, vec![id], shape, Weights::sparse(rows), Vec::new()))
            }
            "Max" | "Min" => one(self.greatest(call)),
            "ReduceMean" | "ReduceSum" => one(self.reduced(call)),
            "Constant" => match call.attribute("value") {
                Some(attribute) => one(constant(&attribute.t)),
                None => call.fail("a constant that is no tensor"),
            },
            "Shape" if call.node.attribute.is_empty() => {
                let shape = call.value(0)?.shape.iter().map(|&n| n as f64).collect::<Vec<_>>();
                Ok(vec![Value { shape: vec![shape.len()], what: What::Constant(shape) }])
            }
            // Between floating-point types a computed value is what it is; of constants only whole ones.
            "Cast" => {
                let (value, to) = (call.value(0)?, call.int("to", 1));
                let whole = |data: &[f64]| data.iter().all(|x| x.fract() == 0.0 && x.abs() < 16_777_216.0);
                match value.constant() {
                    None if matches!(to, 1 | 11) => Ok(vec![value.clone()]),
                    Some(data) if matches!(to, 1 | 6 | 7 | 11) && whole(data) => Ok(vec![value.clone()]),
                    _ => call.fail("a conversion"),
                }
            }
            "Identity" | "Dropout" => Ok(vec![call.value(0)?.clone()]),
            _ => self.layout(call),
        }
    }
}

mod affine;
mod layout;
