//! `tightrope verify`: one property, and tables of instances.

mod common;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tightrope::ops::{Affine, Op, Weights};
use tightrope::tightness::generate::{Init, dense_chain};

use common::{records, refused, run, stdout};

/// A network of two inputs and two outputs with a property that no input has, one that all have, one that is
/// about variables it has not, and a table of them.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let network = dense_chain(&[2, 8, 2], true, Init::KaimingUniform, 3);
    tightrope::onnx::save(&network, folder.path().join("net.onnx")).expect("room");
    let property = |name: &str, violation: &str| {
        let variables = ["X_0", "X_1", "Y_0", "Y_1"].map(|v| format!("(declare-const {v} Real)\n"));
        let sides = "(assert (>= X_0 0.0))(assert (<= X_0 1.0))(assert (>= X_1 0.0))(assert (<= X_1 0.5))";
        let text = format!("{}{sides}\n(assert {violation})\n", variables.concat());
        fs::write(folder.path().join(name), text).expect("room");
    };
    property("never.vnnlib", "(>= Y_0 1000000.0)");
    property("always.vnnlib", "(<= Y_0 1000000.0)");
    property("wrong.vnnlib", "(<= Y_7 1.0)");
    folder
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn the_first_line_is_the_verdict() {
    let folder = folder();
    let of = |name: &str| [path(folder.path(), "net.onnx"), path(folder.path(), name)];
    let verify = |name: &str| stdout(&run(&["verify", "-q", &of(name)[0], &of(name)[1]]));
    assert_eq!(verify("never.vnnlib"), "unsat\n");
    let found = verify("always.vnnlib");
    assert!(found.starts_with("sat\n((X_0 ") && found.contains("(Y_1 "), "{found}");
    let [network, wrong] = of("wrong.vnnlib");
    let text = refused(&["verify", &network, &wrong], 2);
    assert!(text.contains("wrong.vnnlib") && text.contains("Y_7"), "{text}");
    let out = path(folder.path(), "out.jsonl");
    let text = refused(&["verify", &network, &of("never.vnnlib")[1], "--out", &out], 2);
    assert!(text.contains("--instances"), "{text}");
    assert!(refused(&["verify"], 2).contains("FILE"));
}

#[test]
fn inputs_fixed_to_decimals_have_witnesses() {
    // No f32 lies in the box; the verdict is about real arithmetic at the decimal, the witness the nearest f32.
    let folder = folder();
    let variables = ["X_0", "X_1", "Y_0", "Y_1"].map(|v| format!("(declare-const {v} Real)\n")).concat();
    let fixed = "(assert (<= X_0 0.1))(assert (>= X_0 0.1))(assert (<= X_1 0.3))(assert (>= X_1 0.2))";
    for (violation, verdict) in [("(<= Y_0 1000000.0)", "sat"), ("(>= Y_0 1000000.0)", "unsat")] {
        let file = path(folder.path(), "fixed.vnnlib");
        fs::write(&file, format!("{variables}{fixed}(assert {violation})")).expect("room");
        let found = stdout(&run(&["verify", "-q", &path(folder.path(), "net.onnx"), &file]));
        assert!(found.starts_with(&format!("{verdict}\n")), "{found}");
        if verdict == "sat" {
            let x = found.split("(X_0 ").nth(1).and_then(|rest| rest.split(')').next()).expect("a value");
            assert_eq!(x.parse::<f32>(), Ok(0.1));
        }
    }
}

#[test]
fn witnesses_lie_inside_ends_that_are_cut_off_decimals() {
    // 0.85 in f32 is 0.85000002384185791...: just above the end that the property has, where a descent ends.
    let folder = folder();
    let mut identity = dense_chain(&[2, 2, 2], true, Init::KaimingUniform, 0);
    for node in &mut identity.nodes {
        if let Op::Affine(Affine::Dense(dense)) = &mut node.op {
            dense.weight = Weights::new(vec![1.0, 0.0, 0.0, 1.0]);
        }
    }
    let [network, property] = ["identity.onnx", "end.vnnlib"].map(|name| path(folder.path(), name));
    tightrope::onnx::save(&identity, &network).expect("room");
    let variables = ["X_0", "X_1", "Y_0", "Y_1"].map(|v| format!("(declare-const {v} Real)\n")).concat();
    let sides =
        "(assert (<= X_0 0.8500000238418579))(assert (>= X_0 0.75))(assert (<= X_1 1))(assert (>= X_1 0))";
    fs::write(&property, format!("{variables}{sides}(assert (>= Y_0 0.849))")).expect("room");
    let found = stdout(&run(&["verify", "-q", "--timeout", "20", &network, &property]));
    let x = found.split("(X_0 ").nth(1).and_then(|rest| rest.split(')').next()).expect("a witness");
    let x: f64 = x.parse().expect("a number");
    assert!(found.starts_with("sat\n") && (0.849..=0.850_000_023_841_857_9).contains(&x), "{found}");
}

