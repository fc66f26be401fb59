//! Verdicts on properties: accepted, and rejected where the tree or the property is changed. The instances of the
//! competition are not part of the repository: they are looked for in the folder `TIGHTROPE_CORPUS`, or else in
//! `../shared`; a sample of them, or with `cargo xtask test --all` all.

#![expect(dead_code, reason = "what other tests need")]
#![expect(clippy::print_stderr, reason = "says what was skipped")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{check, models, unpacked};
use tightrope::bounds::Evaluation;
use tightrope::query::{Property, Query};
use tightrope::runs::{QueryCertificate, provenance};
use tightrope::verify::{Limits, Verdict, Verifier};

/// The verdict, and its certificate in a file if there is one.
fn verify(
    model: &Path,
    property: &Path,
    evaluation: Evaluation,
    folder: &Path,
) -> (Verdict, Option<PathBuf>) {
    let query = Query::load(Property::read(property).expect("a property"), &[model], true).expect("a query");
    let limits = Limits { timeout: Some(Duration::from_mins(1)), prove: true, ..Limits::default() };
    let verifier = Verifier::new(&query.graph).evaluated(evaluation);
    let outcome = verifier.verify(&query.regions, &|x, y| query.holds(x, y), &limits, &mut |_| true);
    let certificate = QueryCertificate::new(&query, evaluation, &outcome).expect("a linear property");
    let digest = |path: &Path| provenance::fingerprint(Path::new(""), &[path.to_owned()]).expect("readable");
    let path = certificate.map(|certificate| {
        let path = folder.join("verdict.cert.gz");
        certificate.save(&path, &digest(model), None, &digest(property)).expect("room");
        path
    });
    (outcome.verdict, path)
}

fn answer(model: &Path, property: &Path, certificate: &Path) -> (i32, String) {
    check(&[model, Path::new("--query"), property, certificate])
}

const DECLARED: &str = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n";

/// A property of the controller of a pendulum, in a file.
fn property(folder: &Path, asserted: &str) -> PathBuf {
    let path = folder.join("property.vnnlib");
    std::fs::write(&path, format!("; a comment\n{DECLARED}{asserted}")).expect("room");
    path
}

const BOX: &str = "(assert (<= X_0 0.3)) (assert (>= X_0 -0.3)) (assert (and (<= X_1 .3) (>= X_1 -3e-1)))\n";

#[test]
fn properties_of_a_controller() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = models().join("pendulum.onnx");
    for (asserted, expected) in [
        ("(assert (>= Y_0 2.0))", Verdict::Unsat),
        (
            "(assert (or (>= Y_0 2.0) (and (>= X_0 0.2) (>= Y_0 0.0) (<= X_1 0.3) (>= X_1 0.1))))",
            Verdict::Unsat,
        ),
        ("(assert (>= (+ X_0 (* 2.0 X_1)) 0.5)) (assert (>= Y_0 -0.1))", Verdict::Unsat),
        ("(assert (>= Y_0 -0.1))", Verdict::Sat),
        ("(assert (or (<= Y_0 -9.0) (>= 0.1 Y_0)))", Verdict::Sat),
    ] {
        let property = property(folder.path(), &format!("{BOX}{asserted}\n"));
        for evaluation in [Evaluation::Real, Evaluation::Float32] {
            let (verdict, certificate) = verify(&model, &property, evaluation, folder.path());
            assert_eq!(verdict, expected, "{asserted}");
            let (code, said) = answer(&model, &property, &certificate.expect("a verdict"));
            let word = if expected == Verdict::Unsat { "unsat" } else { "sat" };
            assert!(code == 0 && said.contains(&format!("accepted: property.vnnlib is {word}")), "{said}");
        }
    }
}

