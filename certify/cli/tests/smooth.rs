//! `tightrope smooth` as a user runs it.

mod common;

use std::path::Path;

use serde_json::Value;

use common::{records, refused, run, stdout, tightrope};

const MLP: &str = "mnist-mlp-noise25.onnx";

/// Runs with few samples, writing to `out`; returns the records.
fn smooth(out: &Path, more: &[&str]) -> Vec<Value> {
    let path = out.to_str().expect("UTF-8");
    let samples: &[&str] = if more.contains(&"-n") { &[] } else { &["-n", "400"] };
    let arguments = [&["smooth", MLP, "--out", path], samples, more].concat();
    stdout(&run(&arguments));
    records(out).1
}

#[test]
fn results_do_not_depend_on_threads_parts_or_interruptions() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let whole = smooth(&file("whole"), &["--indices", "0..12", "--threads", "2"]);
    assert_eq!(whole.len(), 12);
    assert_eq!(smooth(&file("one"), &["--indices", "0..12", "--threads", "1"]), whole);
    assert_eq!(smooth(&file("part"), &["--indices", "5..9"]), whole[5..9]);
    let mut shards = Vec::new();
    for shard in 0..4 {
        let part = format!("{shard}/4");
        shards.extend(smooth(&file(&format!("shard{shard}")), &["--indices", "0..12", "--shard", &part]));
    }
    shards.sort_by_key(|r| r["index"].as_u64());
    assert_eq!(shards, whole);
    let skipped = smooth(&file("skip"), &["--indices", "0..12", "--skip", "5"]);
    assert_eq!(skipped, [whole[0].clone(), whole[5].clone(), whole[10].clone()]);

    let text = std::fs::read_to_string(file("whole")).expect("text");
    let cut = text.match_indices('\n').nth(6).expect("lines").0 + 40;
    std::fs::write(file("cut"), &text[..cut]).expect("room");
    assert_eq!(smooth(&file("cut"), &["--indices", "0..12", "--resume"]), whole);
    assert_ne!(smooth(&file("seed"), &["--indices", "0..12", "--seed", "1"]), whole);
    let cut = file("cut");
    let other =
        ["smooth", MLP, "-n", "500", "--indices", "0..12", "--resume", "--out", cut.to_str().expect("UTF-8")];
    assert!(refused(&other, 2).contains("n was 400, now 500"));
}

#[test]
fn records_summary_and_tsv_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, tsv) = (folder.path().join("run.jsonl"), folder.path().join("run.tsv"));
    let arguments = [
        "smooth",
        MLP,
        "-n",
        "1000",
        "--indices",
        "0..10",
        "--map",
        "hardmax",
        "--json",
        "--out",
        out.to_str().expect("UTF-8"),
        "--tsv",
        tsv.to_str().expect("UTF-8"),
    ];
    let summary: Value = serde_json::from_str(&stdout(&run(&arguments))).expect("one JSON object");
    let (header, records) = records(&out);
    assert_eq!(header["run"]["sigma"], serde_json::json!([0.25]));
    assert_eq!(summary["inputs"], 10);
    assert_eq!(summary["samples"], 11_000);
    let at_zero = records.iter().filter(|r| r["correct"] == 1).count();
    assert_eq!(summary["results"][0]["certified"], at_zero);
    for record in &records {
        assert_eq!(record["map"], "hardmax");
        let spent: f64 = record["ledger"]["entries"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|e| e["alpha"].as_f64().expect("a level"))
            .sum();
        assert!(spent <= 0.001, "{record}");
        // 1,000 agreeing samples at alpha .001 give Phi^-1(.001^(1/1000)) sigma = .615816.
        let radius = record["radius"].as_f64().expect("a radius");
        assert!((0.0..=0.61582).contains(&radius));
    }
    let text = std::fs::read_to_string(&tsv).expect("a table");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("idx\tlabel\tpredict\tradius\tcorrect\ttime"));
    for (line, record) in lines.zip(&records) {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[0], record["index"].to_string());
        assert_eq!(fields[2], record["predicted"].to_string());
        let radius: f64 = fields[3].parse().expect("a radius");
        let exact = record["radius"].as_f64().expect("a radius");
        assert!(radius <= exact && exact - radius < 1e-4);
        assert_eq!(fields[4], record["correct"].to_string());
    }
}

