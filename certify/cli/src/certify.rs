//! `tightrope certify` and `tightrope attack`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use comfy_table::{Table, presets};
use ndarray::ArrayD;
use ndarray_npy::write_npy;
use tightrope::attack::{Attacked, Pgd};
use tightrope::bounds::{Eps, Evaluation, Method, Norm};
use tightrope::report::{BracketSummary, CertifySummary, EpsSummary};
use tightrope::runs::certify::Prove;
use tightrope::runs::{Brackets, Certificate, Certify, CertifyRecord};

use crate::args::{Clip, EvaluationName, NormName, seconds};
use crate::input::{InputArgs, Loaded};
use crate::output::{self, Failure, Result};
use crate::session::{RunArgs, ask};

/// What both commands are told.
#[derive(clap::Args)]
struct Common {
    /// ONNX networks, plain or gzipped. A card beside a network (NAME.toml)
    /// gives defaults for the options below.
    #[arg(required = true)]
    model: Vec<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    /// Radius of the ball in units of the pixels as the network sees them
    /// before --mean and --std; also a fraction (2/255) and a list.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    eps: Vec<Eps>,
    /// Norm of the ball.
    #[arg(long, value_enum, default_value = "linf")]
    norm: NormName,
    /// Range of the data, which perturbed inputs do not leave; or none
    /// [default: that of the card, else of 8-bit pixels, else none].
    #[arg(long, value_name = "LO,HI", allow_hyphen_values = true)]
    clip: Option<Clip>,
    /// Seed of the attack's starting points.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the inputs that an attack found to files in this folder.
    #[arg(long, value_name = "DIR")]
    counterexamples: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// How margins are bounded; several give one column each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ibp")]
    method: Vec<MethodName>,
    /// The arithmetic of the network that certificates speak of.
    #[arg(long, value_enum, default_value = "float32")]
    evaluation: EvaluationName,
    /// Search for counterexamples too, with this many gradient steps and restarts.
    #[arg(long, value_name = "STEPSxRESTARTS")]
    attack: Option<Budget>,
    /// Seconds of branch and bound after which `--method complete` leaves an
    /// input open [default: 60].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// For each input the largest certified eps up to the largest --eps, and
    /// the smallest at which the attack succeeds.
    #[arg(long)]
    radius: bool,
    /// Write what proves every certified and every falsified input to a file in
    /// this folder, for tightrope-check.
    #[arg(long, value_name = "DIR", conflicts_with = "radius")]
    certificates: Option<PathBuf>,
}

/// `tightrope attack`.
#[derive(clap::Args)]
pub(crate) struct AttackArgs {
    #[command(flatten)]
    common: Common,
    /// Gradient steps and restarts.
    #[arg(long, value_name = "STEPSxRESTARTS", default_value = "40x5")]
    attack: Budget,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum MethodName {
    /// Interval bound propagation.
    Ibp,
    /// One backward pass over the intervals of ibp.
    CrownIbp,
    /// Backward passes for every intermediate value too.
    Crown,
    /// The same with optimised lines.
    AlphaCrown,
    /// The margin at the input less its l2 Lipschitz constant times the distance.
    Lipschitz,
    /// For each input the first of these that certifies it.
    Best,
    /// The same, then branch and bound until the input is certified or
    /// falsified, or its time is over (--timeout).
    Complete,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Ibp => Self::Ibp,
            MethodName::CrownIbp => Self::CrownIbp,
            MethodName::Crown => Self::Crown,
            MethodName::AlphaCrown => Self::AlphaCrown,
            MethodName::Lipschitz => Self::Lipschitz,
            MethodName::Best => Self::Best,
            MethodName::Complete => Self::Complete,
        }
    }
}

/// Seconds of branch and bound for an input, where nothing is said.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The name of a method as the command line has it.
pub(crate) fn method_name(method: Method) -> String {
    serde_json::to_value(method).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `STEPSxRESTARTS`.
#[derive(Clone, Copy)]
struct Budget {
    steps: u32,
    restarts: u32,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("`{text}` is not STEPSxRESTARTS; give two positive numbers such as 40x5");
        let (steps, restarts) = text.split_once('x').ok_or_else(wrong)?;
        let number =
            |part: &str| part.parse::<u32>().ok().filter(|n| (1..=100_000).contains(n)).ok_or_else(wrong);
        Ok(Self { steps: number(steps)?, restarts: number(restarts)? })
    }
}

