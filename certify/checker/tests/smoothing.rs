//! Records of smoothing, of `tightrope smooth models/mnist-mlp-noise50.onnx -n 100000` and of
//! `-n 10000 --map hardmax --bound clopper-pearson`: accepted, and rejected with fewer votes or more radius.

#![expect(dead_code, reason = "what other tests need")]

mod common;

use std::path::Path;

use common::check;

const RUN: &str = include_str!("smoothing.jsonl");

fn answers(text: &str) -> (i32, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.jsonl");
    std::fs::write(&path, text).expect("room");
    let (code, said) = check(&[Path::new("--smoothing"), &path]);
    (
        code,
        said.lines().map(|line| line.split_once(".jsonl: ").map_or(line, |(_, rest)| rest).into()).collect(),
    )
}

#[test]
fn votes_allow_their_radius_and_no_more() {
    let (code, said) = answers(RUN);
    assert_eq!((code, said.len()), (3, 4), "{said:?}");
    assert!(said[0].starts_with("accepted: input 0 has class 7 within radius 1.78"), "{said:?}");
    assert!(said[1].starts_with("accepted: input 8") && said[1].contains("61625 of 100000"), "{said:?}");
    assert!(said[2].starts_with("cannot check: input 2"), "{said:?}");
    assert!(said[3].starts_with("accepted: input 8"), "{said:?}");
    let lines: Vec<&str> = RUN.lines().collect();
    for (record, place) in [(lines[1], 0), (lines[2], 1), (lines[4], 3)] {
        let value: serde_json::Value = serde_json::from_str(record).expect("a record");
        let changed = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = value.clone();
            change(&mut value);
            answers(&format!("{}\n{value}\n", lines[0])).1.remove(0)
        };
        assert!(changed(&|_| ()).starts_with("accepted"), "{place}");
        let radius = value["radius"].as_f64().expect("a radius");
        for factor in [1.0 + 1e-8, 1.001, 2.0, 1e3] {
            let said = changed(&|v| {
                v["radius"] = (radius * factor).into();
                v["outcome"]["radius"] = (radius * factor).into();
            });
            assert!(said.starts_with("rejected"), "{place} {factor}: {said}");
        }
        let votes = if value["outcome"]["pairs"].is_null() { "/outcome/top" } else { "/outcome/pairs/0/1" };
        let said = changed(&|v| {
            let sum = v.pointer_mut(&format!("{votes}/sum")).expect("a sum");
            let fewer = sum.as_str().expect("digits").parse::<u128>().expect("a number") - (1 << 48);
            *sum = fewer.to_string().into();
        });
        assert!(said.starts_with("rejected"), "{place}: {said}");
        for (key, with, word) in [
            ("/outcome/ledger/entries/0/alpha", serde_json::json!(0.1), "rejected"),
            ("/outcome/ledger/total", serde_json::json!(0.1), "rejected"),
            ("/outcome/noise/gaussian", serde_json::json!(5.0), "rejected"),
            ("/outcome/noise/gaussian", serde_json::json!(0.4), "rejected"),
            ("/outcome/noise", serde_json::json!({"laplace": 0.5}), "rejected"),
            ("/outcome/charge", serde_json::json!(0.1), "cannot check"),
            ("/outcome/candidate/map", serde_json::json!("softmax:1"), "cannot check"),
            ("/outcome/anytime", serde_json::json!(true), "cannot check"),
            ("/outcome/radius", serde_json::json!(-1.0), "rejected"),
        ] {
            let said = changed(&|v| *v.pointer_mut(key).expect("a field") = with.clone());
            assert!(said.starts_with(word), "{place} {key}: {said}");
        }
    }
    assert_eq!(answers("{}\n").0, 2);
    assert_eq!(answers(&format!("{}\nno record\n", lines[0])).0, 2);
}
