//! The `tightrope` command. It turns arguments into a configuration, calls the
//! library, and prints: results to stdout, progress and errors to stderr.

mod args;
mod card;
mod certify;
mod input;
mod inspect;
mod lipschitz;
mod output;
mod smooth;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Certifies the robustness of neural networks.
#[derive(Parser)]
#[command(name = "tightrope", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prove how many inputs keep their class under every perturbation of size eps.
    Certify(certify::Args),
    /// Certify an l2 radius (l1 for uniform and Laplace noise) that is false with probability at most alpha.
    Smooth(smooth::Args),
    /// Bound the l2 Lipschitz constant of networks, layer by layer.
    Lipschitz(lipschitz::Args),
    /// Show a network: nodes, kinds, shapes, parameters, and what supports it.
    Inspect(inspect::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Certify(args) => certify::run(&args),
        Command::Smooth(args) => smooth::run(&args),
        Command::Lipschitz(args) => lipschitz::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}
