//! A network with the inputs it is run on: options and loading that commands
//! share.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};
use tightrope::bounds::Eps;
use tightrope::data::{Arrangement, Dataset};
use tightrope::exec::Plan;
use tightrope::graph::Graph;
use tightrope::onnx::load_with_files;
use tightrope::runs::provenance::fingerprint;
use tightrope::runs::selection::{self, Shard};
use tightrope::runs::{Inputs, Pixels, Range, Selection};

use crate::args::{Clip, ModelArgs};
use crate::card::Card;
use crate::output::{self, Failure, Result};
use crate::session::Subject;

#[derive(clap::Args)]
pub(crate) struct InputArgs {
    /// Images: npy, npz, idx, CIFAR binary (each also gzipped), a folder CLASS/IMAGE, or one image.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Labels, where the images do not bring them: npy, npz or idx.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Names of the classes of an image folder, one a line, in the order of the labels
    /// [default: the folders' names, sorted].
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Only these inputs: A..B, the end not included.
    #[arg(long)]
    indices: Option<Range>,
    /// Only part I (from 0) of N parts of the inputs, to be put together by merge
    /// [default: all; in a Slurm job array the task's part].
    #[arg(long, value_name = "I/N", value_parser = selection::shard)]
    shard: Option<Shard>,
    /// Factor of stored pixels [default: 1/255 for 8-bit images, else 1].
    #[arg(long)]
    scale: Option<f64>,
    /// Mean to subtract from pixels before the network: one, or one per channel.
    #[arg(long, value_delimiter = ',', requires = "std", allow_hyphen_values = true)]
    mean: Vec<f64>,
    /// Standard deviation to divide by after --mean: one, or one per channel.
    #[arg(long, value_delimiter = ',', requires = "mean")]
    std: Vec<f64>,
    #[command(flatten)]
    model: ModelArgs,
    /// Threads [default: all cores]. Results do not depend on it.
    #[arg(long)]
    threads: Option<usize>,
}

/// What the options select.
pub(crate) struct Loaded {
    pub(crate) model: PathBuf,
    /// The model's name without folder and ending.
    pub(crate) name: String,
    pub(crate) card: Card,
    pub(crate) graph: Graph,
    pub(crate) plan: Plan,
    pub(crate) selection: Selection,
    /// What was read and how, for the first line of a run file.
    pub(crate) header: Map<String, Value>,
    data: Dataset,
    arrangement: Arrangement,
    /// Whether the data is the card's.
    of_card: bool,
}

impl InputArgs {
    pub(crate) fn pool(&self) -> Result<rayon::ThreadPool> {
        pool(self.threads)
    }

    /// Loads the model with its card and data; of the inputs every `skip`-th.
    pub(crate) fn load(&self, model: &Path, skip: usize) -> Result<Loaded> {
        self.load_with(model, Card::beside(model)?, skip, Range::default())
    }

    /// The same with this card, and with these inputs where `--indices` names none.
    pub(crate) fn load_with(&self, model: &Path, card: Card, skip: usize, range: Range) -> Result<Loaded> {
        let options = self.model.options()?;
        let (mut graph, weights) = load_with_files(model, &options)?;
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
        let data = Dataset::open_with_classes(
            images,
            labels.map(PathBuf::as_path),
            self.scale,
            self.classes.as_deref(),
        )?;
        data.check_labels(graph.output_len())?;
        let selected = Selection::new(self.indices.unwrap_or(range), skip, shard_of(self.shard)?, data.len());
        let selection = selected.map_err(|e| anyhow!("--{e}"))?;
        let arrangement = data.arrange(&shape)?;
        let digest = |root: &Path, files: &[PathBuf]| fingerprint(root, files).map_err(Failure::from_run);
        let one = |path: &Path| digest(Path::new(""), &[path.to_owned()]);
        let header = json!({
            "model": model.display().to_string(),
            "model_sha256": one(model)?,
            "data": images.display().to_string(),
            "data_sha256": digest(images, data.files())?,
            "labels": labels.map(|l| l.display().to_string()),
            "labels_sha256": labels.map(|l| one(l)).transpose()?,
            "scale": data.scale(),
            "mean": self.mean,
            "std": self.std,
            "input_shape": shape,
        });
        let mut header = header.as_object().cloned().unwrap_or_default();
        header.extend(ModelArgs::header(&options));
        if let Some(classes) = data.classes() {
            header.insert("classes".into(), json!(classes));
        }
        if !weights.is_empty() {
            let folder = model.canonicalize()?;
            let weights = digest(folder.parent().unwrap_or(Path::new("")), &weights)?;
            header.insert("weights_sha256".into(), weights.into());
        }
        Ok(Loaded {
            model: model.to_owned(),
            name: model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            of_card: self.data.is_none(),
            plan: Plan::new(&graph),
            card,
            graph,
            selection,
            header,
            data,
            arrangement,
        })
    }
}

/// The part that is asked for, or that of the task of a job array.
pub(crate) fn shard_of(asked: Option<Shard>) -> Result<Option<Shard>> {
    if asked.is_some() {
        return Ok(asked);
    }
    let task = selection::slurm(|name| std::env::var(name).ok()).map_err(|e| anyhow!(e))?;
    if let Some((part, parts)) = task {
        output::note(&format!("--shard {part}/{parts}, this task of the Slurm array"));
    }
    Ok(task)
}

/// Threads for a command: as many as asked for, else as there are cores.
pub(crate) fn pool(threads: Option<usize>) -> Result<rayon::ThreadPool> {
    if threads == Some(0) {
        return Err(anyhow!("--threads 0: give at least 1").into());
    }
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build()?)
}

impl Loaded {
    /// The inputs, with their labels unless there are none.
    fn inputs(&self) -> Inputs<'_> {
        let indices: Vec<usize> = self.selection.iter().collect();
        let labels = self.data.labels().map(|known| indices.iter().map(|&index| known[index]).collect());
        Inputs::new(indices, labels, Pixels::Files(&self.data, &self.arrangement))
    }

    /// What questions about them are asked of.
    pub(crate) fn subject(&self) -> Subject<'_> {
        let (header, inputs) = (self.header.clone(), self.inputs());
        Subject { name: &self.name, header, selection: &self.selection, inputs }
    }

    /// Refuses data without labels.
    pub(crate) fn need_labels(&self) -> Result<()> {
        let images = || self.header["data"].as_str().unwrap_or_default().to_owned();
        self.data
            .labels()
            .with_context(|| format!("{}: brings no labels; give them with --labels", images()))?;
        Ok(())
    }

    /// The range of the data: as asked for, else the card's for its own data, else that of 8-bit pixels.
    pub(crate) fn clip(&self, asked: Option<Clip>) -> Option<(f64, f64)> {
        match asked {
            Some(Clip(asked)) => asked,
            None => self.card.data.clip.filter(|_| self.of_card).or(self.data.range()),
        }
    }

    /// The radii asked for, else those of the card.
    pub(crate) fn eps(&self, asked: &[Eps]) -> Result<Vec<Eps>> {
        let of_card = self.card.certify.eps.iter().map(|&eps| Eps::try_from(eps));
        let eps =
            if asked.is_empty() { of_card.collect::<std::result::Result<_, _>>()? } else { asked.to_vec() };
        if eps.is_empty() {
            let model = self.model.display();
            return Err(anyhow!("{model}: no --eps given, and no card names any").into());
        }
        Ok(eps)
    }
}
