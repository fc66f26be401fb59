//! The recorded cases, as `tests/reference/generate.py` describes them.

use std::fs::File;
use std::path::Path;

use ndarray::Array1;
use ndarray_npy::NpzReader;
use serde_json::Value;
use tightrope::onnx::LoadOptions;

/// A model with its values at some points.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The model's bytes.
    pub(crate) model: Vec<u8>,
    /// Shape of the input.
    pub(crate) input: Vec<usize>,
    /// Shape of the output.
    pub(crate) output: Vec<usize>,
    /// Number of points: the centre of a box, then others inside.
    pub(crate) points: usize,
    /// The points, one after the other.
    pub(crate) x: Vec<f32>,
    /// The reference's outputs.
    pub(crate) y: Vec<f32>,
    /// Half the width of the box.
    pub(crate) radius: f64,
    /// Whether the network is continuous around the centre.
    pub(crate) continuous: bool,
    /// Accepted deviation, relative to the size of the output.
    tolerance: f64,
    /// Whether the model leaves axes open.
    given_shape: bool,
}

impl Case {
    pub(crate) fn options(&self) -> LoadOptions {
        LoadOptions { input_shape: self.given_shape.then(|| self.input.clone()), ..LoadOptions::default() }
    }

    /// The centre of the box.
    pub(crate) fn centre(&self) -> Vec<f64> {
        let len = self.x.len() / self.points;
        self.x[..len].iter().map(|&x| x.into()).collect()
    }

    /// The reference's output at a point.
    pub(crate) fn at(&self, point: usize) -> &[f32] {
        let len = self.y.len() / self.points;
        &self.y[point * len..][..len]
    }

    /// Accepted absolute deviation from the reference at a point, which itself
    /// is rounded to `f32`.
    pub(crate) fn slack(&self, point: usize) -> f64 {
        let finite = self.at(point).iter().filter(|y| y.is_finite());
        self.tolerance * f64::from(finite.fold(0.0f32, |m, y| m.max(y.abs())))
    }
}

/// All cases of `tests/reference/operators.npz`.
pub(crate) fn read() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/operators.npz");
    let mut npz = NpzReader::new(File::open(path).expect("the file of cases")).expect("an npz file");
    let index: Array1<u8> = npz.by_name("index").expect("the index");
    let models: Array1<u8> = npz.by_name("models").expect("models");
    let inputs: Array1<f32> = npz.by_name("inputs").expect("inputs");
    let outputs: Array1<f32> = npz.by_name("outputs").expect("outputs");
    let index: Vec<Value> = serde_json::from_slice(&index.to_vec()).expect("an index in JSON");
    let (mut inputs, mut outputs) = (inputs.into_iter(), outputs.into_iter());
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let list =
        |value: &Value| -> Vec<usize> { value.as_array().expect("a list").iter().map(number).collect() };
    let cases = index.iter().map(|entry| {
        let (input, output, points) =
            (list(&entry["input"]), list(&entry["output"]), number(&entry["points"]));
        let place = list(&entry["model"]);
        Case {
            name: entry["name"].as_str().expect("a name").to_owned(),
            model: models.slice(ndarray::s![place[0]..place[1]]).to_vec(),
            x: inputs.by_ref().take(points * input.iter().product::<usize>()).collect(),
            y: outputs.by_ref().take(points * output.iter().product::<usize>()).collect(),
            input,
            output,
            points,
            radius: entry["radius"].as_f64().expect("a radius"),
            continuous: entry["continuous"].as_bool().expect("a truth value"),
            tolerance: entry["tolerance"].as_f64().expect("a tolerance"),
            given_shape: entry["given_shape"].as_bool().expect("a truth value"),
        }
    });
    let cases: Vec<Case> = cases.collect();
    assert!(inputs.len() == 0 && outputs.len() == 0, "the index accounts for all values");
    cases
}