impl Budget {
    fn pgd(self, common: &Common) -> Pgd {
        Pgd { steps: self.steps, restarts: self.restarts, seed: common.seed }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let methods: Vec<Method> = args.method.iter().copied().map(Method::from).collect();
    let attack = args.attack.map(|a| a.pgd(&args.common));
    if args.timeout.is_some() && !methods.contains(&Method::Complete) {
        return Err(anyhow!("--timeout is of --method complete, which is not given").into());
    }
    let timeout = Some(args.timeout.unwrap_or(TIMEOUT));
    let evaluation = args.evaluation.into();
    if methods.contains(&Method::Lipschitz) && evaluation != Evaluation::Real {
        let real = "method lipschitz speaks of real arithmetic; give --evaluation real with it";
        return Err(anyhow!(real).into());
    }
    if !args.radius {
        let methods: Vec<_> = methods.into_iter().map(Some).collect();
        return certify(&args.common, (&methods, evaluation), attack, timeout, args.certificates.as_deref());
    }
    if args.common.counterexamples.is_some() {
        return Err(anyhow!("--counterexamples with --radius, which keeps none; give --eps instead").into());
    }
    let [method] = methods[..] else {
        return Err(anyhow!("--radius with several methods; give one with --method").into());
    };
    each_network(&args.common, |loaded| brackets(&args.common, loaded, (method, evaluation), attack, timeout))
}

pub(crate) fn run_attack(args: &AttackArgs) -> Result<()> {
    certify(&args.common, (&[None], Evaluation::Real), Some(args.attack.pgd(&args.common)), None, None)
}

/// A summary with what its table says besides.
struct Shown {
    summary: CertifySummary,
    eps: Vec<Eps>,
    clip: Option<(f64, f64)>,
}

fn certify(
    common: &Common,
    (methods, evaluation): (&[Option<Method>], Evaluation),
    attack: Option<Pgd>,
    timeout: Option<Duration>,
    certificates: Option<&Path>,
) -> Result<()> {
    let searched = attack.is_some() || methods.contains(&Some(Method::Complete));
    if common.counterexamples.is_some() && !searched {
        let found = "--counterexamples keeps what is found; give --attack or --method complete too";
        return Err(anyhow!(found).into());
    }
    let mut summaries = Vec::new();
    let ended = each_network(common, |loaded| {
        let (eps, clip) = (loaded.eps(&common.eps)?, loaded.clip(common.clip));
        let region = (common.norm.into(), eps.clone(), clip);
        let question = Certify::new((&loaded.graph, &loaded.plan), region, methods, attack, timeout);
        let question = question.map_err(|e| anyhow!("{}: {e}", loaded.model.display()))?;
        let mut question = question.evaluated(evaluation);
        let folder =
            common.counterexamples.as_deref().map(|folder| Counterexamples::new(folder, loaded, common.norm));
        let folder = folder.transpose()?;
        let keep = |index: usize, eps: &Eps, found: &Attacked| match &folder {
            Some(folder) if found.succeeded => Ok(Some(folder.write(index, eps, found)?)),
            _ => Ok(None),
        };
        question.keep = Some(&keep);
        let proofs = certificates.map(|folder| Certificates::new(folder, loaded, common.norm)).transpose()?;
        let prove = |certificate: &Certificate| match &proofs {
            Some(folder) => folder.write(certificate),
            None => Ok(()),
        };
        question.prove = proofs.as_ref().map(|_| &prove as &Prove);
        let (records, ended) = ask(&question, loaded.subject(), &common.run)?;
        if ended.is_ok() || !records.is_empty() {
            let groups = groups(&eps, methods, &records);
            let summary = CertifySummary::new(loaded.model.display().to_string(), &groups);
            if common.run.json {
                output::print(&serde_json::to_string(&summary)?)?;
            }
            summaries.push(Shown { summary, eps, clip });
        }
        ended
    });
    if !common.run.json && !summaries.is_empty() {
        output::print(&table(&summaries))?;
    }
    ended
}

/// The records of every radius and method, in the order asked for.
fn groups<'a>(
    eps: &[Eps],
    methods: &[Option<Method>],
    records: &'a [CertifyRecord],
) -> Vec<(f64, Option<Method>, Vec<&'a CertifyRecord>)> {
    let mut groups = Vec::new();
    for eps in eps.iter().map(Eps::value) {
        for &method in methods {
            let of = |r: &&CertifyRecord| r.eps == eps && r.method == method;
            groups.push((eps, method, records.iter().filter(of).collect()));
        }
    }
    groups
}

