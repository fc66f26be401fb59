//! Curves of certified accuracy as a picture.

use anyhow::anyhow;
use plotters::prelude::*;
use tightrope::report::Results;
use tightrope::smoothing::noise::Norm;

const SIZE: (u32, u32) = (720, 440);

/// Radii are drawn on a grid of so many steps, rounded down: about one for each pixel.
const STEPS: f64 = 600.0;

/// The palette of Okabe and Ito without its yellow, which can be told apart with any eyes.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// An SVG picture with one step curve for each run.
pub(crate) fn draw(runs: &[Results], names: &[String]) -> anyhow::Result<String> {
    let mut text = String::new();
    draw_into(&mut text, runs, names).map_err(|e| anyhow!("the picture cannot be drawn: {e}"))?;
    Ok(text)
}

fn draw_into(
    text: &mut String,
    runs: &[Results],
    names: &[String],
) -> Result<(), Box<dyn std::error::Error>> {
    let largest = runs.iter().filter_map(|run| run.radii().last()).copied().fold(0.0, f64::max);
    let width = if largest > 0.0 { largest } else { 1.0 };
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Certified accuracy", ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..width * 1.02, 0.0..1.0)?;
    let norms: Vec<_> = runs.iter().map(|run| run.norm).collect();
    let radius = match norms.first() {
        Some(Some(Norm::L2)) if norms.iter().all(|n| *n == norms[0]) => "l2 radius",
        Some(Some(Norm::L1)) if norms.iter().all(|n| *n == norms[0]) => "l1 radius",
        _ => "radius",
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(radius)
        .y_desc("share of inputs")
        .label_style(("sans-serif", 15))
        .draw()?;
    for (i, (run, name)) in runs.iter().zip(names).enumerate() {
        let colour = match COLOURS.get(i).filter(|_| runs.len() <= COLOURS.len()) {
            Some(colour) => colour.to_rgba(),
            // More runs than colours: around the circle of hues, light and dark in turn.
            None => HSLColor(i as f64 / runs.len() as f64, 0.9, [0.3, 0.5][i % 2]).to_rgba(),
        };
        chart
            .draw_series(LineSeries::new(steps(run, width / STEPS), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 18, y + 2)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.4))
        .label_font(("sans-serif", 15))
        .draw()?;
    root.present()?;
    Ok(())
}

/// The corners of a run's curve, which falls behind each certified radius.
fn steps(run: &Results, grid: f64) -> Vec<(f64, f64)> {
    let inputs = run.inputs() as f64;
    let mut corners = vec![(0.0, run.radii().len() as f64 / inputs)];
    let mut left = run.radii().len();
    for equal in run.radii().chunk_by(|a, b| (a / grid).floor() == (b / grid).floor()) {
        let at = (equal[0] / grid).floor() * grid;
        corners.push((at, left as f64 / inputs));
        left -= equal.len();
        corners.push((at, left as f64 / inputs));
    }
    corners
}

/// An SVG picture of how many instances are solved within a time each: `seconds` of those that are, sorted.
pub(crate) fn solved(seconds: &[f64], instances: usize) -> anyhow::Result<String> {
    let mut text = String::new();
    solved_into(&mut text, seconds, instances).map_err(|e| anyhow!("the picture cannot be drawn: {e}"))?;
    Ok(text)
}

fn solved_into(
    text: &mut String,
    seconds: &[f64],
    instances: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    // Times below a hundredth of a second are told apart by nobody.
    let least = 0.01;
    let greatest = seconds.last().copied().unwrap_or(1.0).max(10.0 * least) * 1.1;
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{} of {instances} instances solved", seconds.len()), ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d((least..greatest).log_scale(), 0..instances)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds for an instance")
        .y_desc("instances solved")
        .label_style(("sans-serif", 15))
        .draw()?;
    let mut steps = vec![(least, 0)];
    for (solved, &seconds) in seconds.iter().enumerate() {
        steps.extend([(seconds.max(least), solved), (seconds.max(least), solved + 1)]);
    }
    steps.push((greatest, seconds.len()));
    chart.draw_series(LineSeries::new(steps, COLOURS[0].stroke_width(2)))?;
    root.present()?;
    Ok(())
}
