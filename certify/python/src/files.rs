//! Files that the command line reads and writes: images with labels, and runs.

use std::path::PathBuf;

use ndarray::Array2;
use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;
use tightrope::data::Dataset;
use tightrope::runs::{MergedRun, Range, RunLines, Selection};

use crate::error::Kind;

/// Images, one row each, with the shape of one, labels, the range of the pixels and the classes' names.
type Images<'py> =
    (Bound<'py, PyArray2<f32>>, Vec<usize>, Option<Vec<usize>>, Option<(f64, f64)>, Option<Vec<String>>);

/// Images of `files` (pixels, labels, names of classes) from the first of `indices` to before the second,
/// scaled, in the order of an input of `shape`.
#[pyfunction]
pub(crate) fn images(
    py: Python<'_>,
    files: (PathBuf, Option<PathBuf>, Option<PathBuf>),
    scale: Option<f64>,
    shape: Option<Vec<usize>>,
    indices: (Option<usize>, Option<usize>),
) -> PyResult<Images<'_>> {
    let (pixels, shape, labels, range, classes) = py.detach(|| {
        let (images, labels, classes) = files;
        let data = Dataset::open_with_classes(&images, labels.as_deref(), scale, classes.as_deref());
        let data = data.map_err(|e| Kind::Input.error(e))?;
        let selection = Selection::new(Range::from(indices), 1, None, data.len());
        let selection = selection.map_err(|e| Kind::Input.error(e))?;
        let shape = shape.unwrap_or_else(|| data.image_shape().to_vec());
        let arrangement = data.arrange(&shape).map_err(|e| Kind::Input.error(e))?;
        let (mut pixels, mut count) = (Vec::new(), 0);
        for index in selection.iter() {
            pixels.extend(data.image(index, &arrangement).map_err(|e| Kind::Input.error(e))?);
            count += 1;
        }
        let rows = (count, pixels.len() / count.max(1));
        let pixels = Array2::from_shape_vec(rows, pixels).map_err(|e| Kind::Input.error(e))?;
        let labels = data.labels().map(|labels| selection.iter().map(|index| labels[index]).collect());
        PyResult::Ok((pixels, shape, labels, data.range(), data.classes().map(<[String]>::to_vec)))
    })?;
    Ok((pixels.into_pyarray(py), shape, labels, range, classes))
}

/// The first line and the records of a run in one or several files, as `tightrope merge` puts them together.
#[pyfunction]
pub(crate) fn read(py: Python, files: Vec<PathBuf>) -> PyResult<(String, Vec<String>)> {
    py.detach(|| {
        let runs = files.iter().map(|file| RunLines::read(file)).collect::<Result<Vec<_>, _>>();
        let mut runs = runs.map_err(|e| Kind::Input.error(e))?;
        if runs.len() == 1 {
            let run = runs.remove(0);
            return Ok((run.header.to_string(), run.records));
        }
        let merged = MergedRun::new(&runs).map_err(|e| Kind::Input.error(e))?;
        Ok((merged.header.to_string(), merged.records))
    })
}
