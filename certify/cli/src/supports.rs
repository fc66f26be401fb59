//! `tightrope supports`: what the standard VNN-LIB 2.0 asks of a solver about itself, one answer a line.

use tightrope::onnx::{OPSETS, operators};

use crate::output::{self, Result};

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the standard")]
pub(crate) struct Args {
    /// Operators that networks may have.
    #[arg(long)]
    onnx_operators: bool,
    /// The least and the greatest operator set.
    #[arg(long)]
    onnx_opset_versions: bool,
    /// Element types for which verdicts are sound.
    #[arg(long)]
    onnx_element_types: bool,
    /// The least and the greatest version of the language.
    #[arg(long)]
    vnnlib_versions: bool,
    /// Whether formulas may speak of hidden values: H.
    #[arg(long)]
    hidden_node_theories: bool,
    /// Whether networks may have several inputs and outputs: MIO.
    #[arg(long)]
    multiple_input_output_theories: bool,
    /// Which several networks there may be.
    #[arg(long)]
    multiple_network_theories: bool,
    /// Whether a comparison may be of several variables: MNC.
    #[arg(long)]
    multiple_node_comparison_theories: bool,
    /// What comparisons may hold: bounds, constants of outputs, linear terms, polynomials.
    #[arg(long)]
    arithmetic_complexity_theories: bool,
    /// Whether disjunctions are more than one query for each part.
    #[arg(long)]
    optimised_disjunctive_reasoning: bool,
    /// Whether assignments can be written to files.
    #[arg(long)]
    serialise_assignments: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let lines: Vec<String> = if args.onnx_operators {
        let mut names: Vec<&str> = operators().collect();
        names.sort_unstable();
        names.into_iter().map(String::from).collect()
    } else if args.onnx_opset_versions {
        [OPSETS.start(), OPSETS.end()].map(ToString::to_string).into()
    } else {
        let words: &[&str] = match args {
            Args { onnx_element_types: true, .. } => &["real", "float32"],
            Args { vnnlib_versions: true, .. } => &["1.0", "2.0"],
            Args { hidden_node_theories: true, .. } => &["H"],
            Args { multiple_input_output_theories: true, .. } => &["MIO"],
            Args { multiple_network_theories: true, .. } => &["MNET", "MENET", "MINET"],
            Args { multiple_node_comparison_theories: true, .. } => &["MNC"],
            Args { arithmetic_complexity_theories: true, .. } => &["BND", "OUTC", "LIN", "POLY"],
            // Disjuncts share their boxes and bounds; assignments are written with --serialise-assignments.
            _ => &["true"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    };
    output::print(&lines.join("\n"))
}
