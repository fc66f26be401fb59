//! `tightrope tightness`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use tightrope::bounds::InputBox;
use tightrope::exec::Plan;
use tightrope::report::{LayerRecord, RunFile, TightnessInput, TightnessRecord, TightnessSummary};
use tightrope::tightness::{CompanionFigures, LayerTightness, Mask, Sampling, Tightness, weight_signs};

use crate::args::{self, Eps};
use crate::input::{InputArgs, Inputs};
use crate::output::{self, Failure, Result};
use crate::study::{self, StudyName};
use tightrope::attack::class_of;

/// Below every table: what the figures are not.
const NOTE: &str = "tightness describes the linear network of the mask: a diagnostic, not a bound";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// ONNX networks, plain or gzipped. A card beside a network (NAME.toml)
    /// gives defaults for data, labels, clip and eps.
    #[arg(required_unless_present = "study")]
    model: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    /// Radius of the l-inf ball in units of the pixels as the network sees
    /// them before --mean and --std; also a fraction (2/255) [default: the
    /// second of the card].
    #[arg(long, allow_hyphen_values = true)]
    eps: Option<Eps>,
    /// The linear network: slopes at the input, at the centre of the box, all
    /// one, or only what intervals prove over the whole box.
    #[arg(long, value_enum, default_value = "local")]
    mask: MaskName,
    /// Range of the data; boxes are cut to it.
    #[arg(long, value_name = "LO,HI", value_parser = args::clip, allow_hyphen_values = true)]
    clip: Option<(f64, f64)>,
    /// Also the tightness of the sub-network before each activation: a pass per unit.
    #[arg(long)]
    layers: bool,
    /// Points of each box at which unstable units are looked for.
    #[arg(long, default_value_t = 8)]
    samples: u32,
    /// Seed of these points and of the networks of --study.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write one JSON line for every input to this file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Continue the run in --out.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Print one JSON object (a line) for each network instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure generated networks against theory instead.
    #[arg(long, value_enum, conflicts_with_all = ["model", "eps", "mask", "clip", "layers", "out"])]
    study: Option<StudyName>,
    /// Draw the study to this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum MaskName {
    Local,
    Center,
    Identity,
    Stable,
}

impl From<MaskName> for Mask {
    fn from(name: MaskName) -> Self {
        match name {
            MaskName::Local => Self::Local,
            MaskName::Center => Self::Center,
            MaskName::Identity => Self::Identity,
            MaskName::Stable => Self::Stable,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.out.is_some() && args.model.len() > 1 {
        return Err(
            anyhow!("--out takes the results of one network, and {} are given", args.model.len()).into()
        );
    }
    if args.svg.is_some() && args.study.is_none() {
        return Err(anyhow!("--svg draws a --study, and none is given").into());
    }
    let pool = args.input.pool()?;
    if let Some(name) = args.study {
        let study = pool.install(|| study::measure(name, args.seed));
        return study::show(&study, args.svg.as_deref(), args.json);
    }
    output::catch_interrupts()?;
    let mut summaries = Vec::new();
    for model in &args.model {
        let mut inputs = args.input.load(model)?;
        let job = Job::new(args, model, &mut inputs)?;
        let summary = pool.install(|| job.run(args, &inputs))?;
        if args.json {
            output::print(&serde_json::to_string(&summary)?)?;
        }
        summaries.push((summary, job.eps.text));
    }
    if !args.json {
        output::print(&text(&summaries, args.layers))?;
    }
    Ok(())
}

/// What is the same for all inputs of a network.
struct Job<'a> {
    model: &'a Path,
    eps: Eps,
    clip: Option<(f64, f64)>,
    header: Value,
}

impl<'a> Job<'a> {
    fn new(args: &Args, model: &'a Path, inputs: &mut Inputs) -> Result<Self> {
        let card = &inputs.card;
        let clip = args.clip.or(if args.input.data.is_some() { None } else { card.data.clip });
        let of_card = card.certify.eps.get(1).or(card.certify.eps.first());
        let eps = match (&args.eps, of_card) {
            (Some(eps), _) => eps.clone(),
            (None, Some(eps)) => eps.to_string().parse().map_err(|e: String| anyhow!(e))?,
            (None, None) => {
                return Err(anyhow!("{}: no --eps given, and no card names any", model.display()).into());
            }
        };
        let header = inputs.header(json!({
            "command": "tightness",
            "mask": format!("{:?}", args.mask).to_lowercase(),
            "norm": "linf",
            "eps": eps.text,
            "clip": clip,
            "layers": args.layers,
            "samples": args.samples,
            "seed": args.seed,
        }));
        Ok(Self { model, eps, clip, header })
    }

