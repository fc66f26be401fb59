//! `tightrope lipschitz` and `tightrope smooth --lipschitz` as a user runs them.

mod common;

use serde_json::Value;

use common::{records, refused, run, stdout};

const MLP: &str = "mnist-mlp-noise25.onnx";

#[test]
fn tables_and_json_agree() {
    let text = stdout(&run(&["lipschitz", MLP, "mnist-cnn-plain.onnx"]));
    assert!(text.contains("mnist-mlp-noise25\n") && text.contains("mnist-cnn-plain\n"), "{text}");
    assert_eq!(text.matches("an upper bound").count(), 2, "{text}");
    let json = stdout(&run(&["lipschitz", MLP, "--json"]));
    let object: Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!(object["model"], MLP);
    let total = object["total"].as_f64().expect("a constant");
    let product: f64 = ["/1/Gemm", "/3/Gemm", "/5/Gemm"]
        .iter()
        .map(|name| {
            let nodes = object["nodes"].as_array().expect("nodes");
            let node = nodes.iter().find(|n| n["name"] == *name).expect("the node");
            let norm = node["norm"].as_f64().expect("a norm");
            let shown = text.lines().find(|l| l.contains(name)).expect("a row");
            let printed: f64 = shown.split('|').nth(4).expect("a column").trim().parse().expect("a number");
            assert!(printed >= norm && printed - norm <= 1.001e-4, "{printed} for {norm}");
            norm
        })
        .product();
    assert!((total / product - 1.0).abs() < 1e-12);
    // Twice the contrast: half the deviation of the normalisation.
    let json = stdout(&run(&["lipschitz", MLP, "--json", "--mean", "0.5", "--std", "0.5"]));
    let scaled: Value = serde_json::from_str(&json).expect("one JSON object");
    assert!((scaled["total"].as_f64().expect("a constant") / (2.0 * total) - 1.0).abs() < 1e-9);
}

#[test]
fn smoothing_uses_a_constant_and_pays_little_for_rounding() {
    let folder = tempfile::tempdir().expect("a folder");
    let smooth = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let out = path.to_str().expect("UTF-8");
        let arguments =
            [&["smooth", MLP, "-n", "400", "--indices", "3..6", "--out", out, "--lipschitz"], more].concat();
        stdout(&run(&arguments));
        records(&path)
    };
    let (header, own) = smooth("own", &["2.5", "--map", "softmax:1"]);
    assert_eq!(header["run"]["lipschitz"], 2.5);
    let (header, bound) = smooth("bound", &["auto", "--map", "softmax:1"]);
    assert_eq!(header["run"]["lipschitz"], "auto");
    let (_, lattice) = smooth("lattice", &["2.5", "--map", "softmax:1", "--noise", "lattice"]);
    for ((own, bound), lattice) in own.iter().zip(&bound).zip(&lattice) {
        let rule = |record: &Value, key: &str| {
            let aware = &record["outcome"]["candidate"]["rule"]["aware"];
            aware[key].as_f64().unwrap_or_else(|| panic!("{key} in {record}"))
        };
        assert_eq!(rule(own, "logits"), 2.5);
        assert!((rule(bound, "logits") - 83.973).abs() < 1e-3);
        // The charge is of the evaluation, whoever vouches for the constant; it
        // differs from input to input.
        assert_eq!(rule(own, "evaluation_error"), rule(bound, "evaluation_error"));
        assert!(rule(own, "evaluation_error") > 1e-7 && rule(own, "evaluation_error") < 1e-3, "{own}");
        // Rounding to the grid moves 784 entries by 1/510.
        let moved = rule(lattice, "evaluation_error") - rule(own, "evaluation_error");
        assert!(moved > 2.5 * 28.0 / 510.0 && moved < 2.5 * 28.0 / 510.0 + 0.01, "{moved}");
        assert!(own["radius"].as_f64() >= bound["radius"].as_f64());
    }
    let candidate = |record: &Value| record["outcome"]["candidate"].clone();
    assert_ne!(candidate(&own[0]), candidate(&own[1]));
    // A constant never costs radius.
    let path = folder.path().join("plain");
    let out = path.to_str().expect("UTF-8");
    stdout(&run(&["smooth", MLP, "-n", "400", "--indices", "3..6", "--out", out, "--map", "softmax:1"]));
    for (own, plain) in own.iter().zip(&records(&path).1) {
        assert!(own["radius"].as_f64() >= plain["radius"].as_f64(), "{own} {plain}");
    }
    let (_, all) = smooth("auto", &["auto"]);
    assert_eq!(all.len(), 3);
    assert_eq!(smooth("part", &["auto", "--skip", "2"]).1, [all[0].clone(), all[2].clone()]);
}

#[test]
fn margins_certify_balls_by_the_constant() {
    let folder = tempfile::tempdir().expect("a folder");
    let certify = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let out = path.to_str().expect("UTF-8");
        let arguments = [
            &["certify", MLP, "--norm", "l2", "--evaluation", "real", "--indices", "0..20", "--out", out],
            more,
        ]
        .concat();
        stdout(&run(&arguments));
        records(&path).1
    };
    let radii = certify("radii", &["--method", "lipschitz", "--radius", "--eps", "5"]);
    let at = certify("at", &["--method", "lipschitz,best", "--eps", "0.12"]);
    let mut certified = 0;
    for radius in &radii {
        let of = |method: &str| {
            let same = |r: &&Value| r["index"] == radius["index"] && r["method"] == method;
            at.iter().find(same).unwrap_or_else(|| panic!("{method} for {radius}"))
        };
        let proved = radius["certified_eps"].as_f64().expect("a radius") >= 0.12;
        certified += usize::from(proved);
        assert_eq!(of("lipschitz")["certified"], proved, "{radius}");
        assert!(!proved || of("best")["certified"] == true);
        assert!(!proved || ["ibp", "lipschitz"].iter().any(|&m| of("best")["bounded_by"] == m));
    }
    assert!(certified > 0 && certified < radii.len(), "{certified}");
    // Constants are of the network in real arithmetic.
    let text = refused(&["certify", MLP, "--norm", "l2", "--eps", "1", "--method", "lipschitz"], 2);
    assert!(text.contains("--evaluation real"), "{text}");
}

#[test]
fn wrong_options_are_named_with_what_is_accepted() {
    assert!(refused(&["lipschitz"], 2).contains("MODEL"));
    assert!(refused(&["lipschitz", MLP, "--mean", "1"], 2).contains("--std"));
    assert!(refused(&["lipschitz", MLP, "--mean", "1,2,3", "--std", "1,2,3"], 2).contains("channel"));
    let smooth = |more: &[&str]| {
        refused(&[&["smooth", MLP, "--indices", "0..1", "-n", "100", "--lipschitz"], more].concat(), 2)
    };
    for wrong in ["-1", "0", "nan", "inf", "none"] {
        assert!(smooth(&[wrong]).contains("give auto, or a number"), "{wrong}");
    }
    assert!(smooth(&["auto", "--noise", "laplace"]).contains("accepted: gaussian,"));
    assert!(smooth(&["auto", "--map", "hardmax"]).contains("softmax or sparsemax"));
}
