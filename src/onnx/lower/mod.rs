//! ONNX nodes to graph nodes: constants and shapes are evaluated, layout
//! operators become selections, all others one of the three kinds.

mod arithmetic;
mod attention;
mod branch;
mod cast;
mod choice;
mod constants;
mod conv;
mod einsum;
mod error;
mod functions;
mod layout;
mod learn;
mod matmul;
mod normalize;
mod pool;
mod quantized;
mod recurrent;
mod reduce;
mod resize;
mod scatter;
mod shapes;
mod softmax;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ndarray::ArrayD;

pub(super) use branch::needed_nodes;
pub use error::NodeError;
pub use table::operators;

use super::attributes::Attributes;
use super::proto::NodeProto;
use super::tensor::{Data, Tensor};
use crate::graph::{Node, ValueId};
use crate::ops::{Affine, Op, Periodic, Sparse, Weights};

/// No value may have more entries than this, so that a hostile model cannot
/// exhaust memory or time at load: 256 MiB of `f64`.
pub(super) const MAX_ENTRIES: usize = 1 << 25;

/// What an ONNX name stands for while a model is being lowered.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Known at load time.
    Constant(Arc<Tensor>),
    /// Depends on the network's input. The shape may differ in form from that
    /// of the graph's value: reshaping moves nothing.
    Activation { id: ValueId, shape: Vec<usize> },
}

impl Value {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Constant(tensor) => &tensor.shape,
            Self::Activation { shape, .. } => shape,
        }
    }

    fn constant(shape: Vec<usize>, data: Data) -> Self {
        Self::Constant(Arc::new(Tensor { shape, data }))
    }
}

/// A node as the handlers see it: its inputs resolved, its attributes typed.
struct Call<'a> {
    name: &'a str,
    op: &'a str,
    /// Version of the ONNX operator set.
    opset: i64,
    inputs: Vec<Option<Value>>,
    /// The element types of inputs that are initializers, as the model numbers them; 0 for others.
    types: &'a [i32],
    attributes: Attributes<'a>,
    /// Number of outputs up to the last that has a name.
    named: usize,
    /// Number of outputs up to the last that is read: an operator need not
    /// compute what nobody asks for, such as the mask of a `Dropout`.
    outputs: usize,
}

impl Call<'_> {
    fn input(&self, index: usize) -> Result<&Value, NodeError> {
        self.optional(index).ok_or(NodeError::MissingInput(index))
    }

    fn optional(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    fn shape(&self, index: usize) -> Result<&[usize], NodeError> {
        Ok(self.input(index)?.shape())
    }

    /// Input `index`, which must be known at load time.
    fn tensor(&self, index: usize) -> Result<&Tensor, NodeError> {
        match self.input(index)? {
            Value::Constant(tensor) => Ok(tensor),
            Value::Activation { .. } => Err(NodeError::NotConstant(index)),
        }
    }

    fn floats(&self, index: usize) -> Result<&[f64], NodeError> {
        match &self.tensor(index)?.data {
            Data::Float(values) => Ok(values),
            _ => Err(NodeError::Type { input: index, accepted: "floating-point numbers" }),
        }
    }

    /// Integers from input `index`, or from the attribute that older operator
    /// sets have instead; `None` if neither is there.
    fn ints(&self, index: usize, attribute: &str) -> Result<Option<Vec<i64>>, NodeError> {
        if self.optional(index).is_none() {
            return Ok(self.attributes.ints(attribute)?.map(<[i64]>::to_vec));
        }
        match &self.tensor(index)?.data {
            Data::Int(values) => Ok(Some(values.clone())),
            _ => Err(NodeError::Type { input: index, accepted: "integers" }),
        }
    }

    fn int(&self, attribute: &str, default: i64) -> Result<i64, NodeError> {
        Ok(self.attributes.int(attribute)?.unwrap_or(default))
    }

    fn float(&self, attribute: &str, default: f64) -> Result<f64, NodeError> {
        Ok(self.attributes.float(attribute)?.unwrap_or(default))
    }
}

