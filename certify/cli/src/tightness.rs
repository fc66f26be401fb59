//! `tightrope tightness`.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use comfy_table::{Table, presets};
use tightrope::bounds::Eps;
use tightrope::report::TightnessSummary;
use tightrope::runs::Measure;
use tightrope::tightness::{Mask, Sampling, weight_signs};

use crate::args::Clip;
use crate::input::{InputArgs, Loaded};
use crate::output::{self, Result};
use crate::session::{RunArgs, ask};
use crate::study::{self, StudyName};
use crate::trained;

/// Below every table: what the figures are not.
const NOTE: &str = "tightness describes the linear network of the mask: a diagnostic, not a bound";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// ONNX networks, plain or gzipped. A card beside a network (NAME.toml)
    /// gives defaults for data, labels, clip and eps.
    /// With --study trained the folder of a sweep.
    #[arg(required_unless_present = "study")]
    pub(crate) model: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// Radius of the l-inf ball in units of the pixels as the network sees
    /// them before --mean and --std; also a fraction (2/255), or several
    /// [default: the second of the card].
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    eps: Vec<Eps>,
    /// The linear network: slopes at the input, at the centre of the box, all
    /// one, or only what intervals prove over the whole box.
    #[arg(long, value_enum, default_value = "local")]
    mask: MaskName,
    /// Range of the data, to which boxes are cut; or none
    /// [default: that of the card, else of 8-bit pixels, else none].
    #[arg(long, value_name = "LO,HI", allow_hyphen_values = true)]
    clip: Option<Clip>,
    /// Also the tightness of the sub-network before each activation: a pass per unit.
    #[arg(long)]
    layers: bool,
    /// Points of each box at which unstable units are looked for.
    #[arg(long, default_value_t = 8)]
    samples: u32,
    /// Seed of these points and of the networks of --study.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Measure generated networks against theory instead, or the trained ones of a sweep.
    #[arg(long, value_enum, conflicts_with_all = ["layers", "out"])]
    study: Option<StudyName>,
    /// Draw the study to this file; trained networks to this folder, with a table of all
    /// of them [default of those: the folder of the sweep].
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
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
    if args.run.out.is_some() && (args.model.len() > 1 || args.eps.len() > 1) {
        let given = format!("{} networks and {} radii", args.model.len(), args.eps.len().max(1));
        return Err(
            anyhow!("--out takes the results of one network at one eps, and {given} are given").into()
        );
    }
    if args.svg.is_some() && args.study.is_none() {
        return Err(anyhow!("--svg draws a --study, and none is given").into());
    }
    let pool = args.input.pool()?;
    if let Some(name) = args.study {
        let generated = !matches!(name, StudyName::Trained);
        if generated && !(args.model.is_empty() && args.eps.is_empty() && args.clip.is_none()) {
            return Err(
                anyhow!("--study generates its networks and boxes: give no model, --eps or --clip").into()
            );
        }
        return match pool.install(|| study::measure(name, args.seed)) {
            Some(study) => study::show(&study, args.svg.as_deref(), args.run.json),
            None => trained::run(args, &pool),
        };
    }
    output::catch_interrupts()?;
    let mut summaries = Vec::new();
    let ended = args.model.iter().try_for_each(|model| {
        let loaded = args.input.load(model, 1)?;
        loaded.need_labels()?;
        pool.install(|| measure(args, &loaded, &mut summaries))
    });
    if !args.run.json && !summaries.is_empty() {
        output::print(&text(&summaries, args.layers))?;
    }
    ended
}

/// Measures on one network; the summaries are there however it ends.
pub(crate) fn measure(args: &Args, loaded: &Loaded, summaries: &mut Vec<Shown>) -> Result<()> {
    let eps = loaded.eps(&args.eps)?;
    // The second of a card is the one that its network was trained for.
    let of_card = || eps.get(1).or(eps.first()).cloned().into_iter().collect();
    let asked: Vec<Eps> = if args.eps.is_empty() { of_card() } else { eps.clone() };
    let clip = loaded.clip(args.clip);
    for eps in asked {
        let sampling = Sampling { points: args.samples, seed: args.seed };
        let network = (&loaded.graph, &loaded.plan);
        let question = Measure::new(network, args.mask.into(), (eps.clone(), clip), args.layers, sampling);
        let question = question.map_err(|e| anyhow!("{}: {e}", loaded.model.display()))?;
        let (records, ended) = ask(&question, loaded.subject(), &args.run)?;
        if ended.is_ok() || !records.is_empty() {
            let (model, weights) = (loaded.model.display().to_string(), weight_signs(&loaded.graph));
            let summary = TightnessSummary::new(model, weights, &records);
            if args.run.json {
                output::print(&serde_json::to_string(&summary)?)?;
            }
            summaries.push((summary, eps, clip));
        }
        ended?;
    }
    Ok(())
}

/// A summary with what its table says besides.
pub(crate) type Shown = (TightnessSummary, Eps, Option<(f64, f64)>);

fn text(summaries: &[Shown], layers: bool) -> String {
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
        "clip",
    ]);
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    for (s, eps, clip) in summaries {
        table.add_row([
            name(s),
            eps.to_string(),
            s.inputs.to_string(),
            output::figure(s.mean_tightness),
            output::figure(s.ratio_of_means),
            percent(s.units[0]),
            percent(s.units[1]),
            percent(s.sampled_unstable),
            percent(s.units[2]),
            output::figure(s.radius_over_margin),
            output::figure(s.ibp_loss),
            output::percent(s.correct, s.inputs),
            output::percent(s.certified, s.inputs),
            format!("{:.6}", s.seconds / s.inputs.max(1) as f64),
            output::clip(*clip),
        ]);
    }
    output::right(&mut table, 1);
    let mut text = format!("{table}\n\n{NOTE}");
    if layers {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["network", "before", "tightness", "ratio of means"]);
        for (s, ..) in summaries {
            for layer in &s.layers {
                let figures = [output::figure(layer.tightness), output::figure(layer.ratio_of_means)];
                table.add_row([&[name(s), layer.name.clone()][..], &figures].concat());
            }
        }
        output::right(&mut table, 2);
        text = format!("{text}\n\n{table}");
    }
    text
}

fn name(summary: &TightnessSummary) -> String {
    Path::new(&summary.model).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
