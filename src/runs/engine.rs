//! The one loop over inputs.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::ops::Range;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::file::{RunError, RunFile};
use super::{Inputs, Key, Part, Question, Record};
use crate::data::DataError;

/// Any error of an analysis.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a run ended before its last input.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The observer said so.
    #[error("interrupted")]
    Stopped,
    /// The run file cannot be written.
    #[error(transparent)]
    File(#[from] RunError),
    /// An input cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The question needs labels.
    #[error("the inputs have no labels; accepted: one for each")]
    Labels,
    /// An input has no answer.
    #[error("input {index}: {cause}")]
    Input {
        /// Its position in the data set.
        index: usize,
        /// What is wrong.
        cause: Cause,
    },
    /// The question has no answer, or not for these inputs.
    #[error(transparent)]
    Question(Cause),
    /// Something beside the records cannot be written.
    #[error("{0}")]
    Output(Cause),
}

impl Failure {
    /// An input without an answer.
    pub fn input(index: usize, cause: impl Into<Cause>) -> Self {
        Self::Input { index, cause: cause.into() }
    }
}

/// What a run leaves behind, however it ends.
pub struct Finished<R> {
    /// All records: those of the run file that is continued, then the new ones.
    pub records: Vec<R>,
    /// Whether all inputs were answered, and what came between if not.
    pub ended: Result<(), Failure>,
}

/// Asks a question of those inputs that `earlier` records do not answer yet, in order. Records go to the
/// file as they come, always in the same order, so that a run that was cut off and continued leaves the
/// bytes of an undisturbed one. `goes_on` is told how many inputs are done, and says whether to go on.
pub fn answer<Q: Question>(
    question: &Q,
    inputs: &Inputs,
    mut file: Option<RunFile>,
    earlier: Vec<Q::Record>,
    goes_on: &mut dyn FnMut(usize) -> bool,
) -> Finished<Q::Record> {
    let answered = Answered::new(&earlier);
    let places = answered.open(&question.parts(), inputs);
    let before = inputs.indices().len() - places.len();
    let mut records = earlier;
    let mut work = || {
        for block in Blocks::new(places.len(), question.block()) {
            let done = before + block.start;
            if !goes_on(done) {
                return Err(Failure::Stopped);
            }
            let batch = inputs.batch(&places[block])?;
            for record in question.answer(&batch, &mut || goes_on(done))? {
                let key = record.key();
                if !answered.has(&key) {
                    file.as_mut().map_or(Ok(()), |file| file.append(&record))?;
                    records.push(record);
                }
            }
        }
        // Once more, so that an interruption of the last inputs does not cost them.
        if goes_on(inputs.indices().len()) { Ok(()) } else { Err(Failure::Stopped) }
    };
    let ended = work();
    Finished { records, ended }
}

/// What the records of a run file answer.
pub struct Answered(HashMap<usize, Vec<Part>>);

impl Answered {
    /// By some records.
    pub fn new<R: Record>(records: &[R]) -> Self {
        let mut known: HashMap<usize, Vec<Part>> = HashMap::new();
        for key in records.iter().map(Record::key) {
            known.entry(key.index).or_default().push(key.part);
        }
        Self(known)
    }

    /// Whether there is a record with this key.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.0.get(&key.index).is_some_and(|parts| parts.contains(&key.part))
    }

    /// The places among the indices of inputs that lack a record of some part.
    #[must_use]
    pub fn open(&self, parts: &[Part], inputs: &Inputs) -> Vec<usize> {
        let lacks = |place: &usize| {
            let index = inputs.indices()[*place];
            parts.iter().any(|&part| !self.has(&Key { index, part }))
        };
        (0..inputs.indices().len()).filter(lacks).collect()
    }
}

/// Ranges of inputs that are answered together. They grow while one takes less than a twentieth of a
/// second, so that threads rarely wait for each other.
struct Blocks {
    rest: Range<usize>,
    size: usize,
    begun: Option<Instant>,
}

/// More inputs than this would only take memory.
const LARGEST_BLOCK: usize = 512;

impl Blocks {
    fn new(total: usize, size: usize) -> Self {
        Self { rest: 0..total, size: size.max(1), begun: None }
    }
}

impl Iterator for Blocks {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let quick = self.begun.is_some_and(|begun| begun.elapsed() < Duration::from_millis(50));
        if quick && self.size > 1 {
            self.size = (2 * self.size).min(LARGEST_BLOCK);
        }
        self.begun = Some(Instant::now());
        let Range { start, end } = self.rest;
        self.rest.start = end.min(start + self.size);
        (start < end).then_some(start..self.rest.start)
    }
}
