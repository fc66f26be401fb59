//! `tightrope certify` with linear bounds and attacks, and `tightrope attack`.

mod common;

use serde_json::Value;
use tightrope::attack::class_of;
use tightrope::data::Dataset;
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};

use common::{models, records, refused, run, stdout};

const PGD: &str = "mnist-cnn-pgd0.1.onnx";
const PLAIN: &str = "mnist-cnn-plain.onnx";

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&run(&[arguments, &["--json"]].concat()))).expect("one JSON object")
}

#[test]
fn every_method_has_its_column_and_proves_no_less_than_intervals() {
    let methods = ["ibp", "crown-ibp", "crown", "alpha-crown", "best"];
    let asked = methods.join(",");
    let arguments = ["certify", PGD, "--eps", "0.02", "--indices", "0..4", "--method", &asked];
    let text = stdout(&run(&arguments));
    for method in methods {
        assert!(text.contains(&format!("| {method} ")) || text.contains(&format!(" {method} |")), "{text}");
    }
    let summary = json(&arguments);
    let results = summary["results"].as_array().expect("results");
    let certified = |i: usize| results[i]["certified"].as_u64().expect("a count");
    assert_eq!(results.len(), 5);
    for (i, method) in methods.iter().enumerate() {
        assert_eq!(results[i]["method"], *method);
        assert!(certified(i) >= certified(0), "{summary}");
        assert!(results[i]["attacked"].is_null());
    }
    assert_eq!((certified(0), certified(2), certified(3), certified(4)), (0, 4, 4, 4));
}

#[test]
fn counterexamples_lie_in_the_box_and_change_the_class() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run.jsonl");
    let kept = folder.path().join("found");
    let paths = [&out, &kept].map(|p| p.to_str().expect("UTF-8"));
    let attack = ["attack", PLAIN, "--eps", "0.1", "--indices", "0..6", "--attack", "20x2"];
    let more = ["--out", paths[0], "--counterexamples", paths[1]];
    let summary = json(&[&attack[..], &more].concat());
    let (_, found) = records(&out);
    let survived = found.iter().filter(|r| r["status"] != "falsified").count();
    assert_eq!(summary["results"][0]["attacked"], survived);
    assert!(survived < 6, "a plain network does not withstand eps .1");

    let graph = load(models().join(PLAIN), &LoadOptions::default()).expect("a shipped network");
    let plan = Plan::new(&graph);
    let images = models().join("data/mnist-test-1000-images.idx.gz");
    let data = Dataset::open(&images, None, None).expect("images");
    let arrangement = data.arrange(&graph.input_shape).expect("fits");
    for record in found.iter().filter(|r| r["status"] == "falsified") {
        assert!(record["attack_margin"].as_f64().expect("a margin") <= 0.0);
        assert!(record["margin_lower"].as_array().expect("no bounds").is_empty());
        let index = record["index"].as_u64().expect("an index") as usize;
        let file = record["counterexample"].as_str().expect("a file");
        let point = Dataset::open(file.as_ref(), None, None).expect("an array");
        let point = point.image(0, &point.arrange(&graph.input_shape).expect("fits")).expect("one image");
        let image = data.image(index, &arrangement).expect("an image");
        for (z, x) in point.iter().zip(&image) {
            assert!((f64::from(*z) - f64::from(*x)).abs() <= 0.1 && (0.0..=1.0).contains(z));
        }
        let logits = plan.run(ndarray::ArrayView2::from_shape((1, 784), &point).expect("one row"));
        assert_ne!(class_of(&logits.row(0).to_vec()), record["label"].as_u64().map(|l| l as usize));
    }
    // The same search beside bounds, and resumed.
    let certify = ["certify", PLAIN, "--eps", "0.1", "--indices", "0..6", "--attack", "20x2"];
    let more = ["--method", "ibp,crown-ibp"];
    let both = folder.path().join("both.jsonl");
    let path = both.to_str().expect("UTF-8");
    stdout(&run(&[&certify[..], &more, &["--out", path]].concat()));
    let whole = records(&both).1;
    assert_eq!(whole.len(), 12);
    for record in &whole {
        let alone = &found[record["index"].as_u64().expect("an index") as usize];
        assert_eq!(
            (&record["attack_margin"], &record["status"]),
            (&alone["attack_margin"], &alone["status"])
        );
    }
    let text = std::fs::read_to_string(&both).expect("text");
    let cut = text.match_indices('\n').nth(6).expect("lines").0 + 20;
    std::fs::write(&both, &text[..cut]).expect("room");
    stdout(&run(&[&certify[..], &more, &["--out", path, "--resume"]].concat()));
    let sorted = |mut records: Vec<Value>| {
        records.sort_by_key(|r| (r["index"].as_u64(), r["method"].to_string()));
        records
    };
    assert_eq!(sorted(records(&both).1), sorted(whole));
}

