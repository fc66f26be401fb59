//! Charts as SVG: lines over one pair of axes.

use anyhow::anyhow;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
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

/// The least number on a logarithmic axis of seconds: times below it are told apart by nobody.
const INSTANT: f64 = 1e-4;

/// A line with its name, empty where it needs none.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// How an axis is divided.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Axis {
    /// From the least to the greatest value.
    Values,
    /// The same, from 0.
    FromZero,
    /// From 0 to 1.
    Share,
    /// Logarithmic, for seconds.
    Seconds,
}

/// What is drawn.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: (String, Axis),
    pub(crate) y: (String, Axis),
    pub(crate) lines: Vec<Line>,
}

impl Chart {
    /// The picture.
    pub(crate) fn svg(&self) -> anyhow::Result<String> {
        let (mut text, size) = (String::new(), SIZE);
        let ends = |(_, axis): &(String, Axis), of: &dyn Fn(&(f64, f64)) -> f64| {
            let values = self.lines.iter().flat_map(|(_, points)| points.iter().map(of));
            let (mut low, mut high) =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            if !(low.is_finite() && high.is_finite()) {
                (low, high) = (0.0, 1.0);
            }
            match axis {
                Axis::Share => (0.0, 1.0),
                Axis::Seconds => (low.max(INSTANT), high.max(10.0 * low.max(INSTANT)) * 1.1),
                Axis::FromZero => (0.0, if high > 0.0 { high * 1.02 } else { 1.0 }),
                Axis::Values if low < high => (low, high),
                Axis::Values => (low - 0.5, low + 0.5),
            }
        };
        let (x, y) = (ends(&self.x, &|p| p.0), ends(&self.y, &|p| p.1));
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = match (self.x.1 == Axis::Seconds, self.y.1 == Axis::Seconds) {
            (true, _) => self.draw(&root, (x.0..x.1).log_scale(), y.0..y.1),
            (_, true) => self.draw(&root, x.0..x.1, (y.0..y.1).log_scale()),
            _ => self.draw(&root, x.0..x.1, y.0..y.1),
        };
        drawn.map_err(|e| anyhow!("the picture cannot be drawn: {e}"))?;
        drop(root);
        Ok(text)
    }

    fn draw<X, Y>(
        &self,
        root: &DrawingArea<SVGBackend, plotters::coord::Shift>,
        x: X,
        y: Y,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
        Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(root)
            .caption(&self.title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(&self.x.0)
            .y_desc(&self.y.0)
            .x_label_formatter(&|x| tick(*x))
            .y_label_formatter(&|y| tick(*y))
            .label_style(("sans-serif", 15))
            .draw()?;
        let least = |value: f64, axis| if axis == Axis::Seconds { value.max(INSTANT) } else { value };
        for (i, (name, points)) in self.lines.iter().enumerate() {
            let colour = colour(i, self.lines.len());
            let points = points.iter().map(|&(x, y)| (least(x, self.x.1), least(y, self.y.1)));
            let drawn = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            if !name.is_empty() {
                drawn
                    .label(name)
                    .legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 18, y + 2)], colour.filled()));
            }
        }
        if self.lines.iter().any(|(name, _)| !name.is_empty()) {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.4))
                .label_font(("sans-serif", 15))
                .draw()?;
        }
        root.present()?;
        Ok(())
    }
}

/// The colour of one of so many lines.
pub(crate) fn colour(line: usize, lines: usize) -> RGBAColor {
    match COLOURS.get(line).filter(|_| lines <= COLOURS.len()) {
        Some(colour) => colour.to_rgba(),
        // More lines than colours: around the circle of hues, light and dark in turn.
        None => HSLColor(line as f64 / lines as f64, 0.9, [0.3, 0.5][line % 2]).to_rgba(),
    }
}

/// A number at an axis, without the digits that rounding left.
pub(crate) fn tick(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Certified accuracy with one step curve for each run of smoothing.
pub(crate) fn curves(runs: &[Results], names: &[String]) -> Chart {
    let norms: Vec<_> = runs.iter().map(|run| run.norm).collect();
    let radius = match norms.first() {
        Some(Some(Norm::L2)) if norms.iter().all(|n| *n == norms[0]) => "l2 radius",
        Some(Some(Norm::L1)) if norms.iter().all(|n| *n == norms[0]) => "l1 radius",
        _ => "radius",
    };
    let lines = runs.iter().zip(names).map(|(run, name)| (name.clone(), steps(run.radii(), run.inputs())));
    Chart {
        title: "Certified accuracy".into(),
        x: (radius.into(), Axis::FromZero),
        y: ("share of inputs".into(), Axis::Share),
        lines: lines.collect(),
    }
}

/// The corners of the share of inputs that are left at a radius: it falls behind each of `radii`, which
/// ascend.
pub(crate) fn steps(radii: &[f64], inputs: usize) -> Vec<(f64, f64)> {
    let largest = radii.last().copied().unwrap_or(0.0);
    let grid = if largest > 0.0 { largest } else { 1.0 } / STEPS;
    let share = |left: usize| left as f64 / inputs.max(1) as f64;
    let mut corners = vec![(0.0, share(radii.len()))];
    let mut left = radii.len();
    for equal in radii.chunk_by(|a, b| (a / grid).floor() == (b / grid).floor()) {
        let at = (equal[0] / grid).floor() * grid;
        corners.push((at, share(left)));
        left -= equal.len();
        corners.push((at, share(left)));
    }
    corners
}

/// How many of `instances` are solved within a time each: `seconds` of those that are, sorted.
pub(crate) fn solved(lines: Vec<(String, Vec<f64>)>, instances: usize) -> Chart {
    let most = lines.iter().map(|(_, seconds)| seconds.len()).sum::<usize>();
    let greatest =
        lines.iter().filter_map(|(_, seconds)| seconds.last()).copied().fold(INSTANT, f64::max) * 1.1;
    let line = |(name, seconds): (String, Vec<f64>)| {
        let mut steps = Vec::new();
        for (solved, &seconds) in seconds.iter().enumerate() {
            steps.extend([(seconds, solved as f64), (seconds, solved as f64 + 1.0)]);
        }
        steps.push((greatest, seconds.len() as f64));
        (name, steps)
    };
    Chart {
        title: format!("{most} of {instances} instances solved"),
        x: ("seconds for an instance".into(), Axis::Seconds),
        y: ("instances solved".into(), Axis::FromZero),
        lines: lines.into_iter().map(line).collect(),
    }
}
