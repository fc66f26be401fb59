//! What the records of each kind of run say: figures, a row of figures, the hardest inputs.

use std::collections::BTreeMap;

use tightrope::bounds::Method;
use tightrope::report::{
    BracketSummary, CertifySummary, Results, SmoothSummary, TableOptions, TightnessSummary,
};
use tightrope::runs::{
    CertifyRecord, RadiusRecord, RunLines, SmoothRecord, Status, TightnessRecord, VerifyRecord,
};
use tightrope::smoothing::quantity::Alpha;

use super::hardest::Candidate;
use super::{Figure, Kind, Table};
use crate::certify::method_name;
use crate::instances::{COLUMNS, Counts, settled_seconds};
use crate::output::{self, Result};
use crate::picture::{self, Axis};

/// What a run is made of.
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) figures: Vec<Figure>,
    pub(super) table: Table,
    pub(super) findings: Vec<String>,
    pub(super) notes: Vec<String>,
    /// Inputs, the hardest first.
    pub(super) hardest: Vec<Candidate>,
}

pub(super) fn found(run: &RunLines) -> Result<Found> {
    let command = run.header["command"].as_str().unwrap_or_default();
    match command {
        "certify" | "attack" if run.header["radius"].is_number() => brackets(run),
        "certify" | "attack" => certify(run),
        "smooth" => smooth(run),
        "tightness" => tightness(run),
        "verify" => verify(run),
        other => Err(anyhow::anyhow!(
            "{}: found a run of `{other}`; accepted: certify, attack, smooth, tightness, verify",
            run.file.display()
        )
        .into()),
    }
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    Table { header: header.iter().map(|&name| name.to_owned()).collect(), rows }
}

fn model(run: &RunLines) -> String {
    run.header["model"].as_str().unwrap_or("(a function)").to_owned()
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Ascending numbers over the share of inputs that have no greater one.
fn sorted(mut values: Vec<f64>) -> Vec<(f64, f64)> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let n = values.len();
    values.into_iter().enumerate().map(|(i, value)| (share(i + 1, n), value)).collect()
}

fn certify(run: &RunLines) -> Result<Found> {
    let records: Vec<CertifyRecord> = run.records()?;
    let mut groups: Vec<(f64, Option<Method>, Vec<&CertifyRecord>)> = Vec::new();
    for record in &records {
        match groups.iter_mut().find(|(eps, method, _)| *eps == record.eps && *method == record.method) {
            Some((.., members)) => members.push(record),
            None => groups.push((record.eps, record.method, vec![record])),
        }
    }
    let summary = CertifySummary::new(model(run), &groups);
    let name = |method: Option<Method>| method.map_or("attack".to_owned(), method_name);
    let mut rows = Vec::new();
    let mut accuracies: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for result in &summary.results {
        let inputs =
            groups.iter().find(|g| g.0 == result.eps && g.1 == result.method).map_or(0, |g| g.2.len());
        rows.push(vec![
            result.eps.to_string(),
            name(result.method),
            inputs.to_string(),
            output::percent(summary.correct, summary.inputs),
            result.method.map_or(String::new(), |_| output::percent(result.certified, inputs)),
            output::percent(result.falsified, inputs),
            output::percent(inputs - result.certified - result.falsified, inputs),
            output::figure(result.seconds_per_input),
        ]);
        let mut add = |line: String, accuracy: f64| {
            accuracies.entry(line).or_default().push((result.eps, accuracy));
        };
        if result.method.is_some() {
            add(format!("certified ({})", name(result.method)), share(result.certified, inputs));
        }
        let left = format!("not falsified ({})", name(result.method));
        add(left, 1.0 - share(result.falsified, inputs));
    }
    // One radius is no curve, but its accuracies are a level.
    for points in accuracies.values_mut() {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let [(eps, accuracy)] = points[..] {
            points.extend([(eps * 1.02, accuracy)]);
        }
    }
    let margins = groups.iter().filter(|(_, method, _)| method.is_some()).map(|(eps, method, members)| {
        let least = members.iter().map(|record| record.least_margin()).filter(|m| *m > f64::MIN);
        (format!("eps {eps}, {}", name(*method)), sorted(least.collect()))
    });
    let figures = vec![
        Figure {
            title: "Accuracy over the radius",
            x: ("eps".into(), Axis::Values),
            y: ("share of inputs", Axis::Share),
            lines: accuracies.into_iter().collect(),
        },
        Figure {
            title: "Least margins that are proved",
            x: ("share of inputs, sorted".into(), Axis::Share),
            y: ("logit", Axis::Values),
            lines: margins.collect(),
        },
    ];
    Ok(Found {
        kind: Kind::Certify,
        figures,
        table: table(
            &["eps", "method", "inputs", "clean", "certified", "falsified", "open", "s/input"],
            rows,
        ),
        findings: Vec::new(),
        notes: Vec::new(),
        hardest: hardest_of(&records),
    })
}

