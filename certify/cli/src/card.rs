//! Cards: what a network expects, in a `.toml` file of its name beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

/// What cards tell: what is used here, and what is for people.
const KEYS: [&str; 13] = [
    "data",
    "certify",
    "smooth",
    "name",
    "summary",
    "architecture",
    "parameters",
    "recipe",
    "training",
    "training_seconds",
    "onnx_sha256",
    "measured",
    "smoothed",
];

/// The parts of a card that commands use as defaults.
#[derive(Default, Deserialize)]
pub(crate) struct Card {
    #[serde(default)]
    pub(crate) data: Data,
    #[serde(default)]
    pub(crate) certify: Certify,
    #[serde(default)]
    pub(crate) smooth: Smooth,
}

/// The data slice that goes with the network; paths relative to the card.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    pub(crate) images: Option<PathBuf>,
    pub(crate) labels: Option<PathBuf>,
    pub(crate) clip: Option<(f64, f64)>,
    /// Where it is from, for people.
    #[serde(rename = "source")]
    _source: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certify {
    #[serde(default)]
    pub(crate) eps: Vec<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smooth {
    pub(crate) sigma: Option<f64>,
}

impl Card {
    /// What a network of a study expects: 8-bit images with their labels, and one eps.
    pub(crate) fn of(images: PathBuf, labels: PathBuf, eps: f64) -> Self {
        let data = Data { images: Some(images), labels: Some(labels), ..Data::default() };
        Self { data, certify: Certify { eps: vec![eps] }, ..Self::default() }
    }

    /// The card of a model; an empty one if it has none.
    pub(crate) fn beside(model: &Path) -> anyhow::Result<Self> {
        let path = model.with_extension("toml");
        if !path.is_file() {
            return Ok(Self::default());
        }
        let name = || format!("{} (the model's card)", path.display());
        let text = std::fs::read_to_string(&path).with_context(name)?;
        // A misspelt key would leave a default in force that nobody asked for.
        let keys: toml::Table = toml::from_str(&text).with_context(name)?;
        if let Some(key) = keys.keys().find(|key| !KEYS.contains(&key.as_str())) {
            bail!("{}: found the key `{key}`; accepted: {}", name(), KEYS.join(", "));
        }
        let mut card: Self = toml::from_str(&text).with_context(name)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut card.data.images, &mut card.data.labels].into_iter().flatten() {
            *file = folder.join(&file);
        }
        Ok(card)
    }
}
