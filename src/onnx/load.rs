//! A model file to a [`Graph`].

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use thiserror::Error;

use super::attributes::Attributes;
use super::file::{self, FileError};
use super::lower::{Lowering, NodeError, Value, label, needed_nodes, unsupported};
use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::dimension::Value as Length;
use super::proto::type_proto::Value as Type;
use super::proto::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use super::tensor::{Tensor, TensorError};
use crate::graph::{Graph, Node};
use crate::ops::{Affine, Op, Sparse};

/// Operator sets that are understood.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// What a caller may decide about a model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The shape of one network input, where the model leaves axes open or
    /// fixes a batch. By default a leading open axis is the batch and becomes 1.
    pub input_shape: Option<Vec<usize>>,
    /// Values of inputs that are not perturbed, by their names: of a model with several all but one.
    pub fixed: BTreeMap<String, ArrayD<f32>>,
    /// Which output is the network's. By default the only one, or the only one that holds numbers: of a
    /// label and scores the scores. Of a label alone, the scores of which it is the greatest.
    pub output: Option<String>,
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
    Ok((from_proto(path, model, options)?, files))
}

/// Loads a model from memory, without external data.
///
/// # Errors
/// As for [`load`].
pub fn load_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Graph, LoadError> {
    from_proto(Path::new("(model in memory)"), file::from_bytes(bytes)?, options)
}

/// A named value of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A network with any number of inputs, outputs and values that are looked at.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The network: its input is all inputs, its output all outputs and then
    /// the hidden values, each flat and one after the other.
    pub graph: Graph,
    /// The inputs in the order of the model.
    pub inputs: Vec<Port>,
    /// The outputs in the order of the model.
    pub outputs: Vec<Port>,
    /// The hidden values in the order that was asked for.
    pub hidden: Vec<Port>,
}

/// As [`load`], for a model with several inputs and outputs; `hidden` names
/// values inside it, by the name of the value.
///
/// # Errors
/// As for [`load`]; also if there is no such value.
pub fn load_ports(
    path: impl AsRef<Path>,
    options: &LoadOptions,
    hidden: &[&str],
) -> Result<Ports, LoadError> {
    let path = path.as_ref();
    ports(path, &file::read(path)?, options, hidden)
}

fn from_proto(path: &Path, mut model: ModelProto, options: &LoadOptions) -> Result<Graph, LoadError> {
    let Some(graph) = &model.graph else { return Ok(ports(path, &model, options, &[])?.graph) };
    let refused = |found, accepted| LoadError::Interface { file: path.to_owned(), found, accepted };
    let names = |list: &[&str]| list.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    let constants: HashSet<&str> = graph.initializer.iter().map(super::proto::TensorProto::name).collect();
    let inputs: Vec<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
    let inputs: Vec<&str> = inputs.into_iter().filter(|name| !constants.contains(name)).collect();
    if let Some(name) = options.fixed.keys().find(|name| !inputs.contains(&&***name)) {
        return Err(refused(format!("no input `{name}` but {}", names(&inputs)), "the name of an input"));
    }
    if inputs.iter().filter(|name| !options.fixed.contains_key(**name)).count() != 1 {
        let accepted = "a network with exactly one input besides those that are fixed (--fix NAME=FILE.npy)";
        return Err(refused(format!("inputs {}", names(&inputs)), accepted));
    }
    let (output, ranked) = choose(graph, options)
        .map_err(|found| refused(found, "one output with numbers, or the name of one (--output NAME)"))?;
    let declared = graph.input.iter().filter_map(|input| Some((input, options.fixed.get(input.name())?)));
    let fixed = declared.map(|(input, value)| constant(input, value)).collect::<Result<Vec<_>, _>>();
    let fixed = fixed.map_err(|found| refused(found, "values of the input's type and shape"))?;
    if let Some(graph) = &mut model.graph {
        graph.input.retain(|input| !options.fixed.contains_key(input.name()));
        graph.initializer.extend(fixed);
        graph.output = vec![ValueInfoProto { name: Some(output), ..ValueInfoProto::default() }];
    }
    let graph = ports(path, &model, options, &[])?.graph;
    if ranked && graph.output_shape.iter().filter(|&&n| n > 1).count() != 1 {
        let found = format!("the position of the greatest in {:?}", graph.output_shape);
        return Err(refused(found, "the greatest of one score for each class"));
    }
    Ok(graph)
}