fn each_network(common: &Common, mut each: impl FnMut(&Loaded) -> Result<()> + Send) -> Result<()> {
    if common.run.out.is_some() && common.model.len() > 1 {
        return Err(
            anyhow!("--out takes the results of one network, and {} are given", common.model.len()).into()
        );
    }
    let pool = common.input.pool()?;
    output::catch_interrupts()?;
    for model in &common.model {
        let loaded = common.input.load(model, 1)?;
        loaded.need_labels()?;
        pool.install(|| each(&loaded))?;
    }
    Ok(())
}

/// What a file's name says of a norm.
fn prefix(norm: NormName) -> &'static str {
    match norm.into() {
        Norm::Linf => "",
        Norm::L2 => "l2-",
        Norm::L1 => "l1-",
    }
}

/// Where counterexamples of a network go, under names that no other network's have.
struct Counterexamples<'a> {
    folder: &'a Path,
    name: String,
    norm: &'static str,
    shape: &'a [usize],
}

impl<'a> Counterexamples<'a> {
    fn new(folder: &'a Path, loaded: &'a Loaded, norm: NormName) -> Result<Self> {
        let made = std::fs::create_dir_all(folder);
        made.with_context(|| folder.display().to_string()).map_err(Failure::Output)?;
        // Networks of one name in several folders differ in their bytes.
        let digest = loaded.header["model_sha256"].as_str().unwrap_or_default();
        let (norm, name) = (prefix(norm), format!("{}-{}", loaded.name, &digest[..digest.len().min(8)]));
        Ok(Self { folder, name, norm, shape: &loaded.graph.input_shape })
    }

    /// Writes a counterexample; its file.
    fn write(&self, index: usize, eps: &Eps, found: &Attacked) -> anyhow::Result<String> {
        let eps = eps.to_string().replace('/', "_");
        let path = self.folder.join(format!("{}-{index}-{}eps{eps}.npy", self.name, self.norm));
        let point = ArrayD::from_shape_vec(self.shape.to_vec(), found.point.clone())?;
        write_npy(&path, &point).with_context(|| path.display().to_string())?;
        Ok(path.display().to_string())
    }
}

/// Where certificates of a network go.
struct Certificates<'a> {
    folder: &'a Path,
    name: String,
    norm: &'static str,
    model: &'a str,
    weights: Option<&'a str>,
}

impl<'a> Certificates<'a> {
    fn new(folder: &'a Path, loaded: &'a Loaded, norm: NormName) -> Result<Self> {
        // The checker reads the model as it stands in its file.
        for (key, option) in [("mean", "mean"), ("std", "std"), ("output", "output"), ("fixed_sha256", "fix")]
        {
            let given = loaded.header.get(key).unwrap_or(&serde_json::Value::Null);
            if !given.is_null() && given.as_array().is_none_or(|list| !list.is_empty()) {
                let found = format!("--certificates with --{option}, of which the model's file says nothing");
                return Err(anyhow!(found).into());
            }
        }
        let made = std::fs::create_dir_all(folder);
        made.with_context(|| folder.display().to_string()).map_err(Failure::Output)?;
        let text = |key: &str| loaded.header.get(key).and_then(|digest| digest.as_str());
        let model = text("model_sha256").unwrap_or_default();
        let name = format!("{}-{}", loaded.name, &model[..model.len().min(8)]);
        Ok(Self { folder, name, norm: prefix(norm), model, weights: text("weights_sha256") })
    }

    fn write(
        &self,
        certificate: &Certificate,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Certificate { index, eps, method, .. } = certificate;
        let eps = eps.to_string().replace('/', "_");
        let method = method.map_or("attack".into(), method_name);
        let path = self.folder.join(format!("{}-{index}-{}eps{eps}-{method}.cert.gz", self.name, self.norm));
        let saved = certificate.save(&path, self.model, self.weights);
        Ok(saved.with_context(|| path.display().to_string())?)
    }
}

