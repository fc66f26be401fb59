//! The part of the zip format that npz archives use: stored and deflated entries, found through
//! the directory at the end of the file, with the 64-bit fields that large archives have.
//!
//! The directory is read as far as its bytes go, so that no count in a header decides how much
//! memory is asked for.

use std::borrow::Cow;
use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::ParseError;

const ACCEPTED: &str =
    "a zip archive of stored or deflated files, as numpy.savez and numpy.savez_compressed write it";
const END: usize = 22;
const END_64: usize = 56;
const LOCATOR_64: usize = 20;
const DIRECTORY_ENTRY: usize = 46;
const LOCAL_HEADER: usize = 30;

/// A file in an archive.
pub(super) struct Entry<'a> {
    /// Its name, with bytes outside UTF-8 replaced.
    pub(super) name: String,
    encrypted: bool,
    method: u16,
    crc: u32,
    packed: u64,
    unpacked: u64,
    /// Where its local header stands in the archive.
    header: u64,
    archive: &'a [u8],
}

/// Whether the bytes start like a zip archive, possibly an empty one.
pub(super) fn starts(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// Lists the files of an archive.
pub(super) fn entries(archive: &[u8]) -> Result<Vec<Entry<'_>>, ParseError> {
    let (count, mut directory) = directory(archive)
        .ok_or_else(|| ParseError::new("a zip archive without a directory, perhaps cut off", ACCEPTED))?;
    let mut entries = Vec::new();
    while !directory.is_empty() {
        let (entry, rest) = entry(archive, directory)
            .ok_or_else(|| ParseError::new("a zip archive with a damaged directory", ACCEPTED))?;
        entries.push(entry);
        directory = rest;
    }
    if entries.len() as u64 != count {
        let found = format!("a zip archive of {} files", entries.len());
        return Err(ParseError::new(found, format!("the {count} files that its end announces")));
    }
    Ok(entries)
}

impl<'a> Entry<'a> {
    /// The contents of the file, if they take at most `limit` bytes.
    pub(super) fn unpack(&self, limit: u64) -> Result<Cow<'a, [u8]>, ParseError> {
        let error = |found: &str| ParseError::new(format!("{found} file {:?}", self.name), ACCEPTED);
        if self.encrypted {
            return Err(error("an encrypted"));
        }
        let packed = self.packed_bytes().ok_or_else(|| error("a damaged entry for"))?;
        let contents = match self.method {
            0 => Cow::Borrowed(packed),
            8 => {
                // The announced size is a claim: count while inflating.
                let mut contents = Vec::new();
                DeflateDecoder::new(packed)
                    .take(limit.saturating_add(1))
                    .read_to_end(&mut contents)
                    .map_err(|_| error("a damaged"))?;
                Cow::Owned(contents)
            }
            method => return Err(error(&format!("a (compression method {method})"))),
        };
        if contents.len() as u64 > limit {
            return Err(ParseError::new(
                format!("a file {:?} of more than {limit} bytes", self.name),
                format!("files of at most {limit} bytes"),
            ));
        }
        let mut crc = Crc::new();
        crc.update(&contents);
        if contents.len() as u64 != self.unpacked || crc.sum() != self.crc {
            return Err(error("a damaged"));
        }
        Ok(contents)
    }

    fn packed_bytes(&self) -> Option<&'a [u8]> {
        let local = self.archive.get(usize::try_from(self.header).ok()?..)?;
        if !local.starts_with(b"PK\x03\x04") {
            return None;
        }
        let names = usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
        local.get(LOCAL_HEADER + names..)?.get(..usize::try_from(self.packed).ok()?)
    }
}

/// The announced number of files and the bytes of the directory.
fn directory(archive: &[u8]) -> Option<(u64, &[u8])> {
    // The last record is followed by a comment of up to 65535 bytes, whose length it gives.
    let last = archive.len().checked_sub(END)?;
    let earliest = last.saturating_sub(usize::from(u16::MAX));
    let at = (earliest..=last).rev().find(|&at| {
        archive[at..].starts_with(b"PK\x05\x06")
            && u16_at(archive, at + 20)
                .is_some_and(|comment| at + END + usize::from(comment) == archive.len())
    })?;
    let mut count = u64::from(u16_at(archive, at + 10)?);
    let mut size = u64::from(u32_at(archive, at + 12)?);
    let mut start = u64::from(u32_at(archive, at + 16)?);
    if count == u64::from(u16::MAX) || size == u64::from(u32::MAX) || start == u64::from(u32::MAX) {
        let locator = archive.get(at.checked_sub(LOCATOR_64)?..)?;
        if locator.starts_with(b"PK\x06\x07") {
            let end = usize::try_from(u64_at(locator, 8)?).ok()?;
            let end = archive.get(end..)?.get(..END_64)?;
            if !end.starts_with(b"PK\x06\x06") {
                return None;
            }
            count = u64_at(end, 32)?;
            size = u64_at(end, 40)?;
            start = u64_at(end, 48)?;
        }
    }
    let directory = archive.get(usize::try_from(start).ok()?..)?.get(..usize::try_from(size).ok()?)?;
    Some((count, directory))
}

