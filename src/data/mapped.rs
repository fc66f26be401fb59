//! Arrays that stay in their file, of which single images are read: uncompressed npy and idx files. They
//! may be of any length, and take no memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::tensor::{Values, elements};
use super::{idx, numpy};

/// How the values of an array are stored.
pub(super) struct Layout {
    /// The length of each axis.
    pub(super) shape: Vec<usize>,
    /// Where the first value stands.
    pub(super) offset: usize,
    /// Bytes of one value.
    pub(super) size: usize,
    /// Reads whole values.
    pub(super) read: fn(&[u8]) -> Values,
}

/// An array in a file.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    file: Arc<Mutex<File>>,
    shape: Vec<usize>,
    offset: u64,
    /// Bytes of one image.
    stride: usize,
    read: fn(&[u8]) -> Values,
}

/// Longest header, in bytes: as long as one that the readers of whole files take.
const HEADER: u64 = 16 << 10;

impl Mapped {
    /// An array of images in an uncompressed npy file in row-major order or an idx file, in a type that
    /// needs no conversion; nothing for all other files, whose readers say what is wrong with them.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut start = Vec::new();
        file.by_ref().take(HEADER).read_to_end(&mut start)?;
        let Some(Layout { shape, offset, size, read }) =
            numpy::layout(&start).or_else(|| idx::layout(&start))
        else {
            return Ok(None);
        };
        let values = elements(&shape).and_then(|n| n.checked_mul(size));
        let whole = values.and_then(|bytes| u64::try_from(offset.checked_add(bytes)?).ok());
        let images = shape.first().copied().unwrap_or(0);
        if whole != Some(length) || images == 0 {
            return Ok(None);
        }
        let stride = values.unwrap_or(0) / images;
        let file = Arc::new(Mutex::new(file));
        Ok(Some(Self { file, shape, offset: offset as u64, stride, read }))
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// No values, of the type that is stored.
    pub(super) fn none(&self) -> Values {
        (self.read)(&[])
    }

    /// The values of one image.
    pub(super) fn image(&self, index: usize) -> io::Result<Values> {
        let mut bytes = vec![0; self.stride];
        // A reader that panicked has left nothing but a position, which is set anew.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.offset + index as u64 * self.stride as u64))?;
        file.read_exact(&mut bytes)?;
        Ok((self.read)(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dataset, samples};
    use super::*;
    use ndarray::{Array, ShapeBuilder};

    #[test]
    fn images_are_those_of_the_whole_file() {
        let bytes = Array::from_shape_fn((3, 2, 2), |(i, j, k)| (100 * i + 10 * j + k) as u8);
        let floats = bytes.mapv(f32::from);
        let idx: Vec<u8> =
            [&[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2][..], bytes.as_slice().unwrap()].concat();
        let fortran = Array::from_shape_fn((3, 2, 2).f(), |(i, j, k)| (100 * i + 10 * j + k) as u8);
        for (file, mapped) in [
            (samples::npy(&bytes), true),
            (samples::npy(&floats), true),
            (samples::npy(&floats.mapv(f64::from)), true),
            (samples::npy(&fortran), false),
            (idx.clone(), true),
            (samples::gzip(&idx), false),
        ] {
            let root = samples::folder(&[("x", file.clone())]);
            let path = root.path().join("x");
            assert_eq!(Mapped::open(&path).unwrap().is_some(), mapped);
            let data = Dataset::open(&path, None, Some(0.5)).unwrap();
            let arrangement = data.arrange(&[2, 2]).unwrap();
            for i in 0..3 {
                let expected = [0, 1, 10, 11].map(|x| 0.5 * (100 * i + x) as f32);
                assert_eq!(data.image(i, &arrangement).unwrap(), expected);
            }
            // Cut off: not an array, and the reader of whole files says so.
            std::fs::write(&path, &file[..file.len() - 1]).unwrap();
            assert!(Mapped::open(&path).unwrap().is_none() && Dataset::open(&path, None, None).is_err());
        }
    }

    #[test]
    fn files_beyond_4_gib_are_read() {
        let root = samples::folder(&[]);
        let path = root.path().join("x.npy");
        let header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (5000000, 1000), }";
        let mut start = [&b"\x93NUMPY\x01\x00"[..], &118_u16.to_le_bytes(), header].concat();
        start.resize(127, b' ');
        start.push(b'\n');
        std::fs::write(&path, &start).unwrap();
        // Sparse: it takes no room on the disk.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(128 + 5_000_000_000).unwrap();
        let data = Dataset::open(&path, None, None).unwrap();
        assert_eq!(data.image(4_999_999, &data.arrange(&[1000]).unwrap()).unwrap(), [0.0; 1000]);
    }
}
