//! What a run was made from: the bytes of every file that was read, the options, the version. Runs are
//! the same where contents are; the names of files may differ.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::file::RunError;
use super::{Question, Selection};

/// Options that name a file whose bytes have a fingerprint under the same name with `_sha256`.
const FILES: [&str; 5] = ["model", "data", "labels", "classes_file", "instances"];

/// SHA-256 in hexadecimal: of the bytes of a file that stands alone (`root` is no folder), else of the lines
/// `SHA-256  NAME` of all, as `sha256sum` writes them, in the order of their names below `root`.
///
/// # Errors
/// [`RunError::Io`] with the file that cannot be read.
pub fn fingerprint(root: &Path, files: &[PathBuf]) -> Result<String, RunError> {
    let of = |path: &Path| {
        let mut hash = Sha256::new();
        let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
        copied.map_err(|cause| RunError::Io { file: path.to_owned(), cause })?;
        Ok::<_, RunError>(hexadecimal(hash))
    };
    if let [file] = files
        && !root.is_dir()
    {
        return of(file);
    }
    let mut lines = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(file);
        // The same on systems that separate folders in other ways.
        let name: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
        lines.push((name.join("/"), of(file)?));
    }
    lines.sort();
    let mut hash = Sha256::new();
    for (name, digest) in lines {
        hash.update(format!("{digest}  {name}\n"));
    }
    Ok(hexadecimal(hash))
}

/// SHA-256 in hexadecimal of pieces of bytes one after the other: for inputs that are in no file.
#[must_use]
pub fn fingerprint_of(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash = Sha256::new();
    pieces.for_each(|bytes| hash.update(bytes));
    hexadecimal(hash)
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The first line of a run file: `loaded` (what was read and how), the selection, the question's options
/// and how many records each input gets.
#[must_use]
pub fn header(loaded: Map<String, Value>, selection: &Selection, question: &impl Question) -> Value {
    let mut header = loaded;
    header.insert("tightrope".into(), json!(env!("CARGO_PKG_VERSION")));
    if let Ok(Value::Object(selection)) = serde_json::to_value(selection) {
        header.extend(selection);
    }
    header.extend(question.options());
    header.insert("records_per_input".into(), json!(question.parts().len()));
    Value::Object(header)
}

/// The keys in which two first lines, or two records, say different things, with the value of each. An
/// option that is absent is one that is null, and the name of a file is none where both fingerprints of
/// its content are known.
#[must_use]
pub fn differences(found: &Value, wanted: &Value) -> Vec<(String, String, String)> {
    let of = |side: &'_ Value, key: &str| side.get(key).filter(|value| !value.is_null()).cloned();
    let by_content = |key: &str| {
        let digest = format!("{key}_sha256");
        FILES.contains(&key) && of(found, &digest).is_some() && of(wanted, &digest).is_some()
    };
    let mut keys: Vec<_> =
        [found, wanted].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    keys.sort();
    keys.dedup();
    let show = |v: Option<Value>| v.map_or("nothing".into(), |v| v.to_string());
    keys.into_iter()
        .filter(|key| !by_content(key) && of(found, key) != of(wanted, key))
        .map(|key| (key.clone(), show(of(found, key)), show(of(wanted, key))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_of_names_and_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("room");
            path
        };
        let (a, b) = (file("a", "abc"), file("b", ""));
        let of = |files: &[&PathBuf]| {
            let files: Vec<PathBuf> = files.iter().map(|f| (*f).clone()).collect();
            fingerprint(folder.path(), &files).expect("readable")
        };
        let alone = fingerprint(&a, std::slice::from_ref(&a)).expect("readable");
        assert!(alone.starts_with("ba7816bf8f01cfea") && alone.len() == 64 && alone != of(&[&a]));
        let both = of(&[&a, &b]);
        assert_eq!(of(&[&b, &a]), both);
        file("b", "x");
        assert_ne!(of(&[&a, &b]), both);
        assert!(fingerprint(folder.path(), &[folder.path().join("none")]).is_err());
    }

    #[test]
    fn contents_are_compared_and_names_where_no_content_is_known() {
        let one = json!({"data": "/a/x.npy", "data_sha256": "1", "labels": "/a/y", "shard": null});
        let other = json!({"data": "/b/x.npy", "data_sha256": "1", "labels": "/b/y"});
        let found = differences(&one, &other);
        assert_eq!(found, [("labels".into(), "\"/a/y\"".into(), "\"/b/y\"".into())]);
    }
}
