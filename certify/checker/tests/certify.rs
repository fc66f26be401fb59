//! Certificates of shipped networks: accepted as they are, rejected where they are changed for the worse.

mod common;

use std::path::{Path, PathBuf};

use common::{Asked, certificates, check, digits, models, unpacked};
use onnx_protobuf::ModelProto;
use protobuf::Message;
use tightrope::attack::Pgd;
use tightrope::bounds::{Evaluation, Method, Norm};

/// Certificates for the first digits by a method in real arithmetic.
fn of(name: &str, (n, eps): (usize, &str), method: Method, folder: &Path) -> (PathBuf, Vec<PathBuf>) {
    let model = models().join(name);
    let (x, labels) = digits(n);
    let asked = Asked {
        model: &model,
        x: x.view(),
        labels: &labels,
        eps,
        norm: Norm::Linf,
        clip: Some((0.0, 1.0)),
        method,
        evaluation: Evaluation::Real,
        attack: None,
    };
    let found = certificates(&asked, folder).into_iter().map(|(_, path)| path).collect();
    (model, found)
}

/// The answer to a certificate with this text.
fn answer_to(model: &Path, folder: &Path, text: &str) -> (i32, String) {
    let path = folder.join("changed.cert");
    std::fs::write(&path, text).expect("room");
    check(&[model, &path])
}

#[test]
fn shipped_networks_are_accepted_by_every_method() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, eps, method, least) in [
        ("mnist-cnn-ibp0.1.onnx", "0.1", Method::Ibp, 7),
        ("mnist-cnn-pgd0.1.onnx", "5/255", Method::CrownIbp, 6),
        ("mnist-cnn-plain.onnx", "0.02", Method::Crown, 6),
        ("mnist-cnn-pgd0.1.onnx", "0.07", Method::AlphaCrown, 4),
        ("mnist-mlp-noise25.onnx", "0.02", Method::Best, 4),
    ] {
        let (model, found) = of(name, (8, eps), method, folder.path());
        assert!(found.len() >= least, "{name} {method:?}: {}", found.len());
        let all: Vec<&Path> = std::iter::once(&model).chain(&found).map(PathBuf::as_path).collect();
        let (code, text) = check(&all);
        assert_eq!(code, 0, "{name} {method:?}: {text}");
        assert_eq!(text.lines().filter(|line| line.contains(": accepted: class ")).count(), found.len());
        // Ten times the model is what a certificate may take.
        let size = |path: &PathBuf| std::fs::metadata(path).expect("a file").len();
        assert!(found.iter().all(|path| size(path) <= 10 * size(&model)));
    }
}

#[test]
fn balls_and_witnesses_are_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = models().join("mnist-mlp-noise25.onnx");
    let (x, labels) = digits(6);
    for (norm, eps, evaluation) in [
        (Norm::L2, "0.3", Evaluation::Real),
        (Norm::L1, "1/2", Evaluation::Float32),
        (Norm::Linf, "0.2", Evaluation::Real),
    ] {
        let asked = Asked {
            model: &model,
            x: x.view(),
            labels: &labels,
            eps,
            norm,
            clip: None,
            method: Method::Crown,
            evaluation,
            attack: Some(Pgd { steps: 20, restarts: 1, seed: 0 }),
        };
        let found = certificates(&asked, folder.path());
        assert!(found.len() >= 5, "{norm:?}: {}", found.len());
        for (i, path) in found {
            let text = unpacked(&path);
            let (code, said) = check(&[&model, &path]);
            let (word, label) =
                if norm == Norm::Linf { ("not class", labels[i]) } else { ("class", labels[i]) };
            // A witness may be closer than rounding lets see.
            let close = norm == Norm::Linf && code == 3 && said.contains("too close to call");
            assert!(close || said.contains(&format!("accepted: {word} {label} ")), "{norm:?} {i}: {said}");
            if norm == Norm::Linf && !close {
                let smaller = answer_to(&model, folder.path(), &text.replace("eps 0.2", "eps 0.01"));
                assert!(smaller.0 == 1 && smaller.1.contains("no perturbation"), "{}", smaller.1);
                let other = text.replace(&format!("label {label}"), &format!("label {}", (label + 1) % 10));
                assert!(answer_to(&model, folder.path(), &other).1.contains("accepted: not class"));
            }
        }
    }
}

