//! In which arithmetic the network is evaluated that a proof speaks of, from the command line.

mod common;

use std::path::Path;

use serde_json::Value;
use tightrope::ops::{Affine, Op, Periodic, Weights};
use tightrope::tightness::generate::{Init, dense_chain};

use common::{records, refused, run, stdout};

const IBP: &str = "mnist-cnn-ibp0.1.onnx";

/// `relu(x + 1e8) - 1e8` against 1/2: for x around 5 true in real arithmetic, and false in f32 at 3.
fn trap(path: &Path) {
    let mut graph = dense_chain(&[2, 2, 2], true, Init::KaimingUniform, 0);
    let layers = [([1.0, 0.0, 0.0, 0.0], [1e8, 0.0]), ([1.0, 0.0, 0.0, 1.0], [-1e8, 0.5])];
    let dense = graph.nodes.iter_mut().filter_map(|node| match &mut node.op {
        Op::Affine(Affine::Dense(dense)) => Some(dense),
        _ => None,
    });
    for (dense, (weight, bias)) in dense.zip(layers) {
        dense.weight = Weights::new(weight.to_vec());
        dense.bias = Some(Periodic::new(Weights::new(bias.to_vec()), 1));
    }
    tightrope::onnx::save(&graph, path).expect("room");
}

#[test]
fn a_run_says_which_network_it_certifies() {
    let folder = tempfile::tempdir().expect("a folder");
    let certify = |evaluation: &str, more: &[&str]| {
        let path = folder.path().join(format!("{evaluation}.jsonl"));
        let out = path.to_str().expect("UTF-8");
        let arguments = ["certify", IBP, "--eps", "0.1", "--indices", "0..40", "--out", out];
        let arguments = [&arguments[..], &["--evaluation", evaluation], more].concat();
        stdout(&run(&arguments));
        (records(&path), arguments.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let ((real, reals), _) = certify("real", &["--method", "crown"]);
    let ((header, singles), arguments) = certify("float32", &["--method", "crown"]);
    assert_eq!(
        (&real["run"]["evaluation"], &header["run"]["evaluation"]),
        (&"real".into(), &"float32".into())
    );
    let mut certified = 0;
    for (real, single) in reals.iter().zip(&singles) {
        assert_eq!((&real["evaluation"], &single["evaluation"]), (&"real".into(), &"float32".into()));
        // What holds for all evaluations in f32 is proved with a little less room.
        assert!(single["certified"] == false || real["certified"] == true);
        certified += u32::from(single["certified"] == true);
        let margins = |record: &Value| {
            let margins = record["margin_lower"].as_array().expect("margins").clone();
            margins.iter().filter_map(Value::as_f64).collect::<Vec<_>>()
        };
        for (real, single) in margins(real).into_iter().zip(margins(single)) {
            assert!(single < real && single > real - 1e-2 * (1.0 + real.abs()), "{single} {real}");
        }
    }
    assert!(certified >= 36);
    let other: Vec<&str> =
        arguments.iter().map(|a| if a == "float32" { "real" } else { a }).chain(["--resume"]).collect();
    let text = refused(&other, 2);
    assert!(text.contains("evaluation") && text.contains("float32"), "{text}");
}

#[test]
fn the_types_of_a_property_choose_the_arithmetic() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let model = file("net.onnx");
    trap(Path::new(&model));
    let ask = |element: &str, more: &[&str]| -> Value {
        let property = file("p.vnnlib");
        let text = format!(
            "(vnnlib-version <2.0>)(declare-network f (declare-input X {element} [1,2])\
             (declare-output Y {element} [1,2]))\
             (assert (and (<= X[0,0] 7.0) (>= X[0,0] 3.0) (<= X[0,1] 2.0) (>= X[0,1] -2.0)))\
             (assert (<= Y[0,0] Y[0,1]))"
        );
        std::fs::write(&property, text).expect("room");
        let arguments = [&["verify", &model, &property, "--json", "--timeout", "20"], more].concat();
        serde_json::from_str(&stdout(&run(&arguments))).expect("JSON")
    };
    // At x = 3 the f32 network has the property; in real arithmetic nothing has.
    for (element, more, evaluation) in [
        ("real", &[][..], "real"),
        ("float32", &[], "float32"),
        ("float32", &["--real"], "real"),
        ("float32", &["--evaluation", "real"], "real"),
        ("real", &["--evaluation", "float32"], "float32"),
    ] {
        let found = ask(element, more);
        assert_eq!(found["evaluation"], evaluation);
        assert_eq!(
            found["verdict"],
            if evaluation == "real" { "unknown" } else { "sat" },
            "{element} {more:?}"
        );
    }
    let text = format!("{}", ask("real", &[])["reason"]);
    assert!(text.contains("the f32 network has the property at a point"), "{text}");
}