#[test]
fn changed_trees_and_properties_are_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = models().join("pendulum.onnx");
    let asserted = format!("{BOX}(assert (>= (+ X_0 (* 2.0 X_1)) 0.2)) (assert (>= Y_0 0.5))\n");
    let written = property(folder.path(), &asserted);
    let (verdict, certificate) = verify(&model, &written, Evaluation::Real, folder.path());
    let certificate = certificate.expect("a verdict");
    assert_eq!(verdict, Verdict::Unsat);
    let text = unpacked(&certificate);
    let changed = folder.path().join("changed.cert");
    let rejected = |text: &str, part: &str| {
        std::fs::write(&changed, text).expect("room");
        let (code, said) = answer(&model, &written, &changed);
        assert!(code == 1 && said.contains("rejected") && said.contains(part), "{part}: {said}");
    };
    assert!(text.contains("\nsplit "), "{text}");
    // The tree.
    let begin = text.find("box\n").expect("a tree");
    let blocks: Vec<&str> = text[begin..].split_inclusive("box\n").collect();
    assert!(blocks.len() > 3);
    for leaf in 1..blocks.len() {
        // A subproblem left out.
        let without: String =
            blocks.iter().enumerate().filter(|(i, _)| *i != leaf).map(|(_, block)| *block).collect();
        rejected(&format!("{}{without}", &text[..begin]), "subproblem");
    }
    for line in text.lines().filter(|line| line.starts_with("split ")) {
        // A cut that is moved covers as much: whatever the point, its two sides do.
        for wrong in ["split 2 0", "split 0", "split 0 7ff", "split 0 7ff8", "split -1 0", "part"] {
            rejected(&text.replacen(line, wrong, 1), "subproblem");
        }
    }
    // The region: smaller, another atom, one left out, one too many.
    let line = |word: &str| text.lines().find(|line| line.starts_with(word)).expect("a line").to_owned();
    let (lower, atom) = (line("lower "), line("atom bfe y0:"));
    let shifted = lower.replacen("bfd", "bfc", 1);
    assert_ne!(shifted, lower);
    rejected(&text.replace(&lower, &shifted), "left out");
    rejected(&text.replace(&lower, "lower 0"), "region");
    rejected(&text.replace(&lower, "lower 0 7ff"), "region");
    rejected(&text.replacen(&atom, &atom.replace("atom bfe", "atom bff"), 1), "left out");
    rejected(&text.replacen(&atom, &atom.replace("y0", "x0"), 1), "left out");
    rejected(&text.replacen(&atom, "atom bff", 1), "left out");
    rejected(&text.replacen(&atom, "atom 0 z0:3ff", 1), "region");
    rejected(&text.replacen(&atom, &format!("{atom}\natom bff y0:3ff"), 1), "left out");
    rejected(&text.replacen("region\n", "", 1), "left out");
    // The property.
    let larger = property(folder.path(), &asserted.replace("-0.3", "-0.4"));
    let (code, said) = answer(&model, &larger, &certificate);
    assert!(code == 1 && said.contains("another property"), "{said}");
    let digest = |path: &Path| provenance::fingerprint(Path::new(""), &[path.to_owned()]).expect("readable");
    let query = line("query ");
    for wider in [
        asserted.replace("-0.3", "-0.4"),
        asserted.replace("0.2)", "0.1)"),
        asserted.replace("0.5)", "0.4)"),
        asserted.replace("(>= Y_0 0.5)", "(or (>= Y_0 0.5) (<= Y_0 -9.0))"),
        asserted.replace("(assert (<= X_0 0.3))", ""),
    ] {
        let path = property(folder.path(), &wider);
        std::fs::write(&changed, text.replace(&query, &format!("query {}", digest(&path)))).expect("room");
        let (code, said) = answer(&model, &path, &changed);
        assert!(code == 1 && said.contains("is left out"), "{wider}: {said}");
    }
    for strange in [
        asserted.replace("(>= Y_0 0.5)", "(>= (* Y_0 Y_0) -0.1)"),
        asserted.replace("(>= Y_0 0.5)", "(!= Y_0 -0.1)"),
        asserted.replace("(>= Y_0 0.5)", "(>= Y_0 -0.1"),
        format!("{asserted}(check-sat)"),
        format!("{}{}", "(".repeat(1_000_000), ")".repeat(1_000_000)),
    ] {
        let path = property(folder.path(), &strange);
        std::fs::write(&changed, text.replace(&query, &format!("query {}", digest(&path)))).expect("room");
        let (code, said) = answer(&model, &path, &changed);
        assert!(code == 3 && said.contains("cannot check"), "{said}");
    }
    // A witness that is none.
    let written = property(folder.path(), &format!("{BOX}(assert (>= Y_0 0.1))\n"));
    let (verdict, certificate) = verify(&model, &written, Evaluation::Real, folder.path());
    assert_eq!(verdict, Verdict::Sat);
    let text = unpacked(&certificate.expect("a verdict"));
    let witness = text.lines().find(|line| line.starts_with("witness ")).expect("a witness");
    for wrong in
        ["witness 00000000 00000000", "witness 40000000 c0000000", "witness 7f800000 00000000", "witness"]
    {
        std::fs::write(&changed, text.replace(witness, wrong)).expect("room");
        assert_eq!(answer(&model, &written, &changed).0, 1, "{wrong}");
    }
}

#[test]
fn instances_of_the_competition() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let corpus = std::env::var_os("TIGHTROPE_CORPUS").map_or(default, PathBuf::from).join("vnncomp/acasxu");
    let Ok(table) = std::fs::read_to_string(corpus.join("truth.csv")) else {
        eprintln!("skipped: no corpus at {} (set TIGHTROPE_CORPUS)", corpus.display());
        return;
    };
    let every = if std::env::var_os("TIGHTROPE_ALL").is_some() { 1 } else { 31 };
    let folder = tempfile::tempdir().expect("a folder");
    let mut accepted = 0;
    for line in table.lines().skip(1).step_by(every) {
        let columns: Vec<&str> = line.split(',').collect();
        let [model, property] = [columns[0], columns[1]].map(|name| corpus.join(name));
        let property = if property.exists() { property } else { property.with_extension("") };
        let (verdict, certificate) = verify(&model, &property, Evaluation::Real, folder.path());
        let Some(certificate) = certificate else { continue };
        let (code, said) = answer(&model, &property, &certificate);
        assert!(code == 0 && said.contains("accepted"), "{line}: {verdict:?}: {said}");
        accepted += 1;
    }
    assert!(accepted * every > 170, "{accepted} of every {every} instances");
}
