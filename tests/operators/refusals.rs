//! What is not supported ends at load in an error that names the place, what
//! was found, and what is accepted.

use ndarray::ArrayD;
use prost::Message as _;
use tightrope::onnx::proto::tensor_proto::{DataLocation, DataType};
use tightrope::onnx::proto::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, type_proto};
use tightrope::onnx::{LoadOptions, load_bytes};

use super::model::{floats, ints, model, node, value};

/// Constants for the nodes below.
fn constants() -> Vec<TensorProto> {
    let truth = TensorProto {
        name: Some("true".into()),
        data_type: Some(DataType::Bool.into()),
        int32_data: vec![1],
        ..TensorProto::default()
    };
    vec![
        truth,
        floats("zero", &[], &[0.0]),
        floats("two", &[], &[2.0]),
        floats("nan", &[], &[f32::NAN]),
        floats("low", &[], &[f32::NEG_INFINITY]),
        floats("nans", &[4, 1], &[f32::NAN; 4]),
        floats("matrix", &[1, 1], &[1.0]),
        floats("column", &[3, 1], &[1.0, 2.0, 3.0]),
        floats("exponents", &[2, 1], &[2.0, 3.0]),
        floats("three", &[3], &[1.0, 2.0, 3.0]),
        floats("statistics", &[2], &[1.0, 2.0]),
        floats("kernel", &[1, 2, 1, 1], &[1.0, 2.0]),
        floats("kernels", &[2, 1, 1, 1], &[1.0, 2.0]),
        floats("deep", &[1, 3, 1, 1], &[1.0, 2.0, 3.0]),
        floats("cube", &[1, 1, 1, 1, 1], &[1.0]),
        floats("scales", &[4], &[1.0, 1.0, 2.0, 0.1]),
        floats("none", &[0], &[]),
        ints("sizes", &[1, 2, 7, 7]),
        ints("same", &[1, 2, 5, 5]),
        ints("huge", &[1 << 20, 1 << 20, 4]),
        ints("thirds", &[3, -1]),
        ints("pads", &[0, 1, 0, 1]),
        ints("cuts", &[0, -3, 0, -2]),
        ints("parts", &[1, 2]),
        ints("zeros", &[0, 0]),
        ints("i0", &[0]),
        ints("i1", &[1]),
        ints("i4", &[4]),
    ]
}

