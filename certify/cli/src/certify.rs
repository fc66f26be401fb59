//! `tightrope certify` and `tightrope attack`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, anyhow};
use comfy_table::{CellAlignment, Table, presets};
use ndarray::ArrayD;
use ndarray_npy::write_npy;
use rayon::prelude::*;
use serde_json::{Value, json};
use tightrope::attack::{Attacked, Pgd, Region, class_of};
use tightrope::bounds::{InputBox, MarginBounds, Method, Norm};
use tightrope::exec::Plan;
use tightrope::report::{CertifyRecord, CertifySummary, EpsSummary, RunFile};

use crate::args::{self, Eps};
use crate::input::{InputArgs, Inputs};
use crate::output::{self, Failure, Result};
use crate::radius;

/// What both commands are told.
#[derive(clap::Args)]
pub(crate) struct Common {
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
    /// Range of the data; perturbed inputs stay inside it.
    #[arg(long, value_name = "LO,HI", value_parser = args::clip, allow_hyphen_values = true)]
    clip: Option<(f64, f64)>,
    /// Seed of the attack's starting points.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the inputs that an attack found to files in this folder.
    #[arg(long, value_name = "DIR")]
    counterexamples: Option<PathBuf>,
    /// Write one JSON line for every input, eps and method to this file.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Continue the run in --out.
    #[arg(long, requires = "out")]
    pub(crate) resume: bool,
    /// Print one JSON object (a line) for each network instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// How margins are bounded; several give one column each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ibp")]
    method: Vec<MethodName>,
    /// Search for counterexamples too, with this many gradient steps and restarts.
    #[arg(long, value_name = "STEPSxRESTARTS")]
    attack: Option<Budget>,
    /// For each input the largest certified eps up to the largest --eps, and
    /// the smallest at which the attack succeeds.
    #[arg(long)]
    radius: bool,
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
    /// For each input the first of these that certifies it.
    Best,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Ibp => Self::Ibp,
            MethodName::CrownIbp => Self::CrownIbp,
            MethodName::Crown => Self::Crown,
            MethodName::AlphaCrown => Self::AlphaCrown,
            MethodName::Best => Self::Best,
        }
    }
}

