use tempfile::TempDir;

use super::super::proto::StringStringEntryProto;
use super::*;

/// A folder with a model's folder `m` in it, values in `m/w.bin`, and a file outside `m`.
fn folders() -> TempDir {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("m");
    fs::create_dir_all(inner.join("sub")).unwrap();
    fs::write(inner.join("w.bin"), [1, 2, 3, 4, 5]).unwrap();
    fs::write(inner.join("sub").join("v.bin"), [9]).unwrap();
    fs::write(outer.path().join("secret"), [7; 5]).unwrap();
    outer
}

fn tensor(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some((*key).to_owned()),
        value: Some((*value).to_owned()),
    };
    TensorProto {
        name: Some("w".to_owned()),
        data_location: Some(DataLocation::External.into()),
        external_data: entries.iter().map(entry).collect(),
        ..TensorProto::default()
    }
}

fn model(tensors: Vec<TensorProto>) -> ModelProto {
    ModelProto {
        graph: Some(GraphProto { initializer: tensors, ..GraphProto::default() }),
        ..ModelProto::default()
    }
}

/// The bytes of a tensor with these entries, in a model in `outer/m`.
fn load_one(outer: &TempDir, entries: &[(&str, &str)]) -> Result<Vec<u8>, ExternalError> {
    let mut model = model(vec![tensor(entries)]);
    let folder = Folder::At(outer.path().join("m"));
    load(&mut model, folder, 1000).map_err(|(name, problem)| {
        assert_eq!(name, "w");
        problem
    })?;
    let tensor = &model.graph.unwrap().initializer[0];
    assert_eq!(tensor.data_location(), DataLocation::Default);
    assert!(tensor.external_data.is_empty());
    Ok(tensor.raw_data().to_vec())
}

#[test]
fn the_named_range_is_loaded() {
    let outer = folders();
    for (entries, expected) in [
        (&[("location", "w.bin")][..], &[1, 2, 3, 4, 5][..]),
        (&[("location", "w.bin"), ("offset", "3")], &[4, 5]),
        (&[("location", "w.bin"), ("length", "2")], &[1, 2]),
        (&[("length", "2"), ("offset", "1"), ("location", "./w.bin")], &[2, 3]),
        (&[("location", "w.bin"), ("offset", "5")], &[]),
        (&[("location", "sub/v.bin"), ("checksum", "?")], &[9]),
    ] {
        assert_eq!(load_one(&outer, entries).unwrap(), expected, "{entries:?}");
    }
}

#[test]
fn ranges_beyond_the_file_are_refused() {
    let outer = folders();
    let max = u64::MAX.to_string();
    for (offset, length) in [("0", "6"), ("4", "2"), ("6", "0"), ("1", &max), (&max, "1")] {
        let entries = [("location", "w.bin"), ("offset", offset), ("length", length)];
        let error = load_one(&outer, &entries).unwrap_err();
        assert!(matches!(error, ExternalError::Range { size: 5, .. }), "{error}");
    }
    let entries = [("location", "w.bin"), ("offset", "4"), ("length", "2")];
    let error = load_one(&outer, &entries).unwrap_err().to_string();
    assert!(error.ends_with("w.bin has 5 bytes; the tensor names offset 4 and length 2"));
}

