//! Questions, the inputs they are asked of, and what tells their records apart.

use std::fmt;

use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2, s};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Failure;
use crate::bounds::Method;
use crate::data::{Arrangement, Dataset};

/// Something that is asked of every input of a run.
///
/// To add one: a record type with its [`Key`], and the answer for a batch of inputs. Order, resume,
/// shards, progress, interruption and what happens on errors are the engine's.
pub trait Question {
    /// What answers it.
    type Record: Record;

    /// What the answers depend on besides network and inputs, with `command` among it: the options in the
    /// first line of a run file. A run is continued only with equal ones.
    fn options(&self) -> Map<String, Value>;

    /// Which records every input gets, in the order in which they are written.
    fn parts(&self) -> Vec<Part>;

    /// How many inputs are answered together at first. Batches grow while they take little time; those
    /// of 1, for questions that are parallel within an input, do not.
    fn block(&self) -> usize;

    /// All records of the inputs of a batch, input by input, each in the order of [`parts`](Self::parts).
    /// A record must not depend on the other inputs. `goes_on` may be asked at any time; when it says
    /// no, [`Failure::Stopped`] is the answer.
    ///
    /// # Errors
    /// [`Failure`]; the engine keeps the records of earlier batches.
    fn answer(&self, batch: &Batch, goes_on: &mut dyn FnMut() -> bool) -> Result<Vec<Self::Record>, Failure>;
}

/// A line of a run file, with `index` and the fields of its [`Part`] at its top.
pub trait Record: Serialize + DeserializeOwned {
    /// What tells this record from all others of its run.
    fn key(&self) -> Key;
}

/// What tells the records of a run apart.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Key {
    /// Position of the input in its data set.
    pub index: usize,
    /// Which of the input's records.
    #[serde(flatten)]
    pub part: Part,
}

/// What tells the records of one input apart: as much of it as the question varies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Part {
    /// The scale of the noise.
    pub sigma: Option<f64>,
    /// The radius.
    pub eps: Option<f64>,
    /// How margins are bounded.
    pub method: Option<Method>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "index {}", self.index)?;
        let Part { sigma, eps, method } = self.part;
        for (name, value) in [("sigma", sigma), ("eps", eps)] {
            value.map_or(Ok(()), |value| write!(f, ", {name} {value}"))?;
        }
        method.map_or(Ok(()), |method| write!(f, ", method {}", name(&method)))
    }
}

/// The name that records give a value of an enumeration.
pub(super) fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Where inputs are.
#[derive(Clone, Copy)]
pub enum Pixels<'a> {
    /// The rows of an array, in the order of the indices.
    Rows(ArrayView2<'a, f32>),
    /// Images of a data set, read when their turn comes.
    Files(&'a Dataset, &'a Arrangement),
}

/// The inputs of a run, chosen before any is loaded.
#[derive(Clone)]
pub struct Inputs<'a> {
    indices: Vec<usize>,
    labels: Option<Vec<usize>>,
    pixels: Pixels<'a>,
}

impl<'a> Inputs<'a> {
    /// Inputs with these positions in their data set, and their labels if they are known.
    ///
    /// # Panics
    /// If there is not one row and one label for each index.
    #[must_use]
    pub fn new(indices: Vec<usize>, labels: Option<Vec<usize>>, pixels: Pixels<'a>) -> Self {
        assert!(labels.as_ref().is_none_or(|labels| labels.len() == indices.len()), "a label for each");
        if let Pixels::Rows(rows) = pixels {
            assert_eq!(rows.nrows(), indices.len(), "an index for each row");
        }
        Self { indices, labels, pixels }
    }

    /// Positions in the data set.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The inputs at some places of the indices.
    pub(super) fn batch(&self, places: &[usize]) -> Result<Batch<'a>, Failure> {
        let indices: Vec<usize> = places.iter().map(|&place| self.indices[place]).collect();
        let x = match self.pixels {
            Pixels::Rows(rows) => match (places.first(), places.last()) {
                (Some(&first), Some(&last)) if last - first + 1 == places.len() => {
                    CowArray::from(rows.slice_move(s![first..=last, ..]))
                }
                _ => CowArray::from(rows.select(Axis(0), places)),
            },
            Pixels::Files(data, arrangement) => {
                let mut pixels = Vec::new();
                for &index in &indices {
                    pixels.extend(data.image(index, arrangement)?);
                }
                let shape = (indices.len(), pixels.len() / indices.len().max(1));
                CowArray::from(Array2::from_shape_vec(shape, pixels).expect("images of one length"))
            }
        };
        let labels = self.labels.as_ref().map(|all| places.iter().map(|&place| all[place]).collect());
        Ok(Batch { indices, labels, x })
    }
}

/// Inputs that are answered together.
pub struct Batch<'a> {
    /// Positions in the data set.
    pub indices: Vec<usize>,
    /// Labels, if they are known.
    pub labels: Option<Vec<usize>>,
    /// One row for each input.
    pub x: CowArray<'a, f32, Ix2>,
}

impl Batch<'_> {
    /// The labels, for questions that need them, each below `classes`.
    ///
    /// # Errors
    /// [`Failure`] if there are none, or one is no class.
    pub fn labels(&self, classes: usize) -> Result<&[usize], Failure> {
        let labels = self.labels.as_deref().ok_or(Failure::Labels)?;
        match self.indices.iter().zip(labels).find(|(_, label)| **label >= classes) {
            None => Ok(labels),
            Some((&index, label)) => {
                let text = format!("the label is {label}; the network has the classes 0..{classes}");
                Err(Failure::input(index, text))
            }
        }
    }
}
