//! `tightrope tightness --study trained`: the networks of a sweep, measured, as a table and figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use comfy_table::{Table, presets};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use serde::Deserialize;
use tightrope::report::TightnessSummary;
use tightrope::tightness::closed_form;
use tightrope::tightness::study::{Point, Series, Study};

use crate::card::Card;
use crate::output::{self, Result};
use crate::picture::{colour, tick};
use crate::study::{self, Area, Drawing};
use crate::tightness::{Args, measure};

/// `sweep.json`: what was trained, and what is drawn of it.
#[derive(Deserialize)]
struct Sweep {
    /// Radius of all measurements.
    eps: f64,
    /// How many of the images are measured on: those that the attack of the training had.
    inputs: usize,
    images: PathBuf,
    labels: PathBuf,
    figures: Vec<Figure>,
    /// Networks by the training that they are of.
    done: BTreeMap<String, Vec<Network>>,
}

#[derive(Deserialize)]
struct Figure {
    name: String,
    title: String,
    x: String,
    x_label: String,
    y: Vec<String>,
    #[serde(default)]
    log_x: bool,
    #[serde(default)]
    log_y: bool,
}

#[derive(Deserialize)]
struct Network {
    onnx: PathBuf,
    figures: Vec<String>,
    method: String,
    width: u32,
    depth: u32,
    seed: u64,
    epoch: u32,
    eps_train: f64,
    adversarial: f64,
    weight_norm: f64,
}

/// The columns of the table that are numbers.
const COLUMNS: [&str; 14] = [
    "width",
    "depth",
    "seed",
    "epoch",
    "eps_train",
    "tightness",
    "ratio_of_means",
    "dead",
    "unstable",
    "active",
    "clean",
    "adversarial",
    "certified",
    "weight_norm",
];

/// The numbers of a network in the order of [`COLUMNS`].
fn numbers(network: &Network, found: &TightnessSummary) -> [f64; COLUMNS.len()] {
    let [dead, unstable, active] = found.units;
    [
        f64::from(network.width),
        f64::from(network.depth),
        network.seed as f64,
        f64::from(network.epoch),
        network.eps_train,
        found.mean_tightness,
        found.ratio_of_means,
        dead,
        unstable,
        active,
        found.clean_accuracy,
        network.adversarial,
        found.certified_accuracy,
        network.weight_norm,
    ]
}

/// A network with its numbers.
type Row<'a> = (&'a Network, [f64; COLUMNS.len()]);

/// Measures all networks, writes the table and the figures, and prints what is drawn.
pub(crate) fn run(args: &Args, pool: &rayon::ThreadPool) -> Result<()> {
    let [folder] = &args.model[..] else {
        return Err(anyhow!(
            "--study trained takes the folder of one sweep, and {} are given",
            args.model.len()
        )
        .into());
    };
    let path = folder.join("sweep.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let sweep: Sweep = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    sweep.figures.iter().try_for_each(check).with_context(|| path.display().to_string())?;
    output::catch_interrupts()?;
    let range =
        format!("0..{}", sweep.inputs).parse().map_err(|e| anyhow!("{}: inputs: {e}", path.display()))?;
    let mut rows = Vec::new();
    for network in sweep.done.values().flatten() {
        let card = Card::of(folder.join(&sweep.images), folder.join(&sweep.labels), sweep.eps);
        let loaded = args.input.load_with(&folder.join(&network.onnx), card, 1, range)?;
        loaded.need_labels()?;
        let mut found = Vec::new();
        pool.install(|| measure(args, &loaded, &mut found))?;
        let (summary, ..) = found.first().context("no inputs")?;
        rows.push((network, numbers(network, summary)));
    }
    let out = args.svg.as_ref().unwrap_or(folder);
    std::fs::create_dir_all(out)
        .with_context(|| out.display().to_string())
        .map_err(output::Failure::Output)?;
    output::write_file(&out.join("trained.csv"), &csv(&rows))?;
    let mut shown = Vec::new();
    for figure in &sweep.figures {
        let lines = lines(figure, &rows);
        if !lines.is_empty() {
            output::write_file(&out.join(format!("{}.svg", figure.name)), &draw(figure, &lines)?)?;
            shown.push(table(figure, &lines));
        }
    }
    let reconstructions = folder.join("autoencoder.csv");
    if reconstructions.is_file() {
        let study = autoencoder(&reconstructions)?;
        output::write_file(&out.join("autoencoder.svg"), &study::draw(&study)?)?;
        shown.push(study::text(&study));
    }
    // As JSON every network has told its figures.
    if args.run.json { Ok(()) } else { output::print(&shown.join("\n\n")) }
}

/// Refuses figures of what is not measured, and names that are no file names.
fn check(figure: &Figure) -> anyhow::Result<()> {
    if figure.name.is_empty() || !figure.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        bail!("figure {:?}: a name has letters, digits and hyphens", figure.name);
    }
    match figure.y.iter().chain([&figure.x]).find(|key| column(key).is_none()) {
        Some(key) => {
            bail!("figure {}: found the value `{key}`; accepted: {}", figure.name, COLUMNS.join(", "))
        }
        None => Ok(()),
    }
}

