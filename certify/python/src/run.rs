//! Questions asked of the rows of an array, under the eyes of Python.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use ndarray::{ArrayView2, Axis};
use pyo3::prelude::*;
use rayon::ThreadPoolBuilder;
use serde_json::{Map, Value, json};
use tightrope::runs::provenance::{self, fingerprint_of};
use tightrope::runs::{
    Answered, Failure, Finished, Inputs, Key, Pixels, Question, Record, RunFile, Selection, answer,
};

use crate::error::Kind;

/// How often the main thread looks for signals while other threads compute.
const WATCH: Duration = Duration::from_millis(50);

/// Where records go, which inputs are asked and by how many threads, as keywords of the Python side.
#[derive(FromPyObject)]
pub(crate) struct Run {
    out: Option<PathBuf>,
    resume: bool,
    pub(crate) shard: Option<(usize, usize)>,
    /// Position of the first row in its data set.
    pub(crate) first: usize,
    /// The factor of stored numbers, for the first line.
    scale: f64,
    pub(crate) threads: Option<usize>,
    /// Who answers in place of this process: called with the places of the open inputs, it gives the
    /// records of one input after the other.
    elsewhere: Option<Py<PyAny>>,
}

/// What Python says of a run while it computes: whether to go on.
pub(crate) struct Watch {
    progress: Py<PyAny>,
    /// What Python raised, kept aside: it is not the library's error.
    raised: Mutex<Option<PyErr>>,
}

impl Watch {
    pub(crate) fn new(progress: Py<PyAny>) -> Self {
        Self { progress, raised: Mutex::default() }
    }

