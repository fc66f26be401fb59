//! Results of randomized smoothing, one for each input: those of our run files, and the tables that the
//! field's scripts write. What cannot be right is found, line by line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::table;
use crate::runs::SmoothRecord;
use crate::runs::file::{RunError, RunLines, read_text};
use crate::runs::merge::{MergeError, selection};
use crate::smoothing::noise::{Noise, Norm};
use crate::smoothing::procedure::{Bound, Candidate, Outcome, RadiusRule};
use crate::smoothing::quantity::{Alpha, LowerBound, Radius, Scale};
use crate::smoothing::simplex::SimplexMap;

/// Relative slack of comparisons: what is accused is wrong by more than roundings.
const SLACK: f64 = 1.0 + 1e-9;

/// Why a file holds no results.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResultsError {
    /// The file cannot be read, or a line is not a record.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The first line does not say which inputs were asked for.
    #[error(transparent)]
    Header(#[from] MergeError),
    /// The file is of no known form.
    #[error(
        "{}: found {found}; accepted: a run file of tightrope smooth, or a tab-separated table with the columns {}",
        file.display(), table::COLUMNS.join(", ")
    )]
    Form {
        /// The file.
        file: PathBuf,
        /// How it begins.
        found: String,
    },
}

/// What a table does not say of itself.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// Standard deviation of the Gaussian noise, if known.
    pub sigma: Option<Scale>,
    /// Samples for an input.
    pub n: u32,
    /// Probability with which a certificate may be false.
    pub alpha: Alpha,
}

/// Something in a file that cannot be right.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which line, from 1.
    pub line: usize,
    /// What cannot be right, and what could.
    pub reason: String,
}

/// The results of one file.
#[derive(Clone, Debug)]
pub struct Results {
    /// Where they were read from.
    pub file: PathBuf,
    /// The scale of the noise, if the file has results for several.
    pub sigma: Option<f64>,
    /// The norm of the radii, if the file tells.
    pub norm: Option<Norm>,
    /// The risk of a false certificate, for each input.
    pub alpha: f64,
    /// What cannot be right.
    pub findings: Vec<Finding>,
    /// What is worth knowing and no fault.
    pub notes: Vec<String>,
    /// Radii of the inputs certified for their label, ascending.
    pub(super) radii: Vec<f64>,
    pub(super) inputs: usize,
    pub(super) abstentions: usize,
    pub(super) seconds: f64,
}

/// What a line says of an input. What it does not say, or not legibly, is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    pub(super) line: usize,
    pub(super) index: Option<i64>,
    pub(super) label: Option<i64>,
    pub(super) predicted: Option<i64>,
    pub(super) radius: Option<f64>,
    /// The radius may have been rounded up by as much.
    pub(super) rounding: f64,
    pub(super) correct: Option<i64>,
    pub(super) seconds: Option<f64>,
    pub(super) ceiling: Option<Ceiling>,
}

/// The largest radius that samples can give.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    radius: f64,
    n: u32,
    alpha: f64,
    /// Whether a randomized bound is accounted for.
    drawn: bool,
}

impl Ceiling {
    /// The radius after `n` samples that all agree. No lower bound at level alpha on a mean of scores in
    /// [0, 1] exceeds `alpha^(1/n)`: scores that are 1 with a probability just above it show nothing but
    /// ones with a probability above alpha. Two-sided rules spend less than alpha on each side, bounds
    /// that hold at all times spend it on fewer samples. A randomized bound knows its draw `W`, and
    /// reaches `(alpha/W)^(1/n)`, or `2^(-1/n)` where that would be 1.
    fn new(
        candidate: &Candidate,
        noise: &Noise,
        classes: usize,
        n: u32,
        alpha: Alpha,
        w: Option<f64>,
    ) -> Self {
        let at = |level: f64| {
            let root = libm::exp(libm::log(level) / f64::from(n));
            let p1 = LowerBound::new(root * (1.0 + 4.0 * f64::EPSILON));
            candidate.radius(noise, classes, p1, p1.complement(), 0.0)
        };
        let drawn = w.and_then(|w| at(if w > alpha.get() { alpha.get() / w } else { 0.5 }));
        let radius = Radius::larger(at(alpha.get()), drawn).map_or(0.0, Radius::get);
        Self { radius: radius * SLACK, n, alpha: alpha.get(), drawn: w.is_some() }
    }

    /// For a table: Gaussian noise, any rule that knows no Lipschitz constant of the network, and no
    /// randomized bound, whose draw a table does not tell.
    pub(super) fn of_table(options: &TableOptions) -> Option<Self> {
        let sigma = options.sigma?;
        let rule = Candidate::new(SimplexMap::Hardmax, Bound::ClopperPearson, RadiusRule::OneSided).ok()?;
        Some(Self::new(&rule, &Noise::gaussian(sigma), 2, options.n, options.alpha, None))
    }
}

