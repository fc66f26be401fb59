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

Checks that certificates prove what they say of the model. One line for each: `accepted` with what is proved,
`rejected` with the place and the reason, or `cannot check` with what is not known.
Exit codes: 0 all accepted, 1 some rejected, 2 wrong usage or an unreadable file, 3 some cannot be checked.";

/// The model, the property, the certificates.
struct Arguments {
    model: PathBuf,
    query: Option<PathBuf>,
    certificates: Vec<PathBuf>,
}

fn arguments() -> Result<Arguments> {
    let mut plain = Vec::new();
    let mut query = None;
    let mut all = std::env::args_os().skip(1);
    while let Some(argument) = all.next() {
        match argument.to_str() {
            Some("--query") => query = all.next().map(PathBuf::from),
            Some("--help" | "-h") => return Err(Refusal::Usage(USAGE.into())),
            Some(option) if option.starts_with("--") => {
                return Err(Refusal::Usage(format!("there is no option {option}\n\n{USAGE}")));
            }
            _ => plain.push(PathBuf::from(argument)),
        }
    }
    if plain.len() < 2 {
        return Err(Refusal::Usage(USAGE.into()));
    }
    let certificates = plain.split_off(1);
    Ok(Arguments { model: plain.remove(0), query, certificates })
}

fn main() -> ExitCode {
    let code = |refusal: &Refusal| match refusal {
        Refusal::Rejected(_) => 1,
        Refusal::Usage(_) => 2,
        Refusal::Cannot(_) => 3,
    };
    let refuse = |name: &str, refusal: &Refusal| match refusal {
        Refusal::Rejected(why) => println!("{name}: rejected: {why}"),
        Refusal::Cannot(why) => println!("{name}: cannot check: {why}"),
        Refusal::Usage(why) => eprintln!("{why}"),
    };
    let loaded = arguments().and_then(|arguments| {
        let model = onnx::load(&arguments.model);
        match model {
            Ok(model) => Ok((model, arguments)),
            Err(Refusal::Cannot(why)) => cannot(format!("{}: {why}", arguments.model.display())),
            Err(other) => Err(other),
        }
    });
    let (model, arguments) = match loaded {
        Ok(loaded) => loaded,
        Err(refusal) => {
            refuse("model", &refusal);
            return ExitCode::from(code(&refusal));
        }
    };
    let mut worst = 0;
    for path in &arguments.certificates {
        match certificate::check(path, &model, arguments.query.as_deref()) {
            Ok(claim) => println!("{}: accepted: {claim}", path.display()),
            Err(refusal) => {
                refuse(&path.display().to_string(), &refusal);
                // What is rejected outweighs all, then what cannot be read.
                let rank = |code: u8| [0, 3, 2, 1][usize::from(code)];
                if rank(code(&refusal)) > rank(worst) {
                    worst = code(&refusal);
                }
            }
        }
    }
    ExitCode::from(worst)
}
