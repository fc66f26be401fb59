//! Options that several commands share, turned into values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ndarray::ArrayD;
use serde_json::{Map, Value, json};
use tightrope::bounds::{Evaluation, Norm};
use tightrope::onnx::LoadOptions;
use tightrope::runs::provenance::fingerprint_of;

use crate::output::Result;

/// What a model leaves open.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// Shape of one input, for networks that leave it open: 1,3,224,224.
    #[arg(long)]
    input_shape: Option<Shape>,
    /// Values of an input that is not perturbed, as npy; of a model with several inputs all but one.
    #[arg(long, value_name = "NAME=FILE", value_parser = fixed)]
    fix: Vec<(String, PathBuf)>,
    /// The output that is looked at, by its name [default: the only one, or the scores].
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
}

fn fixed(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let (name, file) =
        text.rsplit_once('=').ok_or_else(|| format!("`{text}` has no =; give NAME=FILE.npy"))?;
    Ok((name.to_owned(), file.into()))
}

impl ModelArgs {
    /// The options, with the values read.
    pub(crate) fn options(&self) -> Result<LoadOptions> {
        let mut fixed = BTreeMap::new();
        for (name, file) in &self.fix {
            let read = ndarray_npy::read_npy::<_, ArrayD<f32>>(file);
            let wide = |_| ndarray_npy::read_npy::<_, ArrayD<f64>>(file).map(|wide| wide.mapv(|x| x as f32));
            let values = read.or_else(wide).with_context(|| format!("--fix: {}", file.display()))?;
            if fixed.insert(name.clone(), values).is_some() {
                return Err(anyhow!("--fix: {name} is given twice").into());
            }
        }
        let input_shape = self.input_shape.clone().map(|shape| shape.0);
        Ok(LoadOptions { input_shape, fixed, output: self.output.clone() })
    }

    /// What the first line of a run says of them: nothing where there are none.
    pub(crate) fn header(options: &LoadOptions) -> Map<String, Value> {
        let digest = |values: &ArrayD<f32>| json!(fingerprint_of(values.iter().map(|x| x.to_le_bytes())));
        let fixed: Map<String, Value> =
            options.fixed.iter().map(|(name, values)| (name.clone(), digest(values))).collect();
        let mut header = Map::new();
        if !fixed.is_empty() {
            header.insert("fixed_sha256".into(), fixed.into());
        }
        header.extend(options.output.as_ref().map(|name| ("output".to_owned(), json!(name))));
        header
    }
}

/// `LO,HI`, or `none`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip(pub(crate) Option<(f64, f64)>);

impl FromStr for Clip {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self(None));
        }
        let wrong =
            || format!("`{text}` is not a range of values; give LO,HI with LO <= HI, such as 0,1, or none");
        let (low, high) = text.split_once(',').ok_or_else(wrong)?;
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| wrong());
        let (low, high) = (number(low)?, number(high)?);
        if low <= high { Ok(Self(Some((low, high)))) } else { Err(wrong()) }
    }
}

/// The norm of a ball.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum NormName {
    Linf,
    L2,
    L1,
}

impl From<NormName> for Norm {
    fn from(name: NormName) -> Self {
        match name {
            NormName::Linf => Self::Linf,
            NormName::L2 => Self::L2,
            NormName::L1 => Self::L1,
        }
    }
}

/// The arithmetic of the network that a proof speaks of.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum EvaluationName {
    /// Exact real arithmetic.
    Real,
    /// Every evaluation in f32 at points of f32, in any order of summation, without minimal filtering (see
    /// docs/evaluation.md).
    Float32,
}

impl From<EvaluationName> for Evaluation {
    fn from(name: EvaluationName) -> Self {
        match name {
            EvaluationName::Real => Self::Real,
            EvaluationName::Float32 => Self::Float32,
        }
    }
}

/// A shape such as `1,3,32,32`.
#[derive(Clone, Debug)]
pub(crate) struct Shape(pub(crate) Vec<usize>);

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let axes = text.split([',', 'x']).map(|part| part.trim().parse::<usize>().ok().filter(|&n| n > 0));
        axes.collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a shape; give positive lengths such as 1,3,32,32"))
    }
}

/// A time in seconds, such as 30 or 0.5.
pub(crate) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time; give seconds > 0");
    let seconds: f64 = text.trim().parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero()).ok_or_else(wrong)
}
