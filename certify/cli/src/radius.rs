//! `tightrope certify --radius`: the largest certified eps of every input, and
//! the smallest at which the attack succeeds.

use std::time::Instant;

use comfy_table::{CellAlignment, Table, presets};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tightrope::bounds::MarginBounds;
use tightrope::report::RunFile;

use crate::certify::{Common, Job};
use crate::output::{self, Failure, Result};

/// Halvings: the radius is found to a thousandth of the largest eps.
const HALVINGS: u32 = 10;

#[derive(Serialize, Deserialize)]
struct RadiusRecord {
    index: usize,
    label: usize,
    predicted: Option<usize>,
    /// The largest eps that was proved; 0 if none was.
    certified_eps: f64,
    /// The smallest eps at which the attack succeeded; absent if it never did.
    attacked_eps: Option<f64>,
    seconds: f64,
}

pub(crate) fn run(job: &Job, args: &Common) -> Result<()> {
    let limit = job.eps.iter().map(|e| e.value).fold(0.0, f64::max);
    let mut header = job.header.clone();
    header["radius"] = json!(limit);
    let (mut file, mut records) = match &args.out {
        None => (None, Vec::new()),
        Some(path) => {
            let opened = RunFile::open::<RadiusRecord>(path, &header, args.resume);
            let (file, records) = opened.map_err(Failure::from_run)?;
            (Some(file), records)
        }
    };
    let done: std::collections::HashSet<usize> = records.iter().map(|r| r.index).collect();
    let rows: Vec<usize> =
        (0..job.inputs.labels.len()).filter(|row| !done.contains(&(job.inputs.first + row))).collect();
    let bounds = MarginBounds::new(&job.inputs.graph, job.method());
    let bar = output::progress(rows.len(), &job.inputs.name);
    for block in output::blocks(rows.len(), 4) {
        let block = &rows[block];
        if output::interrupted() {
            return Err(Failure::interrupted(args.out.as_deref()));
        }
        let found: Vec<RadiusRecord> =
            block.par_iter().map(|&row| bracket(job, &bounds, row, limit)).collect::<Result<_>>()?;
        for record in found {
            if let Some(file) = &mut file {
                file.append(&record).map_err(Failure::from_run)?;
            }
            records.push(record);
        }
        bar.inc(block.len() as u64);
    }
    bar.finish_and_clear();
    summarize(job, args, limit, &records)
}

/// The bracket of one input.
fn bracket(job: &Job, bounds: &MarginBounds, row: usize, limit: f64) -> Result<RadiusRecord> {
    let begin = Instant::now();
    let label = job.inputs.labels[row];
    let predicted = job.predict(row..row + 1)[0];
    let mut record = RadiusRecord {
        index: job.inputs.first + row,
        label,
        predicted,
        certified_eps: 0.0,
        attacked_eps: None,
        seconds: 0.0,
    };
    if predicted == Some(label) {
        let proved = |eps: f64| -> Result<bool> {
            Ok(bounds.bound(&job.sets(row..row + 1, eps)?, &[label]).certified(0))
        };
        let (mut low, mut high) = (0.0, limit);
        if proved(limit)? {
            low = limit;
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if low < high && proved(middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        record.certified_eps = low;
        if let Some(attack) = &job.attack {
            let (mut low, mut high) = (low, limit);
            if job.attacked(attack, row, limit).succeeded {
                for _ in 0..HALVINGS {
                    let middle = 0.5 * (low + high);
                    if job.attacked(attack, row, middle).succeeded {
                        high = middle;
                    } else {
                        low = middle;
                    }
                }
                record.attacked_eps = Some(high);
            }
        }
    }
    record.seconds = begin.elapsed().as_secs_f64();
    Ok(record)
}

fn summarize(job: &Job, args: &Common, limit: f64, records: &[RadiusRecord]) -> Result<()> {
    let inputs = records.len();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / inputs.max(1) as f64;
    let mut certified: Vec<f64> = records.iter().map(|r| r.certified_eps).collect();
    // Where no attack succeeded the limit stands for what is not known.
    let wrong = |r: &RadiusRecord| r.predicted != Some(r.label);
    let attacked: Option<Vec<f64>> = job.attack.map(|_| {
        records.iter().map(|r| if wrong(r) { 0.0 } else { r.attacked_eps.unwrap_or(limit) }).collect()
    });
    let broken = records.iter().filter(|r| wrong(r) || r.attacked_eps.is_some()).count();
    certified.sort_by(f64::total_cmp);
    let at = |share: f64| certified.get((share * inputs.saturating_sub(1) as f64) as usize).copied();
    let quantiles = [0.1, 0.5, 0.9].map(|share| at(share).unwrap_or(0.0));
    let correct = records.iter().filter(|r| !wrong(r)).count();
    let seconds = mean(&records.iter().map(|r| r.seconds).collect::<Vec<_>>());
    if args.json {
        return output::print(&serde_json::to_string(&json!({
            "model": job.model.display().to_string(),
            "inputs": inputs,
            "correct": correct,
            "method": job.method(),
            "largest_eps": limit,
            "mean_certified_eps": mean(&certified),
            "certified_eps_quantiles": {"0.1": quantiles[0], "0.5": quantiles[1], "0.9": quantiles[2]},
            "attacked": attacked.as_ref().map(|_| broken),
            "mean_attacked_eps": attacked.as_deref().map(mean),
            "seconds_per_input": seconds,
        }))?);
    }
    let mut table = Table::new();
    let mut header = vec!["network", "inputs", "clean", "mean eps", "10 %", "median", "90 %"];
    header.extend(attacked.as_ref().map(|_| "attacked at"));
    header.push("s/input");
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    let mut row = vec![
        job.inputs.name.clone(),
        inputs.to_string(),
        output::percent(correct, inputs),
        output::down(mean(&certified)),
    ];
    row.extend(quantiles.map(output::down));
    let least = if broken < inputs { ">= " } else { "" };
    row.extend(attacked.as_deref().map(|a| format!("{least}{:.4}", mean(a))));
    row.push(format!("{seconds:.4}"));
    table.add_row(row);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::print(&table.to_string())
}
