//! Run files: a first line that says what was run, then one line per finished
//! result, written through as it comes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::provenance::differences;
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
    /// Another process writes to the file.
    #[error("{}: {holder} writes to it; wait for that run to end, or give another name", file.display())]
    Locked {
        /// The run file.
        file: PathBuf,
        /// Who.
        holder: String,
    },
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

/// A run file open for appending, which no other process can open as well.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    file: File,
    /// Says who holds the lock, for whoever is refused.
    holder: Option<PathBuf>,
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // It only informs; the lock itself ends with the process, however that ends.
        self.holder.take().map(fs::remove_file);
    }
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
            let mut run = Self { path: path.to_owned(), file, holder: None };
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
        let holder = Some(lock(path, &file)?);
        let mut text = String::new();
        let read = file.read_to_string(&mut text);
        let mut run = Self { path: path.to_owned(), file, holder };
        read.map_err(io)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole == 0 {
            run.cut(0)?;
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
        let records = found.records()?;
        // Nothing of a file is touched before it is known to be this run.
        run.cut(whole as u64)?;
        Ok((run, records))
    }

    /// Removes what follows the first `whole` bytes.
    fn cut(&mut self, whole: u64) -> Result<(), RunError> {
        let cut = self.file.set_len(whole).and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.map(|_| ()).map_err(|e| self.io(e))
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

/// Takes the lock of a run file, and says beside it who did.
fn lock(path: &Path, file: &File) -> Result<PathBuf, RunError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let holder = PathBuf::from(name);
    match file.try_lock() {
        Ok(()) => {}
        // Some file systems of clusters have no locks; that must not keep anybody from working there.
        Err(TryLockError::Error(cause)) if cause.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&holder).unwrap_or_else(|_| "another process".into());
            return Err(RunError::Locked { file: path.to_owned(), holder });
        }
        Err(TryLockError::Error(cause)) => return Err(RunError::Io { file: path.to_owned(), cause }),
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok());
    let host = host.map_or(String::new(), |host| format!(" on {}", host.trim()));
    // The lock holds without it.
    let _ = fs::write(&holder, format!("process {}{host}", std::process::id()));
    Ok(holder)
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

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, RunError> {
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
pub(crate) fn read_text(path: &Path) -> Result<String, RunError> {
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
    fn other_options_existing_files_and_second_writers_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.jsonl");
        let open = |header: Value, resume| RunFile::open::<Value>(&path, &header, resume).map(|_| ());
        open(json!({"eps": [0.1]}), true).expect("a new file");
        assert!(matches!(open(json!({"eps": [0.1]}), false), Err(RunError::Exists(_))));
        let error = open(json!({"eps": [0.2]}), true).expect_err("other options").to_string();
        assert!(error.contains("eps was [0.1], now [0.2]"), "{error}");
        let (held, _) = RunFile::open::<Value>(&path, &json!({"eps": [0.1]}), true).expect("continues");
        let error = open(json!({"eps": [0.1]}), true).expect_err("two writers").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        open(json!({"eps": [0.1]}), true).expect("continues again");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no lock stays");
        std::fs::write(&path, "not json\n").expect("room");
        assert!(matches!(open(json!({}), true), Err(RunError::Line { line: 1, .. })));
    }
}