/// Inputs that are classified correctly: falsified ones first, then by the margin that is proved or found.
fn hardest_of(records: &[CertifyRecord]) -> Vec<Candidate> {
    let mut worst: BTreeMap<usize, (u8, f64, &CertifyRecord)> = BTreeMap::new();
    for record in records.iter().filter(|r| r.predicted == Some(r.label)) {
        let rank = match record.status {
            Status::Falsified => 0,
            Status::Unknown => 1,
            Status::Certified => 2,
        };
        let margin = record.attack_margin.unwrap_or_else(|| record.least_margin());
        let rank = if record.counterexample.is_some() { 0 } else { rank.max(1) };
        let entry = worst.entry(record.index).or_insert((rank, margin, record));
        if (rank, margin) < (entry.0, entry.1) {
            *entry = (rank, margin, record);
        }
    }
    let mut order: Vec<_> = worst.into_values().collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let candidate = |(_, margin, record): (u8, f64, &CertifyRecord)| Candidate {
        index: record.index,
        says: format!(
            "label {}, {} at eps {}, margin {}",
            record.label,
            match record.status {
                Status::Falsified => "falsified",
                Status::Unknown => "open",
                Status::Certified => "certified",
            },
            record.eps,
            output::figure(margin)
        ),
        counterexample: record.counterexample.clone(),
    };
    order.into_iter().map(candidate).collect()
}

fn brackets(run: &RunLines) -> Result<Found> {
    let records: Vec<RadiusRecord> = run.records()?;
    let limit = run.header["radius"].as_f64().unwrap_or_default();
    let name = run.header["method"].as_str().unwrap_or_default();
    let method = serde_json::from_value(name.into())?;
    let attacked = records.iter().any(|r| r.attacked_eps.is_some());
    let summary = BracketSummary::new(model(run), method, limit, attacked, &records);
    let right = |r: &&RadiusRecord| r.predicted == Some(r.label);
    let mut certified: Vec<f64> = records.iter().filter(right).map(|r| r.certified_eps).collect();
    let mut broken: Vec<f64> =
        records.iter().filter(right).map(|r| r.attacked_eps.unwrap_or(limit)).collect();
    certified.sort_by(f64::total_cmp);
    broken.sort_by(f64::total_cmp);
    let mut lines = vec![("certified".to_owned(), picture::steps(&certified, records.len()))];
    if attacked {
        lines.push(("not falsified".to_owned(), picture::steps(&broken, records.len())));
    }
    let mut order: Vec<&RadiusRecord> = records.iter().filter(right).collect();
    order.sort_by(|a, b| a.certified_eps.total_cmp(&b.certified_eps));
    let candidate = |r: &RadiusRecord| Candidate {
        index: r.index,
        says: format!(
            "label {}, certified to {}{}",
            r.label,
            output::down(r.certified_eps),
            r.attacked_eps.map_or(String::new(), |eps| format!(", falsified at {}", output::up(eps)))
        ),
        counterexample: None,
    };
    let row = vec![
        name.to_owned(),
        summary.inputs.to_string(),
        output::percent(summary.correct, summary.inputs),
        output::down(summary.mean_certified_eps),
        summary.certified_eps_quantiles.get("0.5").map_or(String::new(), |&eps| output::down(eps)),
        summary.mean_attacked_eps.map_or(String::new(), output::figure),
        output::figure(summary.seconds_per_input),
    ];
    Ok(Found {
        kind: Kind::Brackets,
        figures: vec![Figure {
            title: "Accuracy over the radius",
            x: ("radius".into(), Axis::FromZero),
            y: ("share of inputs", Axis::Share),
            lines,
        }],
        table: table(
            &["method", "inputs", "clean", "mean radius", "median", "falsified at", "s/input"],
            vec![row],
        ),
        findings: Vec::new(),
        notes: Vec::new(),
        hardest: order.into_iter().map(candidate).collect(),
    })
}

