//! `tightrope lipschitz`, and the constants that `tightrope smooth` uses.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use tightrope::lipschitz::{NodeReport, Report};
use tightrope::onnx::load;
use tightrope::smoothing::radius::Lipschitz;

use crate::args::ModelArgs;
use crate::output::{self, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// ONNX networks, plain or gzipped.
    #[arg(required = true)]
    model: Vec<PathBuf>,
    /// Mean to subtract from pixels before the network: one, or one per channel.
    #[arg(long, value_delimiter = ',', requires = "std", allow_hyphen_values = true)]
    mean: Vec<f64>,
    /// Standard deviation to divide by after --mean: one, or one per channel.
    #[arg(long, value_delimiter = ',', requires = "mean")]
    std: Vec<f64>,
    #[command(flatten)]
    open: ModelArgs,
    /// Print one JSON object (a line) for each network instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for (i, model) in args.model.iter().enumerate() {
        let mut graph = load(model, &args.open.options()?)?;
        if !args.mean.is_empty() {
            graph = graph.normalized(&args.mean, &args.std)?;
        }
        let report = tightrope::lipschitz::network(&graph);
        if args.json {
            let mut object = serde_json::to_value(&report)?;
            object["model"] = json!(model.display().to_string());
            object["norm"] = json!("l2 to l2");
            output::print(&object.to_string())?;
        } else {
            let gap = if i == 0 { "" } else { "\n" };
            output::print(&format!("{gap}{}", text(model, &report)))?;
        }
    }
    Ok(())
}

fn text(model: &Path, report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(["node", "operator", "shape", "norm", "constant"]);
    let number = |x: Option<f64>| x.map_or_else(|| "none".into(), output::up);
    for NodeReport { name, origin, shape, norm, constant } in &report.nodes {
        let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
        table.add_row([name.clone(), origin.clone(), axes.join(" x "), number(*norm), number(*constant)]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let total = match (report.total, &report.obstacle) {
        (Some(total), _) => {
            format!("Lipschitz constant at most {} (l2 to l2, an upper bound)", output::up(total))
        }
        (None, Some(node)) => format!("no Lipschitz constant: none is known for the node {node}"),
        (None, None) => "no Lipschitz constant".into(),
    };
    format!("{name}\n\n{table}\n\n{total}")
}

/// The value of `smooth --lipschitz`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// The bound of this toolkit.
    Auto,
    /// The user's own.
    Constant(Lipschitz),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a Lipschitz constant; give auto, or a number from 1e-100 to 1e100 such as 2.5"
            )
        };
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let constant = text.parse().map_err(|_| wrong())?;
        Lipschitz::new(constant).map(Self::Constant).map_err(|_| wrong())
    }
}

impl Asked {
    /// The user's constant, if there is one.
    pub(crate) fn constant(self) -> Option<Lipschitz> {
        match self {
            Self::Auto => None,
            Self::Constant(constant) => Some(constant),
        }
    }

    /// For the first line of a run file.
    pub(crate) fn header(self) -> Value {
        self.constant().map_or_else(|| json!("auto"), |constant| json!(constant.get()))
    }
}