/// The first entry of a directory and the rest of it.
fn entry<'a>(archive: &'a [u8], directory: &'a [u8]) -> Option<(Entry<'a>, &'a [u8])> {
    if !directory.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (name, extra, comment) = (u16_at(directory, 28)?, u16_at(directory, 30)?, u16_at(directory, 32)?);
    let (name, rest) = directory.get(DIRECTORY_ENTRY..)?.split_at_checked(name.into())?;
    let (extra, rest) = rest.split_at_checked(extra.into())?;
    let rest = rest.get(usize::from(comment)..)?;
    let mut long = long_fields(extra);
    let mut field = |at| match u32_at(directory, at)? {
        u32::MAX => {
            let (value, rest) = long.split_first_chunk::<8>()?;
            long = rest;
            Some(u64::from_le_bytes(*value))
        }
        value => Some(u64::from(value)),
    };
    // The 64-bit fields stand in this order.
    let (unpacked, packed, header) = (field(24)?, field(20)?, field(42)?);
    let entry = Entry {
        name: String::from_utf8_lossy(name).into_owned(),
        encrypted: u16_at(directory, 8)? & 1 != 0,
        method: u16_at(directory, 10)?,
        crc: u32_at(directory, 16)?,
        packed,
        unpacked,
        header,
        archive,
    };
    Some((entry, rest))
}

/// The 64-bit values among the extra fields of an entry, empty if there are none.
fn long_fields(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(size)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(size.into()) else { break };
        if id == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::zip::write::SimpleFileOptions;
    use ::zip::{CompressionMethod, ZipWriter};
    use std::io::{Cursor, Write};

    fn options(method: CompressionMethod) -> SimpleFileOptions {
        SimpleFileOptions::default().compression_method(method)
    }

    fn archive(files: &[(&str, &[u8], SimpleFileOptions)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.set_comment("a comment");
        for &(name, contents, options) in files {
            zip.start_file(name, options).unwrap();
            zip.write_all(contents).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn archives_of_another_writer_are_read() {
        let long = vec![7; 100_000];
        let bytes = archive(&[
            ("stored", b"one", options(CompressionMethod::Stored)),
            ("deflated", &long, options(CompressionMethod::Deflated)),
            ("large", b"three", options(CompressionMethod::Deflated).large_file(true)),
        ]);
        let entries = entries(&bytes).unwrap();
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["stored", "deflated", "large"]);
        assert_eq!(*entries[0].unpack(3).unwrap(), *b"one");
        assert_eq!(*entries[1].unpack(100_000).unwrap(), *long);
        assert_eq!(*entries[2].unpack(10).unwrap(), *b"three");
    }

    #[test]
    fn archives_written_as_a_stream_are_read() {
        let mut zip = ZipWriter::new_stream(Vec::new());
        zip.start_file("streamed", options(CompressionMethod::Deflated)).unwrap();
        zip.write_all(b"contents").unwrap();
        let bytes = zip.finish().unwrap().into_inner();
        assert_eq!(*entries(&bytes).unwrap()[0].unpack(100).unwrap(), *b"contents");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let bytes = archive(&[("bomb", &vec![0; 1 << 20], options(method))]);
            let error = entries(&bytes).unwrap()[0].unpack(1000).unwrap_err().to_string();
            assert!(error.contains("\"bomb\" of more than 1000 bytes"), "{error}");
        }
    }

    #[test]
    fn long_fields_are_used_where_the_short_ones_are_full() {
        let mut directory = vec![0; DIRECTORY_ENTRY];
        directory[..4].copy_from_slice(b"PK\x01\x02");
        directory[20..28].fill(0xff);
        directory[42..46].copy_from_slice(&[5, 0, 0, 0]);
        directory[30] = 25;
        // A field of another kind first, then the sizes.
        directory.extend([9, 0, 1, 0, 0, 1, 0, 16, 0]);
        directory.extend(0x1_0000_0002_u64.to_le_bytes());
        directory.extend(0x1_0000_0001_u64.to_le_bytes());
        let (found, rest) = entry(&[], &directory).unwrap();
        assert_eq!(
            (found.unpacked, found.packed, found.header, rest),
            (0x1_0000_0002, 0x1_0000_0001, 5, &[][..])
        );
        assert!(found.unpack(10).unwrap_err().to_string().contains("damaged entry"));
        directory[42..46].fill(0xff);
        assert!(entry(&[], &directory).is_none());
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = archive(&[("name", b"contents", options(CompressionMethod::Stored))]);
        let problem = |bytes: &[u8]| match entries(bytes) {
            Err(error) => error.to_string(),
            Ok(entries) => entries[0].unpack(100).unwrap_err().to_string(),
        };
        assert!(problem(&bytes[..bytes.len() - 1]).contains("without a directory"));
        let at = |pattern: &[u8]| bytes.windows(pattern.len()).position(|w| w == pattern).unwrap();
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            bytes
        };
        let directory = at(b"PK\x01\x02");
        assert!(problem(&with(at(b"contents"), b'C')).contains("a damaged file \"name\""));
        assert!(problem(&with(directory, 0)).contains("damaged directory"));
        assert!(problem(&with(directory + 8, 1)).contains("encrypted"));
        assert!(problem(&with(directory + 10, 12)).contains("compression method 12"));
        assert!(problem(&with(at(b"PK\x05\x06") + 10, 2)).contains("the 2 files"));
    }
}
