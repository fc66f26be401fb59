//! `tightrope certify`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;
use comfy_table::{CellAlignment, Table, presets};
use ndarray::ArrayView1;
use serde_json::{Value, json};
use tightrope::bounds::{IbpMargins, InputBox};
use tightrope::exec::Plan;
use tightrope::report::{CertifyRecord, CertifySummary, RunFile};

use crate::args::{self, Eps};
use crate::input::{InputArgs, Inputs};
use crate::output::{self, Failure, Result};

/// Inputs between two looks at Ctrl-C and two writes of results.
const BLOCK: usize = 64;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// ONNX networks, plain or gzipped. A card beside a network (NAME.toml)
    /// gives defaults for the options below.
    #[arg(required = true)]
    model: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    /// Radius of the l-inf ball in units of the pixels as the network sees
    /// them before --mean and --std; also a fraction (2/255) and a list.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    eps: Vec<Eps>,
    /// How margins are bounded.
    #[arg(long, value_enum, default_value = "ibp")]
    method: Method,
    /// Range of the data; perturbed inputs stay inside it.
    #[arg(long, value_name = "LO,HI", value_parser = args::clip, allow_hyphen_values = true)]
    clip: Option<(f64, f64)>,
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
    let pool = args.input.pool()?;
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
    inputs: Inputs,
    eps: Vec<Eps>,
    clip: Option<(f64, f64)>,
    header: Value,
}

impl Job {
    fn new(args: &Args, model: &Path) -> Result<Self> {
        let mut inputs = args.input.load(model)?;
        let card = &inputs.card;
        let clip = args.clip.or(if args.input.data.is_some() { None } else { card.data.clip });
        let eps = if args.eps.is_empty() {
            card.certify.eps.iter().map(|e| e.to_string().parse()).collect::<std::result::Result<_, _>>()
        } else {
            Ok(args.eps.clone())
        };
        let eps: Vec<Eps> = eps.map_err(|e: String| anyhow!(e))?;
        if eps.is_empty() {
            return Err(anyhow!("{}: no --eps given, and no card names any", model.display()).into());
        }
        let header = inputs.header(json!({
            "command": "certify",
            "method": "ibp",
            "norm": "linf",
            "eps": eps.iter().map(|e| &e.text).collect::<Vec<_>>(),
            "clip": clip,
        }));
        Ok(Self { model: model.to_owned(), inputs, eps, clip, header })
    }

    fn run(&self, args: &Args) -> Result<CertifySummary> {
        let Method::Ibp = args.method;
        let (mut file, mut records) = match &args.out {
            None => (None, Vec::new()),
            Some(path) => {
                let opened = RunFile::open::<CertifyRecord>(path, &self.header, args.resume);
                let (file, records) = opened.map_err(Failure::from_run)?;
                (Some(file), records)
            }
        };
        let done: HashSet<(usize, u64)> = records.iter().map(|r| (r.index, r.eps.to_bits())).collect();
        let plan = Plan::new(&self.inputs.graph);
        let margins = IbpMargins::new(&self.inputs.graph);
        let bar = output::progress(self.inputs.labels.len(), &self.inputs.name);
        for start in (0..self.inputs.labels.len()).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(self.inputs.labels.len());
            let part = ndarray::s![rows.clone(), ..];
            let mut predicted = None;
            for eps in &self.eps {
                let missing =
                    rows.clone().any(|i| !done.contains(&(self.inputs.first + i, eps.value.to_bits())));
                if !missing {
                    continue;
                }
                if output::interrupted() {
                    return Err(Failure::interrupted(args.out.as_deref()));
                }
                let begin = Instant::now();
                let images = self.inputs.images.slice(part);
                let predicted = predicted.get_or_insert_with(|| {
                    let logits = plan.run(images);
                    logits.rows().into_iter().map(class_of).collect::<Vec<_>>()
                });
                let boxes = InputBox::linf(images, eps.upper(), self.clip).map_err(|e| {
                    anyhow!("{}: inputs from {}: {e}", self.inputs.name, self.inputs.first + start)
                })?;
                let bounds = margins.bound(&boxes, &self.inputs.labels[rows.clone()]);
                let seconds = begin.elapsed().as_secs_f64() / rows.len() as f64;
                for (row, i) in rows.clone().enumerate() {
                    let index = self.inputs.first + i;
                    if done.contains(&(index, eps.value.to_bits())) {
                        continue;
                    }
                    let (label, predicted) = (self.inputs.labels[i], predicted[row]);
                    let record =
                        CertifyRecord::new(index, label, predicted, eps.value, &bounds, row, seconds);
                    if let Some(file) = &mut file {
                        file.append(&record).map_err(Failure::from_run)?;
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
}

/// The class with the greatest logit, the first of several; none if a logit is
/// NaN.
pub(crate) fn class_of(logits: ArrayView1<f32>) -> Option<usize> {
    if logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best })
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