#[test]
fn what_is_changed_for_the_worse_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, found) = of("mnist-cnn-plain.onnx", (4, "0.02"), Method::Crown, folder.path());
    let text = unpacked(&found[0]);
    let rejected = |text: &str, part: &str| {
        let (code, said) = answer_to(&model, folder.path(), text);
        assert_eq!(code, 1, "{part}: {said}");
        assert!(said.contains("rejected") && said.contains(part), "{part}: {said}");
    };
    assert_eq!(answer_to(&model, folder.path(), &text).0, 0);
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).expect("a line").to_owned();
    // The claim.
    rejected(&text.replace("eps 0.02", "eps 0.2"), "not refuted");
    rejected(&text.replace("eps 0.02", "eps -0.02"), "eps");
    rejected(&text.replace("label 7", "label 2"), "not refuted");
    rejected(&text.replace("label 7", "label 10"), "label");
    rejected(&text.replace("norm linf", "norm linfty"), "norm");
    let input = line("input ");
    rejected(&text.replace(&input, "input 7f800000"), "input");
    rejected(&text.replace(&input, &input.replacen("00000000", "7fc00000", 1)), "input");
    let model_line = line("model ");
    rejected(&text.replace(&model_line, &format!("{model_line}0")), "another model");
    let other = models().join("mnist-cnn-pgd0.1.onnx");
    let (code, said) = check(&[&other, &found[0]]);
    assert!(code == 1 && said.contains("another model"), "{said}");
    // Another image, of another class.
    let (_, images) = digits(4);
    assert_ne!(images[0], images[1]);
    let another = unpacked(&found[1]);
    let another = another.lines().find(|line| line.starts_with("input ")).expect("an input");
    rejected(&text.replace(&input, another), "not refuted");
    // The proof.
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("row ")).collect();
    assert_eq!(rows.len(), 9);
    for row in &rows {
        // A disjunct left out, and one proved twice instead.
        rejected(&text.replace(&format!("{row}\n"), ""), "not refuted");
        let twice = if *row == "row 0" { "row 1" } else { "row 0" };
        rejected(&text.replace(&format!("{row}\n"), &format!("{twice}\n")), "not refuted");
    }
    let bends: Vec<&str> = text.lines().filter(|line| line.starts_with("lines ")).collect();
    assert_eq!(bends.len(), 3);
    for lines in bends {
        let nan = lines.replacen(" 3ff", " 7ff8", 1);
        for wrong in [
            &nan,
            &lines.replacen(" 3ff", " 7ff", 1),
            &lines.replacen(" 3ff", " g", 1),
            &format!("{lines} 0"),
        ] {
            rejected(&text.replace(lines, wrong), "lines that are none");
        }
    }
    // Constants instead of lines, intervals without backward passes: bounds that hold and are of no use.
    for word in ["lines ", "above ", "below "] {
        let without = text.lines().filter(|line| !line.starts_with(word)).map(|line| format!("{line}\n"));
        rejected(&without.collect::<String>(), "not refuted");
    }
    for part in [
        "row 9",
        "row x",
        "row 0\nweights -3ff",
        "row 0\nweights bff",
        "row 0\nweights 0",
        "row 0\nweights 3ff 3ff",
        "row 0\nweights 7ff",
        "row 0\nmultipliers 3ff",
        "row 0\nvia no\nslopes 0",
        "cut 0 0 0 /1/Relu",
        "split 0 7ff8",
        "split 784 0",
        "split 0 0",
        "fork",
        "again",
        "box",
        "below 0",
    ] {
        let changed = text.replacen("row 0\n", &format!("{part}\n"), 1);
        assert_eq!(answer_to(&model, folder.path(), &changed).0, 1, "{part}");
    }
    for end in (0..text.len()).step_by(text.len() / 40).filter(|end| text.is_char_boundary(*end)) {
        let (code, said) = answer_to(&model, folder.path(), &text[..end]);
        assert_eq!(code, 1, "{end}: {said}");
    }
    rejected(&format!("{text}box\n"), "follows");
    let bytes = std::fs::read(&found[0]).expect("a file");
    let short = folder.path().join("short.cert.gz");
    std::fs::write(&short, &bytes[..bytes.len() / 2]).expect("room");
    assert_eq!(check(&[&model, &short]).0, 2);
}

#[test]
fn what_is_not_known_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = models().join("mnist-maxmin-lipschitz1.onnx");
    let (code, said) = answer_to(&model, folder.path(), "");
    assert!(code == 3 && said.contains("cannot check") && said.contains("/1/MatMul"), "{said}");
    let bytes = std::fs::read(models().join("mnist-mlp-noise25.onnx")).expect("a shipped network");
    let mut old = ModelProto::parse_from_bytes(&bytes).expect("a model");
    old.opset_import[0].version = 6;
    let path = folder.path().join("old.onnx");
    std::fs::write(&path, old.write_to_bytes().expect("a model")).expect("room");
    let (code, said) = answer_to(&path, folder.path(), "");
    assert!(code == 3 && said.contains("operators of version 6"), "{said}");
    let (model, found) = of("mnist-cnn-ibp0.1.onnx", (1, "0.1"), Method::Ibp, folder.path());
    let text = unpacked(&found[0]);
    for (from, to) in
        [("tightrope-certificate 1", "tightrope-certificate 2"), ("arithmetic real", "arithmetic fixed")]
    {
        let (code, said) = answer_to(&model, folder.path(), &text.replace(from, to));
        assert!(code == 3 && said.contains("cannot check"), "{said}");
    }
}

#[test]
fn deep_trees_end_in_an_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, found) = of("mnist-cnn-ibp0.1.onnx", (1, "0.01"), Method::Ibp, folder.path());
    let text = unpacked(&found[0]);
    let head = text.split_inclusive('\n').take_while(|line| *line != "box\n").collect::<String>();
    for nested in [
        "box\nagain\n".repeat(12),
        "box\nsplit 0 3fe\n".repeat(12),
        format!("box\n{}", "fork\npart\n".repeat(1_000_000)),
    ] {
        let (code, said) = answer_to(&model, folder.path(), &format!("{head}{nested}"));
        assert_eq!(code, 1, "{said}");
    }
}
