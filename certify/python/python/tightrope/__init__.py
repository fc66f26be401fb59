"""Tightrope certifies the robustness of neural networks.

>>> import tightrope
>>> net = tightrope.load("mnist-cnn-ibp0.1.onnx")  # doctest: +SKIP
>>> net.certify(x, y, eps=0.1, clip=(0, 1))  # doctest: +SKIP

With proof, interval and linear bounds and branch and bound (:meth:`Network.certify`,
:meth:`Network.bounds`, :func:`verify`) and why they
do or do not reach (:meth:`Network.tightness`), also of torch modules while they are trained (:func:`certify`,
:func:`tightness`, :class:`TrainingRecorder`); with a stated risk, randomized smoothing of a network
(:meth:`Network.smooth`) or of any classifier (:func:`smooth`). The statistics alone are in
:mod:`tightrope.confidence` and :func:`radius`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _tightrope, confidence, errors
from ._certification import Accuracy, Bounds, Brackets, Certification
from ._data import Images, images
from ._network import Network, Node, load
from ._records import concat
from ._results import LipschitzReport, Smoothing, TightnessReport, Verdicts, read
from ._smooth import smooth
from ._tightrope import __version__
from ._training import EpochFigures, TrainingRecorder, certify, tightness
from ._verify import Verdict, verify, verify_table
from .errors import ClassifierError, InputError, Interrupted, ModelError, TightropeError

__all__ = [
    "Accuracy",
    "Bounds",
    "Brackets",
    "Certification",
    "ClassifierError",
    "EpochFigures",
    "Images",
    "InputError",
    "Interrupted",
    "LipschitzReport",
    "ModelError",
    "Network",
    "Node",
    "Smoothing",
    "TightnessReport",
    "TightropeError",
    "TrainingRecorder",
    "Verdict",
    "Verdicts",
    "__version__",
    "certify",
    "concat",
    "confidence",
    "errors",
    "images",
    "load",
    "radius",
    "read",
    "smooth",
    "tightness",
    "verify",
    "verify_table",
]


def radius(p_lower: ArrayLike, sigma: float, p_upper: ArrayLike | None = None, *, noise: str = "gaussian") -> Any:
    """Certified radii from bounds on smoothed scores; 0 where nothing is certified. Rounded down.

    Parameters
    ----------
    p_lower
        Lower bounds on the score of the class.
    sigma
        Scale of the noise.
    p_upper
        Upper bounds on every other score, each at its own share of alpha; without them ``1 - p_lower``
        stands for them (Cohen et al. 2019).
    noise
        ``gaussian`` (l2 radii), ``uniform`` or ``laplace`` (l1 radii).
    """
    lower = np.asarray(p_lower, dtype=np.float64)
    if p_upper is None:
        shape, upper = lower.shape, None
    else:
        lower, both = np.broadcast_arrays(lower, np.asarray(p_upper, dtype=np.float64))
        shape, upper = lower.shape, np.ascontiguousarray(both).ravel()
    found = _tightrope.radius(np.ascontiguousarray(lower).ravel(), upper, float(sigma), noise).reshape(shape)
    return float(found) if found.ndim == 0 else found