/// The name of a method as the command line has it.
pub(crate) fn method_name(method: Method) -> String {
    serde_json::to_value(method).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum NormName {
    Linf,
    L2,
    L1,
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
    if args.radius {
        if args.common.counterexamples.is_some() {
            return Err(
                anyhow!("--counterexamples with --radius, which keeps none; give --eps instead").into()
            );
        }
        let [method] = methods[..] else {
            return Err(anyhow!("--radius with several methods; give one with --method").into());
        };
        return each_network(&args.common, &[Some(method)], attack, radius::run);
    }
    let methods: Vec<Option<Method>> = methods.into_iter().map(Some).collect();
    certify(&args.common, &methods, attack)
}

pub(crate) fn run_attack(args: &AttackArgs) -> Result<()> {
    certify(&args.common, &[None], Some(args.attack.pgd(&args.common)))
}

fn certify(common: &Common, methods: &[Option<Method>], attack: Option<Pgd>) -> Result<()> {
    let mut summaries = Vec::new();
    each_network(common, methods, attack, |job, args| {
        let summary = job.run(args)?;
        if args.json {
            output::print(&serde_json::to_string(&summary)?)?;
        }
        summaries.push((summary, job.eps.clone()));
        Ok(())
    })?;
    if common.json { Ok(()) } else { output::print(&table(&summaries)) }
}

fn each_network(
    common: &Common,
    methods: &[Option<Method>],
    attack: Option<Pgd>,
    mut each: impl FnMut(&Job, &Common) -> Result<()> + Send,
) -> Result<()> {
    if common.out.is_some() && common.model.len() > 1 {
        return Err(
            anyhow!("--out takes the results of one network, and {} are given", common.model.len()).into()
        );
    }
    let pool = common.input.pool()?;
    output::catch_interrupts()?;
    for model in &common.model {
        let job = Job::new(common, model, methods, attack)?;
        pool.install(|| each(&job, common))?;
    }
    Ok(())
}

/// One network with everything that its certification needs.
pub(crate) struct Job {
    pub(crate) model: PathBuf,
    pub(crate) inputs: Inputs,
    pub(crate) eps: Vec<Eps>,
    methods: Vec<Option<Method>>,
    pub(crate) attack: Option<Pgd>,
    norm: Norm,
    clip: Option<(f64, f64)>,
    pub(crate) plan: Plan,
    pub(crate) header: Value,
}

fn key(record: &CertifyRecord) -> (usize, u64, Option<Method>) {
    (record.index, record.eps.to_bits(), record.method)
}

impl Job {
    fn new(common: &Common, model: &Path, methods: &[Option<Method>], attack: Option<Pgd>) -> Result<Self> {
        let mut inputs = common.input.load(model)?;
        let card = &inputs.card;
        let clip = common.clip.or(if common.input.data.is_some() { None } else { card.data.clip });
        let eps = if common.eps.is_empty() {
            card.certify.eps.iter().map(|e| e.to_string().parse()).collect::<std::result::Result<_, _>>()
        } else {
            Ok(common.eps.clone())
        };
        let eps: Vec<Eps> = eps.map_err(|e: String| anyhow!(e))?;
        if eps.is_empty() {
            return Err(anyhow!("{}: no --eps given, and no card names any", model.display()).into());
        }
        // Records are told apart by these.
        for (i, e) in eps.iter().enumerate() {
            if let Some(same) = eps[..i].iter().find(|other| other.value == e.value) {
                return Err(anyhow!("--eps {} and {} are the same; give each once", same.text, e.text).into());
            }
        }
        for (i, method) in methods.iter().enumerate() {
            if let Some(method) = method.filter(|_| methods[..i].contains(method)) {
                return Err(anyhow!("--method {} twice; give each once", method_name(method)).into());
            }
        }
        if common.counterexamples.is_some() && attack.is_none() {
            return Err(anyhow!("--counterexamples keeps what an attack finds; give --attack too").into());
        }
        let (norm, norm_name) = match common.norm {
            NormName::Linf => (Norm::Linf, "linf"),
            NormName::L2 => (Norm::L2, "l2"),
            NormName::L1 => (Norm::L1, "l1"),
        };
        if let Some(folder) = &common.counterexamples {
            let made = std::fs::create_dir_all(folder);
            made.with_context(|| folder.display().to_string()).map_err(Failure::Output)?;
        }
        let names: Vec<String> = methods.iter().flatten().copied().map(method_name).collect();
        let header = inputs.header(json!({
            "command": if names.is_empty() { "attack" } else { "certify" },
            "method": names.join(","),
            "norm": norm_name,
            "eps": eps.iter().map(|e| &e.text).collect::<Vec<_>>(),
            "clip": clip,
            "attack": attack.map(|a| format!("{}x{}", a.steps, a.restarts)),
            "seed": attack.map(|a| a.seed),
        }));
        let plan = Plan::new(&inputs.graph);
        let model = model.to_owned();
        Ok(Self { model, inputs, eps, methods: methods.to_vec(), attack, norm, clip, plan, header })
    }

    /// The one method of `--radius`.
    pub(crate) fn method(&self) -> Method {
        self.methods.iter().flatten().next().copied().unwrap_or(Method::Ibp)
    }

    /// The classes of a range of inputs.
    pub(crate) fn predict(&self, rows: std::ops::Range<usize>) -> Vec<Option<usize>> {
        let logits = self.plan.run(self.inputs.images.slice(ndarray::s![rows, ..]));
        logits.rows().into_iter().map(|row| class_of(&row.to_vec())).collect()
    }

    /// The perturbations that a certificate for `eps` speaks of.
    pub(crate) fn sets(&self, rows: std::ops::Range<usize>, eps: f64) -> Result<InputBox> {
        let first = self.inputs.first + rows.start;
        let images = self.inputs.images.slice(ndarray::s![rows, ..]);
        let sets = InputBox::ball(self.norm, images, eps, self.clip);
        Ok(sets.map_err(|e| anyhow!("{}: inputs from {first}: {e}", self.inputs.name))?)
    }

    /// The result of the attack on one input.
    pub(crate) fn attacked(&self, attack: &Pgd, row: usize, eps: f64) -> Attacked {
        let region = Region { norm: self.norm, eps, clip: self.clip };
        let (image, label) = (self.inputs.images.row(row), self.inputs.labels[row]);
        attack.attack(&self.inputs.graph, &self.plan, &region, image, label, self.inputs.first + row)
    }

    fn run(&self, args: &Common) -> Result<CertifySummary> {
        let (mut file, mut records) = match &args.out {
            None => (None, Vec::new()),
            Some(path) => {
                let opened = RunFile::open::<CertifyRecord>(path, &self.header, args.resume);
                let (file, records) = opened.map_err(Failure::from_run)?;
                (Some(file), records)
            }
        };
        let done: HashSet<_> = records.iter().map(key).collect();
        let bounds: Vec<(Option<Method>, Option<MarginBounds>)> =
            self.methods.iter().map(|&m| (m, m.map(|m| MarginBounds::new(&self.inputs.graph, m)))).collect();
        let bar = output::progress(self.inputs.labels.len(), &self.inputs.name);
        let quick = self.attack.is_none() && self.methods.iter().all(|&m| m == Some(Method::Ibp));
        for rows in output::blocks(self.inputs.labels.len(), if quick { 64 } else { 4 }) {
            let mut predicted = None;
            for eps in &self.eps {
                let mut attacked = None;
                for (method, bounds) in &bounds {
                    let wanted =
                        |i: usize| !done.contains(&(self.inputs.first + i, eps.value.to_bits(), *method));
                    if !rows.clone().any(wanted) {
                        continue;
                    }
                    if output::interrupted() {
                        return Err(Failure::interrupted(args.out.as_deref()));
                    }
                    let predicted = predicted.get_or_insert_with(|| self.predict(rows.clone()));
                    let begin = Instant::now();
                    let mut margins = None;
                    // Also refuses inputs outside --clip for an attack alone.
                    let sets = self.sets(rows.clone(), eps.upper())?;
                    if let Some(bounds) = bounds {
                        margins = Some(bounds.bound(&sets, &self.inputs.labels[rows.clone()]));
                    }
                    // The time of an attack counts where it is the only thing.
                    let bounded = begin.elapsed();
                    if let (Some(attack), None) = (&self.attack, &attacked) {
                        let found: Vec<Attacked> = rows
                            .clone()
                            .into_par_iter()
                            .map(|i| self.attacked(attack, i, eps.value))
                            .collect();
                        attacked = Some(found);
                    }
                    let spent = if bounds.is_some() { bounded } else { begin.elapsed() };
                    let seconds = spent.as_secs_f64() / rows.len() as f64;
                    for (row, i) in rows.clone().enumerate().filter(|&(_, i)| wanted(i)) {
                        let found = attacked.as_ref().map(|a| &a[row]);
                        let input = (self.inputs.first + i, self.inputs.labels[i], predicted[row]);
                        let record = CertifyRecord::new(
                            input,
                            (eps.value, *method),
                            margins.as_ref().map(|m| (m, row)),
                            found,
                            self.keep(args, input.0, eps, found)?,
                            seconds,
                        );
                        if let Some(file) = &mut file {
                            file.append(&record).map_err(Failure::from_run)?;
                        }
                        records.push(record);
                    }
                }
            }
            bar.inc(rows.len() as u64);
        }
        bar.finish_and_clear();
        let mut groups = Vec::new();
        for eps in &self.eps {
            for &method in &self.methods {
                let of = |r: &&CertifyRecord| r.eps == eps.value && r.method == method;
                groups.push((eps.value, method, records.iter().filter(of).collect()));
            }
        }
        Ok(CertifySummary::new(self.model.display().to_string(), &groups))
    }

    /// Writes a counterexample, if there is one and a folder for it.
    fn keep(
        &self,
        args: &Common,
        index: usize,
        eps: &Eps,
        found: Option<&Attacked>,
    ) -> Result<Option<String>> {
        let (Some(folder), Some(found)) = (&args.counterexamples, found.filter(|f| f.succeeded)) else {
            return Ok(None);
        };
        let name = format!("{}-{index}-eps{}.npy", self.inputs.name, eps.text.replace('/', "_"));
        let path = folder.join(name);
        let point = ArrayD::from_shape_vec(self.inputs.graph.input_shape.clone(), found.point.clone())?;
        let written = write_npy(&path, &point).with_context(|| path.display().to_string());
        written.map_err(Failure::Output)?;
        Ok(Some(path.display().to_string()))
    }
}

/// One row for each network and eps; with several methods a column each.
fn table(summaries: &[(CertifySummary, Vec<Eps>)]) -> String {
    let methods = summaries.first().map_or(1, |(s, eps)| s.results.len() / eps.len().max(1));
    let first = summaries.first().map_or(&[][..], |(s, _)| &s.results[..methods.min(s.results.len())]);
    let attacked = first.first().is_some_and(|r| r.attacked.is_some());
    let mut header: Vec<String> = ["network", "inputs", "clean", "eps"].map(String::from).to_vec();
    header.extend(attacked.then(|| "attacked".to_owned()));
    match first {
        [EpsSummary { method: None, .. }] => header.push("s/input".into()),
        [_] => header.extend(["certified", "mean margin", "median margin", "s/input"].map(String::from)),
        several => {
            let names = several.iter().filter_map(|r| r.method).map(method_name);
            header.extend(names.flat_map(|name| [name, "s/input".into()]));
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for (summary, eps) in summaries {
        let name = Path::new(&summary.model).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (results, eps) in summary.results.chunks(methods.max(1)).zip(eps) {
            let mut row = vec![
                name.clone(),
                summary.inputs.to_string(),
                output::percent(summary.correct, summary.inputs),
                eps.text.clone(),
            ];
            row.extend(results[0].attacked.map(|n| output::percent(n, summary.inputs)));
            for result in results {
                if result.method.is_some() {
                    row.push(output::percent(result.certified, summary.inputs));
                }
                if methods == 1 && result.method.is_some() {
                    row.extend([output::down(result.mean_margin), output::down(result.median_margin)]);
                }
                row.push(format!("{:.6}", result.seconds_per_input));
            }
            table.add_row(row);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
