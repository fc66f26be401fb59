//! How a stored image becomes a model's input.

use super::tensor::elements;

/// How the pixels of every image of a data set go to the places of a model's input. Made by
/// [`Dataset::arrange`](super::Dataset::arrange).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrangement {
    stored: Vec<usize>,
    model: Vec<usize>,
    /// A stored image seen as a matrix of so many rows and columns is to be transposed.
    transpose: Option<[usize; 2]>,
}

impl Arrangement {
    /// Decides how images of shape `stored` go into an input of shape `model`: see
    /// [`Dataset::arrange`](super::Dataset::arrange) for the rules. `None` if they do not.
    pub(super) fn decide(stored: &[usize], model: &[usize]) -> Option<Self> {
        let count = elements(stored)?;
        if count == 0 || elements(model) != Some(count) {
            return None;
        }
        let (long, wanted) = (without_units(stored), without_units(model));
        let as_stored = long == wanted || long.len() <= 1 || wanted.len() <= 1;
        let transpose = if as_stored { None } else { Some(channels(stored, model)?) };
        Some(Self { stored: stored.to_vec(), model: model.to_vec(), transpose })
    }

    /// The shape of one stored image.
    #[must_use]
    pub fn stored_shape(&self) -> &[usize] {
        &self.stored
    }

    /// The shape of the model's input.
    #[must_use]
    pub fn model_shape(&self) -> &[usize] {
        &self.model
    }

    /// Whether the channels move from last to first or from first to last. Otherwise the pixels
    /// are taken in stored order.
    #[must_use]
    pub fn moves_channels(&self) -> bool {
        self.transpose.is_some()
    }

    /// For each place of the model's input in row-major order, the place of its pixel in the
    /// stored image.
    pub(super) fn sources(&self) -> impl Iterator<Item = usize> {
        // In stored order the image is a matrix of a single row.
        let [rows, columns] = self.transpose.unwrap_or_else(|| [1, self.stored.iter().product()]);
        (0..columns).flat_map(move |column| (0..rows).map(move |row| row * columns + column))
    }
}

fn without_units(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&axis| axis != 1).collect()
}

/// The matrix whose transposition brings the channels of `stored` to where `model` has them.
fn channels(stored: &[usize], model: &[usize]) -> Option<[usize; 2]> {
    let [a, b, c] = three_axes(stored)?;
    let model = three_axes(model)?;
    if is_channels(a) && model == [b, c, a] {
        Some([a, b * c])
    } else if is_channels(c) && model == [c, a, b] {
        Some([a * b, c])
    } else {
        None
    }
}

fn is_channels(axis: usize) -> bool {
    matches!(axis, 1 | 3 | 4)
}

/// A shape of three axes, after as many leading axes of length 1 as it has too many.
fn three_axes(shape: &[usize]) -> Option<[usize; 3]> {
    let (batch, axes) = shape.split_last_chunk::<3>()?;
    batch.iter().all(|&axis| axis == 1).then_some(*axes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(stored: &[usize], model: &[usize]) -> Vec<usize> {
        Arrangement::decide(stored, model).unwrap().sources().collect()
    }

    fn moves(stored: &[usize], model: &[usize]) -> Option<bool> {
        Arrangement::decide(stored, model).map(|arrangement| arrangement.moves_channels())
    }

    #[test]
    fn equal_up_to_unit_axes_and_flat_shapes_keep_the_stored_order() {
        for (stored, model) in [
            (&[28, 28][..], &[1, 1, 28, 28][..]),
            (&[28, 28, 1], &[1, 1, 28, 28]),
            (&[1, 28, 28], &[28, 28]),
            (&[28, 28], &[1, 784, 1]),
            (&[784], &[1, 1, 28, 28]),
            (&[32, 32, 3], &[1, 3072]),
            (&[5], &[5]),
            (&[1], &[1, 1]),
            (&[], &[1]),
            (&[3, 3, 3], &[1, 3, 3, 3]),
            (&[2, 3, 5, 7], &[1, 2, 3, 5, 7]),
        ] {
            assert_eq!(moves(stored, model), Some(false), "{stored:?} {model:?}");
            let count = stored.iter().product();
            assert_eq!(sources(stored, model), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn channels_move_to_where_the_model_has_them() {
        // Stored entry (h, w, c) stands at 12 h + 3 w + c.
        let to_first = sources(&[2, 4, 3], &[1, 3, 2, 4]);
        let expected = (0..3).flat_map(|c| (0..2).flat_map(move |h| (0..4).map(move |w| 12 * h + 3 * w + c)));
        assert_eq!(to_first, expected.collect::<Vec<_>>());
        // Stored entry (c, h, w) stands at 8 c + 4 h + w.
        let to_last = sources(&[3, 2, 4], &[2, 4, 3]);
        let expected = (0..2).flat_map(|h| (0..4).flat_map(move |w| (0..3).map(move |c| 8 * c + 4 * h + w)));
        assert_eq!(to_last, expected.collect::<Vec<_>>());
        assert_eq!(moves(&[32, 32, 4], &[4, 32, 32]), Some(true));
        assert_eq!(moves(&[1, 5, 3], &[1, 3, 1, 5]), Some(true));
        assert_eq!(moves(&[3, 4, 4], &[4, 4, 3]), Some(true));
    }

    #[test]
    fn other_shapes_are_refused() {
        for (stored, model) in [
            (&[28, 28][..], &[1, 1, 32, 32][..]),
            (&[28, 14], &[14, 28]),
            (&[32, 32, 3], &[3, 16, 64]),
            (&[32, 32, 2], &[2, 32, 32]),
            (&[4, 8, 3], &[3, 8, 4]),
            (&[32, 32, 3], &[2, 3, 32, 32]),
            (&[32, 32, 3], &[3, 1024]),
            (&[10], &[]),
            (&[10], &[usize::MAX, usize::MAX]),
            (&[0], &[0]),
            (&[usize::MAX, 2], &[5]),
        ] {
            assert_eq!(moves(stored, model), None, "{stored:?} {model:?}");
        }
    }
}
