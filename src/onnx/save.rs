//! A graph to an `.onnx` file.

use std::path::{Path, PathBuf};

use prost::Message;
use thiserror::Error;

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use crate::graph::{Graph, Node};
use crate::ops::{Affine, Conv, Dense, Function, Op, Periodic, Relu, Scale};

/// Operator set of the files written.
const OPSET: i64 = 17;

/// Why a graph cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A node has no form that is written.
    #[error(
        "node `{node}` ({origin}) cannot be written; accepted: dense layers, 2-D convolutions, scales, \
         sums of two values, relu"
    )]
    Node {
        /// The node's name.
        node: String,
        /// The ONNX operator that it came from.
        origin: String,
    },
    /// A constant is not an `f32`: the file would hold another network.
    #[error("node `{node}`: the constant {value} is not an f32; files hold f32 only")]
    Precision {
        /// The node's name.
        node: String,
        /// The constant.
        value: f64,
    },
    /// The file cannot be written.
    #[error("{}: {cause}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

/// Writes a network whose constants are all `f32`, such as those of
/// [`tightness::generate`](crate::tightness::generate), with a free batch size.
/// Loaded again it computes the same, in perhaps more nodes.
///
/// # Errors
/// [`SaveError`] for an operator that is not written, a constant that is not
/// an `f32`, or a file that cannot be written.
pub fn save(graph: &Graph, path: impl AsRef<Path>) -> Result<(), SaveError> {
    let path = path.as_ref();
    std::fs::write(path, to_bytes(graph)?).map_err(|cause| SaveError::Io { file: path.to_owned(), cause })
}

