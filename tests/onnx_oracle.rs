//! Holds the ONNX reader against a second, independent parser (`onnx-protobuf`, another schema
//! version and another protobuf library): both must see the same model in the same bytes.

#[path = "onnx_oracle/compare.rs"]
mod compare;
#[path = "onnx_oracle/sample.rs"]
mod sample;

use std::fs;
use std::path::{Path, PathBuf};

use onnx_protobuf::Message as _;
use prost::Message as _;
use tightrope::onnx::attributes::Attributes;
use tightrope::onnx::file;
use tightrope::onnx::proto::attribute_proto::AttributeType;
use tightrope::onnx::proto::{GraphProto, TensorProto};
use tightrope::onnx::tensor::Tensor;

/// Every `.onnx` file below `folder`, sorted.
fn models_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "onnx") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Both parsers agree on the file, and every tensor and attribute in it can be read.
fn check(path: &Path) {
    let name = path.display().to_string();
    let ours = file::read(path).unwrap_or_else(|error| panic!("{error}"));
    let theirs = onnx_protobuf::ModelProto::parse_from_bytes(&fs::read(path).unwrap())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    compare::models(&name, &ours, &theirs);
    readable(ours.graph.as_ref().unwrap());
}

/// Every initializer and attribute of `graph` passes the typed readers.
fn readable(graph: &GraphProto) {
    for initializer in &graph.initializer {
        let tensor = Tensor::from_proto(initializer).unwrap_or_else(|error| panic!("{error}"));
        let product: usize = tensor.shape.iter().product();
        assert_eq!(tensor.data.len(), product);
    }
    for node in &graph.node {
        let attributes = Attributes::new(node);
        for attribute in &node.attribute {
            let name = attribute.name();
            let present = match attribute.r#type() {
                AttributeType::Int => attributes.int(name).map(|value| value.is_some()),
                AttributeType::Float => attributes.float(name).map(|value| value.is_some()),
                AttributeType::Ints => attributes.ints(name).map(|value| value.is_some()),
                AttributeType::Floats => attributes.floats(name).map(|value| value.is_some()),
                AttributeType::String => attributes.string(name).map(|value| value.is_some()),
                AttributeType::Tensor => attributes.tensor(name).map(|value| value.is_some()),
                _ => continue,
            };
            assert!(present.unwrap_or_else(|error| panic!("{error}")));
        }
    }
}

#[test]
fn both_parsers_agree_on_models_of_every_kind_of_content() {
    let model = sample::model();
    let bytes = model.encode_to_vec();
    let ours = file::from_bytes(&bytes).unwrap();
    // By bytes, because a NaN equals nothing.
    assert!(ours.encode_to_vec() == bytes, "decoding and encoding changed the model");
    let theirs = onnx_protobuf::ModelProto::parse_from_bytes(&bytes).unwrap();
    compare::models("sample", &ours, &theirs);
    // The other way round: what the other library writes.
    let rewritten = theirs.write_to_bytes().unwrap();
    let ours = file::from_bytes(&rewritten).unwrap();
    compare::models("sample, rewritten", &ours, &theirs);
}

#[test]
#[should_panic(expected = "initializer \"w_FLOAT\": float_data")]
fn a_difference_of_one_bit_is_seen() {
    let mut model = sample::model();
    let theirs = onnx_protobuf::ModelProto::parse_from_bytes(&model.encode_to_vec()).unwrap();
    let initializer = &mut model.graph.as_mut().unwrap().initializer;
    let tensor = initializer.iter_mut().find(|t| t.name() == "w_FLOAT");
    let value = &mut tensor.unwrap().float_data[0];
    *value = f32::from_bits(value.to_bits() ^ 1);
    compare::models("sample", &model, &theirs);
}

#[test]
fn both_parsers_agree_on_the_models_of_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in models_below(&root.join("models")) {
        check(&path);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn both_parsers_agree_on_the_corpus() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let corpus = std::env::var_os("TIGHTROPE_CORPUS").map_or(beside, PathBuf::from);
    let models = models_below(&corpus);
    if models.is_empty() {
        let corpus = corpus.display();
        eprintln!("skipped: no .onnx below {corpus}; TIGHTROPE_CORPUS names another folder");
    }
    for path in &models {
        check(path);
    }
    eprintln!("{} models compared", models.len());
}

#[test]
fn a_sample_holds_every_attribute_and_tensor_type() {
    let graph = sample::model().graph.unwrap();
    let types = graph.initializer.iter().map(TensorProto::data_type);
    let types: Vec<i32> = types.collect();
    assert!((1..=28).all(|number| types.contains(&number)));
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let types: Vec<i32> = attributes.map(|a| a.r#type().into()).collect();
    assert!((1..=14).all(|number| types.contains(&number)));
}
