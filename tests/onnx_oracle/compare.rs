//! Compares a model as two parsers see it, field by field, floats by their bits.
//!
//! The other parser's schema is proto3, which reads an absent field as its default; so does this.

use std::fmt::Debug;

use onnx_protobuf as theirs;
use tightrope::onnx::proto as ours;

/// Both values are equal, or a panic says where they differ.
#[expect(clippy::needless_pass_by_value, reason = "most values are numbers and references")]
fn same<T: PartialEq + Debug>(place: &str, field: &str, ours: T, theirs: T) {
    // A weight may have millions of values; the first ones do.
    let shown = |value: &T| format!("{value:?}").chars().take(300).collect::<String>();
    assert!(
        ours == theirs,
        "{place}: {field}: {} here, {} in the other parser",
        shown(&ours),
        shown(&theirs)
    );
}

/// Both lists have the same length; each pair passes `check`.
fn each<A, B>(place: &str, field: &str, ours: &[A], theirs: &[B], check: impl Fn(&str, &A, &B)) {
    same(place, field, ours.len(), theirs.len());
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        check(&format!("{place}: {field} {index}"), ours, theirs);
    }
}

/// Both are present and pass `check`, or both are absent.
fn optional<A, B>(
    place: &str,
    field: &str,
    ours: Option<&A>,
    theirs: Option<&B>,
    check: impl Fn(&str, &A, &B),
) {
    same(place, field, ours.is_some(), theirs.is_some());
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        check(&format!("{place}: {field}"), ours, theirs);
    }
}

