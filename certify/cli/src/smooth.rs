//! `tightrope smooth`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::builder::{PossibleValue, PossibleValuesParser};
use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};
use tightrope::report::{SmoothSummary, cohen_tsv};
use tightrope::runs::{RunFile, RunLines, Smooth, SmoothRecord};
use tightrope::smoothing::certifier::{Certifier, Options, OptionsError};
use tightrope::smoothing::noise::Noise;
use tightrope::smoothing::procedure::{Bound, RadiusRule, RuleName, Stopping};
use tightrope::smoothing::quantity::{Alpha, Radius, Scale};

use crate::input::{InputArgs, Loaded};
use crate::lipschitz;
use crate::output::{self, Failure, Result};
use crate::session::{RunArgs, ask};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX network, plain or gzipped. A card beside it (NAME.toml) gives
    /// defaults for data, labels and sigma.
    #[arg(required_unless_present = "from")]
    model: Option<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    /// Recompute the radii of a run file from its recorded statistics, without the network; with
    /// --alpha, --bound and --rule, each [default: as recorded].
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "model", "data", "labels", "indices", "scale", "mean", "std", "input_shape", "threads", "sigma", "n",
        "n0", "map", "lipschitz", "radius", "tolerance", "noise", "seed", "skip", "shard", "resume",
    ])]
    from: Option<PathBuf>,
    /// Scale of the noise in units of the pixels as the network sees them
    /// before --mean and --std: the standard deviation of Gaussian noise, the
    /// half-width of uniform noise, the scale of Laplace noise. Several are several
    /// questions: each radius is false with probability at most alpha.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    sigma: Vec<f64>,
    /// Samples for the estimation; with --radius or --tolerance the most.
    #[arg(short, long, default_value_t = 100_000)]
    n: u32,
    /// Samples for the selection of class, map and radius rule [default: 2 % of -n, with
    /// --tolerance 1 %, and at least 100; with --radius 50].
    #[arg(long)]
    n0: Option<u32>,
    /// Probability with which a certificate may be false [default: 0.001].
    #[arg(long, allow_hyphen_values = true)]
    alpha: Option<f64>,
    /// Simplex map: auto, hardmax, softmax:T or sparsemax:T.
    #[arg(long, default_value = "auto")]
    map: String,
    /// Lipschitz constant of the logits (l2, after --mean and --std): auto for
    /// what `tightrope lipschitz` finds, or a number that you vouch for. Adds
    /// the radius rule that uses it, charged for the rounding of the evaluation.
    #[arg(long, value_name = "auto|L", allow_hyphen_values = true)]
    lipschitz: Option<lipschitz::Asked>,
    /// Confidence bound [default: randomized Clopper-Pearson for hardmax among the candidates of auto;
    /// with a named map Clopper-Pearson for hardmax, else Bernstein; with --radius test-martingale for
    /// hardmax, else betting].
    #[arg(long, value_enum)]
    bound: Option<BoundName>,
    /// How bounds become a radius [default: two-sided for softmax and sparsemax under Gaussian noise,
    /// else one-sided; with --radius pairwise].
    #[arg(long, value_enum)]
    rule: Option<Rule>,
    /// Stop as soon as it is settled whether this radius is certified.
    #[arg(long, conflicts_with = "tolerance", allow_hyphen_values = true)]
    radius: Option<f64>,
    /// Plan the samples of each input, up to -n, so that more could gain less than this fraction of the radius.
    #[arg(long, allow_hyphen_values = true)]
    tolerance: Option<f64>,
    /// Distribution of the noise, and with it the norm of the radii.
    #[arg(long, value_parser = noises(), default_value = "gaussian")]
    noise: String,
    /// Seed of all noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only every K-th input.
    #[arg(long, value_name = "K", default_value_t = 1)]
    skip: usize,
    /// Write the table that the field's scripts read: idx, label, predict, radius, correct, time.
    #[arg(long)]
    tsv: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum BoundName {
    ClopperPearson,
    RandomizedClopperPearson,
    KrichevskyTrofimov,
    Hoeffding,
    Bernstein,
    Betting,
    TestMartingale,
}

