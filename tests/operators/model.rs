//! Small models in a few words.

use tightrope::onnx::proto::attribute_proto::AttributeType;
use tightrope::onnx::proto::tensor_proto::DataType;
use tightrope::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use tightrope::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

/// A node called `the node` from `Kind input input attribute=value -> output`;
/// without an arrow its output is `y`, and `_` is an absent input.
pub(crate) fn node(words: &str) -> NodeProto {
    let (reads, writes) = words.split_once("->").unwrap_or((words, "y"));
    let (attributes, mut input): (Vec<&str>, Vec<&str>) =
        reads.split_whitespace().partition(|w| w.contains('='));
    let kind = input.remove(0);
    let name = |word: &str| if word == "_" { String::new() } else { word.to_owned() };
    NodeProto {
        name: Some("the node".to_owned()),
        op_type: Some(kind.to_owned()),
        input: input.into_iter().map(name).collect(),
        output: writes.split_whitespace().map(name).collect(),
        attribute: attributes.into_iter().map(attribute).collect(),
        ..NodeProto::default()
    }
}

/// An attribute from `name=value`: integers with commas are a list, one without
/// is an integer; else it is a number if it reads as one, or a text.
fn attribute(word: &str) -> AttributeProto {
    let (name, value) = word.split_once('=').expect("a name and a value");
    let mut made = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    let kind = if value.contains(',') {
        let numbers = value.split(',').filter(|number| !number.is_empty());
        made.ints = numbers.map(|number| number.parse().expect("an integer")).collect();
        AttributeType::Ints
    } else if let Ok(number) = value.parse::<i64>() {
        made.i = Some(number);
        AttributeType::Int
    } else if let Ok(number) = value.parse::<f32>() {
        made.f = Some(number);
        AttributeType::Float
    } else {
        made.s = Some(value.into());
        AttributeType::String
    };
    made.r#type = Some(kind.into());
    made
}

/// A constant of floating-point numbers.
pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(DataType::Float.into()),
        dims: dims.to_vec(),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A constant list of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(DataType::Int64.into()),
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A tensor of floating-point numbers that enters or leaves a model; a length of
/// 0 is open.
pub(crate) fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&n: &i64| Dimension {
        value: (n > 0).then_some(dimension::Value::DimValue(n)),
        ..Dimension::default()
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: Some(DataType::Float.into()), shape };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// A model from `x` of this shape to `y`, in operator set 18.
pub(crate) fn model(dims: &[i64], node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { version: Some(24), ..OperatorSetIdProto::default() }],
        graph: Some(GraphProto {
            name: Some("refused".to_owned()),
            node,
            initializer,
            input: vec![value("x", dims)],
            output: vec![value("y", &[])],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}
