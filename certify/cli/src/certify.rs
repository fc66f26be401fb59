//! `tightrope certify`.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow};
use comfy_table::{CellAlignment, Table, presets};
use ndarray::{Array2, ArrayView1};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tightrope::bounds::{IbpMargins, InputBox};
use tightrope::data::Dataset;
use tightrope::exec::Plan;
use tightrope::graph::Graph;
use tightrope::onnx::{LoadOptions, load};
use tightrope::report::{CertifyRecord, CertifySummary, RunError, RunFile};

use crate::args::{self, Eps, Shape};
use crate::card::Card;
use crate::output::{self, Failure, Result};

/// Inputs between two looks at Ctrl-C and two writes of results.
const BLOCK: usize = 64;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// ONNX networks, plain or gzipped. A card beside a network (NAME.toml)
    /// gives defaults for the options below.
    #[arg(required = true)]
    model: Vec<PathBuf>,
    /// Images: npy, npz, idx, CIFAR binary (each also gzipped), a folder CLASS/IMAGE, or one image.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Labels, where the images do not bring them: npy, npz or idx.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Radius of the l-inf ball in units of the pixels as the network sees
    /// them before --mean and --std; also a fraction (2/255) and a list.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    eps: Vec<Eps>,
    /// How margins are bounded.
    #[arg(long, value_enum, default_value = "ibp")]
    method: Method,
    /// Only these inputs: A..B, the end not included.
    #[arg(long, value_parser = args::indices)]
    indices: Option<(Option<usize>, Option<usize>)>,
    /// Range of the data; perturbed inputs stay inside it.
    #[arg(long, value_name = "LO,HI", value_parser = args::clip, allow_hyphen_values = true)]
    clip: Option<(f64, f64)>,
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
    /// Write one JSON line for every input and eps to this file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Continue the run in --out.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Print one JSON object (a line) for each network instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Method {
    /// Interval bound propagation.
    Ibp,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.out.is_some() && args.model.len() > 1 {
        return Err(
            anyhow!("--out takes the results of one network, and {} are given", args.model.len()).into()
        );
    }
    if args.threads == Some(0) {
        return Err(anyhow!("--threads 0: give at least 1").into());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build()?;
    output::catch_interrupts()?;
    let mut summaries = Vec::new();
    for model in &args.model {
        let job = Job::new(args, model)?;
        let summary = pool.install(|| job.run(args))?;
        if args.json {
            output::print(&serde_json::to_string(&summary)?)?;
        }
        summaries.push((summary, job.eps));
    }
    if !args.json {
        output::print(&table(&summaries))?;
    }
    Ok(())
}

/// One network with everything that its certification needs.
struct Job {
    model: PathBuf,
    graph: Graph,
    images: Array2<f32>,
    labels: Vec<usize>,
    first: usize,
    eps: Vec<Eps>,
    clip: Option<(f64, f64)>,
    header: Value,
}

impl Job {
    fn new(args: &Args, model: &Path) -> Result<Self> {
        let card = Card::beside(model)?;
        let options = LoadOptions { input_shape: args.input_shape.clone().map(|s| s.0) };
        let mut graph = load(model, &options)?;
        let shape = graph.input_shape.clone();
        if !args.mean.is_empty() {
            graph = graph.normalized(&args.mean, &args.std)?;
        }
        let images = args
            .data
            .clone()
            .or(card.data.images)
            .with_context(|| format!("{}: no --data given, and no card names any", model.display()))?;
        // A card's labels belong to the card's images.
        let labels =
            if args.data.is_some() { args.labels.clone() } else { args.labels.clone().or(card.data.labels) };
        let clip = args.clip.or(if args.data.is_some() { None } else { card.data.clip });
        let eps = if args.eps.is_empty() {
            card.certify.eps.iter().map(|e| e.to_string().parse()).collect::<std::result::Result<_, _>>()
        } else {
            Ok(args.eps.clone())
        };
        let eps: Vec<Eps> = eps.map_err(|e: String| anyhow!(e))?;
        if eps.is_empty() {
            return Err(anyhow!("{}: no --eps given, and no card names any", model.display()).into());
        }
        let data = Dataset::open(&images, labels.as_deref(), args.scale)?;
        data.check_labels(graph.output_len())?;
        let known = data
            .labels()
            .with_context(|| format!("{}: brings no labels; give them with --labels", images.display()))?;
        let range = args::select(args.indices, data.len()).map_err(|e| anyhow!(e))?;
        let arrangement = data.arrange(&shape)?;
        let mut pixels = Vec::with_capacity(range.len() * graph.input_len());
        for i in range.clone() {
            pixels.extend(data.image(i, &arrangement)?);
        }
        let header = json!({
            "tightrope": env!("CARGO_PKG_VERSION"),
            "command": "certify",
            "model": model.display().to_string(),
            "model_sha256": fingerprint(model)?,
            "data": images.display().to_string(),
            "data_sha256": fingerprint(&images)?,
            "labels": labels.as_ref().map(|l| l.display().to_string()),
            "labels_sha256": labels.as_deref().map(fingerprint).transpose()?,
            "method": "ibp",
            "norm": "linf",
            "eps": eps.iter().map(|e| &e.text).collect::<Vec<_>>(),
            "indices": [range.start, range.end],
            "clip": clip,
            "scale": args.scale,
            "mean": args.mean,
            "std": args.std,
            "input_shape": shape,
        });
        Ok(Self {
            model: model.to_owned(),
            images: Array2::from_shape_vec((range.len(), graph.input_len()), pixels)?,
            labels: known[range.clone()].to_vec(),
            first: range.start,
            graph,
            eps,
            clip,
            header,
        })
    }

