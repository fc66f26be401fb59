//! The head of a certificate: what it is about and what it claims.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use num_rational::BigRational;
use num_traits::Signed;

use crate::bounds::{Inputs, State};
use crate::claim::{self, Atom, Region};
use crate::model::Model;
use crate::text::{Lines, numbers};
use crate::{Refusal, Result, cannot, files, proof, vnnlib};

/// A model with the fingerprints of its file and of its external data.
type Loaded = (Model, String, Option<String>);

/// Checks one certificate; a sentence that says what it proves.
pub(crate) fn check(path: &Path, loaded: &Loaded, query: Option<&Path>) -> Result<String> {
    let (_, bytes) = files::read(path)?;
    let rejected = |what: &str| Refusal::Rejected(what.into());
    let text = std::str::from_utf8(&bytes).map_err(|_| rejected("not a text"))?;
    let mut lines = Lines::new(text);
    match lines.word("tightrope-certificate") {
        Some("1") => (),
        Some(other) => return cannot(format!("version {other} of the format")),
        None => return Err(rejected("no certificate")),
    }
    let mut head: HashMap<&str, &str> = HashMap::new();
    let verdict = loop {
        let line = lines.next().ok_or_else(|| rejected("the file ends in its head"))?;
        let (key, value) = line.split_once(' ').ok_or_else(|| rejected("a line of the head that is none"))?;
        if key == "verdict" {
            break value;
        }
        if head.insert(key, value).is_some() {
            return Err(rejected("a line of the head that stands there twice"));
        }
    };
    let of = |key: &str| head.get(key).copied();
    let (model, digest, weights) = loaded;
    if of("model") != Some(digest) || of("weights") != weights.as_deref() {
        return Err(rejected("made for another model"));
    }
    let (single, arithmetic) = match of("arithmetic") {
        Some("real") => (false, "in real arithmetic"),
        Some("float32") => (true, "for every evaluation in f32"),
        other => return cannot(format!("arithmetic {}", other.unwrap_or("that is not named"))),
    };
    if let Some(digest) = of("query") {
        let Some(path) = query else { return cannot("a property without its file; give it with --query") };
        let (raw, bytes) = files::read(path)?;
        if files::sha256(&raw) != digest {
            return Err(rejected("made for another property"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| rejected("the property is not a text"))?;
        let conjunctions = vnnlib::read(text)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return match verdict {
            "unsat" => {
                let regions = regions(model, &mut lines)?;
                let covered = |conjunction: &&Vec<_>| {
                    regions.iter().any(|region| vnnlib::is_covered(conjunction, region))
                };
                if let Some(left) = conjunctions.iter().position(|conjunction| !covered(&conjunction)) {
                    return Err(Refusal::Rejected(format!("alternative {left} of the property is left out")));
                }
                let count = proof::check(model, &regions, single, &mut lines)?;
                Ok(format!("{name} is unsat {arithmetic}; subproblems {count}"))
            }
            "sat" => {
                let (x, y) = witness(model, single, &mut lines)?;
                let holds = |conjunction: &Vec<vnnlib::Comparison>| {
                    conjunction.iter().try_fold(true, |all, atom| match atom.holds(&x, &y) {
                        Some(false) => Some(false),
                        other => other.map(|holds| all && holds).or(if all { None } else { Some(false) }),
                    })
                };
                let found: Vec<Option<bool>> = conjunctions.iter().map(holds).collect();
                shown(&found, || format!("{name} is sat: its witness has the property {arithmetic}"))
            }
            _ => cannot(format!("verdict {verdict}")),
        };
    }
    let Claim { region, x, label, text } = robustness(model, &of)?;
    match verdict {
        "certified" => {
            let count = proof::check(model, &[region], single, &mut lines)?;
            Ok(format!("{text}, {arithmetic}; subproblems {count}"))
        }
        "falsified" => {
            let (z, y) = witness(model, single, &mut lines)?;
            let Claimed { eps, norm, clip } = claimed(&of)?;
            if !claim::is_perturbed(&x, &z, &eps, norm, clip) {
                return Err(rejected("the witness is no perturbation of the input"));
            }
            let wins = |j: usize| match (y[j], y[label]) {
                ((low, _), (_, high)) if low > high => Some(true),
                ((_, high), (low, _)) if high <= low => Some(false),
                _ => None,
            };
            let found: Vec<Option<bool>> = (0..y.len()).filter(|j| *j != label).map(wins).collect();
            shown(&found, || format!("not {text}: its witness has another class {arithmetic}"))
        }
        _ => cannot(format!("verdict {verdict}")),
    }
}

/// Whether one of several things holds.
fn shown(found: &[Option<bool>], claim: impl Fn() -> String) -> Result<String> {
    if found.contains(&Some(true)) {
        return Ok(claim());
    }
    if found.contains(&None) {
        return cannot("a witness that is too close to call");
    }
    Err(Refusal::Rejected("the witness shows nothing".into()))
}

/// An input, and intervals of the outputs there.
type Witness = (Vec<f32>, Vec<(f64, f64)>);

/// The input that is the witness, and intervals of the outputs there.
fn witness(model: &Model, single: bool, lines: &mut Lines) -> Result<Witness> {
    let rejected = |what: &str| Refusal::Rejected(what.into());
    let list = lines.word("witness").ok_or_else(|| rejected("no witness"))?;
    let x =
        words(list).filter(|x| x.len() == model.inputs).ok_or_else(|| rejected("a witness that is none"))?;
    if lines.next() != Some("end") || lines.next().is_some() {
        return Err(rejected("something follows the witness"));
    }
    let at: Vec<f64> = x.iter().map(|&x| x.into()).collect();
    let mut state = State::new(Arc::new(Inputs { lower: at.clone(), upper: at, ball: None }), model, single);
    for node in &model.nodes {
        state.advance(model, vec![[0.0; 2]; node.len]);
    }
    if state.undefined {
        return cannot("a witness at which f32 may overflow");
    }
    let (low, high) = (&state.lower[model.output], &state.upper[model.output]);
    Ok((x, low.iter().copied().zip(high.iter().copied()).collect()))
}

/// Finite numbers of f32 by their bits.
fn words(list: &str) -> Option<Vec<f32>> {
    let word =
        |word: &str| u32::from_str_radix(word, 16).ok().filter(|_| word.len() == 8).map(f32::from_bits);
    let x: Vec<f32> = list.split_ascii_whitespace().map(word).collect::<Option<_>>()?;
    x.iter().all(|x| x.is_finite()).then_some(x)
}

/// The sets of inputs that a certificate of a property speaks of.
fn regions(model: &Model, lines: &mut Lines) -> Result<Vec<Region>> {
    let wrong = || Refusal::Rejected("a region that is none".into());
    let mut regions = Vec::new();
    while lines.word("region").is_some() {
        let mut ends = |word: &str| {
            let ends = numbers(lines.word(word)?);
            (ends.len() == model.inputs && ends.iter().all(|end| end.is_finite())).then_some(ends)
        };
        let (lower, upper) = (ends("lower").ok_or_else(wrong)?, ends("upper").ok_or_else(wrong)?);
        let mut disjuncts = Vec::new();
        while lines.word("disjunct").is_some() {
            let mut atoms = Vec::new();
            while let Some(text) = lines.word("atom") {
                atoms.push(atom(model, text).ok_or_else(wrong)?);
            }
            disjuncts.push(atoms);
        }
        regions.push(Region { inputs: Inputs { lower, upper, ball: None }, disjuncts });
    }
    Ok(regions)
}

/// `BOUND yI:C ... xI:C ...`.
fn atom(model: &Model, text: &str) -> Option<Atom> {
    let mut words = text.split(' ');
    let finite = |text: &str| crate::text::number(text).filter(|x| x.is_finite());
    let mut atom = Atom { y: Vec::new(), x: Vec::new(), bound: finite(words.next()?)? };
    for word in words {
        let (name, c) = word.split_once(':')?;
        let (output, entry) = (name.starts_with('y'), name.get(1..)?.parse().ok()?);
        let (terms, len) =
            if output { (&mut atom.y, model.len(model.output)) } else { (&mut atom.x, model.inputs) };
        let fresh = entry < len && terms.iter().all(|(known, _)| *known != entry);
        terms.push((entry, finite(c).filter(|_| fresh && (output || name.starts_with('x')))?));
    }
    Some(atom)
}

struct Claimed<'a> {
    eps: BigRational,
    norm: &'a str,
    clip: Option<(f64, f64)>,
}

/// What a head says of perturbations.
fn claimed<'a>(of: &impl Fn(&str) -> Option<&'a str>) -> Result<Claimed<'a>> {
    let rejected = |what: &str| Refusal::Rejected(format!("the head has no {what}, or one that is none"));
    let eps = claim::quotient(of("eps").unwrap_or_default()).filter(|eps| !eps.is_negative());
    let eps = eps.ok_or_else(|| rejected("eps"))?;
    let clip = match of("clip").map(|clip| (clip, numbers(clip))) {
        Some(("none", _)) => None,
        Some((_, ends)) if ends.len() == 2 && ends[0] <= ends[1] && (ends[1] - ends[0]).is_finite() => {
            Some((ends[0], ends[1]))
        }
        _ => return Err(rejected("clip")),
    };
    let norm =
        of("norm").filter(|norm| ["linf", "l2", "l1"].contains(norm)).ok_or_else(|| rejected("norm"))?;
    Ok(Claimed { eps, norm, clip })
}