fn column(key: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| *column == key)
}

fn csv(rows: &[Row]) -> String {
    let mut text = format!("onnx,method,{}\n", COLUMNS.join(","));
    for (network, numbers) in rows {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
        let onnx = quoted(&network.onnx.display().to_string());
        // Writing to a string does not fail.
        let _ = writeln!(text, "{onnx},{},{}", quoted(&network.method), numbers.join(","));
    }
    text
}

/// A place on the axis to the right; mean, least and greatest value and number of networks there.
type Spot = (f64, [f64; 3], usize);

/// The networks of a method.
struct Line {
    name: String,
    points: Vec<Spot>,
}

/// One line for every value and method; networks that differ in the seed only are one point.
fn lines(figure: &Figure, rows: &[Row]) -> Vec<Line> {
    let of_figure: Vec<&Row> = rows.iter().filter(|(n, _)| n.figures.contains(&figure.name)).collect();
    let mut methods: Vec<&str> = of_figure.iter().map(|(n, _)| n.method.as_str()).collect();
    methods.sort_unstable();
    methods.dedup();
    let mut found = Vec::new();
    for key in &figure.y {
        let (Some(x), Some(y)) = (column(&figure.x), column(key)) else { continue };
        for method in &methods {
            let mut pairs: Vec<(f64, f64)> =
                of_figure.iter().filter(|(n, _)| n.method == *method).map(|(_, v)| (v[x], v[y])).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
            let point = |same: &[(f64, f64)]| {
                let values = || same.iter().map(|pair| pair.1);
                let mean = values().sum::<f64>() / same.len() as f64;
                let ends =
                    [values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max)];
                (same[0].0, [mean, ends[0], ends[1]], same.len())
            };
            let points: Vec<_> = pairs.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()).map(point).collect();
            if !points.is_empty() {
                let name = if figure.y.len() > 1 { format!("{method}: {key}") } else { (*method).to_owned() };
                found.push(Line { name, points });
            }
        }
    }
    found
}

fn table(figure: &Figure, lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "networks",
        &figure.x,
        "networks here",
        "mean",
        "least",
        "greatest",
    ]);
    for line in lines {
        for (x, values, count) in &line.points {
            let values = values.map(output::figure);
            table.add_row([&[line.name.clone(), tick(*x), count.to_string()][..], &values].concat());
        }
    }
    output::right(&mut table, 1);
    format!("{}: {}\n{table}", figure.title, figure.y.join(", "))
}

