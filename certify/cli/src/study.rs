//! `tightrope tightness --study`: theory beside measurement, as a table and a
//! figure.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, anyhow};
use comfy_table::{Table, presets};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use tightrope::tightness::study::{self, Point, Study};

use crate::output::{self, Failure, Result, figure, right};

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum StudyName {
    /// Two layers, by the width between them.
    Width,
    /// Chains of equal width, by their depth.
    Depth,
    /// Embedding and reconstruction, by the rank.
    Embedding,
    /// The networks of a folder that `models/recipes/sweep.py` wrote.
    Trained,
}

/// Measures generated networks; nothing for trained ones.
pub(crate) fn measure(name: StudyName, seed: u64) -> Option<Study> {
    match name {
        StudyName::Width => Some(study::width(400, seed)),
        StudyName::Depth => Some(study::depth(1000, seed)),
        StudyName::Embedding => Some(study::embedding(100, seed)),
        StudyName::Trained => None,
    }
}

/// Prints a study, and draws it to a file if asked.
pub(crate) fn show(study: &Study, svg: Option<&Path>, json: bool) -> Result<()> {
    output::print(&if json { serde_json::to_string(study)? } else { text(study) })?;
    if let Some(path) = svg {
        let written = draw(study)
            .and_then(|figure| std::fs::write(path, figure).with_context(|| path.display().to_string()));
        written.map_err(Failure::Output)?;
    }
    Ok(())
}

pub(crate) fn text(study: &Study) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "networks",
        study.parameter,
        "measured",
        "std. error",
        "closed form",
        "measured / closed",
    ]);
    for series in &study.series {
        for p in &series.points {
            table.add_row([
                series.name.to_owned(),
                p.parameter.to_string(),
                figure(p.measured),
                format!("{:.1e}", p.standard_error),
                figure(p.closed_form),
                format!("{:.4}", p.measured / p.closed_form),
            ]);
        }
    }
    right(&mut table, 1);
    let formulas: Vec<String> = study.series.iter().map(|s| format!("{}: {}", s.name, s.formula)).collect();
    format!("{table}\n\n{}; closed forms: {}", study.quantity, formulas.join("; "))
}

/// The figure as SVG: circles are measured (bars: two standard errors), lines
/// the closed forms. The width study has both axes logarithmic, the depth
/// study the vertical one.
pub(crate) fn draw(study: &Study) -> anyhow::Result<String> {
    let points = || study.series.iter().flat_map(|s| &s.points);
    let least = |of: &dyn Fn(&Point) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
    let greatest = |of: &dyn Fn(&Point) -> f64| points().map(of).fold(0.0, f64::max);
    let x = least(&|p| p.parameter as f64)..greatest(&|p| p.parameter as f64);
    let y = 0.7 * least(&|p| p.measured)..1.3 * greatest(&|p| p.measured.max(p.closed_form));
    let mut figure = String::new();
    {
        let area = SVGBackend::with_string(&mut figure, (720, 480)).into_drawing_area();
        let drawn = match study.name {
            "width" => chart(&area, study, x.log_scale(), y.log_scale()),
            "depth" => chart(&area, study, x, y.log_scale()),
            _ => chart(&area, study, x, 0.0..y.end),
        };
        drawn.and_then(|()| Ok(area.present()?)).map_err(|e| anyhow!("figure: {e}"))?;
    }
    Ok(figure)
}

pub(crate) type Drawing<T> = std::result::Result<T, Box<dyn std::error::Error>>;
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn chart<X, Y>(area: &Area, study: &Study, x: X, y: Y) -> Drawing<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    // Tick marks come out of sums: 0.30000000000000004.
    let label = |v: &f64| match v.abs() {
        size if size != 0.0 && size < 1e-3 => format!("{v:.0e}"),
        _ => format!("{}", (v * 1e6).round() / 1e6),
    };
    let mesh = &mut chart.configure_mesh();
    mesh.x_desc(study.parameter)
        .y_desc(study.quantity)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()?;
    for (series, colour) in study.series.iter().zip([RGBColor(31, 119, 180), RGBColor(214, 39, 40)]) {
        let at = |p: &Point, y: f64| (p.parameter as f64, y);
        let closed = series.points.iter().map(|p| at(p, p.closed_form));
        chart
            .draw_series(LineSeries::new(closed, colour.stroke_width(2)))?
            .label(format!("{}: {}", series.name, series.formula))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        for p in &series.points {
            let bar: Range<f64> = (p.measured - 2.0 * p.standard_error).max(0.5 * p.measured)
                ..p.measured + 2.0 * p.standard_error;
            chart.draw_series([PathElement::new([at(p, bar.start), at(p, bar.end)], colour)])?;
            chart.draw_series([Circle::new(at(p, p.measured), 4, colour)])?;
        }
    }
    let corner = if matches!(study.name, "embedding" | "autoencoder") {
        SeriesLabelPosition::UpperLeft
    } else {
        SeriesLabelPosition::UpperRight
    };
    chart.configure_series_labels().position(corner).border_style(BLACK).background_style(WHITE).draw()?;
    Ok(())
}