type Handler = fn(&mut Lowering, &Call) -> Result<Vec<Value>, NodeError>;

/// Why an operator cannot be lowered at all; `None` if it can, at least on
/// constants.
pub(super) fn unsupported(node: &NodeProto) -> Option<&'static str> {
    table::find(node.domain(), node.op_type()).err()
}

/// The graph under construction.
pub(super) struct Lowering {
    pub(super) nodes: Vec<Node>,
    /// Operators that left no node, with how often.
    pub(super) folded: BTreeMap<String, usize>,
    values: HashMap<String, Value>,
    names: HashSet<String>,
    lens: Vec<usize>,
    opset: i64,
    /// Element types of initializers.
    types: HashMap<String, i32>,
    /// Truth values that are comparisons with constants.
    conditions: HashMap<ValueId, choice::Condition>,
    /// All values that are truth values.
    truths: HashSet<ValueId>,
    /// Values of which some entries (true) are minus infinity, 0 in the graph: scores under a mask, which
    /// only a softmax may read.
    hidden: HashMap<ValueId, Vec<bool>>,
}

impl Lowering {
    /// Starts with the network's input.
    pub(super) fn new(opset: i64, input: &str, shape: Vec<usize>) -> Result<Self, NodeError> {
        let len = shapes::count(&shape)?;
        let input_value = Value::Activation { id: 0, shape };
        Ok(Self {
            nodes: Vec::new(),
            folded: BTreeMap::new(),
            values: HashMap::from([(input.to_owned(), input_value)]),
            names: HashSet::new(),
            lens: vec![len],
            opset,
            types: HashMap::new(),
            conditions: HashMap::new(),
            truths: HashSet::new(),
            hidden: HashMap::new(),
        })
    }

    /// Makes the entries of the network's flat input from `first` on known
    /// under a name: one of several inputs.
    pub(super) fn part(&mut self, name: &str, first: usize, shape: Vec<usize>) -> Result<(), NodeError> {
        let len = shapes::count(&shape)?;
        self.lens.push(len);
        if !self.names.insert(name.to_owned()) {
            return Err(NodeError::Redefined(name.to_owned()));
        }
        let op = Op::Affine(Affine::Sparse(Sparse::select(vec![self.lens[0]], first..first + len)));
        let (id, origin) = (self.nodes.len() + 1, "input".to_owned());
        self.nodes.push(Node { name: name.to_owned(), origin, op, inputs: vec![0], shape: shape.clone() });
        self.values.insert(name.to_owned(), Value::Activation { id, shape });
        Ok(())
    }