#[test]
fn radii_are_bracketed() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run.jsonl");
    let path = out.to_str().expect("UTF-8");
    let arguments = ["certify", "mnist-cnn-ibp0.1.onnx", "--radius", "--eps", "0.4", "--indices", "0..5"];
    let summary = json(&[&arguments[..], &["--attack", "20x2", "--out", path]].concat());
    let (header, found) = records(&out);
    assert_eq!((&header["run"]["radius"], found.len()), (&Value::from(0.4), 5));
    for record in &found {
        let certified = record["certified_eps"].as_f64().expect("a radius");
        let attacked = record["attacked_eps"].as_f64().expect("the attack succeeds at .4");
        assert!(0.05 < certified && certified < attacked && attacked <= 0.4, "{record}");
    }
    assert!(summary["mean_certified_eps"].as_f64() < summary["mean_attacked_eps"].as_f64());
    assert_eq!(summary["attacked"], 5);
    // Where no attack succeeds, the limit bounds the mean from below.
    let arguments = ["certify", "mnist-cnn-ibp0.1.onnx", "--radius", "--eps", "0.01", "--indices", "0..2"];
    let text = stdout(&run(&[&arguments[..], &["--attack", "5x1"]].concat()));
    assert!(text.contains(">= 0.0100"), "{text}");
}

#[test]
fn balls_of_other_norms_are_certified() {
    let of = |norm: &str, eps: &str| {
        let arguments =
            ["certify", PGD, "--indices", "0..4", "--method", "crown", "--norm", norm, "--eps", eps];
        json(&arguments)["results"][0]["certified"].as_u64().expect("a count")
    };
    assert_eq!((of("l2", "0.2"), of("l1", "0.3")), (4, 4));
    assert_eq!(of("l2", "30"), 0);
}

#[test]
fn wrong_options_are_named() {
    let has = |arguments: &[&str], part: &str| {
        let text = refused(&[&["certify", PGD, "--indices", "0..1"], arguments].concat(), 2);
        assert!(text.contains(part), "`{part}` is not in: {text}");
    };
    has(&["--attack", "0x1"], "40x5");
    has(&["--attack", "10"], "40x5");
    has(&["--method", "crown2"], "alpha-crown");
    has(&["--norm", "l3"], "linf");
    has(&["--radius", "--method", "ibp,crown"], "--radius");
    has(&["--eps", "0.1,1/10"], "give each once");
    has(&["--method", "crown,crown"], "crown twice");
    has(&["--counterexamples", "found"], "--attack");
    has(&["--counterexamples", "found", "--radius", "--attack", "5x1"], "--radius");
    let clipped = refused(&["attack", PGD, "--indices", "0..1", "--clip", "0.5,1"], 2);
    assert!(clipped.contains("clip"), "{clipped}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("room");
    let path = file.to_str().expect("UTF-8");
    let text = refused(&["attack", PGD, "--indices", "0..1", "--counterexamples", path], 1);
    assert!(text.contains(path), "{text}");
}