    /// Keeps an exception, the first of several.
    pub(crate) fn raise(&self, error: PyErr) {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// The exception that was kept.
    pub(crate) fn take(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Looks after signals, which Python's main thread alone can see, and tells how much is done.
    pub(crate) fn goes_on(&self, done: u64) -> bool {
        let told = Python::attach(|py| py.check_signals().and_then(|()| self.progress.call1(py, (done,))));
        told.map_err(|error| self.raise(error)).is_ok()
            && self.raised.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Computes without the interpreter's lock, on all cores or on as many threads as asked for.
    pub(crate) fn compute<R: Send>(
        &self,
        py: Python,
        threads: Option<usize>,
        work: impl FnOnce() -> R + Send,
    ) -> PyResult<R> {
        let Some(threads) = threads else { return Ok(py.detach(work)) };
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Kind::Input.error(format!("threads: {e}")))?;
        let worked = py.detach(|| {
            std::thread::scope(|scope| {
                let (done, ended) = mpsc::channel::<()>();
                let task = scope.spawn(move || {
                    // Hangs up at the end, also that of a panic.
                    let _done = done;
                    pool.install(work)
                });
                while ended.recv_timeout(WATCH) == Err(mpsc::RecvTimeoutError::Timeout) {
                    Python::attach(|py| {
                        if let Err(error) = py.check_signals() {
                            self.raise(error);
                        }
                    });
                }
                task.join()
            })
        });
        Ok(worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

/// What a run leaves behind.
pub(crate) struct Asked<R> {
    /// What was asked, as the first line of a run file has it.
    pub(crate) header: Value,
    pub(crate) records: Vec<R>,
    /// What ended the run before the last input.
    pub(crate) failed: Option<PyErr>,
}

/// The first line and the records as a run file has them, and what ended the run early.
pub(crate) type Lines = (String, Vec<String>, Option<PyErr>);

impl<Q: serde::Serialize> Asked<Q> {
    pub(crate) fn lines(self) -> PyResult<Lines> {
        let lines: Result<Vec<String>, _> = self.records.iter().map(serde_json::to_string).collect();
        Ok((self.header.to_string(), lines.map_err(|e| Kind::Input.error(e))?, self.failed))
    }
}

/// Asks a question of the rows of `x`, or of a shard of them; `network` says what the network was made
/// from. An exception of Python, or Ctrl-C, ends the run.
pub(crate) fn ask<Q: Question>(
    question: &Q,
    network: &Map<String, Value>,
    (x, y): (ArrayView2<f32>, Option<&[usize]>),
    run: &Run,
    watch: &Watch,
) -> PyResult<Asked<Q::Record>> {
    let mut loaded = network.clone();
    // A row at once: the hash takes numbers one by one ten times as long.
    let rows = x.rows().into_iter().map(|row| row.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
    let labels = y.map(|y| fingerprint_of(y.iter().map(|&label| (label as u64).to_le_bytes())));
    loaded.extend([
        ("data".to_owned(), json!("array")),
        ("data_sha256".to_owned(), json!(fingerprint_of(rows))),
        ("labels_sha256".to_owned(), json!(labels)),
        ("scale".to_owned(), json!(run.scale)),
    ]);
    let indices = (run.first, run.first + x.nrows());
    let selection = Selection { indices, skip: 1, shard: run.shard };
    let places: Vec<usize> = selection.iter().map(|index| index - run.first).collect();
    let selected;
    let rows = if run.shard.is_some() {
        selected = x.select(Axis(0), &places);
        selected.view()
    } else {
        x
    };
    let labels = y.map(|y| places.iter().map(|&place| y[place]).collect());
    let inputs = Inputs::new(selection.iter().collect(), labels, Pixels::Rows(rows));
    ask_inputs(question, loaded, (&selection, &inputs), run, watch)
}

/// Asks a question of inputs; `loaded` says what they and the network were made from.
pub(crate) fn ask_inputs<Q: Question>(
    question: &Q,
    loaded: Map<String, Value>,
    (selection, inputs): (&Selection, &Inputs),
    run: &Run,
    watch: &Watch,
) -> PyResult<Asked<Q::Record>> {
    let header = provenance::header(loaded, selection, question);
    let (mut file, mut earlier) = (None, Vec::new());
    if let Some(path) = &run.out {
        let opened = RunFile::open(path, &header, run.resume).map_err(|e| Kind::Input.error(e))?;
        (file, earlier) = (Some(opened.0), opened.1);
    }
    let mut goes_on = |done: usize| watch.goes_on(done as u64);
    let Finished { records, ended } = match &run.elsewhere {
        None => answer(question, inputs, file, earlier, &mut goes_on),
        Some(who) => {
            let remote = Elsewhere { question, who, watch, first: run.first };
            remote.answer(inputs, file, earlier, &mut goes_on)
        }
    };
    let failed = ended.err().map(|failure| watch.take().unwrap_or_else(|| Kind::Input.error(failure)));
    Ok(Asked { header, records, failed })
}

/// A question that other processes answer.
struct Elsewhere<'a, Q> {
    question: &'a Q,
    who: &'a Py<PyAny>,
    watch: &'a Watch,
    first: usize,
}

impl<Q: Question> Elsewhere<'_, Q> {
    /// Writes the records of the others in the order that this process would have written them in, byte by
    /// byte as they came.
    fn answer(
        &self,
        inputs: &Inputs,
        mut file: Option<RunFile>,
        earlier: Vec<Q::Record>,
        goes_on: &mut dyn FnMut(usize) -> bool,
    ) -> Finished<Q::Record> {
        let mut records = earlier;
        let ended = self.ask(inputs, &mut file, &mut records, goes_on);
        Finished { records, ended }
    }

    fn ask(
        &self,
        inputs: &Inputs,
        file: &mut Option<RunFile>,
        records: &mut Vec<Q::Record>,
        goes_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), Failure> {
        let stopped = |error| {
            self.watch.raise(error);
            Failure::Stopped
        };
        let (answered, parts) = (Answered::new(records), self.question.parts());
        let places = answered.open(&parts, inputs);
        let open: Vec<usize> = places.iter().map(|&place| inputs.indices()[place]).collect();
        let before = inputs.indices().len() - open.len();
        let places: Vec<usize> = open.iter().map(|index| index - self.first).collect();
        let answers = Python::attach(|py| self.who.call1(py, (places,))?.call_method0(py, "__iter__"));
        let answers = answers.map_err(stopped)?;
        for (k, &index) in open.iter().enumerate() {
            if !goes_on(before + k) {
                return Err(Failure::Stopped);
            }
            let next = Python::attach(|py| answers.call_method0(py, "__next__")?.extract::<Vec<String>>(py));
            let lines = next.map_err(stopped)?;
            let mut wanted = parts.iter();
            for line in lines {
                let record: Q::Record = serde_json::from_str(&line).map_err(|e| Failure::input(index, e))?;
                let key = record.key();
                if wanted.next().is_none_or(|&part| key != Key { index, part }) {
                    return Err(Failure::input(index, format!("found a record of {key} from elsewhere")));
                }
                if !answered.has(&key) {
                    file.as_mut().map_or(Ok(()), |file| file.append_lines(&[line]))?;
                    records.push(record);
                }
            }
            if wanted.next().is_some() {
                return Err(Failure::input(index, "some of its records did not come from elsewhere"));
            }
        }
        if goes_on(inputs.indices().len()) { Ok(()) } else { Err(Failure::Stopped) }
    }
}

/// Labels, if they are classes of the network and there is one for each input.
pub(crate) fn check(classes: usize, inputs: usize, y: &[usize]) -> PyResult<()> {
    if classes < 2 {
        return Err(Kind::Model.error("has one output; a classifier has at least 2"));
    }
    if let Some((i, label)) = y.iter().enumerate().find(|(_, label)| **label >= classes) {
        let text = format!("y: label {i} is {label}; the network has the classes 0..{classes}");
        return Err(Kind::Input.error(text));
    }
    if y.len() == inputs {
        return Ok(());
    }
    Err(Kind::Input.error(format!("y: {} labels for {inputs} inputs; give one for each", y.len())))
}
