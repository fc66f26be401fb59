//! Certificates that were changed at random, and claims that are false: what is accepted is true.

mod common;

use std::path::{Path, PathBuf};

use common::{Asked, certificates, check, digits, models, unpacked};
use ndarray::Array2;
use onnx_protobuf::ModelProto;
use protobuf::Message;
use tightrope::bounds::{Evaluation, Method, Norm};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load, save, to_bytes};
use tightrope::ops::{Affine, Op, Periodic, Weights};
use tightrope::tightness::generate::{Init, dense_chain};

/// Numbers that look like chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }

    fn unit(&mut self) -> f32 {
        self.below(1 << 20) as f32 / (1 << 20) as f32
    }
}

/// One line of a proof changed: a character, a word, the line; left out, twice, or in another place.
fn mutated(proof: &str, chance: &mut Chance) -> String {
    let mut lines: Vec<String> = proof.lines().map(str::to_owned).collect();
    let at = chance.below(lines.len());
    match chance.below(8) {
        0 => drop(lines.remove(at)),
        1 => {
            let other = chance.below(lines.len());
            lines.swap(at, other);
        }
        2 => {
            let line = lines[chance.below(lines.len())].clone();
            lines.insert(at, line);
        }
        3 | 4 => {
            let mut words: Vec<&str> = lines[at].split(' ').collect();
            let with = ["0", "3ff", "bff", "7ff", "7ff8", "fff", "1", "8", "4024", "x", "-1", "99999"];
            let (place, with) = (chance.below(words.len()), with[chance.below(with.len())]);
            words[place] = with;
            lines[at] = words.join(" ");
        }
        _ => {
            let mut bytes = lines[at].clone().into_bytes();
            let (place, with) = (chance.below(bytes.len()), b"0123456789abcdef:- ");
            if let Some(byte) = bytes.get_mut(place) {
                *byte = with[chance.below(with.len())];
            }
            lines[at] = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    lines.join("\n") + "\n"
}

/// The answers to certificates, a file each; all of one model.
fn answers(model: &Path, texts: &[String]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |(i, text): (usize, &String)| {
        let path = folder.path().join(format!("{i}.cert"));
        std::fs::write(&path, text).expect("room");
        path
    };
    let files: Vec<PathBuf> = texts.iter().enumerate().map(write).collect();
    let mut all = Vec::new();
    for files in files.chunks(100) {
        let arguments: Vec<&Path> =
            std::iter::once(model).chain(files.iter().map(PathBuf::as_path)).collect();
        let (_, said) = check(&arguments);
        let answer = |line: &str| line.split_once(".cert: ").expect("an answer").1.to_owned();
        all.extend(said.lines().map(answer));
    }
    assert_eq!(all.len(), texts.len());
    all
}

#[test]
fn a_changed_proof_proves_the_same_or_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (x, labels) = digits(4);
    let (mut kept, mut lost) = (0, 0);
    for (name, eps, method) in [
        ("mnist-mlp-noise25.onnx", "0.03", Method::AlphaCrown),
        ("mnist-cnn-pgd0.1.onnx", "0.08", Method::Complete),
    ] {
        let model = models().join(name);
        let (x, labels, evaluation) = (x.view(), &labels[..], Evaluation::Float32);
        let (norm, clip) = (Norm::Linf, Some((0.0, 1.0)));
        let asked = Asked { model: &model, x, labels, eps, norm, clip, method, evaluation, attack: None };
        let found = certificates(&asked, folder.path());
        assert!(found.len() >= 2, "{name}: {}", found.len());
        for (seed, (_, path)) in found.iter().enumerate() {
            let text = unpacked(path);
            let truth = answers(&model, std::slice::from_ref(&text)).remove(0);
            assert!(truth.starts_with("accepted: class "), "{truth}");
            let claim = |answer: &str| answer.split("; subproblems").next().expect("a claim").to_owned();
            let begin = text.find("box\n").expect("a proof");
            let mut chance = Chance(seed as u64 + 77);
            let changed = (0..1200 / (2 * found.len()))
                .map(|_| text[..begin].to_owned() + &mutated(&text[begin..], &mut chance));
            for answer in answers(&model, &changed.collect::<Vec<_>>()) {
                if answer.starts_with("accepted") {
                    assert_eq!(claim(&answer), claim(&truth));
                    kept += 1;
                } else {
                    assert!(answer.starts_with("rejected"), "{answer}");
                    lost += 1;
                }
            }
        }
    }
    assert!(kept + lost >= 1000 && lost > 300, "{kept} proofs of the same, {lost} rejected");
}

/// Small networks with several functions, in files.
fn networks(folder: &Path) -> Vec<PathBuf> {
    let of = |seed: usize| {
        let path = folder.join(format!("{seed}.onnx"));
        let graph = dense_chain(&[3, 8, 6, 3], true, Init::KaimingUniform, seed as u64);
        let mut proto =
            ModelProto::parse_from_bytes(&to_bytes(&graph).expect("dense layers")).expect("a model");
        let nodes = &mut proto.graph.as_mut().expect("a graph").node;
        for node in nodes.iter_mut().filter(|node| node.op_type == "Relu") {
            node.op_type = ["Relu", "Sigmoid", "Tanh", "LeakyRelu"][seed % 4].into();
        }
        std::fs::write(&path, proto.write_to_bytes().expect("a model")).expect("room");
        path
    };
    (0..8).map(of).collect()
}

#[test]
fn false_claims_are_never_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut proved, mut wrong) = (0, 0);
    for (seed, model) in networks(folder.path()).iter().enumerate() {
        let plan = Plan::new(&load(model, &LoadOptions::default()).expect("a network"));
        let mut chance = Chance(seed as u64 + 5);
        let x = Array2::from_shape_simple_fn((12, 3), || 2.0 * chance.unit() - 1.0);
        let class = |z: &Array2<f32>| -> Vec<usize> {
            let of = |y: ndarray::ArrayView1<f32>| {
                (0..y.len()).reduce(|a, b| if y[b] > y[a] { b } else { a }).expect("a class")
            };
            plan.run(z.view()).rows().into_iter().map(of).collect()
        };
        let labels = class(&x);
        for (method, evaluation) in [
            (Method::Crown, Evaluation::Real),
            (Method::AlphaCrown, Evaluation::Float32),
            (Method::Complete, Evaluation::Float32),
        ] {
            let (x, labels, model) = (x.view(), &labels[..], model.as_path());
            let (eps, norm) = ("0.05", Norm::Linf);
            let asked = Asked { model, x, labels, eps, norm, clip: None, method, evaluation, attack: None };
            let found = certificates(&asked, folder.path());
            let texts: Vec<(usize, String)> = found.iter().map(|(i, path)| (*i, unpacked(path))).collect();
            let plain: Vec<String> = texts.iter().map(|(_, text)| text.clone()).collect();
            for (answer, (i, text)) in answers(model, &plain).into_iter().zip(&texts) {
                // What is falsified may be too close to call in f32.
                let certified = text.contains("verdict certified");
                assert!(answer.starts_with("accepted") || !certified, "{seed} {i} {method:?}: {answer}");
                proved += usize::from(certified);
            }
            // The same proofs for larger radii, up to where a sampled point has another class, and beyond.
            for (i, text) in texts.iter().filter(|(_, text)| text.contains("verdict certified")) {
                let larger: Vec<f32> = (1..24).map(|k| 0.05 * 1.3_f32.powi(k)).collect();
                let changed: Vec<String> =
                    larger.iter().map(|eps| text.replace("eps 0.05", &format!("eps {eps}"))).collect();
                for (answer, eps) in answers(model, &changed).iter().zip(&larger) {
                    let near = Array2::from_shape_fn((400, 3), |(row, k)| {
                        let corner = if (row >> k) & 1 == 1 { 1.0 } else { -1.0 };
                        let step = if row < 8 { corner } else { 2.0 * chance.unit() - 1.0 };
                        x[[*i, k]] + eps * step * 0.9999
                    });
                    let refuted = class(&near).into_iter().any(|class| class != labels[*i]);
                    wrong += usize::from(refuted);
                    assert!(!(refuted && answer.starts_with("accepted")), "{seed} {i} {eps}: {answer}");
                }
            }
        }
    }
    assert!(proved > 100 && wrong > 200, "{proved} certificates, {wrong} false claims");
}

