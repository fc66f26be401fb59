use proptest::prelude::*;

use super::*;

fn proto(data_type: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some("w".to_owned()),
        data_type: Some(data_type.into()),
        dims: dims.to_vec(),
        ..TensorProto::default()
    }
}

fn raw(data_type: DataType, dims: &[i64], bytes: &[u8]) -> TensorProto {
    TensorProto { raw_data: Some(bytes.to_vec()), ..proto(data_type, dims) }
}

fn int32(data_type: DataType, values: &[i32]) -> TensorProto {
    TensorProto { int32_data: values.to_vec(), ..proto(data_type, &[i64::try_from(values.len()).unwrap()]) }
}

fn data(proto: &TensorProto) -> Data {
    Tensor::from_proto(proto).unwrap().data
}

fn message(proto: &TensorProto) -> String {
    Tensor::from_proto(proto).unwrap_err().to_string()
}

#[test]
fn raw_bytes_are_little_endian_values_of_the_type() {
    use DataType as D;
    let cases: [(D, &[u8], Data); 13] = [
        (D::Float, &[0, 0, 0x20, 0xc0], Data::Float(vec![-2.5])),
        (D::Double, &[0, 0, 0, 0, 0, 0, 4, 0xc0], Data::Float(vec![-2.5])),
        (D::Float16, &[0, 0xc1], Data::Float(vec![-2.5])),
        (D::Bfloat16, &[0x20, 0xc0], Data::Float(vec![-2.5])),
        (D::Int8, &[0xfe], Data::Int(vec![-2])),
        (D::Int16, &[0xfe, 0xff], Data::Int(vec![-2])),
        (D::Int32, &[0xfe, 0xff, 0xff, 0xff], Data::Int(vec![-2])),
        (D::Int64, &(-2i64).to_le_bytes(), Data::Int(vec![-2])),
        (D::Uint8, &[0xfe], Data::Int(vec![254])),
        (D::Uint16, &[1, 2], Data::Int(vec![513])),
        (D::Uint32, &[0xff, 0xff, 0xff, 0xff], Data::Int(vec![4_294_967_295])),
        (D::Uint64, &[7, 0, 0, 0, 0, 0, 0, 0], Data::Int(vec![7])),
        (D::Bool, &[1], Data::Bool(vec![true])),
    ];
    for (data_type, bytes, expected) in cases {
        let tensor = Tensor::from_proto(&raw(data_type, &[1], bytes)).unwrap();
        assert_eq!(tensor.shape, [1]);
        assert_eq!(tensor.data, expected, "{data_type:?}");
        // One byte short or long never passes.
        assert!(Tensor::from_proto(&raw(data_type, &[1], &bytes[1..])).is_err());
        assert!(Tensor::from_proto(&raw(data_type, &[1], &[bytes, &[0]].concat())).is_err());
    }
}

#[test]
fn typed_fields_hold_the_same_values() {
    use DataType as D;
    let float = TensorProto { float_data: vec![0.1, f32::NEG_INFINITY], ..proto(D::Float, &[2]) };
    let expected = vec![f64::from(0.1f32), f64::NEG_INFINITY];
    assert_eq!(data(&float), Data::Float(expected));
    let double = TensorProto { double_data: vec![0.1], ..proto(D::Double, &[1]) };
    assert_eq!(data(&double), Data::Float(vec![0.1]));
    let int64 = TensorProto { int64_data: vec![i64::MIN, -1], ..proto(D::Int64, &[2]) };
    assert_eq!(data(&int64), Data::Int(vec![i64::MIN, -1]));
    for data_type in [D::Uint32, D::Uint64] {
        let unsigned = TensorProto { uint64_data: vec![u64::from(u32::MAX)], ..proto(data_type, &[1]) };
        assert_eq!(data(&unsigned), Data::Int(vec![u32::MAX.into()]));
    }
    let floats = [
        (D::Float16, 0xc100, Data::Float(vec![-2.5])),
        (D::Bfloat16, 0xc020, Data::Float(vec![-2.5])),
        (D::Bool, 1, Data::Bool(vec![true])),
        (D::Int8, -128, Data::Int(vec![-128])),
        (D::Uint8, 255, Data::Int(vec![255])),
        (D::Int16, -32768, Data::Int(vec![-32768])),
        (D::Uint16, 65535, Data::Int(vec![65535])),
        (D::Int32, i32::MIN, Data::Int(vec![i32::MIN.into()])),
    ];
    for (data_type, stored, expected) in floats {
        assert_eq!(data(&int32(data_type, &[stored])), expected);
    }
}

#[test]
fn scalars_and_empty_tensors() {
    let scalar = Tensor::from_proto(&raw(DataType::Int8, &[], &[3])).unwrap();
    assert_eq!((scalar.shape, scalar.data), (vec![], Data::Int(vec![3])), "no dimensions, one value");
    let empty = Tensor::from_proto(&proto(DataType::Float, &[2, 0, 3])).unwrap();
    assert_eq!(empty.shape, [2, 0, 3]);
    assert!(empty.data.is_empty());
    assert_eq!(
        message(&proto(DataType::Float, &[])),
        r#"tensor "w": `float_data` holds 0; expected 1 values for shape [] of FLOAT"#
    );
}

