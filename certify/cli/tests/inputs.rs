//! `--fix` and `--output`: models of several inputs, and of labels beside scores.

mod common;

use std::path::Path;

use ndarray::{Array1, Array2};
use ndarray_npy::write_npy;
use prost::Message;
use tightrope::onnx::proto::tensor_proto::DataType;
use tightrope::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use tightrope::onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};

use common::{records, refused, run, stdout};

fn value(name: &str, kind: DataType, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&n| Dimension { value: Some(dimension::Value::DimValue(n)), ..Dimension::default() });
    let shape = TensorShapeProto { dim: dim.collect() };
    let tensor = type_proto::Tensor { elem_type: Some(kind.into()), shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn node(kind: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(kind.into()),
        input: input.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// Scores `x * mask`, and the position of the greatest.
fn masked(path: &Path) {
    let mut greatest = node("ArgMax", &["scores"], "label");
    greatest.attribute.push(tightrope::onnx::proto::AttributeProto {
        name: Some("axis".into()),
        r#type: Some(tightrope::onnx::proto::attribute_proto::AttributeType::Int.into()),
        i: Some(1),
        ..Default::default()
    });
    let graph = GraphProto {
        node: vec![node("Mul", &["x", "mask"], "scores"), greatest],
        input: vec![value("x", DataType::Float, &[1, 3]), value("mask", DataType::Float, &[1, 3])],
        output: vec![value("label", DataType::Int64, &[1, 1]), value("scores", DataType::Float, &[1, 3])],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { version: Some(17), ..OperatorSetIdProto::default() };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    };
    std::fs::write(path, model.encode_to_vec()).expect("room");
}

#[test]
fn inputs_are_fixed_and_outputs_chosen() {
    let here = tempfile::tempdir().expect("a folder");
    let path = |name: &str| here.path().join(name).to_str().expect("UTF-8").to_owned();
    let (net, x, y, out) = (path("net.onnx"), path("x.npy"), path("y.npy"), path("run.jsonl"));
    masked(Path::new(&net));
    write_npy(&x, &Array2::from_shape_vec((2, 3), vec![1.0_f32, 0.5, 0.2, 0.5, 0.9, 0.9]).expect("rows"))
        .expect("room");
    write_npy(&y, &Array1::from(vec![0_i64, 1])).expect("room");
    let mask = |name: &str, values: [f32; 3]| {
        let file = path(name);
        write_npy(&file, &Array2::from_shape_vec((1, 3), values.to_vec()).expect("a row")).expect("room");
        format!("mask={file}")
    };
    let (first, second) = (mask("first.npy", [1.0, 1.0, 0.0]), mask("second.npy", [1.0, 1.0, 1.0]));
    let text = refused(&["inspect", &net], 2);
    assert!(text.contains("`x`, `mask`") && text.contains("--fix NAME=FILE.npy"), "{text}");
    let text = stdout(&run(&["inspect", &net, "--fix", &first]));
    assert!(text.contains("Mul"), "{text}");
    let certify = ["certify", &net, "--eps", "0.1", "--data", &x, "--labels", &y, "--out", &out, "--fix"];
    stdout(&run(&[&certify[..], &[&first]].concat()));
    let (header, found) = records(Path::new(&out));
    // The third score is masked; without that it would tie with the second of the second input.
    assert!(found.iter().all(|record| record["certified"] == true), "{found:?}");
    assert_eq!(header["run"]["fixed_sha256"]["mask"].as_str().map(str::len), Some(64));
    // Another mask is another run, and a label stands for the scores that it is made of.
    let text = refused(&[&certify[..], &[&second, "--resume"]].concat(), 2);
    assert!(text.contains("fixed_sha256"), "{text}");
    let by_label = stdout(&run(&["inspect", &net, "--fix", &first, "--output", "label"]));
    assert!(by_label.contains("Mul") && !by_label.contains("ArgMax"), "{by_label}");
    let text = refused(&["inspect", &net, "--fix", &first, "--output", "logits"], 2);
    assert!(text.contains("no output `logits`"), "{text}");
    let text = refused(&["inspect", &net, "--fix", "mask=none.npy"], 2);
    assert!(text.contains("none.npy"), "{text}");
}
