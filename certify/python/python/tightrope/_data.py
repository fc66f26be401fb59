"""Images as the command line reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from . import _tightrope
from ._arrays import real

__all__ = ["Images", "images"]

Path = Union[str, "os.PathLike[str]"]


class Images(NamedTuple):
    """Images of a data set.

    Attributes
    ----------
    x
        ``(n, ...)`` scaled pixels.
    y
        Labels, if the data set has any.
    clip
        The range of the pixels, if they have 8 bits.
    classes
        Names of the classes, for folders of class folders.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64] | None
    clip: tuple[float, float] | None
    classes: list[str] | None


def images(
    path: Path,
    labels: Path | None = None,
    *,
    shape: Sequence[int] | None = None,
    scale: float | None = None,
    classes: Path | None = None,
    first: int | None = None,
    last: int | None = None,
) -> Images:
    """Images of a file or a folder, with their labels.

    >>> data = tightrope.images("t10k-images.idx.gz", "t10k-labels.idx.gz", last=100)  # doctest: +SKIP
    >>> net.certify(data.x, data.y, eps=0.1, clip=data.clip)  # doctest: +SKIP

    Parameters
    ----------
    path
        npy, npz, idx, CIFAR binary (each also gzipped), a folder CLASS/IMAGE, or one image.
    labels
        Labels, where the images do not bring them: npy, npz or idx.
    shape
        The input that the images are for, :attr:`Network.input_shape`: channels go where it has them. By
        default they are as stored.
    scale
        Factor of stored numbers; by default 1/255 for 8-bit pixels, 1 for floats.
    classes
        A file with the names of the classes of a folder, one a line, in the order of the labels; by default
        the folders' names, sorted.
    first, last
        Only the images from ``first`` to before ``last``.
    """
    files = (os.fspath(path), None if labels is None else os.fspath(labels), None if classes is None else os.fspath(classes))
    inner = None if shape is None else [int(n) for n in shape]
    by = None if scale is None else real("scale", scale)
    x, stored, y, clip, names = _tightrope.images(files, by, inner, (first, last))
    stored = stored[1:] if len(stored) > 1 and stored[0] == 1 and inner is not None else stored
    return Images(x.reshape(len(x), *stored), None if y is None else np.array(y, dtype=np.int64), clip, names)
