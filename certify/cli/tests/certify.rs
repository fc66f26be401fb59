//! The command as a user runs it: exit codes, output, run files, errors.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use tightrope::tightness::generate::Init;

use common::{models, records, refused, run, stdout, tightrope};

const IBP: &str = "mnist-cnn-ibp0.1.onnx";

#[test]
fn the_card_gives_all_defaults() {
    let text = stdout(&run(&["certify", IBP, "mnist-cnn-plain.onnx", "--indices", "0..40"]));
    assert!(text.contains("| mnist-cnn-ibp0.1 |") && text.contains("| mnist-cnn-plain"), "{text}");
    assert_eq!(text.lines().count(), 2 + 2 * 3, "a row for every network and eps:\n{text}");
}

#[test]
fn json_has_the_summary() {
    let text = stdout(&run(&["certify", IBP, "--indices", "0..100", "--eps", "2/255,0.1", "--json"]));
    let summary: Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(summary["inputs"], 100);
    assert_eq!(summary["model"], IBP);
    let correct = summary["correct"].as_u64().expect("a count");
    let results = summary["results"].as_array().expect("results");
    assert_eq!(results.len(), 2);
    assert_eq!(results[0]["eps"], 2.0 / 255.0);
    let certified: Vec<u64> = results.iter().map(|r| r["certified"].as_u64().expect("a count")).collect();
    assert!(90 <= certified[1] && certified[1] <= certified[0] && certified[0] <= correct && correct <= 100);
    assert_eq!(results[1]["certified_accuracy"], certified[1] as f64 / 100.0);
    assert!(summary["seconds"].as_f64().expect("seconds") > 0.0);
}

#[test]
fn records_are_the_same_for_any_number_of_threads_and_any_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let run_to = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let out = path.to_str().expect("UTF-8");
        stdout(&run(&[&["certify", IBP, "--eps", "0.1", "--out", out], more].concat()));
        records(&path)
    };
    let (header, one) = run_to("one.jsonl", &["--indices", "0..100", "--threads", "1"]);
    let (_, two) = run_to("two.jsonl", &["--indices", "0..100", "--threads", "2"]);
    let (_, part) = run_to("part.jsonl", &["--indices", "37..70"]);
    assert_eq!(one, two);
    assert_eq!(one[37..70], part);
    assert_eq!(header["run"]["model_sha256"].as_str().expect("a digest").len(), 64);
    assert_eq!(header["run"]["eps"], serde_json::json!(["0.1"]));
    for record in &one {
        let margins = record["margin_lower"].as_array().expect("margins");
        let label = record["label"].as_u64().expect("a label") as usize;
        assert_eq!(margins.len(), 10);
        let positive = |(c, m): (usize, &Value)| {
            if c == label { m.is_null() } else { m.as_f64().expect("a bound") > 0.0 }
        };
        let proved = margins.iter().enumerate().all(positive);
        assert_eq!(record["certified"], proved && record["predicted"] == record["label"]);
    }
}