impl From<BoundName> for Bound {
    fn from(name: BoundName) -> Self {
        match name {
            BoundName::ClopperPearson => Self::ClopperPearson,
            BoundName::RandomizedClopperPearson => Self::RandomizedClopperPearson,
            BoundName::KrichevskyTrofimov => Self::KrichevskyTrofimov,
            BoundName::Hoeffding => Self::Hoeffding,
            BoundName::Bernstein => Self::Bernstein,
            BoundName::Betting => Self::Betting,
            BoundName::TestMartingale => Self::TestMartingale,
        }
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Rule {
    /// From the class's score alone, at the whole alpha.
    OneSided,
    /// From the class's score and the runner-up's, each at half of alpha.
    TwoSided,
    /// From one score for each pair of the class with another, at the whole alpha.
    Pairwise,
}

impl From<Rule> for RuleName {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::OneSided => Self::OneSided,
            Rule::TwoSided => Self::TwoSided,
            Rule::Pairwise => Self::Pairwise,
        }
    }
}

fn noises() -> PossibleValuesParser {
    PossibleValuesParser::new(Noise::KINDS.iter().map(|kind| PossibleValue::new(kind.name).help(kind.about)))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (Some(model), None) = (&args.model, &args.from) else { return recompute(args) };
    let pool = args.input.pool()?;
    let loaded = args.input.load(model, args.skip)?;
    let (certifiers, options) = certifiers(args, &loaded)?;
    output::catch_interrupts()?;
    let (records, ended) = pool.install(|| {
        let question = Smooth::new(&certifiers, &loaded.graph, options);
        ask(&question, loaded.subject(), &args.run)
    })?;
    write_tsv(args, &records)?;
    if ended.is_ok() || !records.is_empty() {
        summarize(args, model.display().to_string(), &records)?;
    }
    ended
}

/// `--from`: other radii for the same samples.
fn recompute(args: &Args) -> Result<()> {
    let from = args.from.as_ref().context("give a model, or a run with --from")?;
    let mut run = RunLines::read(from).map_err(Failure::from_run)?;
    let mut records: Vec<SmoothRecord> = run.records()?;
    let alpha = args.alpha.map(Alpha::new).transpose().context("--alpha")?;
    for record in &mut records {
        let outcome = &record.outcome;
        let alpha = alpha.unwrap_or(outcome.ledger.total());
        let bound = args.bound.map_or(outcome.candidate.bound(), Bound::from);
        let recorded = outcome.candidate.rule();
        let rules = args.rule.map_or_else(|| vec![recorded], |rule| RuleName::from(rule).rules());
        // Of pairs, those that were counted.
        let rule = rules.iter().find(|&rule| *rule == recorded).or(rules.first());
        let rule: RadiusRule = rule.copied().unwrap_or(recorded);
        let recomputed = outcome.recompute(alpha, bound, rule);
        let recomputed = recomputed.with_context(|| format!("{}: input {}", from.display(), record.index))?;
        *record = SmoothRecord::new(record.index, record.label, recomputed, record.seconds);
    }
    if let (Some(out), Some(header)) = (&args.run.out, run.header.as_object_mut()) {
        let changed = [
            ("from", json!(from.display().to_string())),
            ("alpha", json!(args.alpha)),
            ("bound", json!(args.bound.map(|b| format!("{b:?}")))),
            ("rule", json!(args.rule.map(|r| format!("{r:?}")))),
        ];
        for (name, value) in changed.into_iter().filter(|(_, value)| !value.is_null()) {
            header.insert(name.to_owned(), value);
        }
        let opened = RunFile::open::<SmoothRecord>(out, &json!(header), false);
        let (mut file, _) = opened.map_err(Failure::from_run)?;
        for record in &records {
            file.append(record).map_err(Failure::from_run)?;
        }
    }
    write_tsv(args, &records)?;
    let model = run.header["model"].as_str().unwrap_or_default().to_owned();
    summarize(args, model, &records)
}

/// The table of the field's scripts has no column for the scale of the noise.
fn tabular(args: &Args, sigmas: &[f64]) -> Result<()> {
    if args.tsv.is_some() && sigmas.len() > 1 {
        return Err(anyhow!("--tsv: found the scales {sigmas:?}; accepted: one --sigma").into());
    }
    Ok(())
}

