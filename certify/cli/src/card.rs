//! Cards: what a network expects, in a `.toml` file of its name beside it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

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
pub(crate) struct Data {
    pub(crate) images: Option<PathBuf>,
    pub(crate) labels: Option<PathBuf>,
    pub(crate) clip: Option<(f64, f64)>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Certify {
    #[serde(default)]
    pub(crate) eps: Vec<f64>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Smooth {
    pub(crate) sigma: Option<f64>,
}

impl Card {
    /// The card of a model; an empty one if it has none.
    pub(crate) fn beside(model: &Path) -> anyhow::Result<Self> {
        let path = model.with_extension("toml");
        if !path.is_file() {
            return Ok(Self::default());
        }
        let name = || format!("{} (the model's card)", path.display());
        let text = std::fs::read_to_string(&path).with_context(name)?;
        let mut card: Self = toml::from_str(&text).with_context(name)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut card.data.images, &mut card.data.labels].into_iter().flatten() {
            *file = folder.join(&file);
        }
        Ok(card)
    }
}
