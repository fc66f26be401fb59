//! `--certificates` and `--certificate`; what they hold is checked in `certify/checker`.

#![expect(dead_code, reason = "what other tests need")]

mod common;

use std::io::Read;
use std::path::Path;

use common::{refused, run, stdout};

fn text(path: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("a file");
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a text");
    text
}

#[test]
fn certified_and_falsified_inputs_have_certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("certificates");
    let name = path.to_str().expect("UTF-8");
    let model = "mnist-cnn-ibp0.1.onnx";
    let asked = ["certify", model, "--indices", "0..20", "--eps", "2/255", "--method", "ibp"];
    let said = stdout(&run(&[&asked[..], &["--certificates", name]].concat()));
    assert!(said.contains("mnist-cnn-ibp0.1"), "{said}");
    let mut verdicts = Vec::new();
    for file in std::fs::read_dir(&path).expect("a folder") {
        let file = file.expect("a file").path();
        assert!(file.to_string_lossy().ends_with("-eps2_255-ibp.cert.gz"), "{}", file.display());
        let text = text(&file);
        assert!(text.starts_with("tightrope-certificate 1\nmodel ") && text.ends_with("\nend\n"), "{text}");
        assert!(text.contains("\narithmetic float32\n") && text.contains("\neps 2/255\n"));
        verdicts.push(text.contains("\nverdict certified\nbox\nrow 0\nconstant\n"));
    }
    assert_eq!(verdicts, [true; 20]);
    let refusal =
        refused(&[&asked[..], &["--certificates", name, "--mean", "0.1", "--std", "0.3"]].concat(), 2);
    assert!(refusal.contains("--certificates with --mean"), "{refusal}");
    refused(&[&asked[..], &["--certificates", name, "--radius"]].concat(), 2);
}

#[test]
fn a_verdict_has_a_certificate_if_its_property_can_have_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let [property, certificate] = ["p.vnnlib", "p.cert.gz"].map(|name| folder.path().join(name));
    let declared = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)";
    let sides = "(assert (and (<= X_0 .3) (>= X_0 -.3) (<= X_1 .3) (>= X_1 -.3)))";
    std::fs::write(&property, format!("{declared}{sides}(assert (>= Y_0 2.0))")).expect("room");
    let [query, written] = [&property, &certificate].map(|path| path.to_str().expect("UTF-8"));
    let asked = ["verify", "pendulum.onnx", query, "--certificate", written];
    assert_eq!(stdout(&run(&asked)).trim(), "unsat");
    let found = text(&certificate);
    assert!(found.contains("\nquery ") && found.contains("\nverdict unsat\nregion\nlower "), "{found}");
    let two = ["verify", "pendulum.onnx", "properties/pendulum-descent.vnnlib", "--certificate", written];
    let refusal = refused(&two, 2);
    assert!(refusal.contains("certificates are of VNN-LIB 1"), "{refusal}");
}
