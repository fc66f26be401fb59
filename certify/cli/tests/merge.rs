//! `tightrope merge` as a user runs it.

mod common;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use common::{records, refused, run, stdout};

const MLP: &str = "mnist-mlp-noise25.onnx";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs of 12 inputs, made with `more` options each.
struct Runs(TempDir);

impl Runs {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn smooth(&self, name: &str, more: &[&str]) -> PathBuf {
        let path = self.path(name);
        let options = ["smooth", MLP, "-n", "400", "--indices", "0..12", "--out", text(&path)];
        stdout(&run(&[&options, more].concat()));
        path
    }

    fn shards(&self, which: &[usize]) -> Vec<PathBuf> {
        let shard = |i: &usize| self.smooth(&format!("shard{i}"), &["--shard", &format!("{i}/4")]);
        which.iter().map(shard).collect()
    }
}

fn merge(files: &[PathBuf], out: &Path) -> std::process::Output {
    let files: Vec<&str> = files.iter().map(|f| text(f)).collect();
    run(&[&["merge", "--out", text(out)], &files[..]].concat())
}

/// The lines of a run file without the numbers of seconds.
fn without_times(path: &Path) -> Vec<String> {
    let content = std::fs::read_to_string(path).expect("text");
    let strip = |line: &str| match line.split_once("\"seconds\":") {
        None => line.to_owned(),
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|c| "0123456789.e-+".contains(c)))
        }
    };
    content.lines().map(strip).collect()
}

#[test]
fn the_merge_of_all_shards_is_the_whole_run() {
    let runs = Runs::new();
    let whole = runs.smooth("whole", &["--tsv", text(&runs.path("whole.tsv"))]);
    let shards = runs.shards(&[2, 0, 3, 1]);
    let (out, tsv) = (runs.path("merged"), runs.path("merged.tsv"));
    let files: Vec<&str> = shards.iter().map(|f| text(f)).collect();
    let output = run(&[&["merge", "--out", text(&out), "--tsv", text(&tsv)], &files[..]].concat());
    assert_eq!(stdout(&output), "");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("12 records of 4 files") && !notes.contains("missing"), "{notes}");
    assert_eq!(without_times(&out), without_times(&whole));
    let columns = |path: &Path| -> Vec<String> {
        let table = std::fs::read_to_string(path).expect("a table");
        table.lines().map(|line| line.rsplit_once('\t').expect("columns").0.to_owned()).collect()
    };
    assert_eq!(columns(&tsv), columns(&runs.path("whole.tsv")));
    let again = runs.path("again");
    stdout(&merge(&[out.clone(), shards[0].clone()], &again));
    assert_eq!(without_times(&again), without_times(&out), "equal records are kept once");
    assert!(refused(&["merge", text(&out), "--out", text(&out)], 2).contains("exists already"));
}

#[test]
fn a_merge_with_gaps_names_them_and_is_resumed() {
    let runs = Runs::new();
    let mut shards = runs.shards(&[0, 2, 3]);
    let cut = std::fs::read_to_string(&shards[1]).expect("text");
    std::fs::write(&shards[1], cut.trim_end()).expect("room");
    shards.push(shards[0].clone());
    let out = runs.path("merged");
    let status = stdout(&run(&["status", text(&shards[1])]));
    assert!(status.contains("| 2 of 3") && status.contains("| 10 "), "{status}");
    let told = "4 inputs are missing: 1, 5, 9..11 (of shards 1..3 of 4)";
    for parts in [&shards[..], &[shards[0].clone()], &[shards[0].clone(), shards[0].clone()]] {
        let files: Vec<&str> = parts.iter().map(|f| text(f)).collect();
        let error = refused(&[&["merge", "--out", text(&out)], &files[..]].concat(), 1);
        assert!(error.contains(if parts.len() > 2 { told } else { "(of shards 1..4 of 4)" }), "{error}");
        assert!(!out.exists());
    }
    let files: Vec<&str> = shards.iter().map(|f| text(f)).collect();
    let output = run(&[&["merge", "--partial", "--out", text(&out)], &files[..]].concat());
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("shard2: the last line is cut off"), "{notes}");
    assert!(notes.contains(told), "{notes}");
    stdout(&output);
    let curve = run(&["curve", text(&out)]);
    assert!(String::from_utf8_lossy(&curve.stderr).contains("holds 8 of the run's 12 inputs"));
    stdout(&curve);
    let resumed = ["smooth", MLP, "-n", "400", "--indices", "0..12", "--resume", "--out", text(&out)];
    stdout(&run(&resumed));
    let mut lines = without_times(&out);
    let mut whole = without_times(&runs.smooth("whole", &[]));
    lines.sort();
    whole.sort();
    assert_eq!(lines, whole);
}

