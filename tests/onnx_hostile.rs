//! Damaged models: whatever the bytes, reading ends in a value or an error, never in a panic.

#[path = "onnx_oracle/sample.rs"]
mod sample;

use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message as _;
use tightrope::onnx::attributes::Attributes;
use tightrope::onnx::file;
use tightrope::onnx::proto::AttributeProto;
use tightrope::onnx::tensor::Tensor;

static MODEL: LazyLock<Vec<u8>> = LazyLock::new(|| sample::model().encode_to_vec());

/// Reads all there is to read, and checks what must hold of anything that is read.
fn read_all(bytes: &[u8]) {
    let Ok(model) = file::from_bytes(bytes) else {
        return;
    };
    let graph = model.graph.expect("a model is refused without a graph");
    for tensor in &graph.initializer {
        if let Ok(tensor) = Tensor::from_proto(tensor) {
            let product: usize = tensor.shape.iter().product();
            assert_eq!(tensor.data.len(), product);
        }
    }
    for node in &graph.node {
        let attributes = Attributes::new(node);
        for name in node.attribute.iter().map(AttributeProto::name) {
            let accepted = [
                attributes.int(name).is_ok(),
                attributes.float(name).is_ok(),
                attributes.ints(name).is_ok(),
                attributes.floats(name).is_ok(),
                attributes.string(name).is_ok(),
                attributes.tensor(name).is_ok(),
            ];
            let accepted = accepted.iter().filter(|accepted| **accepted).count();
            assert!(accepted <= 1, "{name:?} has more than one type");
        }
    }
}

#[test]
fn every_truncation_is_survived() {
    for end in 0..=MODEL.len() {
        read_all(&MODEL[..end]);
    }
}

#[test]
fn every_single_byte_change_is_survived() {
    let mut bytes = MODEL.clone();
    for index in 0..bytes.len() {
        let original = bytes[index];
        for value in [0, 0x7f, 0x80, 0xff, original ^ 1, original ^ 8] {
            bytes[index] = value;
            read_all(&bytes);
        }
        bytes[index] = original;
    }
}

proptest! {
    #[test]
    fn many_changes_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        end in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut bytes = MODEL.clone();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if truncate {
            bytes.truncate(end.index(bytes.len()));
        }
        read_all(&bytes);
    }
}