#[test]
fn values_outside_their_type_are_refused() {
    use DataType as D;
    for (data_type, stored) in [
        (D::Bool, 2),
        (D::Bool, -1),
        (D::Int8, 128),
        (D::Uint8, 256),
        (D::Int16, -32769),
        (D::Uint16, -1),
        (D::Float16, 65536),
        (D::Bfloat16, -1),
    ] {
        let error = Tensor::from_proto(&int32(data_type, &[0, stored])).unwrap_err();
        let TensorError::Value { index, found, .. } = error else {
            panic!("{data_type:?} {stored}: {error}");
        };
        assert_eq!((index, found), (1, stored.to_string()));
    }
    let wide = TensorProto { uint64_data: vec![1 << 32], ..proto(D::Uint32, &[1]) };
    assert!(message(&wide).contains("element 0 is 4294967296; UINT32 accepts 0 to 4294967295"));
    let above = u64::MAX / 2 + 1;
    let typed = TensorProto { uint64_data: vec![above], ..proto(D::Uint64, &[1]) };
    for proto in [typed, raw(D::Uint64, &[1], &above.to_le_bytes())] {
        assert!(message(&proto).contains("element 0 is 9223372036854775808"));
    }
    assert!(message(&raw(D::Bool, &[1], &[0xff])).contains("element 0 is 255; BOOL accepts 0 and"));
}

#[test]
fn hostile_shapes_are_refused_before_any_allocation() {
    let error = message(&raw(DataType::Float, &[2, -3], &[0; 24]));
    assert_eq!(error, r#"tensor "w": dimension 1 is -3; expected zero or more"#);
    for dims in [&[1 << 62][..], &[i64::MAX], &[1 << 40, 1 << 20]] {
        let error = message(&raw(DataType::Double, dims, &[0; 8]));
        assert!(error.contains("`raw_data` holds 8; expected"), "{error}");
    }
    for dims in [&[1 << 32, 1 << 32][..], &[i64::MAX, i64::MAX, 0]] {
        assert!(message(&proto(DataType::Float, dims)).contains("can be addressed"));
    }
    let error = message(&proto(DataType::Float, &[2; 1000]));
    assert!(
        error
            .ends_with("shape [2, 2, 2, 2, 2, 2, 2, 2] and 992 more has more elements than can be addressed")
    );
}

#[test]
fn data_in_a_foreign_field_or_in_two_is_refused() {
    let two = TensorProto { float_data: vec![1.0], ..raw(DataType::Float, &[1], &[0; 4]) };
    assert_eq!(
        message(&two),
        r#"tensor "w": data in `raw_data` and `float_data`; FLOAT accepts one of `raw_data` and `float_data`"#
    );
    let foreign = TensorProto { double_data: vec![1.0], ..proto(DataType::Float, &[1]) };
    assert!(message(&foreign).contains("data in `double_data`; FLOAT accepts"));
}

#[test]
fn other_types_are_refused_by_name() {
    for (number, name) in [
        (0, "UNDEFINED"),
        (8, "STRING"),
        (14, "COMPLEX64"),
        (22, "INT4"),
        (99, "number 99, which is not in the schema"),
        (-1, "number -1"),
    ] {
        let proto = TensorProto { data_type: Some(number), ..raw(DataType::Float, &[1], &[0; 8]) };
        let expected = format!(r#"tensor "w": element type {name}"#);
        assert!(message(&proto).starts_with(&expected), "{number}");
    }
    let no_type = TensorProto::default();
    assert!(message(&no_type).contains("UNDEFINED"));
}

#[test]
fn external_and_partial_tensors_are_refused() {
    let external =
        TensorProto { data_location: Some(DataLocation::External.into()), ..raw(DataType::Int8, &[1], &[1]) };
    assert!(message(&external).contains("external and not loaded"));
    let segment = TensorProto {
        segment: Some(super::super::proto::tensor_proto::Segment::default()),
        ..raw(DataType::Int8, &[1], &[1])
    };
    assert!(message(&segment).contains("segment"));
}

proptest! {
    #[test]
    fn a_tensor_has_as_many_values_as_its_shape(
        number in -1i32..30,
        dims in prop::collection::vec(-1i64..5, 0..4),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        ints in prop::collection::vec(-2i32..300, 0..8),
    ) {
        for (raw_data, int32_data) in [(Some(bytes), vec![]), (None, ints)] {
            let proto = TensorProto {
                data_type: Some(number),
                dims: dims.clone(),
                raw_data,
                int32_data,
                ..TensorProto::default()
            };
            if let Ok(tensor) = Tensor::from_proto(&proto) {
                prop_assert_eq!(tensor.data.len(), tensor.shape.iter().product::<usize>());
            }
        }
    }

    #[test]
    fn floats_keep_their_bits(values in prop::collection::vec(any::<f32>(), 0..20)) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = [i64::try_from(values.len()).unwrap()];
        let Data::Float(found) = data(&raw(DataType::Float, &dims, &bytes)) else {
            panic!("not floats");
        };
        let bits = |value: f64| value.to_bits();
        let expected: Vec<u64> = values.iter().map(|&value| bits(value.into())).collect();
        prop_assert_eq!(found.into_iter().map(bits).collect::<Vec<_>>(), expected);
    }
}
