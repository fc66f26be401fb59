//! `tightrope inspect`.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use tightrope::graph::Graph;
use tightrope::onnx::load;
use tightrope::ops::ANALYSES;

use crate::args::ModelArgs;
use crate::output::{self, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ONNX network, plain or gzipped.
    model: PathBuf,
    #[command(flatten)]
    open: ModelArgs,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let graph = load(&args.model, &args.open.options()?)?;
    let description = describe(&args.model.display().to_string(), &graph);
    if args.json {
        return output::print(&serde_json::to_string_pretty(&description)?);
    }
    output::print(&text(&description))
}

/// Everything there is to show, as one JSON object.
fn describe(model: &str, graph: &Graph) -> Value {
    let label = |value: usize| match value.checked_sub(1) {
        None => graph.input_name.clone(),
        Some(node) => graph.nodes[node].name.clone(),
    };
    let nodes: Vec<Value> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(i, node)| {
            json!({
                "name": node.name,
                "operator": node.origin,
                "kind": node.op.kind(),
                "inputs": node.inputs.iter().map(|&v| label(v)).collect::<Vec<_>>(),
                "shape": node.shape,
                "parameters": node.op.parameters(),
                "multiply_adds": node.op.multiply_adds(graph.len(i + 1)),
                "analyses": node.op.analyses(),
            })
        })
        .collect();
    let total = |key: &str| nodes.iter().filter_map(|n| n[key].as_u64()).sum::<u64>();
    let supported = |name: &str| graph.nodes.iter().all(|n| n.op.analyses().contains(&name));
    json!({
        "model": model,
        "input": { "name": graph.input_name, "shape": graph.input_shape },
        "output": { "name": label(graph.output), "shape": graph.output_shape },
        "parameters": total("parameters"),
        "multiply_adds": total("multiply_adds"),
        "folded": graph.folded.iter().map(|(op, n)| (op.clone(), json!(n))).collect::<serde_json::Map<_, _>>(),
        "analyses": ANALYSES.iter().map(|a| ((*a).to_owned(), json!(supported(a)))).collect::<serde_json::Map<_, _>>(),
        "nodes": nodes,
    })
}

fn text(description: &Value) -> String {
    let string = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let shape = |v: &Value| {
        let axes: Vec<String> = v.as_array().into_iter().flatten().map(Value::to_string).collect();
        if axes.is_empty() { "scalar".into() } else { axes.join(" x ") }
    };
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "node",
        "operator",
        "kind",
        "reads",
        "shape",
        "parameters",
        "multiply-adds",
        "analyses",
    ]);
    let joined = |v: &Value| v.as_array().into_iter().flatten().map(string).collect::<Vec<_>>().join(", ");
    let all_but = |v: &Value| {
        let known = v.as_array().map_or(&[][..], Vec::as_slice);
        let missing: Vec<&str> = ANALYSES.into_iter().filter(|a| !known.contains(&json!(a))).collect();
        if missing.is_empty() { "all".to_owned() } else { format!("all but {}", missing.join(", ")) }
    };
    for node in description["nodes"].as_array().into_iter().flatten() {
        table.add_row([
            string(&node["name"]),
            string(&node["operator"]),
            string(&node["kind"]),
            joined(&node["inputs"]),
            shape(&node["shape"]),
            string(&node["parameters"]),
            string(&node["multiply_adds"]),
            all_but(&node["analyses"]),
        ]);
    }
    for column in table.column_iter_mut().skip(5).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let counts = |key: &str| {
        let object = description[key].as_object().into_iter().flatten();
        object.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    };
    let folded = counts("folded");
    let analyses = description["analyses"].as_object().into_iter().flatten();
    let supported: Vec<&str> =
        analyses.filter(|(_, yes)| **yes == json!(true)).map(|(name, _)| name.as_str()).collect();
    format!(
        "{}\ninput  {}: {}\noutput {}: {}\n\n{table}\n\nparameters {}, multiply-adds {}\nfolded at load: {}\nanalyses of the whole network: {}",
        string(&description["model"]),
        string(&description["input"]["name"]),
        shape(&description["input"]["shape"]),
        string(&description["output"]["name"]),
        shape(&description["output"]["shape"]),
        description["parameters"],
        description["multiply_adds"],
        if folded.is_empty() { "nothing" } else { &folded },
        supported.join(", "),
    )
}
