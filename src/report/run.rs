//! Run files: a first line that says what was run, then one line per finished
//! result, written through as it comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::data::MAX_BYTES;

/// First bytes of a gzip stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a run file cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is a file already.
    #[error("{}: exists already; continue it with --resume, or give another name", .0.display())]
    Exists(PathBuf),
    /// The file cannot be opened, read or written. What was written before is kept.
    #[error("{}: {cause}", file.display())]
    Io {
        /// The run file.
        file: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The file is not a run of this kind.
    #[error("{}: line {line} is not {expected}: {cause}", file.display())]
    Line {
        /// The run file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What the line should be.
        expected: &'static str,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// The file belongs to a run with other options.
    #[error(
        "{}: was made with other options: {}; continue it with the same ones, or give another name",
        file.display(), differences.join(", ")
    )]
    OtherOptions {
        /// The run file.
        file: PathBuf,
        /// Each option that differs, with both values.
        differences: Vec<String>,
    },
}

/// A run file open for appending.
pub struct RunFile {
    path: PathBuf,
    file: File,
}

#[derive(Serialize, Deserialize)]
struct FirstLine {
    run: Value,
}

impl RunFile {
    /// Starts a run file with `header` (an object of options), or continues
    /// one: then the records it holds are returned, and a line that was cut
    /// off is removed.
    ///
    /// # Errors
    /// [`RunError`] if the file exists and `resume` is not set, if it was made
    /// with another header, holds something else, or cannot be written.
    pub fn open<R: DeserializeOwned>(
        path: &Path,
        header: &Value,
        resume: bool,
    ) -> Result<(Self, Vec<R>), RunError> {
        let io = |cause| RunError::Io { file: path.to_owned(), cause };
        let mut options = OpenOptions::new();
        if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            // A pipe or a device can be written, not continued.
            let file = options.write(true).open(path).map_err(io)?;
            let mut run = Self { path: path.to_owned(), file };
            run.append(&FirstLine { run: header.clone() })?;
            return Ok((run, Vec::new()));
        }
        options.read(true).write(true);
        if resume {
            options.create(true).truncate(false);
        } else {
            options.create_new(true);
        }
        let mut file = options.open(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => RunError::Exists(path.to_owned()),
            _ => io(cause),
        })?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut run = Self { path: path.to_owned(), file };
        if whole == 0 {
            run.append(&FirstLine { run: header.clone() })?;
            return Ok((run, Vec::new()));
        }
        let found = RunLines::parse(path, &text)?;
        let differences = differences(&found.header, header);
        if !differences.is_empty() {
            let say = |(key, was, now)| format!("{key} was {was}, now {now}");
            let differences = differences.into_iter().map(say).collect();
            return Err(RunError::OtherOptions { file: path.to_owned(), differences });
        }
        Ok((run, found.records()?))
    }

    /// Appends one record as a line, handed to the operating system at once.
    ///
    /// # Errors
    /// [`RunError::Io`], on a full disk for example.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), RunError> {
        let mut line = serde_json::to_vec(record).map_err(|e| self.io(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| self.io(e))
    }

    /// Appends records as another run file has them, without a change of any byte.
    ///
    /// # Errors
    /// [`RunError::Io`], on a full disk for example.
    pub fn append_lines(&mut self, lines: &[String]) -> Result<(), RunError> {
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        self.file.write_all(text.as_bytes()).map_err(|e| self.io(e))
    }

    fn io(&self, cause: io::Error) -> RunError {
        RunError::Io { file: self.path.clone(), cause }
    }
}

/// A run file as it was written, for reading only.
#[derive(Clone, Debug)]
pub struct RunLines {
    /// Where it was read from.
    pub file: PathBuf,
    /// The options of the run.
    pub header: Value,
    /// The records, from line 2 on.
    pub records: Vec<String>,
    /// Whether a last line was left out because it has no end.
    pub cut_off: bool,
}