/// `--radius` on one network.
fn brackets(
    common: &Common,
    loaded: &Loaded,
    (method, evaluation): (Method, Evaluation),
    attack: Option<Pgd>,
    timeout: Option<Duration>,
) -> Result<()> {
    let clip = loaded.clip(common.clip);
    let region = (common.norm.into(), loaded.eps(&common.eps)?, clip);
    let question = Brackets::new((&loaded.graph, &loaded.plan), region, method, attack, timeout);
    let question = question.map_err(|e| anyhow!("{}: {e}", loaded.model.display()))?;
    let question = question.evaluated(evaluation);
    let (records, ended) = ask(&question, loaded.subject(), &common.run)?;
    if ended.is_ok() || !records.is_empty() {
        let (model, limit) = (loaded.model.display().to_string(), question.limit().value());
        let searched = attack.is_some() || method == Method::Complete;
        let summary = BracketSummary::new(model, method, limit, searched, &records);
        let json = common.run.json;
        output::print(&if json {
            serde_json::to_value(&summary)?.to_string()
        } else {
            bracket_table(loaded, &summary, clip)
        })?;
    }
    ended
}

fn bracket_table(loaded: &Loaded, summary: &BracketSummary, clip: Option<(f64, f64)>) -> String {
    let mut header = vec!["network", "inputs", "clean", "mean eps", "10 %", "median", "90 %"];
    header.extend(summary.attacked.map(|_| "attacked at"));
    header.extend(["s/input", "clip"]);
    let mut row = vec![
        loaded.name.clone(),
        summary.inputs.to_string(),
        output::percent(summary.correct, summary.inputs),
        output::down(summary.mean_certified_eps),
    ];
    row.extend(summary.certified_eps_quantiles.values().map(|&eps| output::down(eps)));
    // Where no attack succeeded the limit stands for what is not known.
    let least = if summary.attacked.is_some_and(|n| n < summary.inputs) { ">= " } else { "" };
    row.extend(summary.mean_attacked_eps.map(|eps| format!("{least}{eps:.4}")));
    row.push(format!("{:.4}", summary.seconds_per_input));
    row.push(output::clip(clip));
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header).add_row(row);
    output::right(&mut table, 1);
    table.to_string()
}

/// One row for each network and eps; with several methods a column each.
fn table(summaries: &[Shown]) -> String {
    let methods = summaries.first().map_or(1, |s| s.summary.results.len() / s.eps.len().max(1));
    let first = summaries.first().map_or(&[][..], |s| &s.summary.results[..methods]);
    let attacked = first.first().is_some_and(|r| r.attacked.is_some());
    let mut header: Vec<String> = ["network", "inputs", "clean", "eps"].map(String::from).to_vec();
    header.extend(attacked.then(|| "attacked".to_owned()));
    match first {
        [EpsSummary { method: None, .. }] => header.push("s/input".into()),
        [EpsSummary { method: Some(Method::Complete), .. }] => {
            header.extend(["certified", "falsified", "open", "s/input"].map(String::from));
        }
        [_] => header.extend(["certified", "mean margin", "median margin", "s/input"].map(String::from)),
        several => {
            for method in several.iter().filter_map(|r| r.method) {
                header.push(method_name(method));
                header.extend((method == Method::Complete).then(|| "open".into()));
                header.push("s/input".into());
            }
        }
    }
    header.push("clip".into());
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for Shown { summary, eps, clip } in summaries {
        let name = Path::new(&summary.model).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (results, eps) in summary.results.chunks(methods.max(1)).zip(eps) {
            let mut row = vec![
                name.clone(),
                summary.inputs.to_string(),
                output::percent(summary.correct, summary.inputs),
                eps.to_string(),
            ];
            row.extend(results[0].attacked.map(|n| output::percent(n, summary.inputs)));
            for result in results {
                if result.method.is_some() {
                    row.push(output::percent(result.certified, summary.inputs));
                }
                if result.method == Some(Method::Complete) {
                    let open = summary.inputs - result.certified - result.falsified;
                    row.extend((methods == 1).then(|| output::percent(result.falsified, summary.inputs)));
                    row.push(output::percent(open, summary.inputs));
                } else if methods == 1 && result.method.is_some() {
                    row.extend([output::down(result.mean_margin), output::down(result.median_margin)]);
                }
                row.push(format!("{:.6}", result.seconds_per_input));
            }
            row.push(output::clip(*clip));
            table.add_row(row);
        }
    }
    output::right(&mut table, 1);
    table.to_string()
}