/// The values of an input that is fixed, in its type.
fn constant(input: &ValueInfoProto, value: &ArrayD<f32>) -> Result<TensorProto, String> {
    let Some(Type::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(format!("input `{}` is not a tensor", input.name()));
    };
    if let Some(shape) = &tensor.shape {
        let fits = |(length, found): (&Option<Length>, &usize)| match length {
            Some(Length::DimValue(n)) if *n > 0 => usize::try_from(*n) == Ok(*found),
            _ => true,
        };
        let lengths: Vec<_> = shape.dim.iter().map(|d| d.value.clone()).collect();
        if lengths.len() != value.ndim() || !lengths.iter().zip(value.shape()).all(fits) {
            return Err(format!("values of shape {:?} for the input `{}`", value.shape(), input.name()));
        }
    }
    let mut constant = TensorProto {
        name: Some(input.name().to_owned()),
        dims: value.shape().iter().map(|&n| n as i64).collect(),
        ..TensorProto::default()
    };
    match DataType::try_from(tensor.elem_type()).unwrap_or_default() {
        DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => {
            constant.data_type = Some(DataType::Float as i32);
            constant.float_data = value.iter().copied().collect();
        }
        kind @ (DataType::Int64 | DataType::Int32 | DataType::Bool) => {
            if let Some(x) = value.iter().find(|x| x.fract() != 0.0 || !(-1e7..=1e7).contains(*x)) {
                return Err(format!(
                    "the value {x} for the input `{}` of {}",
                    input.name(),
                    kind.as_str_name()
                ));
            }
            constant.data_type = Some(kind as i32);
            if kind == DataType::Int64 {
                constant.int64_data = value.iter().map(|&x| x as i64).collect();
            } else {
                constant.int32_data = value.iter().map(|&x| x as i32).collect();
            }
        }
        kind => return Err(format!("values for the input `{}` of {}", input.name(), kind.as_str_name())),
    }
    Ok(constant)
}

/// The name of the value that is the network's output, and whether the model only says which of its entries is
/// the greatest.
fn choose(graph: &GraphProto, options: &LoadOptions) -> Result<(String, bool), String> {
    let names: Vec<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    let maker = |name: &str| graph.node.iter().find(|node| node.output.iter().any(|o| o == name));
    // What stands behind the scores of a classifier is passed over.
    let scores = |name: &str| -> Option<(String, bool)> {
        let mut at = name.to_owned();
        // No further than there are nodes: those of a damaged model may go around in a circle.
        for _ in &graph.node {
            let node = maker(&at)?;
            let first = node.input.first()?;
            at = match node.op_type() {
                "ZipMap" => return Some((first.clone(), false)),
                "ArgMax" => {
                    let axis = Attributes::new(node).int("axis").ok()?.unwrap_or(0);
                    return [1, -1].contains(&axis).then(|| (first.clone(), true));
                }
                // The label comes first, the scores behind it.
                "LinearClassifier" => return Some((node.output.get(1)?.clone(), true)),
                "ArrayFeatureExtractor" => node.input.get(1)?.clone(),
                "Cast" | "Reshape" | "Squeeze" | "Identity" | "LabelEncoder" | "Flatten" => first.clone(),
                _ => return None,
            };
        }
        None
    };
    let holds_numbers = |value: &&ValueInfoProto| match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(Type::TensorType(tensor)) => matches!(
            DataType::try_from(tensor.elem_type()),
            Ok(DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
        ),
        Some(Type::SequenceType(_)) => maker(value.name()).is_some_and(|node| node.op_type() == "ZipMap"),
        _ => false,
    };
    let chosen = match &options.output {
        Some(name) if names.contains(&&**name) => name.clone(),
        // A value inside the model may be meant.
        Some(name) if maker(name).is_some() => return Ok((name.clone(), false)),
        Some(name) => return Err(format!("no output `{name}`")),
        None => match (&names[..], &graph.output.iter().filter(holds_numbers).collect::<Vec<_>>()[..]) {
            ([only], _) => (*only).to_owned(),
            (_, [one]) => one.name().to_owned(),
            _ => {
                let list = names.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>();
                return Err(format!("outputs {}", list.join(", ")));
            }
        },
    };
    let tensor = graph.output.iter().filter(holds_numbers).any(|value| value.name() == chosen)
        && maker(&chosen).is_none_or(|node| node.op_type() != "ZipMap");
    let behind = if tensor { None } else { scores(&chosen) };
    Ok(behind.unwrap_or((chosen, false)))
}

