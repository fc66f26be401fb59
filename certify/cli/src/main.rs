//! The `tightrope` command. It turns arguments into a configuration, calls the
//! library, and prints: results to stdout, progress and errors to stderr.

mod args;
mod card;
mod certify;
mod curve;
mod input;
mod inspect;
mod instances;
mod lipschitz;
mod merge;
mod output;
mod picture;
mod report;
mod session;
mod smooth;
mod status;
mod study;
mod supports;
mod tightness;
mod trained;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use output::{Failure, Result};

/// Certifies the robustness of neural networks.
#[derive(Parser)]
#[command(name = "tightrope", version, about, arg_required_else_help = true)]
struct Cli {
    /// Print the name of this solver.
    #[arg(long, exclusive = true)]
    name: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prove how many inputs keep their class under every perturbation of size eps.
    Certify(certify::Args),
    /// Decide whether some input has a property (VNN-LIB 1 or 2): `sat` with one, or `unsat` with a proof.
    Verify(verify::Args),
    /// Search for perturbations of size eps that change the class.
    Attack(certify::AttackArgs),
    /// Certify an l2 radius (l1 for uniform and Laplace noise) that is false with probability at most alpha.
    Smooth(smooth::Args),
    /// Put the shards or index ranges of one run together.
    Merge(merge::Args),
    /// Show how far runs are: what is done and missing, the rate, the time left.
    Status(status::Args),
    /// Tabulate and draw certified accuracy against radius, of our runs and anybody's tables.
    Curve(curve::Args),
    /// Make one page of runs to look at: what was asked, tables, figures, the hardest inputs.
    Report(report::Args),
    /// Measure how tight interval bounds are on a network; a diagnostic, not a certificate.
    ///
    /// Tightness is the radius that a box of inputs truly gives a linear
    /// network's margins, over the radius that interval bounds give: 1 where
    /// intervals lose nothing. A network with activations is replaced by the
    /// linear network that --mask chooses, so the figure is a diagnostic and
    /// not a bound.
    Tightness(tightness::Args),
    /// Bound the l2 Lipschitz constant of networks, layer by layer.
    Lipschitz(lipschitz::Args),
    /// Tell what properties and networks `verify` accepts, as the standard VNN-LIB 2.0 asks.
    Supports(supports::Args),
    /// Print completions for a shell, to be loaded by it.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write manual pages, one for each command, to a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
    /// Show a network: nodes, kinds, shapes, parameters, and what supports it.
    Inspect(inspect::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        None => output::print("Tightrope"),
        Some(command) => run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Certify(args) => certify::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Attack(args) => certify::run_attack(&args),
        Command::Smooth(args) => smooth::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Curve(args) => curve::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Tightness(args) => tightness::run(&args),
        Command::Lipschitz(args) => lipschitz::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Supports(args) => supports::run(&args),
        Command::Completions { shell } => completions(shell),
        Command::Man { folder } => manual(&folder),
    }
}

fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tightrope", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())
}

fn manual(folder: &Path) -> Result<()> {
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| folder.display().to_string());
    written.map_err(Failure::Output)
}
