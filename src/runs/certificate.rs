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
