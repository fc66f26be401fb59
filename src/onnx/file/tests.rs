use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::super::proto::{GraphProto, NodeProto, OperatorSetIdProto};
use super::*;

fn model() -> ModelProto {
    let node = NodeProto {
        op_type: Some("Relu".to_owned()),
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        ..NodeProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { version: Some(13), ..OperatorSetIdProto::default() }],
        graph: Some(GraphProto { node: vec![node; 20], ..GraphProto::default() }),
        ..ModelProto::default()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn message(bytes: &[u8]) -> String {
    from_bytes(bytes).unwrap_err().to_string()
}

#[test]
fn plain_and_gzipped_files_are_read_whatever_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let plain = model.encode_to_vec();
    let packed = gzip(&plain);
    // Two gzip members one after the other, as `cat a.gz b.gz` makes.
    let (head, tail) = plain.split_at(20);
    let members = [gzip(head), gzip(tail)].concat();
    for (name, bytes) in
        [("a.onnx", &plain), ("b.onnx.gz", &packed), ("c.onnx", &packed), ("d.gz", &plain), ("e", &members)]
    {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), model, "{name}");
        assert_eq!(from_bytes(bytes).unwrap(), model, "{name}");
    }
}

#[test]
fn what_is_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no.onnx");
    let error = read(&missing).unwrap_err();
    assert!(matches!(&error, FileError::Missing { file } if *file == missing));
    assert!(error.to_string().contains("no.onnx: no such file"));
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(error, FileError::Folder { .. }), "{error}");
}

#[test]
fn empty_bytes_are_refused() {
    assert!(message(b"").contains("is empty"));
    assert!(message(&gzip(b"")).contains("is empty"));
}

#[test]
fn other_kinds_of_file_are_named() {
    for (bytes, expected) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid"[..], "is a Git LFS pointer"),
        (b"PK\x03\x04\x00\x00", "is a zip archive"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"hello world", "is truncated or of another kind (11 bytes)"),
    ] {
        let error = message(bytes);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_message_without_graph_or_operator_set_is_refused() {
    let no_graph = ModelProto { graph: None, ..model() };
    let error = from_bytes(&no_graph.encode_to_vec()).unwrap_err();
    assert!(matches!(error, FileError::NoGraph { .. }), "{error}");
    let no_opset = ModelProto { opset_import: vec![], ..model() };
    let error = from_bytes(&no_opset.encode_to_vec()).unwrap_err();
    assert!(matches!(error, FileError::NoOpset { .. }), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let plain = model().encode_to_vec();
    for end in 0..plain.len() {
        assert!(from_bytes(&plain[..end]).is_err(), "{end}");
    }
    let packed = gzip(&plain);
    for end in GZIP_MAGIC.len()..packed.len() {
        let error = from_bytes(&packed[..end]).unwrap_err();
        assert!(matches!(error, FileError::Gzip { .. }), "{end}: {error}");
    }
}

#[test]
fn size_is_capped_before_and_after_decompression() {
    let name = Path::new("bomb.onnx.gz");
    let packed = gzip(&vec![0; 1 << 20]);
    assert!(packed.len() < 2000);
    let error = decode(name, &packed, 2000, || Folder::None).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { limit: 2000, .. }));
    let expected = "bomb.onnx.gz: holds more than 2000 bytes after decompression";
    assert!(error.to_string().starts_with(expected), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.onnx");
    fs::write(&path, [0; 2001]).unwrap();
    assert!(load(&path, 2001).is_ok());
    let error = load(&path, 2000).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { .. }));
    // A sparse file: the size alone decides, nothing is read.
    let sparse = folder.path().join("sparse.onnx");
    let file = File::create(&sparse).unwrap();
    file.set_len(MAX_MODEL_BYTES + 1).unwrap();
    let error = read(&sparse).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { .. }));
}

#[test]
fn deep_nesting_is_an_error_not_an_overflow() {
    // Field 7 of the model is a graph, its field 1 a node, its field 5 an attribute, its field 6
    // a graph again.
    let mut bytes = Vec::new();
    for field in [7u8, 6, 5, 1].into_iter().chain([6, 5, 1].repeat(2000)) {
        let mut outer = vec![field << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.append(&mut bytes);
        bytes = outer;
    }
    assert!(from_bytes(&bytes).is_err());
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes(&bytes);
        let _ = from_bytes(&gzip(&bytes));
        let _ = from_bytes(&[&GZIP_MAGIC[..], &bytes].concat());
    }
}