fn smooth(run: &RunLines) -> Result<Found> {
    let records: Vec<SmoothRecord> = run.records()?;
    let options =
        TableOptions { sigma: None, n: 1, alpha: Alpha::new(0.5).map_err(|e| anyhow::anyhow!("{e}"))? };
    let results = Results::read(&run.file, &options)?;
    let summaries = SmoothSummary::of_levels(&model(run), &records);
    let mut order: Vec<&SmoothRecord> = records.iter().filter(|r| r.counts()).collect();
    order.sort_by(|a, b| a.radius.total_cmp(&b.radius));
    let candidate = |r: &SmoothRecord| Candidate {
        index: r.index,
        says: format!(
            "class {}, sigma {}, radius {}",
            r.predicted.map_or("none".into(), |class| class.to_string()),
            r.sigma,
            output::down(r.radius)
        ),
        counterexample: None,
    };
    let hardest = order.into_iter().map(candidate).collect();
    let row = |((sigma, summary), level): (&(f64, SmoothSummary), &Results)| {
        let certified = summary.results.first().map_or(0, |r| r.certified);
        vec![
            sigma.to_string(),
            summary.inputs.to_string(),
            output::percent(certified, summary.inputs),
            output::down(summary.average_certified_radius),
            summary.abstentions.to_string(),
            (summary.samples / summary.inputs.max(1) as u64).to_string(),
            output::figure(level.alpha),
            output::figure(summary.seconds / summary.inputs.max(1) as f64),
        ]
    };
    let rows = summaries.iter().zip(&results).map(row).collect();
    let names: Vec<String> = results.iter().map(|level| level.name("")).collect();
    let chart = picture::curves(&results, &names);
    let finding = |f: &tightrope::report::Finding| format!("line {}: {}", f.line, f.reason);
    Ok(Found {
        kind: Kind::Smooth,
        figures: vec![Figure {
            title: "Certified accuracy",
            x: chart.x,
            y: ("share of inputs", Axis::Share),
            lines: chart.lines,
        }],
        table: table(
            &[
                "sigma",
                "inputs",
                "certified",
                "average radius",
                "abstentions",
                "samples/input",
                "alpha",
                "s/input",
            ],
            rows,
        ),
        findings: results.iter().flat_map(|level| &level.findings).map(finding).collect(),
        notes: Vec::new(),
        hardest,
    })
}

fn tightness(run: &RunLines) -> Result<Found> {
    let records: Vec<TightnessRecord> = run.records()?;
    let summary = TightnessSummary::new(model(run), Vec::new(), &records);
    let layers = summary.layers.iter().enumerate();
    let layers: Vec<(f64, f64)> = layers.map(|(k, layer)| (k as f64 + 1.0, layer.tightness)).collect();
    let mut order: Vec<&TightnessRecord> = records.iter().collect();
    order.sort_by(|a, b| a.tightness.total_cmp(&b.tightness));
    let candidate = |r: &TightnessRecord| Candidate {
        index: r.index,
        says: format!("label {}, tightness {}", r.label, output::figure(r.tightness)),
        counterexample: None,
    };
    let units = summary.units.map(|part| format!("{:.1} %", 100.0 * part));
    let mut row = vec![
        run.header["eps"].as_str().unwrap_or_default().to_owned(),
        run.header["mask"].as_str().unwrap_or_default().to_owned(),
        summary.inputs.to_string(),
        output::figure(summary.mean_tightness),
    ];
    row.extend(units);
    row.push(output::percent(summary.certified, summary.inputs));
    let lines = vec![(String::new(), sorted(records.iter().map(|r| r.tightness).collect()))];
    let figures = vec![
        Figure {
            title: "Tightness of the inputs",
            x: ("share of inputs, sorted".into(), Axis::Share),
            y: ("tightness", Axis::Share),
            lines,
        },
        Figure {
            title: "Tightness before each activation",
            x: ("activation, from the input on".into(), Axis::Values),
            y: ("tightness", Axis::Share),
            lines: vec![(String::new(), layers)],
        },
    ];
    Ok(Found {
        kind: Kind::Tightness,
        figures,
        table: table(
            &["eps", "mask", "inputs", "tightness", "dead", "unstable", "active", "certified by ibp"],
            vec![row],
        ),
        findings: Vec::new(),
        notes: Vec::new(),
        hardest: order.into_iter().map(candidate).collect(),
    })
}

fn verify(run: &RunLines) -> Result<Found> {
    let records: Vec<VerifyRecord> = run.records()?;
    let mut groups: BTreeMap<&str, Vec<&VerifyRecord>> = BTreeMap::new();
    for record in &records {
        groups.entry(&record.network).or_default().push(record);
    }
    let mut rows: Vec<Vec<String>> =
        groups.iter().map(|(network, members)| Counts::new(members.iter().copied()).row(network)).collect();
    if rows.len() > 1 {
        rows.push(Counts::new(records.iter()).row("all"));
    }
    let contradicts = |r: &&VerifyRecord| {
        r.verdict.is_some_and(tightrope::verify::Verdict::is_settled)
            && r.expected.is_some_and(|expected| Some(expected) != r.verdict)
    };
    let says = |r: &VerifyRecord| format!("instance {}: the verdict contradicts that of the table", r.index);
    let open = |r: &VerifyRecord| r.reason.as_ref().map(|why| format!("instance {}: {why}", r.index));
    let chart = picture::solved(vec![(String::new(), settled_seconds(&records))], records.len());
    Ok(Found {
        kind: Kind::Verify,
        figures: vec![Figure {
            title: "Instances solved within a time",
            x: chart.x,
            y: ("instances solved", Axis::FromZero),
            lines: chart.lines,
        }],
        table: table(&COLUMNS, rows),
        findings: records.iter().filter(contradicts).map(says).collect(),
        notes: records.iter().filter_map(open).collect(),
        hardest: Vec::new(),
    })
}
