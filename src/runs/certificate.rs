//! Certificates: what a certified or falsified input is proved by, for `tightrope-check` (`certify/checker`, whose
//! README has the format), which shares no code with this library.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::ArrayView1;

use super::Status;
use super::question::name;
use crate::bounds::linear::proof::bits;
use crate::bounds::{Eps, Evaluation, Method, Region};
use crate::query::{self, Query, Version};
use crate::verify::{Outcome, Verdict};

/// What proves the status of one input at one radius.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Position of the input in its data set.
    pub index: usize,
    /// The radius.
    pub eps: Eps,
    /// How it was asked for.
    pub method: Option<Method>,
    /// The text after the fingerprints of the model.
    body: String,
}

/// Numbers of f32 by their bits.
fn words<'a>(x: impl IntoIterator<Item = &'a f32>) -> String {
    x.into_iter().map(|x| format!("{:08x}", x.to_bits())).collect::<Vec<_>>().join(" ")
}

/// What shows the status of an input.
pub(super) enum Shown<'a> {
    /// The subproblems that cover all perturbations.
    Proof(&'a str),
    /// A perturbation with another class.
    Witness(&'a [f32]),
}

impl Certificate {
    pub(super) fn new(
        (index, x, label): (usize, ArrayView1<f32>, usize),
        region: &Region,
        (method, evaluation): (Option<Method>, Evaluation),
        shown: &Shown,
    ) -> Self {
        let Region { norm, eps, clip } = region;
        let clip = clip.map_or("none".into(), |(low, high)| format!("{} {}", bits(low), bits(high)));
        let mut body = format!(
            "arithmetic {}\nlabel {label}\nnorm {}\neps {eps}\nclip {clip}\ninput {}\n",
            name(&evaluation),
            name(norm),
            words(x)
        );
        let _ = match shown {
            Shown::Proof(proof) => write!(body, "verdict {}\n{proof}", name(&Status::Certified)),
            Shown::Witness(point) => {
                write!(body, "verdict {}\nwitness {}\nend\n", name(&Status::Falsified), words(*point))
            }
        };
        Self { index, eps: eps.clone(), method, body }
    }

    /// Writes it to a file; `model` is the fingerprint of the model's file, `weights` that of its external data.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, model: &str, weights: Option<&str>) -> io::Result<()> {
        save(path, model, weights, &self.body)
    }
}

/// Writes a certificate without the fingerprints to a file.
pub(super) fn save(path: &Path, model: &str, weights: Option<&str>, body: &str) -> io::Result<()> {
    let weights = weights.map_or(String::new(), |digest| format!("weights {digest}\n"));
    let mut file = GzEncoder::new(File::create(path)?, Compression::default());
    file.write_all(format!("tightrope-certificate 1\nmodel {model}\n{weights}{body}").as_bytes())?;
    file.finish()?.sync_all()
}

/// What proves the verdict on a property of one network.
#[derive(Clone, Debug)]
pub struct QueryCertificate {
    body: String,
}

impl QueryCertificate {
    /// Whether there are certificates of a property.
    ///
    /// # Errors
    /// A sentence that says of which properties there are.
    pub fn check(query: &Query) -> Result<(), String> {
        let property = query.property();
        let outputs = property.variables.iter().filter(|variable| variable.name.starts_with("Y_")).count();
        if property.version == Version::One && query.graph.output_len() == outputs {
            return Ok(());
        }
        let of =
            "certificates are of VNN-LIB 1 properties whose comparisons are linear in outputs, or in inputs";
        Err(format!("{of}, with coefficients that f64 has"))
    }

    /// For an outcome of a search with [`Limits::prove`](crate::verify::Limits); none where there is no verdict.
    ///
    /// # Errors
    /// As [`QueryCertificate::check`].
    pub fn new(query: &Query, evaluation: Evaluation, outcome: &Outcome) -> Result<Option<Self>, String> {
        Self::check(query)?;
        let mut body = format!("arithmetic {}\nverdict {}\n", name(&evaluation), name(&outcome.verdict));
        match (outcome.verdict, &outcome.proof, &outcome.witness) {
            (Verdict::Unsat, Some(proof), _) => {
                for region in &query.regions {
                    body += &region_text(region);
                }
                body += proof;
            }
            (Verdict::Sat, _, Some(witness)) => {
                let _ = write!(body, "witness {}\nend\n", words(&witness.x));
            }
            _ => return Ok(None),
        }
        Ok(Some(Self { body }))
    }

    /// Writes it to a file; `model` and `query` are the fingerprints of their files, `weights` that of the
    /// model's external data.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, model: &str, weights: Option<&str>, query: &str) -> io::Result<()> {
        save(path, model, weights, &format!("query {query}\n{}", self.body))
    }
}

fn region_text(region: &query::Region) -> String {
    let list = |ends: &[f64]| ends.iter().copied().map(bits).collect::<Vec<_>>().join(" ");
    let mut text = format!("region\nlower {}\nupper {}\n", list(&region.lower), list(&region.upper));
    for disjunct in &region.disjuncts {
        text += "disjunct\n";
        for atom in &disjunct.atoms {
            let _ = write!(text, "atom {}", bits(atom.bound));
            for (letter, terms) in [('y', &atom.coefficients), ('x', &atom.input)] {
                for &(entry, c) in terms {
                    let _ = write!(text, " {letter}{entry}:{}", bits(c));
                }
            }
            text.push('\n');
        }
    }
    text
}