struct Claim {
    region: Region,
    x: Vec<f32>,
    label: usize,
    text: String,
}

/// The claim that an input keeps its class.
fn robustness<'a>(model: &Model, of: &impl Fn(&str) -> Option<&'a str>) -> Result<Claim> {
    let rejected = |what: &str| Refusal::Rejected(format!("the head has no {what}, or one that is none"));
    let outputs = model.len(model.output);
    let label = of("label").and_then(|text| text.parse().ok()).filter(|&label: &usize| label < outputs);
    let label = label.filter(|_| outputs > 1).ok_or_else(|| rejected("label"))?;
    let Claimed { eps, norm, clip } = claimed(of)?;
    let x =
        of("input").and_then(words).filter(|x| x.len() == model.inputs).ok_or_else(|| rejected("input"))?;
    let inputs = claim::perturbed(&x, &eps, norm, clip).ok_or_else(|| rejected("eps"))?;
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let range = clip.map_or(String::new(), |(low, high)| format!(" within [{low}, {high}]"));
    let (digest, eps) = (files::sha256(&bytes), of("eps").unwrap_or_default());
    let text = format!("class {label} for {norm} {eps}{range} around the input {}", &digest[..16]);
    Ok(Claim { region: Region { inputs, disjuncts: claim::misclassified(label, outputs) }, x, label, text })
}