/// The first layers are large and the last small, so that the coefficient on what the first give underflows in a
/// pass from behind, while the result counts; and the same with factors of a usual size.
#[test]
fn what_underflows_is_charged() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("chain.onnx");
    for (large, small, last) in [(1e38_f32, 1e-40_f32, 1e-10_f32), (1e3, 1e-3, 1.0)] {
        let factors = [vec![large; 8], vec![small; 8], vec![last]].concat();
        let product: f64 = factors.iter().map(|&factor| f64::from(factor)).product();
        let widths = [vec![1; factors.len() + 1], vec![2]].concat();
        for relu in [false, true] {
            // Class 0 has 1.2 times the product, class 1 x times it.
            let mut graph = dense_chain(&widths, relu, Init::KaimingUniform, 1);
            let mut left = factors.iter();
            for node in &mut graph.nodes {
                if let Op::Affine(Affine::Dense(dense)) = &mut node.op {
                    let bias =
                        || Some(Periodic::new(Weights::new(vec![f64::from((1.2 * product) as f32), 0.0]), 1));
                    let (weight, bias) = left
                        .next()
                        .map_or_else(|| (vec![0.0, 1.0], bias()), |&factor| (vec![factor.into()], None));
                    (dense.weight, dense.bias) = (Weights::new(weight), bias);
                }
            }
            save(&graph, &model).expect("room");
            let digest =
                tightrope::runs::provenance::fingerprint(Path::new(""), std::slice::from_ref(&model))
                    .expect("readable");
            let claim = |eps: &str| {
                format!(
                    "tightrope-certificate 1\nmodel {digest}\narithmetic real\nlabel 0\nnorm linf\neps {eps}\n\
                     clip none\ninput 3f800000\nverdict certified\nbox\nrow 0\nend\n"
                )
            };
            let said = answers(&model, &["0.1", "0.3", "0.5"].map(claim));
            assert!(said[0].starts_with("accepted") || large > 1e3, "{relu} {said:?}");
            assert!(
                said[1..].iter().all(|said| said.contains("disjuncts 0 are not refuted")),
                "{relu} {said:?}"
            );
        }
    }
}

