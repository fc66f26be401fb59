//! Files: plain or gzipped, their fingerprints, tensors beside a model.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use onnx_protobuf::ModelProto;
use sha2::{Digest, Sha256};

use crate::{Refusal, Result};

/// No file may become larger than this.
const MOST: u64 = 4 << 30;

/// The bytes of a file as they are, and unpacked where they are gzipped.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let fail = |e: std::io::Error| Refusal::Usage(format!("{}: {e}", path.display()));
    let raw = std::fs::read(path).map_err(fail)?;
    if !raw.starts_with(&[0x1f, 0x8b]) {
        return Ok((raw.clone(), raw));
    }
    let mut bytes = Vec::new();
    MultiGzDecoder::new(&raw[..]).take(MOST).read_to_end(&mut bytes).map_err(fail)?;
    Ok((raw, bytes))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Fills in tensors that stand in files beside the model. The fingerprint of these files, if there are any: that
/// of the lines `SHA-256  NAME` in the order of their names.
pub(crate) fn external(model: &Path, proto: &mut ModelProto) -> Result<Option<String>> {
    let folder = model.parent().unwrap_or(Path::new(""));
    let mut names = Vec::new();
    for tensor in proto.graph.as_mut().into_iter().flat_map(|graph| &mut graph.initializer) {
        if tensor.external_data.is_empty() {
            continue;
        }
        let of = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone())
        };
        let name = of("location").unwrap_or_default();
        let wrong = || Refusal::Usage(format!("{}: `{name}` is no place of a tensor", model.display()));
        let plain = |part: std::path::Component| matches!(part, std::path::Component::Normal(_));
        if !Path::new(&name).components().all(plain) {
            return Err(wrong());
        }
        let bytes = std::fs::read(folder.join(&name)).map_err(|_| wrong())?;
        let number =
            |key: &str, default: usize| of(key).map_or(Ok(default), |text| text.parse()).map_err(|_| wrong());
        let begin = number("offset", 0)?;
        let length = number("length", bytes.len().saturating_sub(begin))?;
        let end = begin.checked_add(length).ok_or_else(wrong)?;
        tensor.raw_data = bytes.get(begin..end).ok_or_else(wrong)?.to_vec();
        names.push((name, sha256(&bytes)));
    }
    names.sort();
    names.dedup();
    let lines =
        names.iter().fold(String::new(), |text, (name, digest)| text + &format!("{digest}  {name}\n"));
    Ok((!names.is_empty()).then(|| sha256(lines.as_bytes())))
}