#[test]
fn tables_are_runs() {
    let folder = folder();
    let [table, whole, out] = ["table.csv", "whole.jsonl", "out.jsonl"].map(|n| path(folder.path(), n));
    let lines = ["never", "always", "wrong", "never"].map(|name| format!("net.onnx,{name}.vnnlib,20\n"));
    fs::write(&table, lines.concat()).expect("room");
    let svg = path(folder.path(), "solved.svg");
    let text = run(&["verify", "--instances", &table, "--out", &whole, "--svg", &svg]);
    let shown = stdout(&text);
    assert!(shown.contains("| net.onnx |         4 |     2 |   1 |"), "{shown}");
    assert!(
        String::from_utf8_lossy(&text.stderr).contains("instance 2: "),
        "the reason of what has no verdict"
    );
    assert!(fs::read_to_string(&svg).expect("a picture").contains("3 of 4 instances solved"));
    let (header, found) = records(Path::new(&whole));
    assert_eq!(header["run"]["command"], "verify");
    let verdicts: Vec<&Value> = found.iter().map(|record| &record["verdict"]).collect();
    assert_eq!(verdicts, [&Value::from("unsat"), &"sat".into(), &Value::Null, &"unsat".into()]);
    assert!(found[1]["assignment"].as_str().expect("a witness").starts_with("((X_0 "));
    assert!(found[2]["reason"].as_str().expect("a reason").contains("Y_7"));

    // What was cut off goes on, and shards are put together.
    let text = fs::read_to_string(&whole).expect("a run file");
    let kept: String = text.split_inclusive('\n').take(3).collect();
    fs::write(&out, kept + "{\"index\":2,").expect("room");
    stdout(&run(&["verify", "--instances", &table, "--out", &out, "--resume"]));
    assert_eq!(records(Path::new(&out)).1, found);
    let parts = ["0/2", "1/2"].map(|shard| {
        let part = path(folder.path(), &format!("part{}.jsonl", &shard[..1]));
        stdout(&run(&["verify", "--instances", &table, "--shard", shard, "--out", &part]));
        part
    });
    let merged = path(folder.path(), "merged.jsonl");
    stdout(&run(&["merge", &parts[0], &parts[1], "--out", &merged]));
    assert_eq!(records(Path::new(&merged)).1, found);

    // Another property under the old name is another run.
    fs::copy(folder.path().join("always.vnnlib"), folder.path().join("never.vnnlib")).expect("room");
    let text = refused(&["verify", "--instances", &table, "--out", &whole, "--resume"], 2);
    assert!(text.contains("files_sha256"), "{text}");
}

#[test]
fn verdicts_are_held_against_known_ones() {
    let folder = folder();
    let table = path(folder.path(), "table.csv");
    let lines =
        "onnx,vnnlib,seconds,verdict\nnet.onnx,never.vnnlib,20,unsat\nnet.onnx,always.vnnlib,20,unsat\n";
    fs::write(&table, lines).expect("room");
    let text = refused(&["verify", "--instances", &table], 1);
    assert!(text.contains("1 verdicts contradict"), "{text}");
    let text = refused(&["verify", "--instances", &path(folder.path(), "none.csv")], 2);
    assert!(text.contains("none.csv"), "{text}");
}

#[test]
fn a_solver_tells_what_it_supports() {
    assert_eq!(stdout(&run(&["--name"])), "Tightrope\n");
    let of = |flag: &str| stdout(&run(&["supports", flag]));
    assert_eq!(of("--onnx-opset-versions"), "7\n24\n");
    assert_eq!(of("--vnnlib-versions"), "1.0\n2.0\n");
    assert_eq!(of("--arithmetic-complexity-theories"), "BND\nOUTC\nLIN\nPOLY\n");
    assert_eq!(of("--serialise-assignments"), "true\n");
    assert!(of("--onnx-operators").lines().any(|name| name == "Conv"));
    assert_eq!(of("--onnx-element-types"), "real\nfloat32\n");
    assert!(refused(&["supports", "--everything"], 2).contains("--everything"));
}

#[test]
fn the_shipped_properties_have_the_verdicts_of_their_table() {
    let text = stdout(&run(&["verify", "--instances", "properties/pendulum.csv", "-q", "--json"]));
    let summary: Value = serde_json::from_str(&text).expect("JSON");
    let count = |name: &str| summary["all"][name].as_u64();
    assert_eq!((count("unsat"), count("sat"), count("contradictions")), (Some(2), Some(1), Some(0)));
}

/// The scripts of the verification competition.
#[cfg(unix)]
#[test]
fn the_scripts_of_the_competition_write_results() {
    let folder = folder();
    let script = |name: &str, arguments: &[&str]| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vnncomp").join(name);
        let mut command = std::process::Command::new(path);
        command.env("TIGHTROPE", assert_cmd::cargo::cargo_bin!("tightrope")).env("TMPDIR", folder.path());
        command.args(arguments).output().expect("the script starts").status.code()
    };
    let [network, results] = ["net.onnx", "results.txt"].map(|name| path(folder.path(), name));
    for (name, first) in [("never", "unsat\n"), ("always", "sat\n((X_0 "), ("wrong", "error\n")] {
        let property = path(folder.path(), &format!("{name}.vnnlib"));
        assert_eq!(script("prepare_instance.sh", &["v1", "any", &network, &property]), Some(0));
        let arguments = ["v1", "any", &network, &property, &results, "20"];
        assert_eq!(script("run_instance.sh", &arguments), Some(0));
        let found = fs::read_to_string(&results).expect("results");
        assert!(found.starts_with(first), "{name}: {found}");
    }
    let missing = path(folder.path(), "missing.vnnlib");
    assert_ne!(script("prepare_instance.sh", &["v1", "any", &network, &missing]), Some(0));
    assert_eq!(script("run_instance.sh", &["v2"]), Some(2));
}
