//! Runs: questions asked of many inputs, each answered by records.
//!
//! | file | says |
//! |---|---|
//! | [`question`] | what a question is, and what tells its records apart |
//! | [`selection`] | which inputs, in which order, and how they are cut into shards |
//! | [`provenance`] | what a run was made from, and what must be equal for two runs to be one |
//! | [`mod@file`] | the run file: lock, first line, records as they come, resume after a cut-off line |
//! | [`engine`] | the one loop: blocks, progress, interruption, the results so far on any error |
//! | [`merge`], [`status`] | the parts of a run put together; what is done and what is missing |
//! | [`certificate`] | what proves a record, for a checker of its own |
//! | `complete` | inputs that bounds leave open, by branch and bound |
//! | [`certify`], [`bracket`], [`smooth`], [`tightness`], [`mod@verify`] | the questions with their records |
//!
//! A front end makes a [`Question`], chooses [`Inputs`], and calls [`answer`].

pub mod bracket;
pub mod certificate;
pub mod certify;
mod complete;
pub mod engine;
pub mod file;
pub mod merge;
pub mod provenance;
pub mod question;
pub mod selection;
pub mod smooth;
pub mod status;
pub mod tightness;
pub mod verify;

pub use bracket::{Brackets, RadiusRecord};
pub use certificate::{Certificate, QueryCertificate};
pub use certify::{Certify, CertifyRecord, Status};
pub use engine::{Answered, Failure, Finished, answer};
pub use file::{RunError, RunFile, RunLines};
pub use merge::{MergeError, MergedRun};
pub use question::{Batch, Inputs, Key, Part, Pixels, Question, Record};
pub use selection::{Range, Selection};
pub use smooth::{Smooth, SmoothRecord};
pub use status::Progress;
pub use tightness::{LayerRecord, Measure, TightnessRecord};
pub use verify::{Instance, Verify, VerifyRecord};