#[test]
fn several_scales_are_the_runs_of_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let of = |name: &str, sigma: &str| {
        let out = file(name);
        let arguments = ["smooth", MLP, "-n", "400", "--indices", "0..4", "--sigma", sigma, "--out", &out];
        let text = stdout(&run(&arguments));
        let mut records = records(folder.path().join(name).as_path()).1;
        for record in &mut records {
            record["seconds"] = 0.into();
        }
        (text, records)
    };
    let (both, together) = of("both", "0.25,0.5");
    let (small, large) = (of("small", "0.25").1, of("large", "0.5").1);
    let alternating: Vec<Value> = small.into_iter().zip(large).flat_map(<[Value; 2]>::from).collect();
    assert_eq!(together, alternating);
    assert!(both.contains("sigma 0.25: 4 inputs") && both.contains("sigma 0.5: 4 inputs"), "{both}");
    let curves = stdout(&run(&["curve", &file("both")]));
    assert!(curves.contains("both sigma 0.25") && curves.contains("both sigma 0.5"), "{curves}");
    // A record that was moved to another scale is found.
    let text = std::fs::read_to_string(file("both")).expect("text");
    std::fs::write(
        file("moved"),
        text.replacen("\"sigma\":0.25,\"predicted\"", "\"sigma\":0.5,\"predicted\"", 1),
    )
    .expect("room");
    assert!(refused(&["curve", &file("moved")], 2).contains("sigma is 0.5 in the record, 0.25 in"));
    assert!(refused(&["smooth", MLP, "--sigma", "0.5,0.5"], 2).contains("found 0.5 twice"));
    let table = ["smooth", MLP, "--sigma", "0.25,0.5", "--tsv", &file("tsv")];
    assert!(refused(&table, 2).contains("accepted: one --sigma"));
}

#[test]
fn adaptive_stopping_uses_fewer_samples() {
    let samples = |more: &[&str]| {
        let arguments = [&["smooth", MLP, "--indices", "0..5", "-n", "20000", "--json"], more].concat();
        let summary: Value = serde_json::from_str(&stdout(&run(&arguments))).expect("JSON");
        summary["samples"].as_u64().expect("a count")
    };
    let fixed = samples(&[]);
    assert_eq!(fixed, 5 * 20_400, "2 % for the selection");
    for map in ["auto", "hardmax", "softmax:1"] {
        assert!(samples(&["--map", map, "--radius", "0.25"]) < fixed / 4, "{map}");
        assert!(samples(&["--map", map, "--tolerance", "0.2"]) < fixed, "{map}");
    }
}

#[test]
fn other_noise_and_the_lattice_certify() {
    for noise in ["lattice", "uniform", "laplace"] {
        let text = stdout(&run(&["smooth", MLP, "--indices", "0..5", "-n", "300", "--noise", noise]));
        assert!(text.contains("average certified radius"), "{text}");
    }
}

#[test]
fn noise_behind_the_first_layer_is_the_same_noise_and_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let run_with = |name: &str, more: &[&str]| {
        let options =
            [&["--indices", "0..4", "-n", "20000", "--map", "hardmax", "--sigma", "0.75"], more].concat();
        smooth(&folder.path().join(name), &options)
    };
    let behind = run_with("behind", &[]);
    let input = run_with("input", &["--noise", "gaussian-input"]);
    for (a, b) in behind.iter().zip(&input) {
        assert_eq!([&a["outcome"]["entries"], &b["outcome"]["entries"]], [256, 784]);
        assert_eq!(a["predicted"], b["predicted"]);
        // Two proportions of 20,000 samples each, five standard deviations apart at most.
        let [p, q] = [a, b].map(|r| r["p_lower"].as_f64().expect("a bound"));
        let spread = 5.0 * (2.0 * (p * (1.0 - p)).max(1e-4) / 20_000.0).sqrt();
        assert!((p - q).abs() < spread, "{p} {q}");
    }
    assert_ne!(behind[0]["outcome"]["top"], input[0]["outcome"]["top"], "other random numbers");
    let out = folder.path().join("behind");
    let mixed = [
        "smooth",
        MLP,
        "-n",
        "20000",
        "--map",
        "hardmax",
        "--sigma",
        "0.75",
        "--noise",
        "gaussian-input",
        "--resume",
    ];
    let text =
        refused(&[&mixed[..], &["--indices", "0..6", "--out", out.to_str().expect("UTF-8")]].concat(), 2);
    assert!(text.contains("noise"), "{text}");
    // The bound on the rounding of an evaluation speaks of the input.
    let aware = smooth(
        &folder.path().join("aware"),
        &["--indices", "0..1", "--map", "softmax:1", "--lipschitz", "auto"],
    );
    assert_eq!(aware[0]["outcome"]["entries"], 784);
}

