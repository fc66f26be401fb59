//! `tightrope curve` as a user runs it.

mod common;

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use common::{records, refused, run, stdout};

const HEADER: &str = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n";

/// Eight inputs: certified for the label with .1, .25, .31, .6, .62, .8; a wrong class; an abstention.
const TABLE: &str = "0\t3\t3\t0.1\t1\t0:00:10.5\n10\t8\t8\t0.25\t1\t0:01:00\n20\t8\t8\t0.31\t1\t0:00:09\n\
    30\t0\t0\t0.6\t1\t0.5\n40\t6\t6\t0.62\t1\t12\n50\t1\t1\t0.8\t1\t1:00:00.25\n60\t4\t2\t0.9\t0\t3\n\
    70\t5\t-1\t0.0\t0\t4\n";

/// Two inputs, one certified with 1.5.
const OTHER: &str = "0\t3\t3\t1.5\t1\t1\n1\t3\t4\t0.2\t0\t1\n";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn table(&self, name: &str, lines: &str) -> String {
        let path = self.file(name);
        std::fs::write(&path, format!("{HEADER}{lines}")).expect("room");
        path
    }
}

fn json(arguments: &[&str]) -> Vec<Value> {
    let text = stdout(&run(&[arguments, &["--json"]].concat()));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn certified(summary: &Value) -> Vec<u64> {
    let results = summary["results"].as_array().expect("results");
    results.iter().map(|r| r["certified"].as_u64().expect("a count")).collect()
}

#[test]
fn tables_give_hand_computed_numbers() {
    let folder = Folder::new();
    // Any name will do.
    let path = folder.table("log.txt", TABLE);
    let summary = &json(&["curve", &path, "--sigma", "0.25"])[0];
    assert_eq!(certified(summary), [6, 5, 3, 1]);
    assert_eq!((&summary["inputs"], &summary["abstentions"]), (&8.into(), &1.into()));
    assert_eq!(summary["results"][2]["radius"], 0.5);
    assert_eq!(summary["results"][2]["certified_accuracy"], 0.375);
    let average = summary["average_certified_radius"].as_f64().expect("a number");
    assert!((average - 2.68 / 8.0).abs() < 1e-12);
    assert_eq!(summary["seconds"], 10.5 + 60.0 + 9.0 + 0.5 + 12.0 + 3600.25 + 3.0 + 4.0);
    // .625 - .001 - sqrt(.000999 ln(20) / 8) - ln(20) / 24.
    let summary = &json(&["curve", &path, "--rho", "0.05", "--radii", "0.25,0.62,0.63"])[0];
    assert_eq!(certified(summary), [5, 2, 1]);
    let likely = summary["results"][0]["high_probability_accuracy"].as_f64().expect("a number");
    assert!((likely - 0.479_836_36).abs() < 1e-7, "{likely}");
    let output = run(&["curve", &path]);
    let text = stdout(&output);
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('|').map(str::trim).collect()).collect();
    for row in [["0.50", "37.5 %"], ["abstentions", "1"], ["inputs", "8"], ["0.00", "43.1 %"]] {
        assert!(rows.iter().any(|cells| cells.len() == 4 && cells[1..3] == row), "{row:?}: {text}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("--sigma would tell"));
}

#[test]
fn two_files_become_two_columns_and_two_paths() {
    let folder = Folder::new();
    let (one, two) = (folder.table("one.tsv", TABLE), folder.table("two & more.tsv", OTHER));
    let svg = folder.file("curve.svg");
    let text = stdout(&run(&["curve", &one, &two, "--svg", &svg]));
    let head = text.lines().find(|line| line.contains("radius")).expect("a head");
    assert!(head.contains("| one ") || head.contains(" one |"), "{text}");
    assert!(head.contains("two & more"), "{text}");
    assert!(text.contains(" 1.50 | "), "{text}");
    let picture = std::fs::read_to_string(&svg).expect("a picture");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    let curves: Vec<&str> =
        picture.lines().filter(|l| l.starts_with("<polyline") && l.contains("stroke-width=\"2\"")).collect();
    assert_eq!(curves.len(), 2, "one path for each run");
    // The first curve falls six times, the second one once: two corners each, and the start.
    let corners = |line: &str| line.split_once("points=\"").expect("points").1.matches(',').count();
    assert_eq!((corners(curves[0]), corners(curves[1])), (13, 3));
    let colour = |line: &str| line.split_once("stroke=\"").expect("a colour").1[..7].to_owned();
    assert_ne!(colour(curves[0]), colour(curves[1]));
    for text in ["Certified accuracy", "radius", "share of inputs", "two &amp; more"] {
        assert!(picture.contains(text), "{text}");
    }
}

#[test]
fn runs_of_smooth_and_their_tables_agree() {
    let folder = Folder::new();
    let (out, tsv) = (folder.file("run.jsonl"), folder.file("run.tsv"));
    let options = ["smooth", "mnist-mlp-noise25.onnx", "--map", "hardmax", "-n", "500", "--indices", "0..12"];
    let smooth = stdout(&run(&[&options[..], &["--out", &out, "--tsv", &tsv, "--json"]].concat()));
    let smooth: Value = serde_json::from_str(&smooth).expect("JSON");
    let both = json(&["curve", &out, &tsv, "-n", "500", "--sigma", "0.25"]);
    assert_eq!(certified(&both[0]), certified(&both[1]));
    assert_eq!(certified(&both[0]), certified(&smooth));
    assert_eq!(both[0]["average_certified_radius"], smooth["average_certified_radius"]);
    assert_eq!(both[0]["alpha"], 0.001);
    let (_, lines) = records(out.as_ref());
    let at_half = |r: &&Value| r["correct"] == 1 && r["radius"].as_f64() >= Some(0.5);
    assert_eq!(certified(&both[0])[2], lines.iter().filter(at_half).count() as u64);

    // A radius that 500 samples cannot give; and one that its own bounds do not give.
    let text = std::fs::read_to_string(&out).expect("a run");
    let start = text.find("\"radius\":0.").expect("a radius");
    let end = start + text[start..].find(',').expect("a comma");
    let changed = folder.file("changed.jsonl");
    std::fs::write(&changed, format!("{}\"radius\":0.6{}", &text[..start], &text[end..])).expect("room");
    let error = refused(&["curve", &changed], 2);
    for part in ["changed.jsonl: line 2: radius", "does not follow from the bounds", "from 500 samples"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    std::fs::write(&changed, text.replacen("\"n\":500", "\"n\":400", 1)).expect("room");
    assert!(refused(&["curve", &changed], 2).contains("n is 500 in the record and 400 in the first line"));
    std::fs::write(&changed, &text[..text.len() - 30]).expect("room");
    let output = run(&["curve", &changed]);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("cut off") && notes.contains("11 of the run's 12"), "{notes}");
    stdout(&output);
}

#[test]
fn what_cannot_be_right_ends_the_command_unless_lenient() {
    let folder = Folder::new();
    let faulty = |lines: &str, parts: &[&str]| {
        let path = folder.table("faulty", lines);
        let error = refused(&["curve", &path, "--sigma", "0.25"], 2);
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        let output = run(&["curve", &path, "--sigma", "0.25", "--lenient"]);
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        for part in parts {
            assert!(notes.contains(part), "`{part}` is not in: {notes}");
        }
        stdout(&output);
    };
    faulty("0\t1\t1\tnan\t1\t1\n", &["faulty: line 2: radius is NaN"]);
    faulty("0\t1\t1\t0.5\t1\t1\n1\t1\t1\t1.0\t1\t1\n", &["line 3: radius is 1", "100000 samples"]);
    faulty("0\t1\t1\t0.5\t1\t1\n1\t1\t1\t0.5\t2\t1\n", &["line 3: correct counts up"]);
    faulty(
        "0\t1\t-1\t0.5\t0\t1\n0\t1\t2\t0.5\t1\tx\n",
        &["line 2", "line 3: time is `x`", "idx 0", "correct"],
    );
    let path = folder.table("faulty", "0\t1\t1\tnan\t1\t1\n1\t1\t1\t0.5\t1\t1\n");
    let summary = &json(&["curve", &path, "--lenient"])[0];
    assert_eq!(certified(summary), [1, 1, 1]);
    assert_eq!(summary["findings"].as_array().map(Vec::len), Some(1));
}

#[test]
fn wrong_options_and_files_are_named() {
    let folder = Folder::new();
    let path = folder.table("one.tsv", OTHER);
    for (option, value) in
        [("--radii", "0,-1"), ("--sigma", "0"), ("--alpha", "1"), ("--rho", "0"), ("-n", "0")]
    {
        let error = refused(&["curve", &path, option, value], 2);
        assert!(error.contains(option), "{error}");
    }
    let odd = PathBuf::from(folder.file("odd"));
    std::fs::write(&odd, "idx,label\n").expect("room");
    let error = refused(&["curve", odd.to_str().expect("UTF-8")], 2);
    assert!(error.contains("odd: found") && error.contains("idx, label, predict, radius"), "{error}");
    assert!(refused(&["curve", "nowhere"], 2).contains("nowhere"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_picture() {
    let folder = Folder::new();
    let path = folder.table("one.tsv", OTHER);
    assert!(refused(&["curve", &path, "--svg", "/dev/full"], 1).contains("/dev/full"));
}
