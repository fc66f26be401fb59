//! A model file to a [`Graph`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::file::{self, FileError};
use super::lower::{Lowering, NodeError, Value, label, unsupported};
use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::dimension::Value as Length;
use super::proto::type_proto::Value as Type;
use super::proto::{GraphProto, ModelProto, ValueInfoProto};
use super::tensor::{Tensor, TensorError};
use crate::graph::{Graph, Node};

/// Operator sets that are understood.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// What a caller may decide about a model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The shape of one network input, where the model leaves axes open or
    /// fixes a batch. By default a leading open axis is the batch and becomes 1.
    pub input_shape: Option<Vec<usize>>,
}

/// Why a model cannot be loaded. Every message names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not a readable ONNX model.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operator set is not among those understood.
    #[error(
        "{}: {found}; accepted: the standard operator set in version {} to {}",
        file.display(), OPSETS.start(), OPSETS.end()
    )]
    Opset {
        /// The model's path.
        file: PathBuf,
        /// What was found.
        found: String,
    },
    /// The inputs or outputs are not one each, or have no usable shape.
    #[error("{}: {found}; accepted: {accepted}", file.display())]
    Interface {
        /// The model's path.
        file: PathBuf,
        /// What was found.
        found: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// An initializer cannot be used.
    #[error("{}: {problem}", file.display())]
    Initializer {
        /// The model's path.
        file: PathBuf,
        /// What is wrong with it.
        problem: TensorError,
    },
    /// Operators that are not supported, each with a node and a reason.
    #[error(
        "{}: not supported: {}",
        file.display(),
        nodes.iter().map(|(node, op, why)| format!("{op} (node `{node}`): {why}")).collect::<Vec<_>>().join("; ")
    )]
    Unsupported {
        /// The model's path.
        file: PathBuf,
        /// Node, operator and reason.
        nodes: Vec<(String, String, &'static str)>,
    },
    /// A node cannot be used as it stands.
    #[error("{}: node `{node}` ({op}): {problem}", file.display())]
    Node {
        /// The model's path.
        file: PathBuf,
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong with it.
        problem: Box<NodeError>,
    },
}

/// Loads the model at `path`, plain or gzipped, with external data beside it.
///
/// # Errors
/// [`LoadError`] if the file cannot be read, or if the network is not one that
/// every part of the toolkit can work on: all operators are checked here.
pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Graph, LoadError> {
    load_with_files(path, options).map(|(graph, _)| graph)
}

/// As [`load`], with the files beside the model that its weights came from: what was read is these and the
/// model itself.
///
/// # Errors
/// As for [`load`].
pub fn load_with_files(
    path: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<(Graph, Vec<PathBuf>), LoadError> {
    let path = path.as_ref();
    let (model, files) = file::read_with_files(path)?;
    Ok((from_proto(path, &model, options)?, files))
}

/// Loads a model from memory, without external data.
///
/// # Errors
/// As for [`load`].
pub fn load_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Graph, LoadError> {
    from_proto(Path::new("(model in memory)"), &file::from_bytes(bytes)?, options)
}

fn from_proto(path: &Path, model: &ModelProto, options: &LoadOptions) -> Result<Graph, LoadError> {
    let file = || path.to_owned();
    let interface = |found: String, accepted| LoadError::Interface { file: file(), found, accepted };
    let standard = model.opset_import.iter().find(|o| matches!(o.domain(), "" | "ai.onnx"));
    let opset = standard.map(super::proto::OperatorSetIdProto::version);
    let Some(opset) = opset.filter(|v| OPSETS.contains(v)) else {
        let found = opset.map_or("no standard operator set".into(), |v| format!("operator set {v}"));
        return Err(LoadError::Opset { file: file(), found });
    };
    let Some(graph) = &model.graph else {
        return Err(interface("the model has no graph".into(), "a model with a graph"));
    };
    if !graph.sparse_initializer.is_empty() {
        return Err(interface("the model has sparse initializers".into(), "dense initializers"));
    }
    let (needed, read) = needed_nodes(graph);
    let refused: Vec<_> = graph
        .node
        .iter()
        .enumerate()
        .filter(|(i, _)| needed[*i])
        .filter_map(|(i, n)| Some((label(i, n), n.op_type().to_owned(), unsupported(n)?)))
        .collect();
    if !refused.is_empty() {
        return Err(LoadError::Unsupported { file: file(), nodes: refused });
    }

    let constants: HashSet<&str> = graph.initializer.iter().map(super::proto::TensorProto::name).collect();
    let inputs: Vec<_> = graph.input.iter().filter(|v| !constants.contains(v.name())).collect();
    let names = |list: &[&ValueInfoProto]| {
        list.iter().map(|v| format!("`{}`", v.name())).collect::<Vec<_>>().join(", ")
    };
    let [input] = inputs[..] else {
        return Err(interface(format!("inputs {}", names(&inputs)), "a network with exactly one input"));
    };
    let outputs: Vec<_> = graph.output.iter().collect();
    let [output] = outputs[..] else {
        return Err(interface(format!("outputs {}", names(&outputs)), "a network with exactly one output"));
    };
    let shape = input_shape(input, options).map_err(|(found, accepted)| interface(found, accepted))?;
    let node_error = |node: &str, op: &str, problem| LoadError::Node {
        file: file(),
        node: node.to_owned(),
        op: op.to_owned(),
        problem: Box::new(problem),
    };
    let mut lowering = Lowering::new(opset, input.name(), shape.clone())
        .map_err(|e| node_error(input.name(), "input", e))?;
    for tensor in &graph.initializer {
        let value =
            Tensor::from_proto(tensor).map_err(|problem| LoadError::Initializer { file: file(), problem })?;
        lowering.define(tensor.name(), value);
    }
    for (i, node) in graph.node.iter().enumerate().filter(|(i, _)| needed[*i]) {
        lowering.node(i, node, &read).map_err(|e| node_error(&label(i, node), node.op_type(), e))?;
    }
    let (last, output_shape) = match lowering.value(output.name()) {
        Some(Value::Activation { id, shape }) => (*id, shape.clone()),
        found => {
            let found =
                if found.is_some() { "does not depend on the input" } else { "is computed by no node" };
            return Err(interface(
                format!("output `{}` {found}", output.name()),
                "an output computed from the input",
            ));
        }
    };
    if shape.contains(&0) || output_shape.contains(&0) {
        return Err(interface(
            format!("shapes {shape:?} to {output_shape:?}"),
            "inputs and outputs that are not empty",
        ));
    }
    let (nodes, output) = prune(lowering.nodes, last);
    Ok(Graph {
        input_name: input.name().to_owned(),
        input_shape: shape,
        nodes,
        output,
        output_shape,
        folded: lowering.folded.into_iter().collect(),
    })
}

/// The nodes that the outputs depend on, and the names that these refer to. An
/// absent input has the empty name, which is no output's.
fn needed_nodes(graph: &GraphProto) -> (Vec<bool>, HashSet<&str>) {
    let mut wanted: HashSet<&str> = graph.output.iter().map(super::proto::ValueInfoProto::name).collect();
    let mut needed = vec![false; graph.node.len()];
    for (i, node) in graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|o| !o.is_empty() && wanted.contains(o.as_str())) {
            needed[i] = true;
            wanted.extend(node.input.iter().map(String::as_str));
        }
    }
    wanted.remove("");
    (needed, wanted)
}