    fn run(&self, args: &Args, inputs: &Inputs) -> Result<TightnessSummary> {
        let refused = |e| anyhow!("{}: {e}", self.model.display());
        let tightness = Tightness::new(&inputs.graph, args.mask.into()).map_err(refused)?;
        let figures = CompanionFigures::new(&inputs.graph).map_err(refused)?;
        let (mut file, mut records) = match &args.out {
            None => (None, Vec::new()),
            Some(path) => {
                let opened = RunFile::open::<TightnessRecord>(path, &self.header, args.resume);
                let (file, records) = opened.map_err(Failure::from_run)?;
                (Some(file), records)
            }
        };
        let done: HashSet<usize> = records.iter().map(|r| r.index).collect();
        let plan = Plan::new(&inputs.graph);
        let sampling = Sampling { points: args.samples, seed: args.seed };
        let bar = output::progress(inputs.labels.len(), &inputs.name);
        for rows in output::blocks(inputs.labels.len(), 32) {
            let first = inputs.first + rows.start;
            if output::interrupted() {
                return Err(Failure::interrupted(args.out.as_deref()));
            }
            if rows.clone().any(|i| !done.contains(&(inputs.first + i))) {
                let begin = Instant::now();
                let images = inputs.images.slice(ndarray::s![rows.clone(), ..]);
                let labels = &inputs.labels[rows.clone()];
                let boxes = InputBox::linf(images, self.eps.value, self.clip)
                    .map_err(|e| anyhow!("{}: inputs from {first}: {e}", inputs.name))?;
                let radii = tightness.measure(images, &boxes, Some(labels));
                let companions = figures.measure(images, &boxes, labels, first, sampling);
                let logits = plan.run(images);
                let layers = if args.layers { tightness.layers(images, &boxes) } else { Vec::new() };
                let seconds = begin.elapsed().as_secs_f64() / rows.len() as f64;
                for (row, (radii, (companions, margins))) in radii.iter().zip(&companions).enumerate() {
                    let (index, label) = (first + row, labels[row]);
                    if done.contains(&index) {
                        continue;
                    }
                    if radii.tightness().is_nan() || companions.logit_margin.is_nan() {
                        return Err(anyhow!("{}: input {index}: values overflow", inputs.name).into());
                    }
                    let predicted = class_of(&logits.row(row).to_vec());
                    let certified = predicted == Some(label) && margins.certified(0);
                    let input = TightnessInput { index, label, predicted, certified, seconds };
                    let layer =
                        |l: &LayerTightness| LayerRecord::new(inputs.graph.nodes[l.node].name.clone(), l);
                    let of_input = layers.get(row).into_iter().flatten().map(layer).collect();
                    let record = TightnessRecord::new(input, radii, companions, of_input);
                    if let Some(file) = &mut file {
                        file.append(&record).map_err(Failure::from_run)?;
                    }
                    records.push(record);
                }
            }
            bar.inc(rows.len() as u64);
        }
        bar.finish_and_clear();
        Ok(TightnessSummary::new(self.model.display().to_string(), weight_signs(&inputs.graph), &records))
    }
}

fn text(summaries: &[(TightnessSummary, String)], layers: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "network",
        "eps",
        "inputs",
        "tightness",
        "ratio of means",
        "dead",
        "unstable",
        "sampled",
        "active",
        "radius/margin",
        "IBP loss",
        "clean",
        "certified",
        "s/input",
    ]);
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    for (s, eps) in summaries {
        table.add_row([
            name(s),
            eps.clone(),
            s.inputs.to_string(),
            figure(s.mean_tightness),
            figure(s.ratio_of_means),
            percent(s.units[0]),
            percent(s.units[1]),
            percent(s.sampled_unstable),
            percent(s.units[2]),
            figure(s.radius_over_margin),
            figure(s.ibp_loss),
            output::percent(s.correct, s.inputs),
            output::percent(s.certified, s.inputs),
            format!("{:.6}", s.seconds / s.inputs.max(1) as f64),
        ]);
    }
    right(&mut table, 1);
    let mut text = format!("{table}\n\n{NOTE}");
    if layers {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["network", "before", "tightness", "ratio of means"]);
        for (s, _) in summaries {
            for layer in &s.layers {
                let figures = [figure(layer.tightness), figure(layer.ratio_of_means)];
                table.add_row([&[name(s), layer.name.clone()][..], &figures].concat());
            }
        }
        right(&mut table, 2);
        text = format!("{text}\n\n{table}");
    }
    text
}

fn name(summary: &TightnessSummary) -> String {
    Path::new(&summary.model).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Aligns the columns from this one on to the right.
pub(crate) fn right(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Four significant digits.
pub(crate) fn figure(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{x:.3e}"),
        size => format!("{x:.*}", (3 - size.log10().floor() as i32).clamp(0, 6) as usize),
    }
}