#[test]
fn a_cut_off_run_is_resumed_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.jsonl");
    let out = path.to_str().expect("UTF-8");
    let arguments = ["certify", IBP, "--indices", "0..90", "--eps", "0.02,0.1", "--out", out];
    stdout(&run(&arguments));
    let whole = records(&path);
    let text = std::fs::read_to_string(&path).expect("text");
    // Cut in the middle of a line in the second block.
    let cut = text.match_indices('\n').nth(70).expect("70 lines").0 + 30;
    std::fs::write(&path, &text[..cut]).expect("room");
    assert!(refused(&arguments, 2).contains("--resume"));
    let summary = stdout(&run(&[&arguments[..], &["--resume", "--json"]].concat()));
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["inputs"], 90);
    let (header, mut resumed) = records(&path);
    assert_eq!(header, whole.0);
    let order = |r: &Value| (r["index"].as_u64(), r["eps"].as_f64().map(f64::to_bits));
    resumed.sort_by_key(order);
    let mut expected = whole.1;
    expected.sort_by_key(order);
    assert_eq!(resumed, expected);
    let other = refused(&["certify", IBP, "--indices", "0..90", "--eps", "0.3", "--out", out, "--resume"], 2);
    assert!(other.contains("eps was") && other.contains("other options"), "{other}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.jsonl");
    let out = path.to_str().expect("UTF-8");
    let eps: Vec<String> = (1..400).map(|i| format!("{}", f64::from(i) / 1000.0)).collect();
    let eps = eps.join(",");
    let arguments = ["certify", IBP, "--eps", &eps, "--out", out];
    let child = tightrope(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
    let begin = Instant::now();
    while std::fs::metadata(&path).map_or(0, |m| m.len()) < 50_000 {
        assert!(begin.elapsed() < Duration::from_mins(2), "no records appear");
        std::thread::sleep(Duration::from_millis(20));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--resume"));
    let text = std::fs::read_to_string(&path).expect("a run file");
    assert!(text.ends_with('\n'), "the last line is whole");
    assert!(text.lines().count() > 64);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let text = refused(&["certify", IBP, "--indices", "0..10", "--out", "/dev/full"], 1);
    assert!(text.contains("/dev/full") && text.contains("space"), "{text}");
}

#[test]
fn wrong_input_is_named_with_what_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("room");
        path.to_str().expect("UTF-8").to_owned()
    };
    let idx = |kind: u8, dims: &[u32], data: &[u8]| {
        let mut bytes = vec![0, 0, kind, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
        bytes.extend(data);
        bytes
    };
    let images = file("images.idx", &idx(8, &[2, 28, 28], &[0; 1568]));
    let small = file("small.idx", &idx(8, &[2, 20, 20], &[0; 800]));
    let labels = file("labels.idx", &idx(8, &[2], &[3, 4]));
    let wrong_labels = file("wrong.idx", &idx(8, &[2], &[3, 10]));
    let few = file("few.idx", &idx(8, &[1], &[3]));
    let mut nan = vec![0u8; 1568 * 4];
    nan[400..404].copy_from_slice(&f32::NAN.to_be_bytes());
    let nan = file("nan.idx", &idx(13, &[2, 28, 28], &nan));
    let model = std::fs::read(models().join(IBP)).expect("a network");
    let truncated = file("truncated.onnx", &model[..model.len() / 2]);
    let noise = file("noise.onnx", b"this is not a network");
    let empty = file("empty.onnx", b"");

    let data = |images: &str, labels: &str| {
        refused(&["certify", IBP, "--eps", "0.1", "--data", images, "--labels", labels], 2)
    };
    let has = |text: String, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    };
    has(data(&small, &labels), &["20", "28", "small.idx"]);
    has(data(&images, &wrong_labels), &["10", "wrong.idx"]);
    has(data(&images, &few), &["few.idx", "images.idx"]);
    has(data(&nan, &labels), &["nan.idx", "NaN"]);
    has(data("/nowhere/x.npy", &labels), &["/nowhere/x.npy"]);
    has(refused(&["certify", IBP, "--eps", "0.1", "--data", &images], 2), &["images.idx", "--labels"]);
    has(refused(&["certify", &truncated, "--eps", "0.1"], 2), &["truncated.onnx"]);
    has(refused(&["certify", &noise], 2), &["noise.onnx"]);
    has(refused(&["certify", &empty], 2), &["empty.onnx"]);
    has(refused(&["certify", "missing.onnx"], 2), &["missing.onnx"]);
    has(refused(&["certify", IBP, "--eps", "-1"], 2), &["eps"]);
    has(refused(&["certify", IBP, "--eps", "1/0"], 2), &["1/0"]);
    has(refused(&["certify", IBP, "--indices", "5..2000"], 2), &["0..1000"]);
    has(refused(&["certify", IBP, "--indices", "7"], 2), &["A..B"]);
    has(
        refused(&["certify", IBP, "--clip", "0.5,1"], 2),
        &["outside the clipping range", "mnist-cnn-ibp0.1"],
    );
    has(refused(&["certify", IBP, "--clip", "1,0"], 2), &["LO,HI"]);
    has(refused(&["certify", IBP, "--method", "magic"], 2), &["ibp"]);
    has(refused(&["certify", IBP, "--threads", "0"], 2), &["--threads"]);
    has(refused(&["certify", IBP, "--mean", "0.1,0.2", "--std", "1,1"], 2), &["channel"]);
    has(refused(&["certify", IBP, "mnist-cnn-plain.onnx", "--out", "x"], 2), &["--out"]);
    has(refused(&["certify", IBP, "--input-shape", "1,1,30,30"], 2), &["[1, 1, 30, 30]", "28"]);
    has(refused(&["certify", IBP, "--out", "/nowhere/run.jsonl"], 1), &["/nowhere/run.jsonl"]);
}

#[test]
fn normalisation_is_part_of_the_bounds() {
    // Pixels stretched by --scale and shrunk back by --std give what the
    // network gives on plain pixels, and so do the bounds for a stretched eps.
    let margins = |arguments: &[&str]| {
        let text = stdout(&run(&[&["certify", IBP, "--indices", "0..20", "--json"], arguments].concat()));
        let summary: Value = serde_json::from_str(&text).expect("JSON");
        (summary["correct"].clone(), summary["results"][0]["mean_margin"].as_f64().expect("a margin"))
    };
    let data =
        ["--data", "data/mnist-test-1000-images.idx.gz", "--labels", "data/mnist-test-1000-labels.idx.gz"];
    let plain = margins(&[&data[..], &["--eps", "0.1", "--clip", "0,1"]].concat());
    let stretched = [
        &data[..],
        &["--eps", "0.4", "--clip", "0,4", "--mean", "0", "--std", "4", "--scale", "0.0156862745098"],
    ];
    let stretched = margins(&stretched.concat());
    assert_eq!(plain.0, stretched.0);
    assert!((plain.1 - stretched.1).abs() < 1e-4, "{plain:?} {stretched:?}");
}

#[test]
fn inspect_shows_every_node() {
    let text = stdout(&run(&["inspect", IBP]));
    for part in ["Conv", "elementwise", "1 x 32 x 7 x 7", "166406", "614188", "Flatten 1", "ibp"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let json: Value = serde_json::from_str(&stdout(&run(&["inspect", IBP, "--json"]))).expect("JSON");
    assert_eq!(json["nodes"].as_array().expect("nodes").len(), 7);
    assert_eq!(json["nodes"][0]["multiply_adds"], 16 * 14 * 14 * 16);
    assert_eq!(json["input"]["shape"], serde_json::json!([1, 1, 28, 28]));
    assert_eq!(json["analyses"]["ibp"], true);
}

#[test]
fn a_network_of_one_output_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.onnx");
    let graph = tightrope::tightness::generate::dense_chain(&[784, 1], false, Init::KaimingUniform, 0);
    tightrope::onnx::save(&graph, &path).expect("room");
    let model = path.to_str().expect("UTF-8");
    let data =
        ["--data", "data/mnist-test-1000-images.idx.gz", "--labels", "data/mnist-test-1000-labels.idx.gz"];
    for options in [["certify", "--eps", "0"], ["attack", "--eps", "0.1"], ["smooth", "--sigma", "1"]] {
        let text = refused(&[&options[..1], &[model], &options[1..], &data].concat(), 2);
        assert!(text.contains("one.onnx") && text.contains("at least 2"), "{text}");
    }
}