/// The bytes of the file that [`save`] writes.
///
/// # Errors
/// As for [`save`], except for the file.
pub fn to_bytes(graph: &Graph) -> Result<Vec<u8>, SaveError> {
    let mut writer = Writer { graph, nodes: Vec::new(), constants: Vec::new() };
    for (i, node) in graph.nodes.iter().enumerate() {
        writer.node(i, node)?;
    }
    let proto = GraphProto {
        name: Some("network".to_owned()),
        input: vec![value_info(&name(0), &graph.input_shape)],
        output: vec![value_info(&name(graph.output), graph.shape(graph.output))],
        node: writer.nodes,
        initializer: writer.constants,
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        producer_name: Some("tightrope".to_owned()),
        opset_import: vec![OperatorSetIdProto { version: Some(OPSET), ..OperatorSetIdProto::default() }],
        graph: Some(proto),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

struct Writer<'a> {
    graph: &'a Graph,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Writer<'_> {
    fn push(
        &mut self,
        kind: &str,
        name: String,
        input: Vec<String>,
        output: String,
        attribute: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            op_type: Some(kind.to_owned()),
            name: Some(name),
            input,
            output: vec![output],
            attribute,
            ..NodeProto::default()
        });
    }

    /// A constant of node `i`; returns its name.
    fn constant(
        &mut self,
        i: usize,
        what: &str,
        dims: &[usize],
        values: &[f64],
    ) -> Result<String, SaveError> {
        if let Some(&value) = values.iter().find(|v| f64::from(**v as f32) != **v) {
            return Err(SaveError::Precision { node: self.graph.nodes[i].name.clone(), value });
        }
        let name = format!("{what}{}", i + 1);
        self.constants.push(TensorProto {
            name: Some(name.clone()),
            data_type: Some(DataType::Float.into()),
            dims: dims.iter().map(|&n| n as i64).collect(),
            raw_data: Some(values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect()),
            ..TensorProto::default()
        });
        Ok(name)
    }

    fn node(&mut self, i: usize, node: &Node) -> Result<(), SaveError> {
        let (inputs, output) = (node.inputs.iter().map(|&v| name(v)).collect::<Vec<_>>(), name(i + 1));
        let refused = || SaveError::Node { node: node.name.clone(), origin: node.origin.clone() };
        match &node.op {
            Op::Affine(Affine::Dense(op)) if op.rows == 1 && node.shape.len() == 2 => {
                self.dense(i, op, inputs, output)
            }
            Op::Affine(Affine::Conv(op)) if !op.transposed && node.shape.len() == 4 => {
                self.conv(i, op, inputs, output)
            }
            Op::Affine(Affine::Scale(op)) => self.scale(i, op, inputs, output),
            Op::Affine(Affine::Sum(op)) if op.coefficients.exact() == [1.0, 1.0] => {
                self.push("Add", node.name.clone(), inputs, output, Vec::new());
                Ok(())
            }
            Op::Elementwise(function) if function.name() == Relu.name() => {
                self.push("Relu", node.name.clone(), inputs, output, Vec::new());
                Ok(())
            }
            _ => Err(refused()),
        }
    }

    fn dense(
        &mut self,
        i: usize,
        op: &Dense,
        mut inputs: Vec<String>,
        output: String,
    ) -> Result<(), SaveError> {
        let node = &self.graph.nodes[i];
        if self.graph.shape(node.inputs[0]) != [1, op.inputs] {
            let flat = format!("flat{}", i + 1);
            self.push("Flatten", format!("{} flatten", node.name), inputs, flat.clone(), Vec::new());
            inputs = vec![flat];
        }
        inputs.push(self.constant(i, "weight", &[op.inputs, op.outputs], op.weight.exact())?);
        if let Some(bias) = &op.bias {
            inputs.push(self.constant(i, "bias", &[op.outputs], &expanded(bias, op.outputs, 1))?);
        }
        self.push("Gemm", node.name.clone(), inputs, output, Vec::new());
        Ok(())
    }

    fn conv(
        &mut self,
        i: usize,
        op: &Conv,
        mut inputs: Vec<String>,
        output: String,
    ) -> Result<(), SaveError> {
        let (node, w) = (&self.graph.nodes[i], &op.window);
        let [ins, outs] = op.channels;
        let dims = [outs, ins / op.groups, w.kernel[0], w.kernel[1]];
        inputs.push(self.constant(i, "weight", &dims, op.weight.exact())?);
        if let Some(bias) = &op.bias {
            if bias.values().exact().len() > 1 && bias.inner() != w.positions() {
                return Err(SaveError::Node { node: node.name.clone(), origin: node.origin.clone() });
            }
            inputs.push(self.constant(i, "bias", &[outs], &expanded(bias, outs, w.positions()))?);
        }
        let end = |axis: usize| {
            let last = (w.out[axis] - 1) * w.stride[axis] + (w.kernel[axis] - 1) * w.dilation[axis] + 1;
            last.saturating_sub(w.image[axis] + w.pad[axis])
        };
        let attributes = vec![
            ints("kernel_shape", &w.kernel),
            ints("strides", &w.stride),
            ints("dilations", &w.dilation),
            ints("pads", &[w.pad[0], w.pad[1], end(0), end(1)]),
            AttributeProto {
                name: Some("group".to_owned()),
                r#type: Some(AttributeType::Int.into()),
                i: Some(op.groups as i64),
                ..AttributeProto::default()
            },
        ];
        self.push("Conv", node.name.clone(), inputs, output, attributes);
        Ok(())
    }

    /// A factor as `Mul`, then a shift as `Add`.
    fn scale(&mut self, i: usize, op: &Scale, inputs: Vec<String>, output: String) -> Result<(), SaveError> {
        let node = &self.graph.nodes[i];
        let mut read = inputs.into_iter().next().unwrap_or_default();
        let steps = [("Mul", "factor", &op.scale), ("Add", "shift", &op.shift)];
        let mut steps: Vec<_> = steps.into_iter().filter_map(|(k, w, p)| Some((k, w, p.as_ref()?))).collect();
        let one = Periodic::constant(1.0);
        if steps.is_empty() {
            steps.push(("Mul", "factor", &one));
        }
        let count = steps.len();
        for (step, (kind, what, constant)) in steps.into_iter().enumerate() {
            let dims = if constant.values().exact().len() == 1 { &[1][..] } else { &node.shape };
            let constant = self.constant(i, what, dims, &expanded(constant, dims.iter().product(), 1))?;
            let last = step + 1 == count;
            let result = if last { output.clone() } else { format!("scaled{}", i + 1) };
            let name = if last { node.name.clone() } else { format!("{} {what}", node.name) };
            self.push(kind, name, vec![read, constant], result.clone(), Vec::new());
            read = result;
        }
        Ok(())
    }
}

/// Name of a value.
fn name(value: usize) -> String {
    if value == 0 { "input".to_owned() } else { format!("value{value}") }
}

/// Every `step`-th entry of a constant, `n` of them.
fn expanded(constant: &Periodic, n: usize, step: usize) -> Vec<f64> {
    (0..n).map(|i| constant.at(i * step)).collect()
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints.into()),
        ints: values.iter().map(|&v| v as i64).collect(),
        ..AttributeProto::default()
    }
}

/// A tensor with the batch open along its first axis.
fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let length = |(axis, &n): (usize, &usize)| Dimension {
        value: Some(if axis == 0 {
            dimension::Value::DimParam("batch".to_owned())
        } else {
            dimension::Value::DimValue(n as i64)
        }),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: shape.iter().enumerate().map(length).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(DataType::Float.into()), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