#[test]
fn wrong_options_are_named_with_what_is_accepted() {
    let has = |arguments: &[&str], parts: &[&str]| {
        let text = refused(&[&["smooth", MLP, "--indices", "0..1", "-n", "100"], arguments].concat(), 2);
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    };
    has(&["--sigma", "-1"], &["--sigma"]);
    has(&["--alpha", "2"], &["--alpha"]);
    has(&["--map", "softmax"], &["--map"]);
    has(&["--map", "softmax:0"], &["--map"]);
    has(&["--map", "softmax:1", "--bound", "clopper-pearson"], &["hardmax"]);
    has(&["--bound", "bernstein"], &["--map auto"]);
    has(&["--rule", "two-sided"], &["--map auto"]);
    has(&["--map", "hardmax", "--bound", "test-martingale"], &["radius to settle"]);
    has(&["--noise", "laplace", "--map", "softmax:1", "--rule", "two-sided"], &["Gaussian"]);
    has(&["--radius", "-1"], &["--radius"]);
    has(&["--tolerance", "0"], &["tolerance"]);
    has(&["--radius", "1", "--tolerance", "1"], &["--tolerance"]);
    has(&["--shard", "4/4"], &["I/N"]);
    has(&["--skip", "0"], &["--skip"]);
    has(&["--n0", "0"], &["n0"]);
    let plain = refused(&["smooth", "mnist-cnn-plain.onnx"], 2);
    assert!(plain.contains("--sigma"), "{plain}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.jsonl");
    let out = path.to_str().expect("UTF-8");
    let child = tightrope(&["smooth", MLP, "-n", "4000", "--out", out])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let begin = std::time::Instant::now();
    while std::fs::read_to_string(&path).map_or(0, |text| text.lines().count()) < 4 {
        assert!(begin.elapsed().as_secs() < 120, "no records appear");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill").success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read_to_string(&path).expect("a run file").ends_with('\n'));
}

#[test]
fn a_run_is_recomputed_without_the_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    for map in [["--map", "hardmax"], ["--map", "softmax:1"]] {
        let [first, anew, again] = ["first", "anew", "again"].map(|name| file(&format!("{name}{}", map[1])));
        let inputs = ["--indices", "0..6"];
        smooth(&first, &[&inputs[..], &map].concat());
        let changed = ["--alpha", "0.02", "--rule", "two-sided"];
        let anew = smooth(&anew, &[&inputs[..], &map, &changed].concat());
        let (first, again) = (text(&first), text(&again));
        stdout(&run(&[&["smooth", "--from", &first, "--out", &again][..], &changed].concat()));
        let (header, found) = records(Path::new(&again));
        assert_eq!(found, anew);
        assert_eq!((header["run"]["alpha"].as_f64(), &header["run"]["n"]), (Some(0.02), &400.into()));
        let pairs = refused(&["smooth", "--from", &first, "--rule", "pairwise"], 2);
        assert!(pairs.contains("input 0") && pairs.contains("pairwise"), "{pairs}");
        let betting = refused(&["smooth", "--from", &first, "--bound", "betting"], 2);
        assert!(betting.contains("input 0") && betting.contains("in order"), "{betting}");
        let existing = refused(&["smooth", "--from", &first, "--out", &again], 2);
        assert!(existing.contains("exists already"), "{existing}");
        refused(&["smooth", "--from", &first, "--map", "hardmax"], 2);
    }
    // Pairs, a randomized bound with auto, and tests of a radius.
    for (name, options) in [
        ("auto", &["--alpha", "0.001"][..]),
        ("pairs", &["--map", "hardmax", "--rule", "pairwise"]),
        ("test", &["--radius", "0.4", "-n", "4000"]),
        ("betting", &["--map", "softmax:0.5", "--radius", "0.4", "-n", "4000"]),
    ] {
        let [first, again, greater] =
            ["first", "again", "greater"].map(|kind| file(&format!("{kind}-{name}")));
        let recorded = smooth(&first, &[&["--indices", "0..6"], options].concat());
        let (first, again) = (text(&first), text(&again));
        stdout(&run(&["smooth", "--from", &first, "--out", &again]));
        let same = records(Path::new(&again)).1;
        let radii = |records: &[Value]| records.iter().map(|r| r["radius"].clone()).collect::<Vec<_>>();
        assert_eq!(radii(&same), radii(&recorded), "{name}");
        stdout(&run(&["smooth", "--from", &first, "--alpha", "0.05", "--out", &text(&greater)]));
        for (more, less) in records(&greater).1.iter().zip(&recorded) {
            assert!(more["radius"].as_f64() >= less["radius"].as_f64(), "{name}");
        }
    }
    let none = refused(&["smooth", "--from", "mnist-mlp-noise25.toml"], 2);
    assert!(none.contains("first line of a run"), "{none}");
    refused(&["smooth"], 2);
}