#[test]
fn real_arithmetic_is_not_that_of_f32() {
    // The layer adds 1e8 and takes it off again.
    let folder = tempfile::tempdir().expect("a folder");
    let mut graph = dense_chain(&[2, 2, 2, 2], false, Init::KaimingUniform, 1);
    let mut first = true;
    for node in &mut graph.nodes {
        if let Op::Affine(Affine::Dense(dense)) = &mut node.op {
            let identity = Weights::new(vec![1.0, 0.0, 0.0, 1.0]);
            dense.weight = identity;
            let bias = if first { 1e8 } else { -1e8 };
            first = !first;
            dense.bias = Some(Periodic::new(Weights::new(vec![bias; 2]), 1));
        }
    }
    if let Some(Op::Affine(Affine::Dense(dense))) = graph.nodes.last_mut().map(|node| &mut node.op) {
        dense.bias = None;
    }
    let model = folder.path().join("bias.onnx");
    save(&graph, &model).expect("room");
    let x = Array2::from_shape_vec((1, 2), vec![64.0_f32, 0.0]).expect("a row");
    let (labels, method, evaluation) = (&[0_usize][..], Method::Crown, Evaluation::Real);
    let (norm, model) = (Norm::Linf, model.as_path());
    let asked =
        Asked { model, x: x.view(), labels, eps: "20", norm, clip: None, method, evaluation, attack: None };
    let found = certificates(&asked, folder.path());
    let text = unpacked(&found[0].1);
    assert!(text.contains("verdict certified"));
    let other = text.replace("arithmetic real", "arithmetic float32");
    let said = answers(model, &[text, other]);
    assert!(said[0].starts_with("accepted") && said[1].starts_with("rejected"), "{said:?}");
}
