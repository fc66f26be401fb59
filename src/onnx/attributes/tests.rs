use super::super::proto::TensorProto;
use super::super::proto::tensor_proto::DataType;
use super::super::tensor::Data;
use super::*;

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind.into()), ..AttributeProto::default() }
}

fn tensor(bytes: &[u8]) -> Box<TensorProto> {
    Box::new(TensorProto {
        data_type: Some(DataType::Int8.into()),
        raw_data: Some(bytes.to_vec()),
        ..TensorProto::default()
    })
}

fn node(attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        name: Some("c1".to_owned()),
        op_type: Some("Conv".to_owned()),
        attribute,
        ..NodeProto::default()
    }
}

fn one_of_each() -> NodeProto {
    use AttributeType as T;
    node(vec![
        AttributeProto { i: Some(-3), ..attribute("int", T::Int) },
        AttributeProto { f: Some(0.01), ..attribute("float", T::Float) },
        AttributeProto { ints: vec![1, -2], ..attribute("ints", T::Ints) },
        AttributeProto { floats: vec![0.01, 2.0], ..attribute("floats", T::Floats) },
        AttributeProto { s: Some(b"SAME_UPPER".to_vec()), ..attribute("string", T::String) },
        AttributeProto { t: Some(tensor(&[7])), ..attribute("tensor", T::Tensor) },
    ])
}

#[test]
fn each_type_is_read() {
    let node = one_of_each();
    let attributes = Attributes::new(&node);
    assert_eq!(attributes.int("int").unwrap(), Some(-3));
    let hundredth = 0.009_999_999_776_482_582;
    assert_eq!(attributes.float("float").unwrap(), Some(hundredth));
    assert_eq!(attributes.ints("ints").unwrap(), Some(&[1, -2][..]));
    let floats = attributes.floats("floats").unwrap();
    assert_eq!(floats, Some(vec![hundredth, 2.0]));
    assert_eq!(attributes.string("string").unwrap(), Some("SAME_UPPER"));
    let tensor = attributes.tensor("tensor").unwrap().unwrap();
    assert_eq!((tensor.shape, tensor.data), (vec![], Data::Int(vec![7])));
}

#[test]
fn an_absent_attribute_is_none() {
    let node = one_of_each();
    let attributes = Attributes::new(&node);
    assert_eq!(attributes.int("axis").unwrap(), None);
    assert_eq!(attributes.float("axis").unwrap(), None);
    assert_eq!(attributes.ints("axis").unwrap(), None);
    assert_eq!(attributes.floats("axis").unwrap(), None);
    assert_eq!(attributes.string("axis").unwrap(), None);
    assert_eq!(attributes.tensor("axis").unwrap(), None);
}

#[test]
fn another_type_is_an_error_that_names_both() {
    let node = one_of_each();
    let attributes = Attributes::new(&node);
    for name in ["int", "float", "ints", "floats", "string", "tensor"] {
        assert_eq!(attributes.int(name).is_ok(), name == "int");
        assert_eq!(attributes.float(name).is_ok(), name == "float");
        assert_eq!(attributes.ints(name).is_ok(), name == "ints");
        assert_eq!(attributes.floats(name).is_ok(), name == "floats");
        assert_eq!(attributes.string(name).is_ok(), name == "string");
        assert_eq!(attributes.tensor(name).is_ok(), name == "tensor");
    }
    assert_eq!(
        attributes.ints("float").unwrap_err().to_string(),
        r#"Conv node "c1": attribute "float" is of type FLOAT; expected INTS"#
    );
}

#[test]
fn a_zero_left_out_by_the_writer_is_zero() {
    use AttributeType as T;
    let node = node(vec![
        attribute("int", T::Int),
        attribute("float", T::Float),
        attribute("ints", T::Ints),
        attribute("string", T::String),
        attribute("tensor", T::Tensor),
    ]);
    let attributes = Attributes::new(&node);
    assert_eq!(attributes.int("int").unwrap(), Some(0));
    assert_eq!(attributes.float("float").unwrap(), Some(0.0));
    assert_eq!(attributes.ints("ints").unwrap(), Some(&[][..]));
    assert_eq!(attributes.string("string").unwrap(), Some(""));
    let error = attributes.tensor("tensor").unwrap_err().to_string();
    assert!(error.ends_with(r#""tensor" of type TENSOR holds nothing"#));
}

#[test]
fn an_undeclared_type_is_told_from_the_value() {
    let mut node = one_of_each();
    for attribute in &mut node.attribute {
        attribute.r#type = None;
    }
    let attributes = Attributes::new(&node);
    assert_eq!(attributes.int("int").unwrap(), Some(-3));
    assert_eq!(attributes.ints("ints").unwrap(), Some(&[1, -2][..]));
    let error = attributes.int("float").unwrap_err().to_string();
    assert!(error.contains("of type UNDEFINED with FLOAT; expected INT"));
}

#[test]
fn contradictions_are_errors() {
    use AttributeType as T;
    let contradictory = AttributeProto { floats: vec![1.0], ..attribute("axis", T::Int) };
    let spelled_out_zeros =
        AttributeProto { f: Some(0.0), s: Some(vec![]), i: Some(2), ..attribute("group", T::Int) };
    let unknown = AttributeProto { r#type: Some(77), ..attribute("k", T::Int) };
    let reference = AttributeProto { ref_attr_name: Some("p".to_owned()), ..attribute("r", T::Int) };
    let not_text = AttributeProto { s: Some(vec![0xff]), ..attribute("s", T::String) };
    let bad_tensor = AttributeProto { t: Some(tensor(&[1, 2])), ..attribute("t", T::Tensor) };
    let twice = attribute("twice", T::Int);
    let node = node(vec![
        contradictory,
        spelled_out_zeros,
        unknown,
        reference,
        not_text,
        bad_tensor,
        twice.clone(),
        twice,
    ]);
    let attributes = Attributes::new(&node);
    assert_eq!(attributes.int("group").unwrap(), Some(2));
    let message = |name| attributes.int(name).unwrap_err().to_string();
    assert!(message("axis").ends_with(r#""axis" of type INT holds FLOATS"#));
    assert!(message("k").contains("number 77"));
    assert!(message("r").contains(r#"function parameter "p""#));
    assert!(message("twice").contains("more than once"));
    let text = attributes.string("s").unwrap_err().to_string();
    assert!(text.contains("1 bytes that are not UTF-8"));
    let tensor = attributes.tensor("t").unwrap_err().to_string();
    assert!(tensor.contains(r#"attribute "t": tensor "": `raw_data` holds 2; expected 1 bytes"#));
}

#[test]
fn an_unnamed_node_is_described_by_its_output() {
    let mut node = one_of_each();
    node.name = None;
    node.output = vec!["y".to_owned()];
    let error = Attributes::new(&node).int("float").unwrap_err();
    assert!(error.to_string().starts_with(r#"Conv node with output "y": "#));
}