impl Results {
    /// Reads a run file of `tightrope smooth` or a table, told apart by their first bytes, plain or
    /// packed with gzip: those of each scale of the noise. Lines that cannot be right are reported in [`Results::findings`]; as far as they
    /// have a meaning they count: an input is certified if its label was predicted, `correct` is not 0
    /// and the radius is a number, and the first line of an input is the one that holds.
    ///
    /// # Errors
    /// [`ResultsError`] if the file cannot be read, has another form, or holds no results.
    pub fn read(file: &Path, table: &TableOptions) -> Result<Vec<Self>, ResultsError> {
        let text = read_text(file)?;
        let form = |found: &str| ResultsError::Form { file: file.to_owned(), found: found.to_owned() };
        let results = if text.trim_start().starts_with('{') {
            Self::of_run(&RunLines::parse(file, &text)?)?
        } else {
            let (claims, findings) = table::parse(&text, table).map_err(|found| form(&found))?;
            let mut results = Self::new(file, None, table.alpha.get(), claims, findings);
            if table.sigma.is_none() {
                results
                    .notes
                    .push("radii are not compared with what the samples allow; --sigma would tell".into());
            }
            vec![results]
        };
        if results.iter().all(|results| results.inputs == 0) {
            return Err(form("no results after the first line"));
        }
        Ok(results)
    }

    fn of_run(run: &RunLines) -> Result<Vec<Self>, ResultsError> {
        if run.header.get("command").and_then(|c| c.as_str()) != Some("smooth") {
            let found = format!("a run with the options {}", run.header);
            return Err(ResultsError::Form { file: run.file.clone(), found });
        }
        let records: Vec<SmoothRecord> = run.records()?;
        let wanted = selection(run)?.iter().count();
        let mut levels = Vec::new();
        for sigma in SmoothRecord::sigmas(&records) {
            let level = records.iter().enumerate().filter(|(_, record)| record.sigma == sigma);
            let mut results = Self::of_level(run, level.map(|(i, record)| (i + 2, record)), wanted);
            results.sigma = Some(sigma);
            levels.push(results);
        }
        if let [only] = &mut levels[..] {
            only.sigma = None;
        }
        Ok(levels)
    }

    /// The results of one scale of the noise, of records and their lines.
    fn of_level<'a>(
        run: &RunLines,
        records: impl Iterator<Item = (usize, &'a SmoothRecord)>,
        wanted: usize,
    ) -> Self {
        let option = |name: &str| run.header.get(name).and_then(serde_json::Value::as_f64);
        let sigmas = run.header["sigma"].as_array().map_or(&[][..], |stated| &stated[..]);
        let sigmas = sigmas.iter().filter_map(serde_json::Value::as_f64);
        let sigmas: Vec<f64> = sigmas.map(|s| Scale::new(s).map_or(s, Scale::get)).collect();
        let (mut findings, mut claims, mut most, mut norm) = (Vec::new(), Vec::new(), 0.0_f64, None);
        for (line, record) in records {
            let outcome = &record.outcome;
            let mut find = |reason| findings.push(Finding { line, reason });
            let alpha = outcome.ledger.total();
            most = most.max(alpha.get());
            norm = norm.or(Some(outcome.noise.norm()));
            let scale = outcome.noise.scale().get();
            if scale != record.sigma || !sigmas.contains(&scale) {
                let (said, stated) = (record.sigma, &run.header["sigma"]);
                find(format!(
                    "sigma is {said} in the record, {scale} in what it was computed from and {stated} in the first line"
                ));
            }
            let used = [
                ("alpha", alpha.get(), option("alpha"), false),
                ("n", f64::from(outcome.samples), option("n"), true),
            ];
            for (name, used, stated, fewer) in used {
                if !stated.is_some_and(|stated| used == stated || fewer && used < stated) {
                    let stated = stated.map_or("nothing".into(), |stated| stated.to_string());
                    find(format!("{name} is {used} in the record and {stated} in the first line"));
                }
            }
            let follows = radius_of(outcome);
            if record.radius > follows * SLACK {
                find(format!(
                    "radius {} does not follow from the bounds, which give {follows}",
                    record.radius
                ));
            }
            let ceiling = Ceiling::new(
                &outcome.candidate,
                &outcome.noise,
                outcome.classes,
                outcome.samples,
                alpha,
                outcome.w,
            );
            claims.push(Claim {
                line,
                index: i64::try_from(record.index).ok(),
                label: record.label.or(record.predicted).map(|label| label as i64),
                predicted: Some(record.predicted.map_or(-1, |class| class as i64)),
                radius: Some(record.radius),
                rounding: 0.0,
                correct: Some(record.counts().into()),
                seconds: Some(record.seconds),
                ceiling: Some(ceiling),
            });
        }
        let mut results = Self::new(&run.file, norm, most, claims, findings);
        if results.inputs < wanted {
            results.notes.push(format!("holds {} of the run's {wanted} inputs", results.inputs));
        }
        if run.cut_off {
            results.notes.push("the last line is cut off and left out".into());
        }
        results
    }