#[test]
fn locations_outside_the_folder_are_refused() {
    let outer = folders();
    let absolute = outer.path().join("m").join("w.bin");
    for location in ["../secret", "sub/../w.bin", "/etc/passwd", absolute.to_str().unwrap()] {
        let error = load_one(&outer, &[("location", location)]).unwrap_err();
        assert!(matches!(error, ExternalError::Outside { .. }), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn symbolic_links_may_not_leave_the_folder() {
    use std::os::unix::fs::symlink;
    let outer = folders();
    let inner = outer.path().join("m");
    symlink(outer.path().join("secret"), inner.join("out")).unwrap();
    symlink(outer.path(), inner.join("up")).unwrap();
    symlink("w.bin", inner.join("within")).unwrap();
    for location in ["out", "up/secret"] {
        let error = load_one(&outer, &[("location", location)]).unwrap_err();
        assert!(matches!(error, ExternalError::Outside { .. }), "{error}");
    }
    let within = load_one(&outer, &[("location", "within")]).unwrap();
    assert_eq!(within, [1, 2, 3, 4, 5]);
}

#[test]
fn malformed_entries_are_refused() {
    let outer = folders();
    let message = |entries: &[_]| load_one(&outer, entries).unwrap_err().to_string();
    assert!(message(&[]).contains("no `location`"));
    assert!(message(&[("location", "")]).contains("no `location`"));
    assert!(message(&[("location", "w.bin"), ("location", "w.bin")]).contains("more than once"));
    for value in ["-1", "", "0x2", "99999999999999999999"] {
        let error = message(&[("location", "w.bin"), ("length", value)]);
        assert!(error.contains(&format!("`length` is {value:?}; expected")), "{error}");
    }
    assert!(message(&[("location", "none.bin")]).contains("none.bin cannot be read"));
    assert!(message(&[("location", "sub")]).contains("not a regular file"));
    assert!(message(&[("location", "a\0b")]).contains("cannot be read"));
}

#[test]
fn values_in_two_places_are_refused() {
    let outer = folders();
    let both = TensorProto { raw_data: Some(vec![1]), ..tensor(&[("location", "w.bin")]) };
    let folder = Folder::At(outer.path().join("m"));
    let (_, error) = load(&mut model(vec![both]), folder, 1000).unwrap_err();
    assert!(matches!(error, ExternalError::InlineToo { bytes: 1 }));
}

#[test]
fn repeated_ranges_count_against_the_limit() {
    let outer = folders();
    let whole = tensor(&[("location", "w.bin")]);
    let folder = || Folder::At(outer.path().join("m"));
    let mut two = model(vec![whole.clone(); 2]);
    load(&mut two, folder(), 10).unwrap();
    let mut three = model(vec![whole; 3]);
    let (_, error) = load(&mut three, folder(), 14).unwrap_err();
    let limit = matches!(error, ExternalError::TooLarge { length: 5, remaining: 4, .. });
    assert!(limit, "{error}");
}

#[test]
fn a_model_in_memory_has_no_external_data() {
    let mut model = model(vec![tensor(&[("location", "w.bin")])]);
    let (name, error) = load(&mut model, Folder::None, 1000).unwrap_err();
    assert_eq!(name, "w");
    assert!(matches!(error, ExternalError::NoFolder));
}

#[test]
fn tensors_are_found_wherever_they_are() {
    let outer = folders();
    let external = || tensor(&[("location", "w.bin"), ("length", "1")]);
    let sparse = || SparseTensorProto {
        values: Some(external()),
        indices: Some(external()),
        ..SparseTensorProto::default()
    };
    let attribute = AttributeProto {
        t: Some(Box::new(external())),
        tensors: vec![external()],
        sparse_tensor: Some(Box::new(sparse())),
        sparse_tensors: vec![sparse()],
        ..AttributeProto::default()
    };
    let node = NodeProto { attribute: vec![attribute.clone()], ..NodeProto::default() };
    let graph = GraphProto {
        initializer: vec![external()],
        sparse_initializer: vec![sparse()],
        node: vec![node.clone()],
        ..GraphProto::default()
    };
    let nesting =
        AttributeProto { g: Some(Box::new(graph.clone())), graphs: vec![graph], ..AttributeProto::default() };
    let function = super::super::proto::FunctionProto {
        node: vec![node],
        attribute_proto: vec![attribute],
        ..super::super::proto::FunctionProto::default()
    };
    let mut model = ModelProto {
        graph: Some(GraphProto {
            node: vec![NodeProto { attribute: vec![nesting], ..NodeProto::default() }],
            ..GraphProto::default()
        }),
        functions: vec![function],
        ..ModelProto::default()
    };
    let folder = Folder::At(outer.path().join("m"));
    load(&mut model, folder, 1000).unwrap();
    // An attribute has 6 tensors, a graph those of its attribute and 3 of its own.
    let loaded = format!("{model:?}").matches("raw_data: Some([1])").count();
    assert_eq!(loaded, 2 * 9 + 2 * 6);
}
