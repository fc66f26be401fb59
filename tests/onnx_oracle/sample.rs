//! A model with every kind of attribute and every element type, in raw and typed storage.

use tightrope::onnx::proto::attribute_proto::AttributeType;
use tightrope::onnx::proto::tensor_proto::DataType;
use tightrope::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use tightrope::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// A text in an optional field.
#[expect(clippy::unnecessary_wraps, reason = "the fields it is written to are optional")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A tensor of two elements in the typed field that the schema prescribes for its type.
fn typed(data_type: DataType) -> TensorProto {
    use DataType as D;
    let mut tensor = TensorProto {
        name: Some(format!("w_{}", data_type.as_str_name())),
        data_type: Some(data_type.into()),
        dims: vec![2],
        ..TensorProto::default()
    };
    match data_type {
        D::Float => tensor.float_data = vec![0.1, f32::from_bits(0x7fc0_1234)],
        D::Double => tensor.double_data = vec![-0.0, 1e-310],
        D::Complex64 => tensor.float_data = vec![1.0, 2.0, 3.0, 4.0],
        D::Complex128 => tensor.double_data = vec![1.0, 2.0, 3.0, 4.0],
        D::Int64 => tensor.int64_data = vec![i64::MIN, i64::MAX],
        D::Uint32 => tensor.uint64_data = vec![0, u32::MAX.into()],
        D::Uint64 => tensor.uint64_data = vec![0, u64::MAX],
        D::String => tensor.string_data = vec![b"a".to_vec(), vec![0xff, 0]],
        D::Int8 | D::Int16 | D::Int32 => tensor.int32_data = vec![-128, 127],
        _ => tensor.int32_data = vec![1, 0],
    }
    tensor
}

/// The same in raw bytes.
fn raw(name: &str, data_type: DataType, bytes: &[u8]) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(data_type.into()),
        dims: vec![i64::try_from(bytes.len()).unwrap() / 4],
        raw_data: Some(bytes.to_vec()),
        ..TensorProto::default()
    }
}

fn sparse() -> SparseTensorProto {
    SparseTensorProto {
        values: Some(typed(DataType::Float)),
        indices: Some(typed(DataType::Int64)),
        dims: vec![9],
    }
}

/// A value with one axis of each kind: known, named and unknown.
fn value(name: &str) -> ValueInfoProto {
    let dim = |value| Dimension { value, denotation: None };
    let shape = TensorShapeProto {
        dim: vec![
            dim(Some(dimension::Value::DimValue(3))),
            dim(Some(dimension::Value::DimParam("N".to_owned()))),
            dim(None),
        ],
    };
    ValueInfoProto {
        name: text(name),
        r#type: Some(tensor_type(Some(shape))),
        doc_string: text("ä value"),
        ..ValueInfoProto::default()
    }
}

fn tensor_type(shape: Option<TensorShapeProto>) -> TypeProto {
    let tensor = type_proto::Tensor { elem_type: Some(DataType::Float.into()), shape };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None }
}

fn subgraph() -> GraphProto {
    GraphProto {
        name: text("body"),
        node: vec![node("inner", vec![attribute(AttributeType::Int)])],
        initializer: vec![typed(DataType::Double)],
        output: vec![value("inner_y")],
        ..GraphProto::default()
    }
}

/// An attribute with a value of this type.
fn attribute(kind: AttributeType) -> AttributeProto {
    use AttributeType as T;
    let mut attribute = AttributeProto {
        name: Some(format!("a_{}", kind.as_str_name())),
        r#type: Some(kind.into()),
        ..AttributeProto::default()
    };
    match kind {
        T::Undefined => attribute.ref_attr_name = text("parameter"),
        T::Float => attribute.f = Some(f32::from_bits(1)),
        T::Int => attribute.i = Some(-7),
        T::String => attribute.s = Some(b"NOTSET".to_vec()),
        T::Tensor => attribute.t = Some(Box::new(typed(DataType::Int64))),
        T::Graph => attribute.g = Some(Box::new(subgraph())),
        T::SparseTensor => attribute.sparse_tensor = Some(Box::new(sparse())),
        T::TypeProto => attribute.tp = Some(Box::new(tensor_type(None))),
        T::Floats => attribute.floats = vec![0.5, -0.0, f32::INFINITY],
        T::Ints => attribute.ints = vec![i64::MIN, 0, 300],
        T::Strings => attribute.strings = vec![vec![], b"b".to_vec()],
        T::Tensors => attribute.tensors = vec![typed(DataType::Bool), typed(DataType::Float16)],
        T::Graphs => attribute.graphs = vec![subgraph(), GraphProto::default()],
        T::SparseTensors => attribute.sparse_tensors = vec![sparse(), sparse()],
        T::TypeProtos => attribute.type_protos = vec![tensor_type(None)],
    }
    attribute
}

fn node(name: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        name: text(name),
        op_type: text("Conv"),
        domain: text("ai.onnx"),
        input: vec!["x".to_owned(), String::new(), "w".to_owned()],
        output: vec![format!("{name}_y")],
        attribute,
        ..NodeProto::default()
    }
}

/// The model.
pub(crate) fn model() -> ModelProto {
    let types = (1..=28).map(|number| DataType::try_from(number).unwrap());
    let mut initializer: Vec<TensorProto> = types.map(typed).collect();
    initializer.push(raw("raw_float", DataType::Float, &[1, 2, 3, 4, 5, 6, 7, 8]));
    initializer.push(raw("raw_empty", DataType::Float, &[]));
    let kinds = (0..=14).map(|number| AttributeType::try_from(number).unwrap());
    let opset = |domain: &str, version| OperatorSetIdProto { domain: text(domain), version: Some(version) };
    ModelProto {
        ir_version: Some(10),
        producer_name: text("sample"),
        opset_import: vec![opset("", 21), opset("com.example", 1)],
        graph: Some(GraphProto {
            name: text("main"),
            node: vec![node("first", kinds.map(attribute).collect()), node("second", vec![])],
            initializer,
            sparse_initializer: vec![sparse()],
            input: vec![value("x")],
            output: vec![value("second_y")],
            value_info: vec![value("first_y")],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}