fn draw(figure: &Figure, lines: &[Line]) -> anyhow::Result<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let ends = |of: &dyn Fn(&Spot) -> [f64; 2]| {
        points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), [a, b]| (l.min(a), h.max(b)))
    };
    let (left, right) = ends(&|p| [p.0; 2]);
    let (low, high) = ends(&|p| [p.1[1], p.1[2]]);
    if (figure.log_x && left <= 0.0) || (figure.log_y && low <= 0.0) {
        bail!("figure {}: values of 0 have no place on a logarithmic axis", figure.name);
    }
    let x = if figure.log_x { left / 1.1..right * 1.1 } else { left..right.max(left + 1e-3) };
    let y = match figure.log_y {
        true => low / 1.5..high * 1.5,
        // Accuracies of trained networks are close to each other.
        false if figure.x == "tightness" => low - 0.02..high + 0.01,
        false => 0.0..(high * 1.05).max(1e-3),
    };
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (760, 480)).into_drawing_area();
        let drawn = match (figure.log_x, figure.log_y) {
            (true, true) => chart(&area, figure, lines, x.log_scale(), y.log_scale()),
            (true, false) => chart(&area, figure, lines, x.log_scale(), y),
            (false, true) => chart(&area, figure, lines, x, y.log_scale()),
            (false, false) => chart(&area, figure, lines, x, y),
        };
        drawn.and_then(|()| Ok(area.present()?)).map_err(|e| anyhow!("figure {}: {e}", figure.name))?;
    }
    Ok(text)
}

/// Means as circles on lines, bars from the least to the greatest; without lines where both axes are measured.
fn chart<X, Y>(area: &Area, figure: &Figure, lines: &[Line], x: X, y: Y) -> Drawing<()>
where
    X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
{
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(&figure.title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    let quantity = if figure.y.len() > 1 {
        "mean over images".to_owned()
    } else {
        format!("{} (mean over images)", figure.y[0])
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(&figure.x_label)
        .y_desc(quantity)
        .x_label_formatter(&|x| tick(*x))
        .y_label_formatter(&|y| tick(*y))
        .draw()?;
    let scatter = figure.x == "tightness";
    for (i, line) in lines.iter().enumerate() {
        let colour = colour(i, lines.len());
        let means = line.points.iter().map(|(x, [mean, ..], _)| (*x, *mean));
        let joined: Vec<_> = if scatter { Vec::new() } else { means.clone().collect() };
        chart.draw_series(LineSeries::new(joined, colour.stroke_width(2)))?;
        for (x, [_, low, high], _) in &line.points {
            chart.draw_series([PathElement::new([(*x, *low), (*x, *high)], colour)])?;
        }
        chart
            .draw_series(means.map(|at| Circle::new(at, 4, colour.filled())))?
            .label(&line.name)
            .legend(move |(x, y)| Circle::new((x + 9, y), 4, colour.filled()));
    }
    // Where curves of such figures leave room.
    let corner = match () {
        () if figure.x == "epoch" => SeriesLabelPosition::UpperLeft,
        () if scatter || figure.log_y => SeriesLabelPosition::LowerLeft,
        () if figure.log_x => SeriesLabelPosition::MiddleLeft,
        () => SeriesLabelPosition::LowerRight,
    };
    chart
        .configure_series_labels()
        .position(corner)
        .border_style(BLACK.mix(0.4))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// The reconstructions of a sweep beside what random frames of the same rank give.
fn autoencoder(path: &Path) -> anyhow::Result<Study> {
    const PIXELS: usize = 784;
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut sides = [Vec::new(), Vec::new()];
    for (i, line) in text.lines().enumerate().skip(1) {
        let at = || {
            format!(
                "{}, line {}: found `{line}`; accepted: rank,optimal,layerwise,error",
                path.display(),
                i + 1
            )
        };
        let cells: Vec<&str> = line.split(',').collect();
        let [rank, optimal, layerwise, _] = cells[..] else { bail!(at()) };
        let rank: usize = rank.parse().with_context(at)?;
        if !(2..PIXELS).contains(&rank) {
            bail!("{}: a rank is from 2 to {}", at(), PIXELS - 1);
        }
        let closed = closed_form::embedding(PIXELS, rank);
        for (k, cell) in [optimal, layerwise].into_iter().enumerate() {
            let measured = cell.parse().with_context(at)?;
            sides[k].push(Point { parameter: rank, measured, standard_error: 0.0, closed_form: closed[k] });
        }
    }
    if sides[0].is_empty() {
        bail!("{}: no lines", path.display());
    }
    let [optimal, layerwise] = sides;
    let series = |name, points| Series { name, formula: "lines random frames", points };
    Ok(Study {
        name: "autoencoder",
        parameter: "rank k of 784",
        quantity: "output radius / input radius",
        series: vec![
            series("layer-wise, circles principal components", layerwise),
            series("optimal, circles principal components", optimal),
        ],
    })
}
