//! Pictures of the hardest inputs, with their counterexamples and differences.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, RgbImage};
use ndarray::ArrayD;
use tightrope::data::Dataset;
use tightrope::runs::RunLines;
use tightrope::runs::provenance::fingerprint;

/// An input that is hard for a run.
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) says: String,
    /// The file of a perturbed input that is classified otherwise.
    pub(super) counterexample: Option<String>,
}

/// A hard input as the page shows it.
pub(super) struct Hard {
    pub(super) index: usize,
    pub(super) says: String,
    /// What a picture shows, and the picture as a `data:` address.
    pub(super) pictures: Vec<(&'static str, String)>,
}

/// Pictures of the first `most` candidates; and why there are none, if the data of the run has images that
/// cannot be shown.
pub(super) fn pictures(run: &RunLines, candidates: &[Candidate], most: usize) -> (Vec<Hard>, Option<String>) {
    let chosen = &candidates[..candidates.len().min(most)];
    if chosen.is_empty() {
        return (Vec::new(), None);
    }
    let data = match opened(run) {
        Ok(data) => data,
        Err(why) => return (Vec::new(), Some(format!("the hardest inputs are not shown: {why}"))),
    };
    let mut hard = Vec::new();
    for candidate in chosen {
        match drawn(&data, candidate) {
            Ok(pictures) => {
                let says = candidate.says.clone();
                hard.push(Hard { index: candidate.index, says, pictures });
            }
            Err(why) => return (hard, Some(format!("input {} is not shown: {why}", candidate.index))),
        }
    }
    (hard, None)
}

/// The run's data, if it is still what the run has read.
fn opened(run: &RunLines) -> Result<Dataset, String> {
    let path = run.header["data"].as_str().filter(|name| *name != "array").map(Path::new);
    let path = path.ok_or("they came from no file")?;
    let scale = run.header["scale"].as_f64();
    let data = Dataset::open(path, None, None).or_else(|_| Dataset::open(path, None, scale));
    let data = data.map_err(|e| e.to_string())?;
    let digest = fingerprint(path, data.files()).map_err(|e| e.to_string())?;
    if run.header["data_sha256"].as_str() != Some(&digest) {
        return Err(format!("{} has changed since", path.display()));
    }
    Ok(data)
}

fn drawn(data: &Dataset, candidate: &Candidate) -> Result<Vec<(&'static str, String)>, String> {
    let stored = data.image_shape().to_vec();
    let Some(file) = &candidate.counterexample else {
        let pixels = data.arrange(&stored).and_then(|order| data.image(candidate.index, &order));
        let pixels = pixels.map_err(|e| e.to_string())?;
        return Ok(vec![("input", encoded(&pixels, &stored, Colours::Range(range(&[&pixels])))?)]);
    };
    // In the order that the network has, as the counterexample is.
    let other: ArrayD<f32> =
        ndarray_npy::read_npy(PathBuf::from(file)).map_err(|e| format!("{file}: {e}"))?;
    let shape = other.shape().to_vec();
    let other: Vec<f32> = other.into_iter().collect();
    let pixels = data.arrange(&shape).and_then(|order| data.image(candidate.index, &order));
    let pixels = pixels.map_err(|e| e.to_string())?;
    let difference: Vec<f32> = other.iter().zip(&pixels).map(|(a, b)| a - b).collect();
    let most = difference.iter().fold(0.0f32, |most, d| most.max(d.abs()));
    let shape = if plane(&shape).is_some() { shape } else { stored };
    let range = range(&[&pixels, &other]);
    Ok(vec![
        ("input", encoded(&pixels, &shape, Colours::Range(range))?),
        ("counterexample", encoded(&other, &shape, Colours::Range(range))?),
        ("difference", encoded(&difference, &shape, Colours::Signed(most))?),
    ])
}

fn range(pictures: &[&[f32]]) -> (f32, f32) {
    let all = || pictures.iter().flat_map(|p| p.iter().copied());
    (all().fold(0.0, f32::min), all().fold(1e-6, f32::max))
}

/// How numbers become colours.
enum Colours {
    /// From black to white.
    Range((f32, f32)),
    /// Red below zero, blue above, white at it; the greatest size.
    Signed(f32),
}

/// Height, width, and how a pixel's channels are found: how many, the step between them and between pixels.
fn plane(shape: &[usize]) -> Option<(usize, usize, usize, usize, usize)> {
    let inner: Vec<usize> = shape.iter().copied().skip_while(|&n| n == 1).collect();
    match inner[..] {
        [height, width] | [height, width, 1] => Some((height, width, 1, 0, 1)),
        [3, height, width] => Some((height, width, 3, height * width, 1)),
        [height, width, 3] => Some((height, width, 3, 1, 3)),
        _ => None,
    }
}

fn encoded(values: &[f32], shape: &[usize], colours: Colours) -> Result<String, String> {
    let Some((height, width, channels, channel, pixel)) = plane(shape) else {
        return Err(format!("inputs of shape {shape:?} are no pictures"));
    };
    let byte = |share: f32| (255.0 * share.clamp(0.0, 1.0)) as u8;
    let mut bytes = Vec::with_capacity(3 * height * width);
    for at in 0..height * width {
        let of = |k: usize| values[at * pixel + k * channel];
        let colour: [u8; 3] = match colours {
            Colours::Range((low, high)) => {
                [0, 1, 2].map(|k| byte((of(k.min(channels - 1)) - low) / (high - low)))
            }
            Colours::Signed(most) => {
                let mean = (0..channels).map(of).sum::<f32>() / channels as f32;
                let share = if most > 0.0 { mean / most } else { 0.0 };
                let rest = byte(1.0 - share.abs());
                if share < 0.0 { [255, rest, rest] } else { [rest, rest, 255] }
            }
        };
        bytes.extend(colour);
    }
    let image = RgbImage::from_raw(width as u32, height as u32, bytes).ok_or("too large a picture")?;
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut file, ImageFormat::Png).map_err(|e| e.to_string())?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(file.into_inner())))
}