    /// Makes a constant of an element type (0 if that is not known) known under a name.
    pub(super) fn define(&mut self, name: &str, tensor: Tensor, kind: i32) {
        self.types.insert(name.to_owned(), kind);
        self.values.insert(name.to_owned(), Value::Constant(Arc::new(tensor)));
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Lowers one node; its inputs must have been lowered before. `read` are the
    /// names that some node, or the network's output, refers to.
    pub(super) fn node(
        &mut self,
        index: usize,
        proto: &NodeProto,
        read: &HashSet<&str>,
    ) -> Result<(), NodeError> {
        let inputs = proto
            .input
            .iter()
            .map(|name| match name.as_str() {
                "" => Ok(None),
                name => self
                    .values
                    .get(name)
                    .cloned()
                    .map(Some)
                    .ok_or_else(|| NodeError::Unknown(name.to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let name = label(index, proto);
        let up_to_last = |counts: &dyn Fn(&str) -> bool| {
            proto.output.iter().rposition(|name| counts(name)).map_or(0, |last| last + 1)
        };
        let types: Vec<i32> =
            proto.input.iter().map(|name| self.types.get(name).copied().unwrap_or(0)).collect();
        let call = Call {
            types: &types,
            name: &name,
            op: proto.op_type(),
            opset: self.opset,
            inputs,
            attributes: Attributes::new(proto),
            named: up_to_last(&|name| !name.is_empty()),
            outputs: up_to_last(&|name| read.contains(name)),
        };
        let row = table::find(proto.domain(), proto.op_type()).map_err(NodeError::Operator)?;
        if matches!(proto.domain(), "" | "ai.onnx") && self.opset < row.since {
            return Err(NodeError::Value {
                what: "the operator set",
                found: format!("{}, which has no {}", self.opset, proto.op_type()),
                accepted: "the one that the operator came with, or a later one",
            });
        }
        let before = self.nodes.len();
        let results = self.results(&call, row)?;
        if results.len() < call.outputs {
            return Err(NodeError::Outputs { found: call.outputs, accepted: results.len() });
        }
        if self.nodes.len() == before {
            *self.folded.entry(proto.op_type().to_owned()).or_default() += 1;
        }
        for (name, value) in proto.output.iter().zip(results) {
            if !name.is_empty() && self.values.insert(name.clone(), value).is_some() {
                return Err(NodeError::Redefined(name.clone()));
            }
        }
        Ok(())
    }

    /// What an operator makes of its inputs: constants of constants.
    fn results(&mut self, call: &Call, row: &table::Row) -> Result<Vec<Value>, NodeError> {
        match constants::evaluate(call, row)? {
            Some(results) => Ok(results),
            None => (row.handler)(self, call),
        }
    }

    /// The result of a standard operator without attributes, as a part of the one of `call`.
    fn apply(&mut self, call: &Call, op: &'static str, inputs: Vec<Value>) -> Result<Value, NodeError> {
        let row = table::find("", op).map_err(NodeError::Operator)?;
        let (plain, types) = (NodeProto::default(), vec![0; inputs.len()]);
        let part = Call {
            name: call.name,
            op,
            // The meaning of today, whatever the model's.
            opset: call.opset.max(18),
            inputs: inputs.into_iter().map(Some).collect(),
            types: &types,
            attributes: Attributes::new(&plain),
            named: 1,
            outputs: 1,
        };
        self.results(&part, row)?.into_iter().next().ok_or(NodeError::MissingInput(0))
    }

    /// Appends an operator and returns its result.
    fn push(
        &mut self,
        call: &Call,
        mut op: Op,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
    ) -> Result<Value, NodeError> {
        if !matches!(call.op, "Softmax" | "LogSoftmax") {
            inputs.iter().try_for_each(|&id| self.finite(id))?;
        }
        let hidden = match &mut op {
            Op::Affine(Affine::Scale(op)) => infinities(&mut op.shift, op.len),
            Op::Affine(Affine::Sparse(op)) => infinities(&mut op.bias, shapes::count(&shape)?),
            _ => None,
        };
        if matches!(&op, Op::Affine(op) if !op.is_finite()) {
            return Err(NodeError::Value {
                what: "a constant",
                found: "infinite or not a number".into(),
                accepted: "finite numbers; to mask scores, a large negative one such as -1e9",
            });
        }
        self.lens.push(shapes::count(&shape)?);
        let mut name = call.name.to_owned();
        let mut copy = 1;
        while !self.names.insert(name.clone()) {
            copy += 1;
            name = format!("{}#{copy}", call.name);
        }
        self.nodes.push(Node { name, origin: call.op.to_owned(), op, inputs, shape: shape.clone() });
        let id = self.nodes.len();
        self.hidden.extend(hidden.map(|hidden| (id, hidden)));
        Ok(Value::Activation { id, shape })
    }

    /// An error if some entries of a value are infinite.
    pub(super) fn finite(&self, id: ValueId) -> Result<(), NodeError> {
        if !self.hidden.contains_key(&id) {
            return Ok(());
        }
        let Node { name, origin, .. } = &self.nodes[id - 1];
        let found = format!("infinite or not a number (in node `{name}`, {origin})");
        let accepted = "finite numbers; minus infinity before a softmax only";
        Err(NodeError::Value { what: "a constant", found, accepted })
    }

    /// Appends an affine map of one activation.
    fn affine(
        &mut self,
        call: &Call,
        op: Affine,
        input: ValueId,
        shape: Vec<usize>,
    ) -> Result<Value, NodeError> {
        self.push(call, Op::Affine(op), vec![input], shape)
    }

    /// The graph value behind a floating-point operand; a constant is an error.
    fn activation(value: &Value, index: usize) -> Result<ValueId, NodeError> {
        match value {
            Value::Activation { id, .. } => Ok(*id),
            Value::Constant(_) => Err(NodeError::Constant(index)),
        }
    }

    /// A tensor whose entry `i` is entry `layout[i]` of the concatenation of
    /// `values`, or `fill` where the layout says [`shapes::FILL`]. Constants
    /// among activations become a bias; without activations the result is a
    /// constant; a layout that moves nothing leaves no node.
    fn rearrange(
        &mut self,
        call: &Call,
        values: &[&Value],
        layout: &ArrayD<usize>,
        fill: f64,
    ) -> Result<Value, NodeError> {
        let shape = layout.shape().to_vec();
        shapes::count(&shape)?;
        let Some(first) = values.iter().position(|v| matches!(v, Value::Activation { .. })) else {
            return constants::rearrange(values, layout, fill);
        };
        if let [Value::Activation { id, .. }] = values
            && layout.len() == self.lens[*id]
            && layout.iter().enumerate().all(|(i, &source)| i == source)
        {
            return Ok(Value::Activation { id: *id, shape });
        }
        let (mut ids, mut lens, mut entries, mut total) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for value in values {
            match value {
                Value::Activation { id, .. } => {
                    ids.push(*id);
                    lens.push(self.lens[*id]);
                    entries.extend((total..total + self.lens[*id]).map(Ok));
                    total += self.lens[*id];
                }
                Value::Constant(tensor) => match &tensor.data {
                    Data::Float(data) => entries.extend(data.iter().map(|&x| Err(x))),
                    _ => return Err(NodeError::Type { input: first, accepted: "one element type" }),
                },
            }
        }
        let source = |i: &usize| if *i == shapes::FILL { Err(fill) } else { entries[*i] };
        let bias: Vec<f64> = layout.iter().map(|i| source(i).err().unwrap_or(0.0)).collect();
        let op = Sparse {
            bias: bias.iter().any(|&b| b != 0.0).then(|| Periodic::new(Weights::new(bias), 1)),
            ..Sparse::select_some(lens, layout.iter().map(|i| source(i).ok()))
        };
        let truths =
            ids.iter().all(|id| self.truths.contains(id)) && layout.iter().all(|&i| i != shapes::FILL);
        let moved = self.push(call, Op::Affine(Affine::Sparse(op)), ids, shape)?;
        if truths {
            self.truths.insert(Self::activation(&moved, 0)?);
        }
        Ok(moved)
    }
}

/// Takes minus infinity out of a constant that is added: where it was, if it was anywhere.
fn infinities(constant: &mut Option<Periodic>, len: usize) -> Option<Vec<bool>> {
    let found = constant.as_ref().filter(|c| c.values().exact().contains(&f64::NEG_INFINITY))?;
    let hidden = (0..len).map(|i| found.at(i) == f64::NEG_INFINITY).collect();
    let finite = found.values().exact().iter().map(|&x| if x == f64::NEG_INFINITY { 0.0 } else { x });
    let finite = Weights::rounded(finite.collect(), found.values().relative_error());
    *constant = Some(Periodic::new(finite, found.inner()));
    Some(hidden)
}

/// A name for messages and tables: the node's own, or operator and position.
pub(super) fn label(index: usize, node: &NodeProto) -> String {
    match node.name() {
        "" => format!("{}_{index}", node.op_type()),
        name => name.to_owned(),
    }
}