impl RunLines {
    /// Reads a run file, plain or packed with gzip.
    ///
    /// # Errors
    /// [`RunError`] if it cannot be read, or does not begin as a run does.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        Self::parse(path, &read_text(path)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, RunError> {
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let first: FirstLine = serde_json::from_str(lines.next().unwrap_or_default()).map_err(|cause| {
            RunError::Line { file: path.to_owned(), line: 1, expected: "the first line of a run", cause }
        })?;
        Ok(Self {
            file: path.to_owned(),
            header: first.run,
            records: lines.map(str::to_owned).collect(),
            cut_off: whole < text.len(),
        })
    }

    /// The records as values.
    ///
    /// # Errors
    /// [`RunError::Line`] for the first that is not one.
    pub fn records<R: DeserializeOwned>(&self) -> Result<Vec<R>, RunError> {
        let parse = |(i, line): (usize, &String)| {
            serde_json::from_str(line).map_err(|cause| RunError::Line {
                file: self.file.clone(),
                line: i + 2,
                expected: "a record of this run",
                cause,
            })
        };
        self.records.iter().enumerate().map(parse).collect()
    }
}

/// The text of a file, plain or packed with gzip.
pub(super) fn read_text(path: &Path) -> Result<String, RunError> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let all = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES { Err(invalid("is longer than 4 GiB")) } else { Ok(bytes) }
    };
    let text = || {
        let mut bytes = all(&mut File::open(path)?)?;
        if bytes.starts_with(&GZIP_MAGIC) {
            bytes = all(&mut MultiGzDecoder::new(&bytes[..]))?;
        }
        String::from_utf8(bytes).map_err(|_| invalid("is not text; accepted: UTF-8, plain or gzipped"))
    };
    text().map_err(|cause| RunError::Io { file: path.to_owned(), cause })
}

/// The keys in which two objects differ, with the value of each.
pub(super) fn differences(found: &Value, wanted: &Value) -> Vec<(String, String, String)> {
    let empty = serde_json::Map::new();
    let object = |v: &'_ Value| v.as_object().cloned().unwrap_or_else(|| empty.clone());
    let (found, wanted) = (object(found), object(wanted));
    let mut keys: Vec<_> = found.keys().chain(wanted.keys()).collect();
    keys.sort();
    keys.dedup();
    let show = |v: Option<&Value>| v.map_or("nothing".into(), Value::to_string);
    keys.into_iter()
        .filter(|key| found.get(*key) != wanted.get(*key))
        .map(|key| (key.clone(), show(found.get(key)), show(wanted.get(key))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cut_off_run_is_continued_after_its_last_whole_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.jsonl");
        let header = json!({"eps": [0.1], "model": "m"});
        let (mut run, none) = RunFile::open::<Value>(&path, &header, false).expect("a new file");
        assert!(none.is_empty());
        run.append(&json!({"index": 0})).expect("room");
        run.append(&json!({"index": 1})).expect("room");
        drop(run);
        let whole = std::fs::read_to_string(&path).expect("text");
        std::fs::write(&path, format!("{whole}{{\"ind")).expect("room");

        let (mut run, records) = RunFile::open::<Value>(&path, &header, true).expect("resumes");
        assert_eq!(records, [json!({"index": 0}), json!({"index": 1})]);
        run.append(&json!({"index": 2})).expect("room");
        drop(run);
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text, format!("{whole}{{\"index\":2}}\n"));
    }

    #[test]
    fn other_options_and_existing_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.jsonl");
        let open = |header: Value, resume| RunFile::open::<Value>(&path, &header, resume).map(|_| ());
        open(json!({"eps": [0.1]}), true).expect("a new file");
        assert!(matches!(open(json!({"eps": [0.1]}), false), Err(RunError::Exists(_))));
        let error = open(json!({"eps": [0.2]}), true).expect_err("other options").to_string();
        assert!(error.contains("eps was [0.1], now [0.2]"), "{error}");
        std::fs::write(&path, "not json\n").expect("room");
        assert!(matches!(open(json!({}), true), Err(RunError::Line { line: 1, .. })));
    }
}
