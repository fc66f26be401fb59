//! Records tell the truth: what a run was made from, who writes to it, and what an error costs.

mod common;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tightrope::tightness::generate::{Init, dense_chain};

use common::{models, records, refused, run, stdout, tightrope};

const PLAIN: &str = "mnist-cnn-plain.onnx";
const DATA: [&str; 4] =
    ["--data", "data/mnist-test-1000-images.idx.gz", "--labels", "data/mnist-test-1000-labels.idx.gz"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// An uncompressed idx file of bytes.
fn idx(path: &Path, shape: &[u32], bytes: &[u8]) {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    file.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    file.extend(bytes);
    std::fs::write(path, file).expect("room");
}

/// Four images of 3 x 3 bytes with labels, and a network for them.
fn small(at: &Path, value: u8) -> [PathBuf; 3] {
    let files = ["x.idx", "y.idx", "net.onnx"].map(|name| at.join(name));
    let pixels: Vec<u8> = (0..36).map(|i| i * 5 + value).collect();
    idx(&files[0], &[4, 3, 3], &pixels);
    idx(&files[1], &[4], &[0, 1, 0, 1]);
    tightrope::onnx::save(&dense_chain(&[9, 4, 2], true, Init::KaimingUniform, 3), &files[2]).expect("room");
    files
}

fn certify(files: &[PathBuf; 3], out: &Path, more: &[&str]) -> Vec<String> {
    let [x, y, net] = files.each_ref().map(|file| text(file));
    let options = ["certify", net, "--eps", "0.01", "--data", x, "--labels", y, "--out", text(out)];
    [&options[..], more].concat().into_iter().map(str::to_owned).collect()
}

fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn contents_are_compared_and_names_are_not() {
    let (here, there) = (folder(), folder());
    let (one, other) = (small(here.path(), 0), small(there.path(), 0));
    let out = here.path().join("run.jsonl");
    stdout(&run(&strs(&certify(&one, &out, &["--indices", "0..2"]))));
    // The same bytes under other names are the same run.
    stdout(&run(&strs(&certify(&other, &out, &["--indices", "0..2", "--resume"]))));
    let part = here.path().join("part.jsonl");
    stdout(&run(&strs(&certify(&other, &part, &["--indices", "2..4"]))));
    let merged = here.path().join("merged.jsonl");
    stdout(&run(&["merge", text(&out), text(&part), "--out", text(&merged)]));
    assert_eq!(records(&merged).1.len(), 4);
    let changed = small(there.path(), 1);
    let error = refused(&strs(&certify(&changed, &out, &["--indices", "0..2", "--resume"])), 2);
    assert!(error.contains("data_sha256") && !error.contains("model"), "{error}");
}

#[test]
fn a_second_writer_is_refused_by_name() {
    let here = folder();
    let out = here.path().join("run.jsonl");
    let arguments = ["smooth", "mnist-mlp-noise25.onnx", "-n", "1000000", "--out", text(&out)];
    let mut child = tightrope(&arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let begin = std::time::Instant::now();
    while std::fs::metadata(&out).map_or(0, |m| m.len()) == 0 {
        assert!(begin.elapsed().as_secs() < 60, "no run file appears");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let before = std::fs::read(&out).expect("a run file");
    let error = refused(&[&arguments[..], &["--resume"]].concat(), 2);
    assert!(error.contains(&format!("process {}", child.id())) && error.contains("run.jsonl"), "{error}");
    assert!(std::fs::read(&out).expect("a run file").starts_with(&before));
    child.kill().expect("its own child");
    child.wait().expect("ends");
    // The lock ends with the process, however that ends.
    let mut arguments = arguments.to_vec();
    arguments.extend(["--resume", "--indices", "0..1"]);
    assert!(refused(&arguments, 2).contains("indices was"));
}

fn picture(path: &Path, value: u8) {
    // A grey PNG of 3 x 3 pixels, stored: signature, header, one stored block, end.
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let mut crc = !0_u32;
        for byte in &body {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            }
        }
        [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
    };
    let rows: Vec<u8> = (0..3).flat_map(|_| [0, value, value, value]).collect();
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in &rows {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    let data = [&[0x78, 1, 1, 12, 0, 0xf3, 0xff][..], &rows, &(b << 16 | a).to_be_bytes()].concat();
    let header = [0, 0, 0, 3, 0, 0, 0, 3, 8, 0, 0, 0, 0];
    let file =
        [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &data), &chunk(b"IEND", &[])];
    std::fs::create_dir_all(path.parent().expect("a class")).expect("room");
    std::fs::write(path, file.concat()).expect("room");
}

#[test]
fn folders_of_classes_are_told_by_names_and_bytes() {
    let here = folder();
    let files = small(here.path(), 0);
    let images = here.path().join("images");
    picture(&images.join("cat/a.png"), 10);
    picture(&images.join("dog/a.png"), 20);
    let out = here.path().join("run.jsonl");
    let net = text(&files[2]).to_owned();
    let arguments = ["certify", &net, "--eps", "0.01", "--data", text(&images), "--out", text(&out)];
    stdout(&run(&arguments));
    let (header, found) = records(&out);
    assert_eq!(header["run"]["classes"], serde_json::json!(["cat", "dog"]));
    assert_eq!(found[1]["label"], 1);
    assert_eq!(header["run"]["data_sha256"].as_str().map(str::len), Some(64));
    let resume = [&arguments[..], &["--resume"]].concat();
    stdout(&run(&resume));
    picture(&images.join("dog/a.png"), 21);
    assert!(refused(&resume, 2).contains("data_sha256"));
    // Without its first class the second would take its label, unless names say otherwise.
    std::fs::remove_dir_all(images.join("cat")).expect("there");
    let names = here.path().join("names.txt");
    std::fs::write(&names, "cat\ndog\n").expect("room");
    let out = here.path().join("named.jsonl");
    let named = ["certify", &net, "--eps", "0.01", "--data", text(&images), "--out", text(&out), "--classes"];
    stdout(&run(&[&named[..], &[text(&names)]].concat()));
    assert_eq!(records(&out).1[0]["label"], 1);
    std::fs::write(&names, "cat\n").expect("room");
    let out = here.path().join("other.jsonl");
    let named = ["certify", &net, "--eps", "0.01", "--data", text(&images), "--out", text(&out), "--classes"];
    let error = refused(&[&named[..], &[text(&names)]].concat(), 2);
    assert!(error.contains("dog") && error.contains("accepted: cat"), "{error}");
}

#[test]
fn pictures_of_bytes_are_cut_to_their_range() {
    let json = |more: &[&str]| -> Value {
        let options =
            ["certify", PLAIN, "--eps", "0.02", "--indices", "0..40", "--json", "--method", "crown"];
        serde_json::from_str(&stdout(&run(&[&options[..], &DATA, more].concat()))).expect("JSON")
    };
    let margin = |more: &[&str]| json(more)["results"][0]["mean_margin"].as_f64().expect("a margin");
    assert_eq!(margin(&[]), margin(&["--clip", "0,1"]));
    assert!(margin(&["--clip", "none"]) < margin(&[]));
    let here = folder();
    let out = here.path().join("run.jsonl");
    let options = ["certify", PLAIN, "--eps", "0.02", "--indices", "0..1", "--out", text(&out)];
    let table = stdout(&run(&[&options[..], &DATA].concat()));
    assert!(table.contains("| 0..1 |"), "{table}");
    let header = records(&out).0;
    assert_eq!(header["run"]["clip"], serde_json::json!([0.0, 1.0]));
    assert_eq!(header["run"]["scale"], 1.0 / 255.0);
}

#[test]
fn external_weights_are_part_of_the_fingerprint() {
    use tightrope::onnx::proto::StringStringEntryProto;
    use tightrope::onnx::proto::tensor_proto::DataLocation;
    let here = folder();
    let files = small(here.path(), 0);
    let mut model = tightrope::onnx::file::read(&files[2]).expect("a network");
    let graph = model.graph.as_mut().expect("a graph");
    let mut bytes = Vec::new();
    for tensor in graph.initializer.iter_mut().filter(|t| t.dims.len() == 2 && !t.raw_data().is_empty()) {
        let data = tensor.raw_data.take().expect("bytes");
        let entry =
            |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        tensor.external_data = vec![
            entry("location", "net.onnx.data".into()),
            entry("offset", bytes.len().to_string()),
            entry("length", data.len().to_string()),
        ];
        tensor.set_data_location(DataLocation::External);
        bytes.extend(data);
    }
    assert!(!bytes.is_empty(), "matrices are stored as bytes");
    let weights = here.path().join("net.onnx.data");
    std::fs::write(&weights, &bytes).expect("room");
    std::fs::write(&files[2], prost::Message::encode_to_vec(&model)).expect("room");
    let out = here.path().join("run.jsonl");
    stdout(&run(&strs(&certify(&files, &out, &[]))));
    stdout(&run(&strs(&certify(&files, &out, &["--resume"]))));
    bytes[2] ^= 1;
    std::fs::write(&weights, &bytes).expect("room");
    let error = refused(&strs(&certify(&files, &out, &["--resume"])), 2);
    assert!(error.contains("weights_sha256"), "{error}");
}

#[test]
fn errors_name_the_input_in_its_data_set_and_keep_what_was_found() {
    let here = folder();
    let files = small(here.path(), 0);
    let mut bytes = vec![100; 36 * 20];
    bytes[70 * 9] = 200;
    idx(&files[0], &[80, 3, 3], &bytes);
    idx(&files[1], &[80], &[0; 80]);
    let out = here.path().join("run.jsonl");
    let clip = ["--clip", "0,0.5", "--indices", "3..80"];
    let output = run(&strs(&certify(&files, &out, &clip)));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("input 70: entry 0"), "{error}");
    assert!(error.contains("results of 64 of 77 inputs"), "{error}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("| net ") && records(&out).1.len() == 64, "{table}");
}

#[test]
fn counterexamples_of_networks_of_one_name_stay_apart() {
    let here = folder();
    let kept = here.path().join("kept");
    let mut names = Vec::new();
    for (i, model) in [PLAIN, "mnist-cnn-pgd0.1.onnx"].into_iter().enumerate() {
        let path = here.path().join(format!("{i}/net.onnx"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("room");
        std::fs::copy(models().join(model), &path).expect("room");
        let out = here.path().join(format!("{i}.jsonl"));
        let options = ["attack", text(&path), "--eps", "0.3", "--indices", "0..1", "--attack", "40x2"];
        let more = ["--counterexamples", text(&kept), "--out", text(&out)];
        stdout(&run(&[&options[..], &DATA, &more].concat()));
        names.extend(records(&out).1[0]["counterexample"].as_str().map(str::to_owned));
    }
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_misspelt_key_of_a_card_is_named() {
    let here = folder();
    let files = small(here.path(), 0);
    let card = |lines: &str| {
        std::fs::write(here.path().join("net.toml"), lines).expect("room");
        refused(&["certify", text(&files[2]), "--eps", "0.1"], 2)
    };
    for (lines, key) in
        [("[certfy]\neps = [0.1]", "certfy"), ("[data]\nclips = [0, 1]", "clips"), ("eps = [0.1]", "eps")]
    {
        let error = card(lines);
        assert!(error.contains(key) && error.contains("net.toml"), "{error}");
    }
}

#[test]
fn smoothing_without_labels_certifies_the_predicted_class() {
    let here = folder();
    let out = here.path().join("run.jsonl");
    let options = ["smooth", "mnist-mlp-noise25.onnx", "-n", "300", "--indices", "0..5", "--json"];
    let json = |more: &[&str]| -> Value {
        serde_json::from_str(&stdout(&run(&[&options[..], more].concat()))).expect("JSON")
    };
    let unlabelled = json(&[&DATA[..2], &["--out", text(&out)]].concat());
    let labelled = json(&DATA);
    assert_eq!(unlabelled["average_certified_radius"], labelled["average_certified_radius"]);
    for record in &records(&out).1 {
        assert!(record["label"].is_null() && record["correct"].is_null() && record["predicted"].is_u64());
    }
    assert!(stdout(&run(&["curve", text(&out)])).contains("100.0 %"));
    let error = refused(&[&["certify", PLAIN, "--eps", "0.1"], &DATA[..2]].concat(), 2);
    assert!(error.contains("--labels"), "{error}");
}

#[test]
fn progress_is_told_in_lines_off_a_terminal_and_not_when_quiet() {
    let notes = |more: &[&str]| {
        let options = ["tightness", PLAIN, "--indices", "0..4"];
        let output = run(&[&options[..], more].concat());
        stdout(&output);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(notes(&["-q"]), "");
    assert!(notes(&["-v"]).contains("mnist-cnn-plain: 4 inputs, "));
    let options = ["smooth", "mnist-mlp-noise25.onnx", "-n", "60000", "--indices", "0..6", "-v"];
    let output = run(&[&options[..], &["--threads", "1"]].concat());
    stdout(&output);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains(" of 6 inputs, "), "{notes}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_the_table_of_what_is_finished() {
    let here = folder();
    let out = here.path().join("run.jsonl");
    let child = tightrope(&["smooth", "mnist-mlp-noise25.onnx", "-n", "4000", "--out", text(&out)])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let begin = std::time::Instant::now();
    while std::fs::read_to_string(&out).map_or(0, |text| text.lines().count()) < 4 {
        assert!(begin.elapsed().as_secs() < 120, "no records appear");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130));
    let finished = records(&out).1.len();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains(&format!("mnist-mlp-noise25: {finished} inputs")), "{table}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("results of {finished} of 1000")));
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(&["completions", shell]));
        assert!(script.contains("tightness") && script.contains("counterexamples"), "{shell}");
    }
    let here = folder();
    stdout(&run(&["man", text(here.path())]));
    let page = std::fs::read_to_string(here.path().join("tightrope-certify.1")).expect("a page");
    assert!(page.contains("counterexamples"), "{page}");
    assert!(refused(&["man", "/proc/nowhere"], 1).contains("/proc/nowhere"));
}

#[test]
fn a_task_of_a_slurm_array_takes_its_part() {
    let here = folder();
    let files = small(here.path(), 0);
    let mut parts = Vec::new();
    for task in ["1", "2"] {
        let out = here.path().join(task);
        let arguments = certify(&files, &out, &[]);
        let variables = [("ID", task), ("COUNT", "2"), ("MIN", "1")];
        let variables = variables.map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value));
        let output = tightrope(&strs(&arguments)).envs(variables).output().expect("starts");
        stdout(&output);
        assert!(String::from_utf8_lossy(&output.stderr).contains("this task of the Slurm array"));
        parts.push(out);
    }
    let (whole, merged) = (here.path().join("whole"), here.path().join("merged"));
    stdout(&run(&strs(&certify(&files, &whole, &[]))));
    stdout(&run(&["merge", text(&parts[1]), text(&parts[0]), "--out", text(&merged)]));
    assert_eq!(records(&merged), records(&whole));
}

#[test]
fn a_run_that_is_killed_20_times_ends_as_an_undisturbed_one() {
    let here = folder();
    let eps: Vec<String> = (1..40).map(|i| format!("0.{i:03}")).collect();
    let eps = eps.join(",");
    let arguments = |out: &Path| -> Vec<String> {
        let options = ["certify", "mnist-cnn-ibp0.1.onnx", "--eps", &eps, "--indices", "0..200", "--resume"];
        [&options[..], &["--out", text(out)]].concat().into_iter().map(str::to_owned).collect()
    };
    let (whole, killed) = (here.path().join("whole"), here.path().join("killed"));
    stdout(&run(&strs(&arguments(&whole))));
    let lines = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    for round in 0..20_u64 {
        let mut child = tightrope(&strs(&arguments(&killed)))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        // Moments that have nothing to do with its blocks.
        std::thread::sleep(std::time::Duration::from_millis(60 + round * 7919 % 90));
        let before = lines(&killed).saturating_sub(1);
        child.kill().expect("its own child");
        child.wait().expect("ends");
        assert!(lines(&killed) >= before, "finished records stay");
    }
    stdout(&run(&strs(&arguments(&killed))));
    let (header, found) = records(&killed);
    assert_eq!((header, found.len()), (records(&whole).0, 200 * 39));
    assert_eq!(found, records(&whole).1);
}

#[test]
fn tightness_speaks_of_no_smaller_boxes_than_were_written() {
    use tightrope::bounds::{Eps, InputBox};
    use tightrope::tightness::{CompanionFigures, Sampling};
    let here = folder();
    let files = small(here.path(), 0);
    let out = here.path().join("run.jsonl");
    let [x, y, net] = files.each_ref().map(|file| text(file));
    let options = ["tightness", net, "--eps", "0.287/2.6103", "--data", x, "--labels", y, "--clip", "none"];
    stdout(&run(&[&options[..], &["--samples", "0", "--out", text(&out)]].concat()));
    let graph = tightrope::onnx::load(net, &tightrope::onnx::LoadOptions::default()).expect("a network");
    let pixels: Vec<f32> = (0..36_u8).map(|i| f32::from(i * 5) / 255.0).collect();
    let images = ndarray::Array2::from_shape_vec((4, 9), pixels).expect("four images");
    let figures = CompanionFigures::new(&graph).expect("supported");
    let radii = |eps: f64| -> Vec<f64> {
        let boxes = InputBox::linf(images.view(), eps, None).expect("boxes");
        let sampling = Sampling { points: 0, seed: 0 };
        let all = figures.measure(images.view(), &boxes, &[0, 1, 0, 1], &[0, 1, 2, 3], sampling);
        all.iter().map(|(found, _)| found.box_radius).collect()
    };
    let eps: Eps = "0.287/2.6103".parse().expect("a radius");
    let found: Vec<f64> =
        records(&out).1.iter().map(|r| r["box_radius"].as_f64().expect("a radius")).collect();
    assert_eq!(found, radii(eps.upper()));
    assert_ne!(found, radii(eps.value()));
}
