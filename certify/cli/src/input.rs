//! A network with the inputs it is run on: options and loading that commands
//! share.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use ndarray::Array2;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tightrope::data::Dataset;
use tightrope::graph::Graph;
use tightrope::onnx::{LoadOptions, load};

use crate::args::{self, Shape};
use crate::card::Card;
use crate::output::Result;

#[derive(clap::Args)]
pub(crate) struct InputArgs {
    /// Images: npy, npz, idx, CIFAR binary (each also gzipped), a folder CLASS/IMAGE, or one image.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Labels, where the images do not bring them: npy, npz or idx.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Only these inputs: A..B, the end not included.
    #[arg(long, value_parser = args::indices)]
    indices: Option<(Option<usize>, Option<usize>)>,
    /// Factor of stored pixels [default: 1/255 for 8-bit images, else 1].
    #[arg(long)]
    scale: Option<f64>,
    /// Mean to subtract from pixels before the network: one, or one per channel.
    #[arg(long, value_delimiter = ',', requires = "std", allow_hyphen_values = true)]
    mean: Vec<f64>,
    /// Standard deviation to divide by after --mean: one, or one per channel.
    #[arg(long, value_delimiter = ',', requires = "mean")]
    std: Vec<f64>,
    /// Shape of one input, for networks that leave it open: 1,3,224,224.
    #[arg(long)]
    input_shape: Option<Shape>,
    /// Threads [default: all cores]. Results do not depend on it.
    #[arg(long)]
    threads: Option<usize>,
}

/// What the options select.
pub(crate) struct Inputs {
    /// The model's name without folder and ending.
    pub(crate) name: String,
    pub(crate) card: Card,
    pub(crate) graph: Graph,
    /// One row for each input.
    pub(crate) images: Array2<f32>,
    pub(crate) labels: Vec<usize>,
    /// Index of the first row in the data set.
    pub(crate) first: usize,
    header: Value,
}

impl InputArgs {
    pub(crate) fn pool(&self) -> Result<rayon::ThreadPool> {
        if self.threads == Some(0) {
            return Err(anyhow!("--threads 0: give at least 1").into());
        }
        Ok(rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0)).build()?)
    }

    /// Loads the model with its card and data.
    pub(crate) fn load(&self, model: &Path) -> Result<Inputs> {
        let card = Card::beside(model)?;
        let options = LoadOptions { input_shape: self.input_shape.clone().map(|s| s.0) };
        let mut graph = load(model, &options)?;
        // With a single class every decision would be certified.
        if graph.output_len() < 2 {
            return Err(anyhow!("{}: has one output; a classifier has at least 2", model.display()).into());
        }
        let shape = graph.input_shape.clone();
        if !self.mean.is_empty() {
            graph = graph.normalized(&self.mean, &self.std)?;
        }
        let images = self
            .data
            .as_ref()
            .or(card.data.images.as_ref())
            .with_context(|| format!("{}: no --data given, and no card names any", model.display()))?;
        // A card's labels belong to the card's images.
        let of_card = if self.data.is_some() { None } else { card.data.labels.as_ref() };
        let labels = self.labels.as_ref().or(of_card);
        let data = Dataset::open(images, labels.map(PathBuf::as_path), self.scale)?;
        data.check_labels(graph.output_len())?;
        let known = data
            .labels()
            .with_context(|| format!("{}: brings no labels; give them with --labels", images.display()))?;
        let range = args::select(self.indices, data.len()).map_err(|e| anyhow!(e))?;
        let arrangement = data.arrange(&shape)?;
        let mut pixels = Vec::with_capacity(range.len() * graph.input_len());
        for i in range.clone() {
            pixels.extend(data.image(i, &arrangement)?);
        }
        let header = json!({
            "tightrope": env!("CARGO_PKG_VERSION"),
            "model": model.display().to_string(),
            "model_sha256": fingerprint(model)?,
            "data": images.display().to_string(),
            "data_sha256": fingerprint(images)?,
            "labels": labels.map(|l| l.display().to_string()),
            "labels_sha256": labels.map(|l| fingerprint(l)).transpose()?,
            "indices": [range.start, range.end],
            "scale": self.scale,
            "mean": self.mean,
            "std": self.std,
            "input_shape": shape,
        });
        Ok(Inputs {
            name: model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            images: Array2::from_shape_vec((range.len(), graph.input_len()), pixels)?,
            labels: known[range.clone()].to_vec(),
            first: range.start,
            card,
            graph,
            header,
        })
    }
}

impl Inputs {
    /// The first line of a run file: what was loaded, and the options of a
    /// command.
    pub(crate) fn header(&mut self, options: Value) -> Value {
        let mut header = self.header.take();
        if let (Some(header), Value::Object(options)) = (header.as_object_mut(), options) {
            header.extend(options);
        }
        header
    }
}

/// SHA-256 of a file in hexadecimal; none for a folder.
fn fingerprint(path: &Path) -> anyhow::Result<Option<String>> {
    if path.is_dir() {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    io::copy(&mut file, &mut hash).with_context(|| path.display().to_string())?;
    let digest = hash.finalize();
    Ok(Some(digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))))
}