    fn run(&self, args: &Args) -> Result<CertifySummary> {
        let Method::Ibp = args.method;
        let (mut file, mut records) = match &args.out {
            None => (None, Vec::new()),
            Some(path) => {
                let opened = RunFile::open::<CertifyRecord>(path, &self.header, args.resume);
                let (file, records) = opened.map_err(output_failure)?;
                (Some(file), records)
            }
        };
        let done: HashSet<(usize, u64)> = records.iter().map(|r| (r.index, r.eps.to_bits())).collect();
        let plan = Plan::new(&self.graph);
        let margins = IbpMargins::new(&self.graph);
        let bar = output::progress(self.labels.len(), &self.name());
        for start in (0..self.labels.len()).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(self.labels.len());
            let part = ndarray::s![rows.clone(), ..];
            let mut predicted = None;
            for eps in &self.eps {
                let missing = rows.clone().any(|i| !done.contains(&(self.first + i, eps.value.to_bits())));
                if !missing {
                    continue;
                }
                if output::interrupted() {
                    return Err(interrupted(args));
                }
                let begin = Instant::now();
                let images = self.images.slice(part);
                let predicted = predicted.get_or_insert_with(|| {
                    let logits = plan.run(images);
                    logits.rows().into_iter().map(class_of).collect::<Vec<_>>()
                });
                let boxes = InputBox::linf(images, eps.upper(), self.clip)
                    .map_err(|e| anyhow!("{}: inputs from {}: {e}", self.name(), self.first + start))?;
                let bounds = margins.bound(&boxes, &self.labels[rows.clone()]);
                let seconds = begin.elapsed().as_secs_f64() / rows.len() as f64;
                for (row, i) in rows.clone().enumerate() {
                    let index = self.first + i;
                    if done.contains(&(index, eps.value.to_bits())) {
                        continue;
                    }
                    let (label, predicted) = (self.labels[i], predicted[row]);
                    let record =
                        CertifyRecord::new(index, label, predicted, eps.value, &bounds, row, seconds);
                    if let Some(file) = &mut file {
                        file.append(&record).map_err(output_failure)?;
                    }
                    records.push(record);
                }
            }
            bar.inc(rows.len() as u64);
        }
        bar.finish_and_clear();
        let eps: Vec<f64> = self.eps.iter().map(|e| e.value).collect();
        Ok(CertifySummary::new(self.model.display().to_string(), &eps, &records))
    }

    fn name(&self) -> String {
        self.model.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn interrupted(args: &Args) -> Failure {
    Failure::Interrupted(match &args.out {
        Some(out) => format!("finished results are in {}; continue with --resume", out.display()),
        None => "nothing was kept; with --out FILE a run can be continued".into(),
    })
}

/// What the operating system refuses is not the user's input.
fn output_failure(error: RunError) -> Failure {
    match error {
        RunError::Io { .. } => Failure::Output(anyhow::Error::new(error).context("results are not written")),
        _ => error.into(),
    }
}

/// The class with the greatest logit, the first of several; none if a logit is
/// NaN.
fn class_of(logits: ArrayView1<f32>) -> Option<usize> {
    if logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best })
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

fn table(summaries: &[(CertifySummary, Vec<Eps>)]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "network",
        "inputs",
        "clean",
        "eps",
        "certified",
        "mean margin",
        "median margin",
        "s/input",
    ]);
    for (summary, eps) in summaries {
        let name = Path::new(&summary.model).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (result, eps) in summary.results.iter().zip(eps) {
            table.add_row([
                name.clone(),
                summary.inputs.to_string(),
                output::percent(summary.correct, summary.inputs),
                eps.text.clone(),
                output::percent(result.certified, summary.inputs),
                output::down(result.mean_margin),
                output::down(result.median_margin),
                format!("{:.6}", result.seconds_per_input),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