/// Complains of models that load, or whose error lacks one of the texts.
fn refused<'a>(table: impl Iterator<Item = (String, ModelProto, Vec<&'a str>)>) {
    let mut failures = Vec::new();
    for (name, model, texts) in table {
        match load_bytes(&model.encode_to_vec(), &LoadOptions::default()) {
            Ok(_) => failures.push(format!("{name}: loads")),
            Err(error) => {
                let error = error.to_string();
                let lacking: Vec<_> = texts.iter().filter(|text| !error.contains(**text)).collect();
                if !lacking.is_empty() {
                    failures.push(format!("{name}: {lacking:?} not in: {error}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} refusals fail:\n{}", failures.len(), failures.join("\n"));
}

/// Single nodes on an input of this shape; the error must name node and operator.
fn refused_nodes(dims: &[i64], table: &[(&str, &[&str])]) {
    refused(table.iter().map(|&(words, texts)| {
        let node = node(words);
        let operator = words.split(' ').next().expect("an operator");
        let texts = [&["the node", operator], texts].concat();
        (words.to_owned(), model(dims, vec![node], constants()), texts)
    }));
}

const VECTOR: &[i64] = &[1, 4];
const IMAGE: &[i64] = &[1, 2, 5, 5];

#[test]
fn operators_that_are_not_supported() {
    refused_nodes(
        VECTOR,
        &[
            ("Mod x two", &["not continuous"]),
            ("Not x", &["truth values"]),
            ("And x x", &["truth values"]),
            ("Cast x to=2", &["INT32 or INT64"]),
            ("DynamicQuantizeLinear x", &["its scale depends on the input"]),
            ("Cast x to=8", &["accepted: floating-point"]),
            ("Frobnicate x", &["not supported", "unknown"]),
            ("ArgMax x", &["not supported"]),
            ("If x", &["input 0", "must be a constant"]),
            ("If true", &["then_branch", "a graph without inputs"]),
            ("If two", &["input 0", "truth values"]),
            ("Loop x", &["not supported", "control flow"]),
        ],
    );
    let custom = NodeProto { domain: Some("com.example".into()), ..node("Relu x") };
    let texts = vec!["the node", "Relu", "standard ONNX domain"];
    refused([("custom domain".to_owned(), model(VECTOR, vec![custom], vec![]), texts)].into_iter());
}

#[test]
fn operands_that_depend_on_the_input_or_do_not() {
    refused_nodes(
        IMAGE,
        &[
            ("Max", &["input 0 is missing"]),
            ("Add", &["input 0 is missing"]),
            ("Max i1", &["input 0", "floating-point"]),
            ("Relu _ two", &["input 0 is missing"]),
            ("Conv x x", &["input 1", "must be a constant"]),
            ("Conv x kernel x", &["input 2", "must be a constant"]),
            ("ConvTranspose x x", &["input 1", "must be a constant"]),
            ("BatchNormalization x x x x x", &["input 1", "must be a constant"]),
            ("PRelu x x", &["input 1", "must be a constant"]),
            ("Clip x x", &["input 1", "must be a constant"]),
            ("Clip x _ x", &["input 2", "must be a constant"]),
            ("Pow two x", &["input 1", "must be a constant"]),
            ("Where x x x", &["input 0", "truth values"]),
            ("Reshape x x", &["input 1", "must be a constant"]),
            ("Gather x x", &["input 1", "must be a constant"]),
            ("Gemm matrix matrix x", &["input 0", "must be an activation"]),
        ],
    );
}

#[test]
fn attention_that_is_not_supported() {
    refused_nodes(
        &[1, 3, 4],
        &[
            ("Attention x x x q_num_heads=3 kv_num_heads=2", &["q_num_heads", "divisor"]),
            ("Attention x x x kv_num_heads=2", &["q_num_heads is 0", "divisor"]),
            ("Attention x x x _ x x q_num_heads=2 kv_num_heads=2", &["past_key is given", "whole sequences"]),
            ("Attention x x x _ _ _ i1 q_num_heads=2 kv_num_heads=2", &["nonpad_kv_seqlen is given"]),
            ("Attention x x x i1 q_num_heads=2 kv_num_heads=2", &["input 3", "truth values or floating"]),
            ("Attention x x x low q_num_heads=2 kv_num_heads=2", &["minus infinity for all scores"]),
            ("Attention x x x nan q_num_heads=2 kv_num_heads=2", &["not a number"]),
            ("Attention x x x q_num_heads=1 kv_num_heads=2", &["queries, keys and values that fit"]),
            ("Attention x x x q_num_heads=2 kv_num_heads=2 scale=-0.5", &["scale", "above zero"]),
            ("Attention x x x q_num_heads=2 kv_num_heads=2 softcap=-1.0", &["softcap", "not negative"]),
            ("Attention x x x q_num_heads=2 kv_num_heads=2 -> a b c y", &["4 outputs", "accepted: 3"]),
        ],
    );
}

#[test]
fn attributes_and_constants() {
    refused_nodes(
        VECTOR,
        &[
            ("Div x zero", &["divisor is 0", "accepted"]),
            ("Add x low", &["infinite", "accepted: finite"]),
            ("Where true low x", &["infinite", "accepted: finite"]),
            ("MatMul x nans", &["not a number", "accepted: finite"]),
            ("Max x nan", &["NaN", "accepted"]),
            ("Clip x nan", &["NaN", "accepted"]),
            ("Pow x exponents", &["one finite value"]),
            ("LeakyRelu x alpha=inf", &["alpha", "finite"]),
            ("LeakyRelu x alpha=1", &["alpha", "INT", "expected FLOAT"]),
            ("Shrink x lambd=nan", &["lambd", "finite"]),
            ("ThresholdedRelu x alpha=inf", &["alpha", "finite"]),
            ("LpNormalization x p=3", &["p is 3", "1 or 2"]),
            ("ReverseSequence x i1 batch_axis=0 time_axis=0", &["a length that fits"]),
            ("Gelu x approximate=fast", &["fast", "none or tanh"]),
            ("Softmax x axis=2", &["axis is 2", "accepted: an axis"]),
            ("Transpose x perm=0,0", &["perm", "every axis once"]),
            ("Pad x pads mode=symmetric", &["symmetric", "reflect"]),
            ("Pad x pads x", &["input 2", "must be a constant"]),
            ("Pad x cuts", &["pads", "leave something"]),
            ("Slice x i0 i4 i1 i0", &["step", "another integer"]),
            ("Gather x i4 axis=1", &["4 on an axis of 4", "accepted"]),
            ("Expand x huge", &["entries"]),
            ("Dropout x _ true", &["training_mode", "inference"]),
            ("Dropout x -> d y", &["2 outputs", "accepted: 1"]),
        ],
    );
    refused_nodes(
        IMAGE,
        &[
            (
                "BatchNormalization x statistics statistics statistics statistics training_mode=1",
                &["inference"],
            ),
            ("MaxPool x kernel_shape=2,2 -> p y", &["2 outputs", "accepted: 1"]),
            ("MaxPool x kernel_shape=2,2 auto_pad=SAME", &["auto_pad is SAME", "SAME_UPPER"]),
            ("MaxPool x kernel_shape=2,2 strides=1,", &["strides", "accepted"]),
            ("MaxPool x kernel_shape=2,2 strides=0,1", &["strides", "accepted"]),
            ("MaxPool x", &["kernel", "accepted"]),
            ("MaxPool x kernel_shape=1,1 strides=1,5 auto_pad=SAME_UPPER", &["auto_pad", "explicit pads"]),
            (
                "AveragePool x kernel_shape=2,2 dilations=2,2 auto_pad=SAME_LOWER",
                &["dilations", "explicit pads"],
            ),
            ("ConvTranspose x kernels strides=3,3 auto_pad=SAME_UPPER", &["15", "kernels reach 13"]),
            ("ConvTranspose x kernels strides=2,2 output_shape=11,11", &["11", "kernels reach 9"]),
            ("Resize x _ _ sizes mode=cubic", &["cubic", "accepted: nearest or linear"]),
            (
                "Resize x _ _ sizes coordinate_transformation_mode=tf_crop_and_resize",
                &["tf_crop", "half_pixel"],
            ),
            (
                "Resize x _ _ same coordinate_transformation_mode=tf_crop_and_resize",
                &["tf_crop", "half_pixel"],
            ),
            ("Resize x _ _ sizes nearest_mode=simple", &["simple", "round_prefer_floor"]),
            ("Resize x _ _ sizes keep_aspect_ratio_policy=crop", &["crop", "not_larger"]),
            ("Resize x _ scales", &["0.1", "that leave something"]),
        ],
    );
    let text = TensorProto {
        data_type: Some(DataType::String.into()),
        string_data: vec![b"a".to_vec()],
        ..TensorProto::default()
    };
    let mut constant = node("Constant value=0,");
    constant.attribute[0].ints.clear();
    constant.attribute[0].r#type = Some(4);
    constant.attribute[0].t = Some(Box::new(text));
    let old = node("BatchNormalization x statistics statistics statistics statistics -> y a b c d");
    let models = [
        ("a constant of text", model(VECTOR, vec![constant], vec![]), vec!["the node", "STRING", "accepted"]),
        (
            "statistics at opset 8",
            with_opset(model(IMAGE, vec![old], constants()), 8),
            vec!["the node", "training", "inference"],
        ),
    ];
    refused(models.into_iter().map(|(name, model, texts)| (name.to_owned(), model, texts)));
}

#[test]
fn shapes_that_do_not_fit() {
    refused_nodes(
        VECTOR,
        &[
            ("MatMul x column", &["[1, 4] and [3, 1]", "common inner dimension"]),
            ("Gemm x column", &["[1, 4] and [3, 1]", "common inner dimension"]),
            ("Add x three", &["[1, 4] and [3]", "broadcast"]),
            ("Conv x deep", &["[1, 4] and [1, 3, 1, 1]", "accepted: N x C x image"]),
            ("Reshape x thirds", &["[1, 4] to [3, -1]", "same number of entries"]),
            ("Squeeze x i1", &["[1, 4]", "axes of length 1"]),
            ("Unsqueeze x zeros", &["[0, 0]", "distinct axes"]),
            ("Concat x column axis=1", &["[1, 4] and [3, 1]", "agree"]),
            ("Split x parts axis=1 -> y z", &["[1, 2] of an axis of 4", "summing"]),
            ("Relu", &["input 0 is missing"]),
            ("Relu z", &["`z`", "computed by an earlier node"]),
        ],
    );
    refused_nodes(
        IMAGE,
        &[
            ("Conv x deep", &["[1, 2, 5, 5] and [1, 3, 1, 1]", "accepted: N x C x image"]),
            ("MaxPool x kernel_shape=6,6", &["[6, 6]", "fits the padded image"]),
        ],
    );
    refused_nodes(
        &[1, 1, 2, 2, 2],
        &[
            ("MaxPool x kernel_shape=1,1,1", &["spatial axes is 3", "accepted: 1 or 2"]),
            ("Conv x cube auto_pad=SAME_UPPER", &["auto_pad", "explicit pads"]),
            ("Conv x cube strides=0,1,1", &["strides", "accepted"]),
        ],
    );
}

fn with_opset(mut model: ModelProto, opset: i64) -> ModelProto {
    model.opset_import[0].version = Some(opset);
    model
}

/// A model that would load, with something about it changed.
fn but(change: impl FnOnce(&mut GraphProto)) -> ModelProto {
    let mut model = model(VECTOR, vec![node("Relu x")], vec![]);
    change(model.graph.as_mut().expect("a graph"));
    model
}

#[test]
fn models_of_another_form() {
    let mut no_opset = but(|_| {});
    no_opset.opset_import.clear();
    let external =
        TensorProto { data_location: Some(DataLocation::External.into()), ..floats("w", &[4], &[]) };
    let integers = |graph: &mut GraphProto| {
        let kind = graph.input[0].r#type.as_mut().and_then(|t| t.value.as_mut());
        let Some(type_proto::Value::TensorType(tensor)) = kind else { unreachable!("inputs are tensors") };
        tensor.elem_type = Some(DataType::Int64.into());
    };
    let computed_twice = vec![node("Relu x"), node("Neg x")];
    let table: Vec<(&str, ModelProto, &[&str])> = vec![
        ("opset 6", with_opset(but(|_| {}), 6), &["operator set 6", "7 to 24"]),
        ("opset 99", with_opset(but(|_| {}), 99), &["operator set 99", "7 to 24"]),
        ("no opset", no_opset, &["no operator set", "expected at least one"]),
        ("two inputs", but(|g| g.input.push(value("z", VECTOR))), &["`x`, `z`", "exactly one input"]),
        ("two outputs", but(|g| g.output.push(value("x", VECTOR))), &["`y`, `x`", "one output with numbers"]),
        ("no input", but(|g| g.input.clear()), &["exactly one input"]),
        (
            "sparse initializer",
            but(|g| g.sparse_initializer.push(SparseTensorProto::default())),
            &["sparse initializers", "accepted: dense"],
        ),
        ("integers", but(integers), &["`x`", "INT64", "accepted: floating-point"]),
        ("no type", but(|g| g.input[0].r#type = None), &["`x`", "accepted: a tensor"]),
        (
            "open axes",
            model(&[0, 3, 0, 0], vec![node("Relu x")], vec![]),
            &["`x` has shape [?, 3, ?, ?]", "--input-shape"],
        ),
        ("external data", but(|g| g.initializer.push(external)), &["\"w\"", "external"]),
        (
            "output not computed",
            but(|g| g.output = vec![value("z", VECTOR)]),
            &["`z`", "computed from the input"],
        ),
        (
            "constant output",
            model(VECTOR, vec![node("Relu two")], constants()),
            &["`y`", "computed from the input"],
        ),
        ("computed twice", model(VECTOR, computed_twice, vec![]), &["`y`", "already defined"]),
    ];
    refused(table.into_iter().map(|(name, model, texts)| (name.to_owned(), model, texts.to_vec())));
}

#[test]
fn quantisations_and_sequences() {
    refused_nodes(
        VECTOR,
        &[
            ("QuantizeLinear x none", &["a zero point for each scale"]),
            ("QuantizeLinear x zero", &["a scale", "above zero"]),
            ("QuantizeLinear x two i0", &["the type to quantise to", "INT64"]),
            // As many rows as columns do not say whose scales they are.
            ("QLinearMatMul x scales _ i4 two _ two _", &["the number of scales", "accepted: one"]),
            ("MatMulInteger x i4 none", &["integers"]),
        ],
    );
    refused_nodes(&[5000, 1, 1], &[("RNN x cube cube hidden_size=1", &["the number of steps", "4096"])]);
}

#[test]
fn labels_that_go_around_in_a_circle() {
    let mut circle = model(VECTOR, vec![node("Cast a to=7 -> y"), node("Cast y to=1 -> a")], vec![]);
    circle.graph.as_mut().expect("a graph").output[0].r#type = None;
    refused([("a circle".to_owned(), circle, vec!["an earlier node"])].into_iter());
}

#[test]
fn values_of_inputs_that_are_fixed() {
    let mut two = model(VECTOR, vec![node("Add x z")], vec![]);
    two.graph.as_mut().expect("a graph").input.push(value("z", VECTOR));
    let bytes = two.encode_to_vec();
    let load = |name: &str, shape: &[usize]| {
        let fixed = [(name.to_owned(), ArrayD::from_elem(shape.to_vec(), 0.5))].into();
        load_bytes(&bytes, &LoadOptions { fixed, ..LoadOptions::default() })
            .map_err(|error| error.to_string())
    };
    assert_eq!(load("z", &[1, 4]).expect("values that fit").input_name, "x");
    for (name, shape, text) in [
        ("z", &[4][..], "values of shape [4] for the input `z`"),
        ("z", &[1, 1], "values of shape [1, 1]"),
        ("w", &[1, 4], "no input `w` but `x`, `z`"),
    ] {
        let error = load(name, shape).expect_err("values that do not fit");
        assert!(error.contains(text) && error.contains("accepted"), "{error}");
    }
    let mut truth = two.clone();
    let input = &mut truth.graph.as_mut().expect("a graph").input[1];
    let kind = input.r#type.as_mut().and_then(|t| t.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = kind {
        tensor.elem_type = Some(DataType::Int64.into());
    }
    let fixed = [("z".to_owned(), ArrayD::from_elem(vec![1, 4], 0.5))].into();
    let error = load_bytes(&truth.encode_to_vec(), &LoadOptions { fixed, ..LoadOptions::default() });
    let error = error.expect_err("a half is no integer").to_string();
    assert!(error.contains("the value 0.5 for the input `z` of INT64"), "{error}");
}

#[test]
fn a_shape_that_the_model_does_not_take() {
    let bytes = model(&[0, 3, 0, 0], vec![node("Relu x")], vec![]).encode_to_vec();
    let load = |shape: &[usize]| {
        load_bytes(&bytes, &LoadOptions { input_shape: Some(shape.to_vec()), ..LoadOptions::default() })
            .map_err(|error| error.to_string())
    };
    assert_eq!(load(&[1, 3, 4, 5]).expect("a shape that fits").input_shape, [1, 3, 4, 5]);
    for shape in [&[1, 4, 4, 4][..], &[1, 3, 4], &[1, 3, 0, 4]] {
        let error = load(shape).expect_err("a shape that does not fit");
        assert!(error.contains(&format!("{shape:?}")) && error.contains("agrees"), "{error}");
    }
}
