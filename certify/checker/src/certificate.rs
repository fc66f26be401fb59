//! The head of a certificate: what it is about and what it claims.

use std::collections::HashMap;
use std::path::Path;

use crate::claim::{self, Region};
use crate::model::Model;
use crate::text::{Lines, numbers};
use crate::{Refusal, Result, cannot, files, proof};

/// A model with the fingerprints of its file and of its external data.
type Loaded = (Model, String, Option<String>);

/// Checks one certificate; a sentence that says what it proves.
pub(crate) fn check(path: &Path, loaded: &Loaded, _query: Option<&Path>) -> Result<String> {
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
    match of("arithmetic") {
        Some("real") => (),
        other => return cannot(format!("arithmetic {}", other.unwrap_or("that is not named"))),
    }
    let (region, claim) = robustness(model, &of)?;
    match verdict {
        "certified" => {
            let count = proof::check(model, &[region], &mut lines)?;
            Ok(format!("{claim}, in real arithmetic; subproblems {count}"))
        }
        _ => cannot(format!("verdict {verdict}")),
    }
}

/// The claim that an input keeps its class.
fn robustness<'a>(model: &Model, of: &impl Fn(&str) -> Option<&'a str>) -> Result<(Region, String)> {
    let rejected = |what: &str| Refusal::Rejected(format!("the head has no {what}, or one that is none"));
    let outputs = model.len(model.output);
    let label = of("label").and_then(|text| text.parse().ok()).filter(|&label: &usize| label < outputs);
    let label = label.filter(|_| outputs > 1).ok_or_else(|| rejected("label"))?;
    let text = of("eps").unwrap_or_default();
    let eps = claim::quotient(text).filter(|eps| *eps >= claim::quotient("0").unwrap_or_default());
    let eps = eps.ok_or_else(|| rejected("eps"))?;
    let clip = match of("clip").map(|clip| (clip, numbers(clip))) {
        Some(("none", _)) => None,
        Some((_, ends))
            if ends.len() == 2 && ends[0] <= ends[1] && ends[0].is_finite() && ends[1].is_finite() =>
        {
            Some((ends[0], ends[1]))
        }
        _ => return Err(rejected("clip")),
    };
    let word =
        |word: &str| u32::from_str_radix(word, 16).ok().filter(|_| word.len() == 8).map(f32::from_bits);
    let x: Option<Vec<f32>> = of("input").unwrap_or_default().split_ascii_whitespace().map(word).collect();
    let x = x
        .filter(|x| x.len() == model.inputs && x.iter().all(|x| x.is_finite()))
        .ok_or_else(|| rejected("input"))?;
    let norm = of("norm").unwrap_or_default();
    let inputs = claim::perturbed(&x, &eps, norm, clip).ok_or_else(|| rejected("norm"))?;
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let range = clip.map_or(String::new(), |(low, high)| format!(" within [{low}, {high}]"));
    let claim =
        format!("class {label} for {norm} {text}{range} around the input {}", &files::sha256(&bytes)[..16]);
    Ok((Region { inputs, disjuncts: claim::misclassified(label, outputs) }, claim))
}
