//! Certificates by the library, and the checker's answers.

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use flate2::read::GzDecoder;
use ndarray::ArrayView2;
use tightrope::attack::Pgd;
use tightrope::bounds::{Evaluation, Method, Norm};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load};
use tightrope::runs::{Certify, Inputs, Pixels, answer, provenance};

pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

/// What is asked of some inputs.
#[derive(Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) model: &'a Path,
    pub(crate) x: ArrayView2<'a, f32>,
    pub(crate) labels: &'a [usize],
    pub(crate) eps: &'a str,
    pub(crate) norm: Norm,
    pub(crate) clip: Option<(f64, f64)>,
    pub(crate) method: Method,
    pub(crate) evaluation: Evaluation,
    pub(crate) attack: Option<Pgd>,
}

/// The certificates of what is certified or falsified, with the number of each input.
pub(crate) fn certificates(asked: &Asked, folder: &Path) -> Vec<(usize, PathBuf)> {
    let Asked { model, x, labels, .. } = asked;
    let graph = load(model, &LoadOptions::default()).expect("a network");
    let plan = Plan::new(&graph);
    let region = (asked.norm, vec![asked.eps.parse().expect("a radius")], asked.clip);
    let timeout = Some(Duration::from_secs(100));
    let question = Certify::new((&graph, &plan), region, &[Some(asked.method)], asked.attack, timeout);
    let mut question = question.expect("a question").evaluated(asked.evaluation);
    let digest = provenance::fingerprint(Path::new(""), &[model.to_path_buf()]).expect("readable");
    let written = RefCell::new(Vec::new());
    let prove = |certificate: &tightrope::runs::Certificate| {
        let path = folder.join(format!("{}.cert.gz", certificate.index));
        certificate.save(&path, &digest, None)?;
        written.borrow_mut().push((certificate.index, path));
        Ok(())
    };
    question.prove = Some(&prove);
    let indices = (0..labels.len()).collect();
    let inputs = Inputs::new(indices, Some(labels.to_vec()), Pixels::Rows(*x));
    let finished = answer(&question, &inputs, None, Vec::new(), &mut |_| true);
    finished.ended.expect("answers");
    written.into_inner()
}

/// The first inputs of the shipped images of digits.
pub(crate) fn digits(n: usize) -> (ndarray::Array2<f32>, Vec<usize>) {
    let data = models().join("data");
    let images = data.join("mnist-test-1000-images.idx.gz");
    let labels = data.join("mnist-test-1000-labels.idx.gz");
    let data = tightrope::data::Dataset::open(&images, Some(&labels), None).expect("shipped data");
    let arrangement = data.arrange(&[1, 1, 28, 28]).expect("images");
    let pixels = (0..n).flat_map(|i| data.image(i, &arrangement).expect("an image")).collect();
    let labels = data.labels().expect("labels")[..n].to_vec();
    (ndarray::Array2::from_shape_vec((n, 784), pixels).expect("a table"), labels)
}

pub(crate) fn unpacked(path: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("a certificate");
    GzDecoder::new(file).read_to_string(&mut text).expect("a text");
    text
}

pub(crate) fn run(arguments: &[&Path]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("tightrope-check"));
    command.args(arguments).output().expect("the program starts")
}

/// Exit code, and all that was said.
pub(crate) fn check(arguments: &[&Path]) -> (i32, String) {
    let output = run(arguments);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().expect("no signal"), text)
}
