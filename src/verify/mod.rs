//! Branch and bound: what linear bounds leave open is cut into parts until each
//! is proved, or a counterexample is found.
//!
//! A *subproblem* is a box of inputs and a list of cuts, `z <= p` or `z >= p`
//! for an entry `z` of an intermediate value. Its two children add one cut each
//! and leave nothing out. Where few inputs are free the box is cut, with all
//! intermediate intervals bounded anew; else what functions and products read,
//! each cut a constraint with a multiplier (beta-CROWN, Wang et al. 2021).
//!
//! | file | holds |
//! |---|---|
//! | `problem` | regions with their disjuncts as functions to be bounded |
//! | `subproblem` | subproblems, what they know of their parents, children |
//! | `boxes` | bounds of boxes, eight side by side; clipping |
//! | `ascent` | bounds under cuts with lines and multipliers chosen; trial of cuts |
//! | `tree` | what was cut where and what proves each part, for certificates |
//! | `witness` | points that may be violations, and whether they are |
//! | `search` | the order of things, and limits |

mod ascent;
mod boxes;
mod problem;
mod search;
mod subproblem;
mod tree;
mod witness;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use problem::Verifier;

/// The answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No input has the property: proved, in the arithmetic that was asked for.
    Unsat,
    /// An input has it: the witness, as the `f32` network computes.
    Sat,
    /// Neither; the outcome says why.
    Unknown,
    /// Neither, as the time was over.
    TimedOut,
}

impl Verdict {
    /// Whether it answers the query.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Unsat | Self::Sat)
    }
}

/// When to give up, and whether a proof is written down on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// After this time; never if `None`.
    pub timeout: Option<Duration>,
    /// Bytes for open subproblems. Beyond that the newest go first.
    pub memory: usize,
    /// Whether [`Outcome::proof`] is written; then the intervals of intermediate values are not optimised.
    pub prove: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: None, memory: 4 << 30, prove: false }
    }
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Subproblems bounded so far.
    pub subproblems: u64,
    /// Those that are neither refuted nor cut.
    pub open: usize,
    /// The least lower bound of the open ones: positive would be a proof.
    pub lower: f64,
    /// The greatest number of cuts of a subproblem.
    pub depth: u32,
}

/// An input with the property.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// The input, `input_len` entries.
    pub x: Vec<f32>,
    /// The output of the `f32` network there.
    pub y: Vec<f32>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The answer.
    pub verdict: Verdict,
    /// An input with the property, for `sat`; for `unknown` one that has it
    /// in `f32` and, by its bounds, not in the arithmetic that was asked for.
    pub witness: Option<Witness>,
    /// The least bound before anything was cut.
    pub root: f64,
    /// Where the search ended.
    pub progress: Progress,
    /// Why there is no answer, in a sentence.
    pub reason: Option<String>,
    /// For `unsat`, if it was asked for: what proves it, as the checker of certificates reads it.
    pub proof: Option<String>,
}