fn ports(
    path: &Path,
    model: &ModelProto,
    options: &LoadOptions,
    hidden: &[&str],
) -> Result<Ports, LoadError> {
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
    let (needed, read) = needed_nodes(graph, hidden);
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
    if inputs.is_empty() || graph.output.is_empty() {
        let found = format!("{} inputs and {} outputs", inputs.len(), graph.output.len());
        return Err(interface(found, "at least one of each"));
    }
    if inputs.len() > 1 && options.input_shape.is_some() {
        let found = format!("{} inputs, and one shape was given", inputs.len());
        return Err(interface(found, "several inputs only with the shapes that the model fixes"));
    }
    let given = inputs.iter().map(|input| {
        let shape = input_shape(input, options).map_err(|(found, accepted)| interface(found, accepted))?;
        Ok(Port { name: input.name().to_owned(), shape })
    });
    let given: Vec<Port> = given.collect::<Result<_, LoadError>>()?;
    let node_error = |node: &str, op: &str, problem| LoadError::Node {
        file: file(),
        node: node.to_owned(),
        op: op.to_owned(),
        problem: Box::new(problem),
    };
    let (input_name, shape) = if let [only] = &given[..] {
        (only.name.clone(), only.shape.clone())
    } else {
        let lengths = given.iter().map(|port| port.shape.iter().product::<usize>());
        // No model can name this one: its name has no counterpart among values.
        (String::new(), vec![lengths.fold(0, usize::saturating_add)])
    };
    let mut lowering =
        Lowering::new(opset, &input_name, shape.clone()).map_err(|e| node_error(&input_name, "input", e))?;
    if given.len() > 1 {
        let mut first = 0;
        for port in &given {
            lowering
                .part(&port.name, first, port.shape.clone())
                .map_err(|e| node_error(&port.name, "input", e))?;
            first += port.shape.iter().product::<usize>();
        }
    }
    for tensor in &graph.initializer {
        let value =
            Tensor::from_proto(tensor).map_err(|problem| LoadError::Initializer { file: file(), problem })?;
        lowering.define(tensor.name(), value, tensor.data_type());
    }
    for (i, node) in graph.node.iter().enumerate().filter(|(i, _)| needed[*i]) {
        lowering.node(i, node, &read).map_err(|e| node_error(&label(i, node), node.op_type(), e))?;
    }
    finish(lowering, (input_name, shape), given, graph, hidden)
        .map_err(|(found, accepted)| interface(found, accepted))
}

/// The lowered model with its outputs and the hidden values side by side.
fn finish(
    lowering: Lowering,
    (input_name, input_shape): (String, Vec<usize>),
    inputs: Vec<Port>,
    graph: &GraphProto,
    hidden: &[&str],
) -> Result<Ports, (String, &'static str)> {
    let names = graph.output.iter().map(|output| ("output", output.name()));
    let seen = names.chain(hidden.iter().map(|name| ("hidden value", *name))).map(|(kind, name)| {
        match lowering.value(name) {
            Some(Value::Activation { id, shape }) => {
                lowering.finite(*id).map_err(|problem| (problem.to_string(), "finite numbers"))?;
                Ok((*id, Port { name: name.to_owned(), shape: shape.clone() }))
            }
            found => {
                let found =
                    if found.is_some() { "does not depend on the input" } else { "is computed by no node" };
                Err((format!("{kind} `{name}` {found}"), "a value computed from the input"))
            }
        }
    });
    let seen: Vec<(usize, Port)> = seen.collect::<Result<_, _>>()?;
    if input_shape.contains(&0) || seen.iter().any(|(_, port)| port.shape.contains(&0)) {
        let shapes: Vec<_> = seen.iter().map(|(_, port)| &port.shape).collect();
        return Err((
            format!("shapes {input_shape:?} to {shapes:?}"),
            "inputs and outputs that are not empty",
        ));
    }
    let mut nodes = lowering.nodes;
    let (last, output_shape) = if let [(id, port)] = &seen[..] {
        (*id, port.shape.clone())
    } else {
        let lens: Vec<usize> = seen.iter().map(|(_, port)| port.shape.iter().product()).collect();
        let total = lens.iter().sum();
        nodes.push(Node {
            name: "outputs side by side".into(),
            origin: "outputs".into(),
            op: Op::Affine(Affine::Sparse(Sparse::select(lens, 0..total))),
            inputs: seen.iter().map(|(id, _)| *id).collect(),
            shape: vec![total],
        });
        (nodes.len(), vec![total])
    };
    let (nodes, output) = prune(nodes, last);
    let folded = lowering.folded.into_iter().collect();
    let graph = Graph { input_name, input_shape, nodes, output, output_shape, folded };
    let mut outputs: Vec<Port> = seen.into_iter().map(|(_, port)| port).collect();
    let hidden = outputs.split_off(outputs.len() - hidden.len());
    Ok(Ports { graph, inputs, outputs, hidden })
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