fn bits32(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn bits64(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Compares everything that says what a model computes.
pub(crate) fn models(place: &str, ours: &ours::ModelProto, theirs: &theirs::ModelProto) {
    same(place, "ir_version", ours.ir_version(), theirs.ir_version);
    same(place, "producer_name", ours.producer_name(), &theirs.producer_name);
    let (a, b) = (&ours.opset_import, &theirs.opset_import);
    each(place, "opset_import", a, b, |place, a, b| {
        same(place, "domain", a.domain(), &b.domain);
        same(place, "version", a.version(), b.version);
    });
    same(place, "functions", ours.functions.len(), theirs.functions.len());
    optional(place, "graph", ours.graph.as_ref(), theirs.graph.as_ref(), graphs);
}

fn graphs(place: &str, ours: &ours::GraphProto, theirs: &theirs::GraphProto) {
    same(place, "name", ours.name(), &theirs.name);
    each(place, "input", &ours.input, &theirs.input, values);
    each(place, "output", &ours.output, &theirs.output, values);
    each(place, "value_info", &ours.value_info, &theirs.value_info, values);
    each(place, "node", &ours.node, &theirs.node, nodes);
    let (a, b) = (&ours.initializer, &theirs.initializer);
    each(place, "initializer", a, b, |place, a, b| {
        tensors(&format!("{place}: initializer {:?}", a.name()), a, b);
    });
    let (a, b) = (&ours.sparse_initializer, &theirs.sparse_initializer);
    each(place, "sparse_initializer", a, b, sparse_tensors);
}

fn nodes(place: &str, ours: &ours::NodeProto, theirs: &theirs::NodeProto) {
    same(place, "name", ours.name(), &theirs.name);
    same(place, "op_type", ours.op_type(), &theirs.op_type);
    same(place, "domain", ours.domain(), &theirs.domain);
    same(place, "input", &ours.input, &theirs.input);
    same(place, "output", &ours.output, &theirs.output);
    each(place, "attribute", &ours.attribute, &theirs.attribute, attributes);
}

fn attributes(place: &str, a: &ours::AttributeProto, b: &theirs::AttributeProto) {
    same(place, "name", a.name(), &b.name);
    same(place, "ref_attr_name", a.ref_attr_name(), &b.ref_attr_name);
    same(place, "type", a.r#type.unwrap_or(0), b.type_.value());
    same(place, "i", a.i(), b.i);
    same(place, "f", a.f().to_bits(), b.f.to_bits());
    same(place, "s", a.s(), &b.s);
    same(place, "ints", &a.ints, &b.ints);
    same(place, "floats", bits32(&a.floats), bits32(&b.floats));
    same(place, "strings", &a.strings, &b.strings);
    optional(place, "t", a.t.as_deref(), b.t.as_ref(), tensors);
    each(place, "tensors", &a.tensors, &b.tensors, tensors);
    optional(place, "g", a.g.as_deref(), b.g.as_ref(), graphs);
    each(place, "graphs", &a.graphs, &b.graphs, graphs);
    let (sparse, other) = (a.sparse_tensor.as_deref(), b.sparse_tensor.as_ref());
    optional(place, "sparse_tensor", sparse, other, sparse_tensors);
    let (sparse, other) = (&a.sparse_tensors, &b.sparse_tensors);
    each(place, "sparse_tensors", sparse, other, sparse_tensors);
    optional(place, "tp", a.tp.as_deref(), b.tp.as_ref(), types);
    each(place, "type_protos", &a.type_protos, &b.type_protos, types);
}

fn sparse_tensors(place: &str, a: &ours::SparseTensorProto, b: &theirs::SparseTensorProto) {
    same(place, "dims", &a.dims, &b.dims);
    optional(place, "values", a.values.as_ref(), b.values.as_ref(), tensors);
    optional(place, "indices", a.indices.as_ref(), b.indices.as_ref(), tensors);
}

fn tensors(place: &str, a: &ours::TensorProto, b: &theirs::TensorProto) {
    same(place, "name", a.name(), &b.name);
    same(place, "dims", &a.dims, &b.dims);
    same(place, "data_type", a.data_type(), b.data_type);
    same(place, "data_location", a.data_location.unwrap_or(0), b.data_location.value());
    same(place, "segment", a.segment.is_some(), b.segment.is_some());
    same(place, "raw_data", a.raw_data(), &b.raw_data);
    same(place, "float_data", bits32(&a.float_data), bits32(&b.float_data));
    same(place, "double_data", bits64(&a.double_data), bits64(&b.double_data));
    same(place, "int32_data", &a.int32_data, &b.int32_data);
    same(place, "int64_data", &a.int64_data, &b.int64_data);
    same(place, "uint64_data", &a.uint64_data, &b.uint64_data);
    same(place, "string_data", &a.string_data, &b.string_data);
}

fn values(place: &str, ours: &ours::ValueInfoProto, theirs: &theirs::ValueInfoProto) {
    same(place, "name", ours.name(), &theirs.name);
    same(place, "doc_string", ours.doc_string(), &theirs.doc_string);
    optional(place, "type", ours.r#type.as_ref(), theirs.type_.as_ref(), types);
}

fn types(place: &str, a: &ours::TypeProto, b: &theirs::TypeProto) {
    use ours::type_proto::Value as A;
    use theirs::type_proto::Value as B;
    same(place, "denotation", a.denotation(), &b.denotation);
    match (&a.value, &b.value) {
        (None, None) => {}
        (Some(A::TensorType(a)), Some(B::TensorType(b))) => {
            same(place, "elem_type", a.elem_type(), b.elem_type);
            optional(place, "shape", a.shape.as_ref(), b.shape.as_ref(), shapes);
        }
        (Some(A::SequenceType(a)), Some(B::SequenceType(b))) => {
            optional(place, "elem_type", a.elem_type.as_deref(), b.elem_type.as_ref(), types);
        }
        (Some(A::MapType(a)), Some(B::MapType(b))) => {
            same(place, "key_type", a.key_type(), b.key_type);
            optional(place, "value_type", a.value_type.as_deref(), b.value_type.as_ref(), types);
        }
        (a, b) => panic!("{place}: type {a:?} here, {b:?} in the other parser"),
    }
}

fn shapes(place: &str, a: &ours::TensorShapeProto, b: &theirs::TensorShapeProto) {
    use ours::tensor_shape_proto::dimension::Value as A;
    use theirs::tensor_shape_proto::dimension::Value as B;
    each(place, "dim", &a.dim, &b.dim, |place, a, b| {
        same(place, "denotation", a.denotation(), &b.denotation);
        match (&a.value, &b.value) {
            (None, None) => {}
            (Some(A::DimValue(a)), Some(B::DimValue(b))) => same(place, "length", a, b),
            (Some(A::DimParam(a)), Some(B::DimParam(b))) => same(place, "name", a, b),
            (a, b) => panic!("{place}: {a:?} here, {b:?} in the other parser"),
        }
    });
}