fn write_tsv(args: &Args, records: &[SmoothRecord]) -> Result<()> {
    if let Some(path) = &args.tsv {
        tabular(args, &SmoothRecord::sigmas(records))?;
        output::write_file(path, &cohen_tsv(records))?;
    }
    Ok(())
}

fn summarize(args: &Args, model: String, records: &[SmoothRecord]) -> Result<()> {
    let summaries = SmoothSummary::of_levels(&model, records);
    let parts = summaries.iter().map(|(sigma, summary)| {
        let sigma = (summaries.len() > 1).then_some(*sigma);
        Ok(if args.run.json { serde_json::to_string(summary)? } else { text(summary, sigma) })
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    output::print(&parts.join(if args.run.json { "\n" } else { "\n\n" }))
}

/// The certifiers that are asked for, one for each scale of the noise, and the options that say so in the
/// first line of a run.
fn certifiers(args: &Args, loaded: &Loaded) -> Result<(Vec<Certifier>, Map<String, Value>)> {
    let mut sigmas = args.sigma.clone();
    if sigmas.is_empty() {
        let none = || format!("{}: no --sigma given, and no card names any", loaded.model.display());
        sigmas.push(loaded.card.smooth.sigma.with_context(none)?);
    }
    if let Some(twice) = (1..sigmas.len()).find(|&i| sigmas[..i].contains(&sigmas[i])) {
        return Err(anyhow!("--sigma: found {} twice; accepted: different scales", sigmas[twice]).into());
    }
    tabular(args, &sigmas)?;
    let stopping = match (args.radius, args.tolerance) {
        (Some(radius), _) => {
            let radius =
                Radius::new(radius).with_context(|| format!("--radius {radius}: give a positive number"))?;
            Stopping::Settle { radius, most: args.n }
        }
        (None, Some(fraction)) => Stopping::Tolerance { fraction, most: args.n },
        (None, None) => Stopping::Fixed(args.n),
    };
    let alpha = args.alpha.unwrap_or(0.001);
    let header = json!({
        "command": "smooth",
        "noise": args.noise,
        "sigma": sigmas,
        "n": args.n,
        "n0": args.n0.unwrap_or_else(|| stopping.pilot()),
        "alpha": alpha,
        "map": args.map,
        "lipschitz": args.lipschitz.map(lipschitz::Asked::header),
        "bound": args.bound.map(|b| format!("{b:?}")),
        "rule": args.rule.map(|r| format!("{r:?}")),
        "radius": args.radius,
        "tolerance": args.tolerance,
        "seed": args.seed,
    });
    let map = if args.map == "auto" { None } else { Some(args.map.parse().context("--map")?) };
    let mut certifiers = Vec::new();
    for sigma in sigmas {
        let options = Options {
            noise: Noise::new(&args.noise, Scale::new(sigma).context("--sigma")?).context("--sigma")?,
            map,
            bound: args.bound.map(Bound::from),
            rule: args.rule.map(RuleName::from),
            alpha: Alpha::new(alpha).context("--alpha")?,
            n0: args.n0,
            stopping,
            seed: args.seed,
        };
        let mut certifier = Certifier::new(options).map_err(|error| match error {
            OptionsError::Auto => anyhow!(error).context("--bound or --rule with --map auto"),
            _ => anyhow!(error),
        })?;
        if let Some(asked) = args.lipschitz {
            certifier = certifier.aware(&loaded.graph, asked.constant()).context("--lipschitz")?;
        }
        certifiers.push(certifier);
    }
    Ok((certifiers, header.as_object().cloned().unwrap_or_default()))
}

fn text(summary: &SmoothSummary, sigma: Option<f64>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(["radius", "certified", "accuracy"]);
    for result in &summary.results {
        table.add_row([
            format!("{:.2}", result.radius),
            result.certified.to_string(),
            output::percent(result.certified, summary.inputs),
        ]);
    }
    output::right(&mut table, 0);
    let name = Path::new(&summary.model).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    format!(
        "{name}{}: {} inputs\n\n{table}\n\naverage certified radius {}, abstentions {}, samples {} ({:.0}/s)",
        sigma.map_or(String::new(), |sigma| format!(", sigma {sigma}")),
        summary.inputs,
        output::down(summary.average_certified_radius),
        summary.abstentions,
        summary.samples,
        summary.samples_per_second,
    )
}
