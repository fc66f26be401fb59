//! `tightrope-check`: whether certificates that tightrope wrote prove what they say.
//!
//! README.md beside this has the format, and what one has to believe.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "says what it found")]

mod bounds;
mod certificate;
mod claim;
mod files;
mod functions;
mod model;
mod onnx;
mod proof;
mod smoothing;
mod text;
mod vnnlib;

use std::path::PathBuf;
use std::process::ExitCode;

/// Why nothing is accepted.
#[derive(Debug)]
enum Refusal {
    /// Wrong usage, or a file that cannot be read.
    Usage(String),
    /// Something that this program does not know.
    Cannot(String),
    /// The certificate proves nothing.
    Rejected(String),
}

type Result<T> = std::result::Result<T, Refusal>;

fn cannot<T>(what: impl Into<String>) -> Result<T> {
    Err(Refusal::Cannot(what.into()))
}

const USAGE: &str = "tightrope-check MODEL.onnx CERTIFICATE...
tightrope-check MODEL.onnx --query PROPERTY.vnnlib CERTIFICATE...
tightrope-check --smoothing RUN.jsonl

Checks that certificates prove what they say of the model, and that the votes in a run of `tightrope smooth`
allow its radii. One line for each: `accepted` with what is proved,
`rejected` with the place and the reason, or `cannot check` with what is not known.
Exit codes: 0 all accepted, 1 some rejected, 2 wrong usage or an unreadable file, 3 some cannot be checked.";

/// The answers to what the command line asks about, each with its name.
fn answers() -> Result<Vec<(String, Result<String>)>> {
    let mut plain = Vec::new();
    let (mut query, mut smoothing) = (None, None);
    let mut all = std::env::args_os().skip(1);
    while let Some(argument) = all.next() {
        match argument.to_str() {
            Some("--query") => query = all.next().map(PathBuf::from),
            Some("--smoothing") => smoothing = all.next().map(PathBuf::from),
            Some("--help" | "-h") => return Err(Refusal::Usage(USAGE.into())),
            Some(option) if option.starts_with("--") => {
                return Err(Refusal::Usage(format!("there is no option {option}\n\n{USAGE}")));
            }
            _ => plain.push(PathBuf::from(argument)),
        }
    }
    match (&smoothing, &plain[..]) {
        (Some(run), []) => {
            Ok(smoothing::check(run)?.into_iter().map(|answer| (run.display().to_string(), answer)).collect())
        }
        (None, [model, certificates @ ..]) if !certificates.is_empty() => {
            let loaded = match onnx::load(model) {
                Err(Refusal::Cannot(why)) => return cannot(format!("{}: {why}", model.display())),
                other => other?,
            };
            let one = |path: &PathBuf| {
                (path.display().to_string(), certificate::check(path, &loaded, query.as_deref()))
            };
            Ok(certificates.iter().map(one).collect())
        }
        _ => Err(Refusal::Usage(USAGE.into())),
    }
}

fn main() -> ExitCode {
    let answers = answers().unwrap_or_else(|refusal| vec![("model".into(), Err(refusal))]);
    let mut worst = 0;
    for (name, answer) in answers {
        let code = match answer {
            Ok(claim) => {
                println!("{name}: accepted: {claim}");
                0
            }
            Err(Refusal::Rejected(why)) => {
                println!("{name}: rejected: {why}");
                1
            }
            Err(Refusal::Usage(why)) => {
                eprintln!("{why}");
                2
            }
            Err(Refusal::Cannot(why)) => {
                println!("{name}: cannot check: {why}");
                3
            }
        };
        // What is rejected outweighs all, then what cannot be read.
        let rank = |code: u8| [0, 3, 2, 1][usize::from(code)];
        worst = if rank(code) > rank(worst) { code } else { worst };
    }
    ExitCode::from(worst)
}
