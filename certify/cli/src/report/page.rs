//! The page: one file without scripts, whose figures are in it.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{Kind, Shown, Table, charts};
use crate::output;

const STYLE: &str = "
body { font: 15px/1.45 sans-serif; max-width: 1500px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: right; overflow-wrap: anywhere }
th:first-child, td:first-child { text-align: left }
.asked td { text-align: left; max-width: 40em } .asked .differs { background: #fff3cd }
.figures { display: flex; flex-wrap: wrap; gap: 1em } figure { margin: 0 }
.figures svg { max-width: 100%; height: auto }
.hard { display: flex; flex-wrap: wrap; gap: 1.5em } .hard img { width: 112px; image-rendering: pixelated }
.hard figcaption { max-width: 360px; font-size: 13px } .pair { display: flex; gap: .3em }
.finding { color: #a00 } .note { color: #555 }
";

/// The page of runs, with those of a kind together.
pub(super) fn page(runs: &[Shown]) -> anyhow::Result<String> {
    let kinds = [Kind::Certify, Kind::Brackets, Kind::Smooth, Kind::Tightness, Kind::Verify];
    let mut parts = Vec::new();
    for kind in kinds {
        let of: Vec<&Shown> = runs.iter().filter(|run| run.kind == kind).collect();
        if !of.is_empty() {
            parts.push(part(kind, &of)?);
        }
    }
    let title = match runs {
        [run] => format!("Tightrope: {}", run.name),
        _ => format!("Tightrope: {} runs", runs.len()),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                @for part in &parts { (part) }
                p.note { "Made by tightrope " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    };
    Ok(page.into_string())
}

fn part(kind: Kind, runs: &[&Shown]) -> anyhow::Result<Markup> {
    let name = match kind {
        Kind::Certify => "Certified by bounds and search",
        Kind::Brackets => "Radii by bounds and search",
        Kind::Smooth => "Certified by randomized smoothing",
        Kind::Tightness => "Tightness of interval bounds",
        Kind::Verify => "Verdicts on properties",
    };
    let pictures = charts(runs).iter().map(crate::picture::Chart::svg).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(html! {
        h2 { (name) }
        (results(runs))
        div.figures {
            @for svg in &pictures { figure { (PreEscaped(svg)) } }
        }
        @for run in runs {
            @for finding in &run.findings { p.finding { (run.name) ": " (finding) } }
            @for note in &run.notes { p.note { (run.name) ": " (note) } }
        }
        @for run in runs {
            @if !run.hardest.is_empty() {
                h3 { "Hardest inputs of " (run.name) }
                div.hard {
                    @for hard in &run.hardest {
                        figure {
                            div.pair {
                                @for (what, address) in &hard.pictures {
                                    img src=(address) alt=(what) title=(what);
                                }
                            }
                            figcaption { "input " (hard.index) ": " (hard.says) }
                        }
                    }
                }
            }
        }
        h3 { "What was asked" }
        (asked(runs))
    })
}

/// The rows of all runs, with their names where there are several.
fn results(runs: &[&Shown]) -> Markup {
    let several = runs.len() > 1;
    let Table { header, .. } = &runs[0].table;
    html! {
        table {
            tr {
                @if several { th { "run" } }
                @for name in header { th { (name) } }
            }
            @for run in runs {
                @for row in &run.table.rows {
                    tr {
                        @if several { td { (run.name) } }
                        @for cell in row { td { (cell) } }
                    }
                }
            }
        }
    }
}

/// The first lines side by side; what differs is marked.
fn asked(runs: &[&Shown]) -> Markup {
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let mut names: Vec<&String> =
        runs.iter().filter_map(|run| run.run.header.as_object()).flat_map(serde_json::Map::keys).collect();
    names.sort();
    names.dedup();
    let rows = names
        .into_iter()
        .map(|name| (name, runs.iter().map(|run| text(run.run.header.get(name))).collect::<Vec<_>>()));
    html! {
        table.asked {
            tr { th { "option" } @for run in runs { th { (run.run.file.display()) } } }
            @for (name, values) in rows {
                @if values.iter().any(|value| !value.is_empty()) {
                    tr class=[values.iter().any(|value| *value != values[0]).then_some("differs")] {
                        td { (name) }
                        @for value in &values { td { (value) } }
                    }
                }
            }
            tr {
                td { "finished" }
                @for run in runs {
                    td { (run.progress.done) " of " (run.progress.inputs) " in " (output::figure(run.progress.seconds)) " s" }
                }
            }
        }
    }
}