    /// Checks claims and counts them.
    fn new(
        file: &Path,
        norm: Option<Norm>,
        alpha: f64,
        claims: Vec<Claim>,
        mut findings: Vec<Finding>,
    ) -> Self {
        let running = running_count(&claims);
        if let Some(line) = running {
            let reason = "correct counts up from line to line (a running count); accepted: 0 or 1, of this input alone";
            findings.push(Finding { line, reason: reason.into() });
        }
        let (mut radii, mut inputs, mut abstentions) = (Vec::new(), 0, 0);
        let (mut seconds, mut lines) = (0.0, HashMap::new());
        for claim in &claims {
            let reasons = faults(claim, running.is_some());
            findings.extend(reasons.into_iter().map(|reason| Finding { line: claim.line, reason }));
            if let Some(index) = claim.index
                && let Some(before) = lines.insert(index, claim.line)
            {
                let reason = format!("idx {index} was there before, on line {before}");
                findings.push(Finding { line: claim.line, reason });
                lines.insert(index, before);
                continue;
            }
            inputs += 1;
            seconds += claim.seconds.unwrap_or(0.0);
            abstentions += usize::from(claim.predicted.is_some_and(|class| class < 0));
            let right = claim.predicted.is_some_and(|p| p >= 0 && claim.label == Some(p));
            let radius = claim.radius.filter(|r| *r >= 0.0 && r.is_finite());
            if right && claim.correct.is_some_and(|c| c != 0) {
                radii.extend(radius);
            }
        }
        radii.sort_by(f64::total_cmp);
        findings.sort_by_key(|finding| finding.line);
        Self {
            file: file.to_owned(),
            sigma: None,
            norm,
            alpha,
            findings,
            notes: Vec::new(),
            radii,
            inputs,
            abstentions,
            seconds,
        }
    }
}

impl Results {
    /// The name of the file with the scale of the noise, where the file has results for several.
    #[must_use]
    pub fn name(&self, file: &str) -> String {
        self.sigma.map_or_else(|| file.to_owned(), |sigma| format!("{file} sigma {sigma}").trim().to_owned())
    }
}

/// The radius that an outcome's own bounds give.
fn radius_of(outcome: &Outcome) -> f64 {
    let Outcome { candidate, noise, classes, p_lower, p_upper, charge, .. } = outcome;
    candidate.radius(noise, *classes, *p_lower, *p_upper, *charge).map_or(0.0, Radius::get)
}

/// The first line that shows that `correct` is a running count, if it is one: numbers above 1 that never
/// fall.
fn running_count(claims: &[Claim]) -> Option<usize> {
    let rising = claims.windows(2).all(|pair| pair[0].correct <= pair[1].correct);
    claims.iter().find(|c| rising && c.correct.is_some_and(|correct| correct > 1)).map(|c| c.line)
}

/// What cannot be right in a line alone.
fn faults(claim: &Claim, running: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    for (name, value, least) in
        [("idx", claim.index, 0), ("label", claim.label, 0), ("predict", claim.predicted, -1)]
    {
        if let Some(value) = value.filter(|value| *value < least) {
            reasons.push(format!("{name} is {value}; accepted: {least} or above"));
        }
    }
    if let Some(radius) = claim.radius {
        if !(radius >= 0.0 && radius.is_finite()) {
            reasons.push(format!("radius is {radius:?}; accepted: a finite number, 0 or above"));
        } else if radius > 0.0 && claim.predicted == Some(-1) {
            reasons.push(format!("predict is -1, an abstention, with radius {radius}; accepted: radius 0"));
        }
        if let Some(Ceiling { radius: most, n, alpha, drawn }) = claim.ceiling
            && radius.is_finite()
            && radius > most + claim.rounding
        {
            let without =
                if drawn { "" } else { " without a randomized bound, whose draw only a run file tells" };
            reasons.push(format!(
                "radius is {radius:?}; accepted: at most {most:.6}, from {n} samples that all agree at alpha {alpha}{without}"
            ));
        }
    }
    if let (Some(correct), false) = (claim.correct, running) {
        let right = claim.label.zip(claim.predicted).map(|(label, predicted)| label == predicted);
        if !(0..=1).contains(&correct) {
            reasons.push(format!("correct is {correct}; accepted: 0 or 1"));
        } else if let (Some(right), Some(label), Some(predicted)) = (right, claim.label, claim.predicted)
            && right != (correct == 1)
        {
            reasons.push(format!("correct is {correct}, with label {label} and predict {predicted}"));
        }
    }
    reasons
}

#[cfg(test)]
mod tests;
