//! `tightrope certify --method complete`.

mod common;

use ndarray::{Array1, Array2};
use ndarray_npy::write_npy;
use tightrope::attack::class_of;
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};
use tightrope::tightness::generate::{Init, dense_chain};

use common::{models, records, refused, run, stdout};

const PLAIN: &str = "mnist-cnn-plain.onnx";

#[test]
fn inputs_end_certified_or_falsified_by_a_point_of_their_box() {
    let folder = tempfile::tempdir().expect("a folder");
    let graph = load(models().join(PLAIN), &LoadOptions::default()).expect("a shipped network");
    let plan = Plan::new(&graph);
    let (mut proved, mut refuted) = (0, 0);
    for (eps, indices) in [("0.037", "0..2"), ("0.02", "7..9")] {
        let out = folder.path().join(eps);
        let kept = folder.path().join("found");
        let paths = [&out, &kept].map(|p| p.to_str().expect("UTF-8"));
        let asked = ["certify", PLAIN, "--eps", eps, "--indices", indices, "--method", "best,complete"];
        let more = ["--timeout", "100", "--out", paths[0], "--counterexamples", paths[1]];
        let text = stdout(&run(&[&asked[..], &more].concat()));
        assert!(text.contains("complete") && text.contains("open"), "{text}");
        let (header, found) = records(&out);
        assert_eq!((&header["run"]["timeout"], found.len()), (&serde_json::json!(100.0), 4));
        for pair in found.chunks(2) {
            let [best, complete] = pair else { panic!("two records for each input") };
            if best["status"] == "certified" {
                // Nothing is left to search for.
                assert_eq!(complete["margin_lower"], best["margin_lower"]);
                assert!(complete.get("subproblems").is_none());
                continue;
            }
            assert_eq!((&best["status"], &complete["bounded_by"]), (&"unknown".into(), &"complete".into()));
            if complete["status"] == "certified" {
                proved += 1;
                let margins = complete["margin_lower"].as_array().expect("margins");
                assert!(margins.iter().filter_map(serde_json::Value::as_f64).all(|m| m >= 0.0), "{complete}");
                assert!(complete["subproblems"].as_u64() > Some(1), "{complete}");
            } else {
                refuted += 1;
                assert_eq!(complete["status"], "falsified");
                let file = complete["counterexample"].as_str().expect("a counterexample");
                let point: ndarray::ArrayD<f32> = ndarray_npy::read_npy(file).expect("an array");
                let point = point.into_shape_with_order((1, 784)).expect("an image");
                let class = class_of(&plan.run(point.view()).row(0).to_vec()).expect("a class");
                assert_ne!(complete["label"], class);
            }
        }
    }
    assert_eq!((proved, refuted), (1, 1));
}

#[test]
fn a_bracket_is_narrower_than_that_of_bounds_and_attack() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    // Small enough for every search to end, deep enough for bounds to be loose.
    let network = dense_chain(&[6, 12, 12, 2], true, Init::KaimingUniform, 3);
    tightrope::onnx::save(&network, path("net.onnx")).expect("room");
    let x = Array2::from_shape_fn((6, 6), |(i, k)| (((7 * i + 3 * k) % 11) as f32 - 5.0) / 4.0);
    let classes = Plan::new(&network).run(x.view());
    let y = classes.rows().into_iter().map(|row| class_of(&row.to_vec()).expect("a class") as i64);
    write_npy(path("y.npy"), &y.collect::<Array1<i64>>()).expect("room");
    write_npy(path("x.npy"), &x).expect("room");
    let brackets = |method: &[&str]| {
        let (net, x, y, out) = (path("net.onnx"), path("x.npy"), path("y.npy"), path(method[0]));
        let asked = ["certify", &net, "--radius", "--eps", "4", "--data", &x, "--labels", &y, "--out", &out];
        stdout(&run(&[&asked[..], &["--method"], method].concat()));
        records(std::path::Path::new(&out)).1
    };
    let (mut wider, mut met, eps) = (0, 0, |record: &serde_json::Value, name: &str| record[name].as_f64());
    let all = brackets(&["complete", "--timeout", "100"]);
    assert_eq!(all.len(), 6);
    for (complete, best) in all.iter().zip(brackets(&["best"])) {
        let [certified, by_bounds] =
            [complete, &best].map(|record| eps(record, "certified_eps").expect("a radius"));
        let attacked = eps(complete, "attacked_eps");
        assert!(certified >= by_bounds && attacked.is_none_or(|e| e > certified));
        wider += u32::from(certified > by_bounds);
        met += u32::from(attacked.is_some_and(|e| e - certified <= 4.0 / 1000.0));
    }
    assert!(wider > 0 && met > 0, "{all:?}");
}

#[test]
fn what_cannot_be_searched_is_said() {
    let text = refused(&["certify", PLAIN, "--eps", "0.1", "--timeout", "3"], 2);
    assert!(text.contains("--method complete"), "{text}");
    let text = refused(&["certify", PLAIN, "--eps", "1", "--norm", "l2", "--method", "complete"], 2);
    assert!(text.contains("norm linf"), "{text}");
    let text = refused(&["certify", PLAIN, "--eps", "1", "--method", "complete", "--timeout", "0"], 2);
    assert!(text.contains("seconds > 0"), "{text}");
}
