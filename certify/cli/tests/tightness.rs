//! `tightrope tightness` as a user runs it.

mod common;

use serde_json::Value;

use common::{records, refused, run, stdout};

const IBP: &str = "mnist-cnn-ibp0.1.onnx";

#[test]
fn several_models_give_one_table() {
    let text = stdout(&run(&["tightness", "mnist-cnn-plain.onnx", IBP, "--indices", "0..40"]));
    let rows: Vec<&str> = text.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 4, "{text}");
    let cell = |row: usize, column: usize| rows[row].split('|').nth(column).expect("a cell").trim();
    assert_eq!((cell(2, 1), cell(2, 2), cell(2, 3)), ("mnist-cnn-plain", "0.1", "40"));
    let tightness = |row| cell(row, 4).parse::<f64>().expect("a number");
    assert!(tightness(2) < 0.1 && tightness(3) > 0.7, "{text}");
    assert!(text.contains("not a bound"), "{text}");
    let help = stdout(&run(&["tightness", "--help"]));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("diagnostic and not a bound"), "{help}");
}

#[test]
fn json_and_records_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let out = path("run.jsonl");
    let arguments = ["tightness", IBP, "--indices", "5..60", "--eps", "0.1", "--mask", "center", "--json"];
    let summary = |more: &[&str]| -> Value {
        serde_json::from_str(&stdout(&run(&[&arguments[..], more].concat()))).expect("one JSON object")
    };
    let one = summary(&["--out", &out, "--threads", "1"]);
    let (header, found) = records(folder.path().join("run.jsonl").as_path());
    assert_eq!(header["run"]["mask"], "center");
    assert_eq!((one["inputs"].as_u64(), found.len()), (Some(55), 55));
    let number = |v: &Value| v.as_f64().expect("a number");
    let mean = found.iter().map(|r| number(&r["tightness"])).sum::<f64>() / 55.0;
    assert!((number(&one["mean_tightness"]) - mean).abs() < 1e-12);
    assert!((0.0..=1.0).contains(&number(&one["ratio_of_means"])));
    for record in &found {
        let margins = record["per_margin"].as_array().expect("margins");
        assert_eq!(margins.len(), 10);
        assert!(margins[record["label"].as_u64().expect("a label") as usize].is_null());
        let mean = margins.iter().filter_map(Value::as_f64).sum::<f64>() / 9.0;
        assert!((mean - number(&record["tightness"])).abs() < 1e-12);
    }
    // The same inputs are certified as by `certify`.
    let certified = stdout(&run(&["certify", IBP, "--indices", "5..60", "--eps", "0.1", "--json"]));
    let certified: Value = serde_json::from_str(&certified).expect("JSON");
    assert_eq!(one["certified"], certified["results"][0]["certified"]);
    assert_eq!(one["correct"], certified["correct"]);

    // Cut off and continued on other threads: nothing changes.
    let text = std::fs::read_to_string(&out).expect("text");
    let cut = text.match_indices('\n').nth(40).expect("40 lines").0 + 9;
    std::fs::write(&out, &text[..cut]).expect("room");
    assert!(refused(&[&arguments[..], &["--out", &out]].concat(), 2).contains("--resume"));
    let again = summary(&["--out", &out, "--resume", "--threads", "2"]);
    assert_eq!(records(folder.path().join("run.jsonl").as_path()).1, found);
    assert_eq!(again["mean_tightness"], one["mean_tightness"]);
}

#[test]
fn layers_are_those_before_activations() {
    let arguments = ["tightness", "mnist-cnn-plain.onnx", "--indices", "0..1", "--layers"];
    let summary: Value =
        serde_json::from_str(&stdout(&run(&[&arguments[..], &["--json"]].concat()))).expect("JSON");
    let layers = summary["layers"].as_array().expect("layers");
    let tightness: Vec<f64> = layers.iter().map(|l| l["tightness"].as_f64().expect("a number")).collect();
    assert_eq!(tightness.len(), 3);
    assert!((tightness[0] - 1.0).abs() < 1e-12 && tightness[1] < 1.0 && tightness[2] < tightness[1]);
    assert!(stdout(&run(&arguments)).contains("before"));
}