#[test]
fn ranges_of_a_certify_run_are_merged_too() {
    let runs = Runs::new();
    let certify = |name: &str, indices: &str| {
        let path = runs.path(name);
        let options =
            ["certify", "mnist-cnn-ibp0.1.onnx", "--eps", "0.1,0.02", "--indices", indices, "--out"];
        stdout(&run(&[&options[..], &[text(&path)]].concat()));
        path
    };
    let (whole, parts) = (certify("whole", "0..10"), [certify("b", "4..10"), certify("a", "0..4")]);
    let out = runs.path("merged");
    let output = merge(&parts, &out);
    stdout(&output);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("20 records of 2 files") && !notes.contains("missing"), "{notes}");
    assert_eq!(without_times(&out), without_times(&whole));
    assert_eq!(records(&out).0["run"]["records_per_input"], 2);
    let error = refused(&["merge", text(&out), "--out", text(&runs.path("c")), "--tsv", "x"], 2);
    assert!(error.contains("runs of smooth"), "{error}");
    assert!(!runs.path("c").exists());
}

#[test]
fn shards_of_every_command_become_the_whole_run() {
    let runs = Runs::new();
    for (name, command) in [
        ("methods", &["certify", "mnist-cnn-pgd0.1.onnx", "--eps", "0.02,0.01", "--method", "ibp,crown"][..]),
        ("radius", &["certify", "mnist-cnn-ibp0.1.onnx", "--radius", "--eps", "0.02,0.1"]),
        ("attack", &["attack", "mnist-cnn-plain.onnx", "--eps", "0.1,0.05", "--attack", "3x2"]),
        ("tightness", &["tightness", "mnist-cnn-plain.onnx", "--eps", "0.1", "--samples", "3"]),
    ] {
        let part = |part: &str, more: &[&str]| {
            let path = runs.path(&format!("{name}{part}"));
            stdout(&run(&[command, &["--indices", "3..9", "--out", text(&path)], more].concat()));
            path
        };
        let whole = part("whole", &[]);
        let parts = [1, 0].map(|i| part(&i.to_string(), &["--shard", &format!("{i}/2")]));
        let out = runs.path(&format!("{name}merged"));
        stdout(&merge(&parts, &out));
        assert_eq!(without_times(&out), without_times(&whole), "{name}");
        let alone = refused(&["merge", text(&parts[0]), "--out", text(&runs.path("no"))], 1);
        assert!(alone.contains("3 inputs are missing: 3, 5, 7 (of shards 0 of 2)"), "{alone}");
    }
}

#[test]
fn other_runs_and_contradictions_are_named() {
    let runs = Runs::new();
    let (one, other) = (runs.smooth("one", &[]), runs.smooth("other", &["--seed", "3"]));
    let out = runs.path("merged");
    let error = refused(&["merge", text(&one), text(&other), "--out", text(&out)], 2);
    for part in ["one and ", "other are of different runs", "seed is 0 in the first and 3 in the second"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    let changed = runs.path("changed");
    let content = std::fs::read_to_string(&one).expect("text");
    std::fs::write(&changed, content.replacen("\"correct\":1", "\"correct\":0", 1)).expect("room");
    let error = refused(&["merge", text(&one), text(&changed), "--out", text(&out)], 2);
    for part in ["index 0", "one and ", "changed contradict each other in correct"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    std::fs::write(&changed, "idx\tlabel\n").expect("room");
    assert!(refused(&["merge", text(&changed), "--out", text(&out)], 2).contains("changed: line 1"));
    assert!(refused(&["merge", "nowhere", "--out", text(&out)], 2).contains("nowhere"));
    assert!(!out.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let runs = Runs::new();
    let one = runs.smooth("one", &[]);
    let error = refused(&["merge", text(&one), "--out", "/dev/full"], 1);
    assert!(error.contains("/dev/full"), "{error}");
}
