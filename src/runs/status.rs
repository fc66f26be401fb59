//! How far a run is, from its file.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::file::RunLines;
use super::merge::{MergeError, per_input, selection};

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// The run file.
    pub file: String,
    /// The command that made it.
    pub command: String,
    /// Inputs that were asked for.
    pub inputs: usize,
    /// Inputs with all their records.
    pub done: usize,
    /// Inputs that lack a record.
    pub missing: Vec<usize>,
    /// Seconds that were spent on the records, on all threads together as the records have them.
    pub seconds: f64,
    /// Inputs for each of these seconds; absent before the first.
    pub inputs_per_second: Option<f64>,
    /// Seconds that the missing inputs will take at this rate.
    pub seconds_left: Option<f64>,
}

#[derive(Deserialize)]
struct Line {
    index: usize,
    #[serde(default)]
    seconds: f64,
}

impl Progress {
    /// Counts the records of a run file.
    ///
    /// # Errors
    /// [`MergeError`] if its lines are not those of a run.
    pub fn new(run: &RunLines) -> Result<Self, MergeError> {
        let selection = selection(run)?;
        let wanted = per_input(&run.header);
        let mut found: HashMap<usize, usize> = HashMap::new();
        let mut seconds = 0.0;
        for line in run.records::<Line>()? {
            *found.entry(line.index).or_default() += 1;
            seconds += line.seconds;
        }
        let inputs = selection.iter().count();
        let lacks = |index: &usize| found.get(index).is_none_or(|&n| n < wanted);
        let missing: Vec<usize> = selection.iter().filter(lacks).collect();
        let done = inputs - missing.len();
        let rate = Some(done as f64 / seconds).filter(|rate| *rate > 0.0 && rate.is_finite());
        Ok(Self {
            file: run.file.display().to_string(),
            command: run.header.get("command").and_then(|c| c.as_str()).unwrap_or("run").to_owned(),
            inputs,
            done,
            seconds_left: rate.map(|rate| missing.len() as f64 / rate),
            missing,
            seconds,
            inputs_per_second: rate,
        })
    }
}