#[test]
fn studies_print_and_draw() {
    let folder = tempfile::tempdir().expect("a folder");
    let svg = folder.path().join("width.svg");
    let path = svg.to_str().expect("UTF-8");
    let text = stdout(&run(&["tightness", "--study", "width", "--svg", path]));
    assert!(text.contains("closed form") && text.contains("1024"), "{text}");
    let figure = std::fs::read_to_string(&svg).expect("a figure");
    assert!(figure.starts_with("<svg") && figure.matches("<circle").count() == 22);
    let study = |more: &[&str]| -> Value {
        let arguments = [&["tightness", "--study", "embedding", "--json"], more].concat();
        serde_json::from_str(&stdout(&run(&arguments))).expect("JSON")
    };
    let one = study(&["--threads", "1"]);
    assert_eq!(one, study(&["--threads", "2"]));
    assert_ne!(one, study(&["--seed", "1"]));
    assert_eq!(one["series"][0]["points"].as_array().expect("points").len(), 19);
    let text = refused(&["tightness", "--study", "width", "--svg", "/nowhere/x.svg"], 1);
    assert!(text.contains("/nowhere/x.svg"), "{text}");
}

#[test]
fn wrong_usage_is_named() {
    let has = |arguments: &[&str], part: &str| {
        let text = refused(&[&["tightness"], arguments].concat(), 2);
        assert!(text.contains(part), "`{part}` is not in: {text}");
    };
    has(&[], "MODEL");
    has(&["missing.onnx"], "missing.onnx");
    has(&[IBP, "--study", "depth"], "--study");
    has(&[IBP, "--mask", "magic"], "identity");
    has(&[IBP, "--eps", "-1"], "eps");
    has(&[IBP, "--svg", "x.svg"], "--study");
    has(&[IBP, "mnist-cnn-plain.onnx", "--out", "x"], "--out");
    has(&[IBP, "--clip", "0.5,1"], "outside the clipping range");
}

#[test]
fn several_radii_are_one_table() {
    let text = stdout(&run(&["tightness", IBP, "--indices", "0..5", "--eps", "0.02,0.1"]));
    let rows: Vec<&str> = text.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 4, "{text}");
    assert!(rows[2].contains(" 0.02 |") && rows[3].contains(" 0.1 |"), "{text}");
    let text = refused(&["tightness", IBP, "--eps", "0.02,0.1", "--out", "/nowhere/x.jsonl"], 2);
    assert!(text.contains("2 radii"), "{text}");
}

#[test]
fn trained_networks_are_measured_and_drawn() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let folder = tempfile::tempdir().expect("a folder");
    let network = |name: &str, seed: u32, method: &str| {
        serde_json::json!({
            "onnx": models.join(name), "figures": ["by-width"], "method": method, "width": 1, "depth": 4,
            "seed": seed, "epoch": 8, "eps_train": 0.1, "adversarial": 0.5, "weight_norm": 3.0,
        })
    };
    let sweep = |y: &str| {
        let text = serde_json::json!({
            "eps": 0.1, "inputs": 6,
            "images": models.join("data/mnist-test-1000-images.idx.gz"),
            "labels": models.join("data/mnist-test-1000-labels.idx.gz"),
            "figures": [{"name": "by-width", "title": "T", "x": "width", "x_label": "width", "y": [y], "log_y": true}],
            "done": {
                "a": [network("mnist-cnn-ibp0.1.onnx", 0, "IBP"), network("mnist-cnn-ibp0.3.onnx", 1, "IBP")],
                "b": [network("mnist-cnn-plain.onnx", 0, "plain")],
            },
        });
        std::fs::write(folder.path().join("sweep.json"), text.to_string()).expect("room");
    };
    sweep("tightness");
    std::fs::write(folder.path().join("autoencoder.csv"), "rank,optimal,layerwise,error\n5,1,2,0.5\n")
        .expect("room");
    let path = folder.path().to_str().expect("UTF-8");
    let text = stdout(&run(&["tightness", "--study", "trained", path]));
    let table = std::fs::read_to_string(folder.path().join("trained.csv")).expect("a table");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0][7]), (4, "tightness"), "{table}");
    // The same as without a study.
    let one = stdout(&run(&["tightness", IBP, "--eps", "0.1", "--indices", "0..6", "--json"]));
    let one: Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!(rows[1][7].parse::<f64>().ok(), one["mean_tightness"].as_f64());
    assert_eq!(rows[1][14].parse::<f64>().ok(), one["certified_accuracy"].as_f64());
    let line = text.lines().find(|line| line.contains("| IBP")).expect("a line");
    assert_eq!(line.split('|').nth(3).map(str::trim), Some("2"), "two seeds: {text}");
    let figure = std::fs::read_to_string(folder.path().join("by-width.svg")).expect("a figure");
    assert!(figure.contains("IBP") && figure.contains("plain"));
    assert!(folder.path().join("autoencoder.svg").is_file() && text.contains("principal components"));

    sweep("beauty");
    assert!(refused(&["tightness", "--study", "trained", path], 2).contains("weight_norm"));
    assert!(refused(&["tightness", "--study", "trained"], 2).contains("folder"));
    assert!(refused(&["tightness", "--study", "trained", "/nowhere"], 2).contains("/nowhere/sweep.json"));
}