/// The shape of one network input, or what was found and what is accepted.
fn input_shape(input: &ValueInfoProto, options: &LoadOptions) -> Result<Vec<usize>, (String, &'static str)> {
    const OPEN: &str =
        "fixed axes after the first; give the shape of one input, such as --input-shape 1,3,32,32";
    let Some(Type::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err((format!("input `{}` is not a tensor", input.name()), "a tensor"));
    };
    // On integers, operators such as Div compute something else.
    let kind = DataType::try_from(tensor.elem_type()).unwrap_or_default();
    if !matches!(kind, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16) {
        let found = format!("input `{}` has elements of type {}", input.name(), kind.as_str_name());
        return Err((found, "floating-point numbers: FLOAT, DOUBLE, FLOAT16 or BFLOAT16"));
    }
    let lengths: Option<Vec<Option<usize>>> = tensor.shape.as_ref().map(|shape| {
        let length = |d: &Option<Length>| match d {
            Some(Length::DimValue(n)) => usize::try_from(*n).ok().filter(|&n| n > 0),
            _ => None,
        };
        shape.dim.iter().map(|d| length(&d.value)).collect()
    });
    let text = |lengths: &[Option<usize>]| {
        let axes: Vec<String> = lengths.iter().map(|d| d.map_or("?".into(), |n| n.to_string())).collect();
        format!("input `{}` has shape [{}]", input.name(), axes.join(", "))
    };
    match (&options.input_shape, lengths) {
        (Some(given), lengths) => {
            // A fixed batch may be overruled, other fixed axes may not.
            let fits = lengths.as_ref().is_none_or(|lengths| {
                lengths.len() == given.len()
                    && lengths.iter().zip(given).skip(1).all(|(l, g)| l.is_none_or(|l| l == *g))
            });
            if fits && !given.contains(&0) {
                Ok(given.clone())
            } else {
                Err((
                    format!("{}, and the shape asked for is {given:?}", text(&lengths.unwrap_or_default())),
                    "a shape that agrees with the model's fixed axes",
                ))
            }
        }
        (None, None) => Err((format!("input `{}` has no shape", input.name()), OPEN)),
        (None, Some(lengths)) => {
            let closed =
                lengths.iter().enumerate().map(|(i, d)| if i == 0 { d.or(Some(1)) } else { *d }).collect();
            let closed: Option<Vec<usize>> = closed;
            closed.ok_or_else(|| (text(&lengths), OPEN))
        }
    }
}

/// Drops nodes that the output does not depend on.
fn prune(nodes: Vec<Node>, output: usize) -> (Vec<Node>, usize) {
    let mut used = vec![false; nodes.len() + 1];
    used[output] = true;
    for (i, node) in nodes.iter().enumerate().rev() {
        if used[i + 1] {
            node.inputs.iter().for_each(|&v| used[v] = true);
        }
    }
    let mut place = vec![0; nodes.len() + 1];
    let mut kept: Vec<Node> = Vec::new();
    for (i, mut node) in nodes.into_iter().enumerate().filter(|(i, _)| used[i + 1]) {
        node.inputs.iter_mut().for_each(|v| *v = place[*v]);
        kept.push(node);
        place[i + 1] = kept.len();
    }
    (kept, place[output])
}
