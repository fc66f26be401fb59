"""Confidence bounds on probabilities and mean scores, vectorised.

Every bound is wrong with probability at most ``alpha``, for one side; rounding is outward.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from . import _tightrope
from .errors import InputError

__all__ = ["bernstein", "betting", "clopper_pearson", "hoeffding", "krichevsky_trofimov"]

Side = Literal["lower", "upper"]


def _upper(side: str) -> bool:
    if side not in ("lower", "upper"):
        raise InputError(f"side: found `{side}`; accepted: lower, upper")
    return side == "upper"


def _counts(name: str, successes: ArrayLike, trials: ArrayLike, alpha: float, side: Side) -> Any:
    arrays = [np.asarray(a) for a in (successes, trials)]
    for array in arrays:
        if not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"found counts of {array.dtype}; accepted: integers")
    k, n = np.broadcast_arrays(*arrays)
    if n.size and max(k.max(), n.max()) >= 2**32:
        raise InputError(f"found counts up to {max(k.max(), n.max())}; accepted: at most 2^32 - 1")
    flat_k, flat_n = (np.ascontiguousarray(a, dtype=np.int64).ravel() for a in (k, n))
    found = _tightrope.bound_counts(name, flat_k, flat_n, float(alpha), _upper(side)).reshape(k.shape)
    return float(found) if found.ndim == 0 else found


def _scores(name: str, scores: ArrayLike, alpha: float, side: Side) -> Any:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim == 0:
        raise InputError("scores: found a number; accepted: an array with the samples along the last axis")
    if array.shape[-1] == 0:
        raise InputError("scores: found no samples; accepted: at least one for each mean")
    flat = np.ascontiguousarray(array.reshape(-1, array.shape[-1]))
    found = _tightrope.bound_scores(name, flat, float(alpha), _upper(side)).reshape(array.shape[:-1])
    return float(found) if found.ndim == 0 else found


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, alpha: float = 0.001, side: Side = "lower") -> Any:
    """Bound on a success probability from counts (Clopper and Pearson 1934).

    Parameters
    ----------
    successes, trials
        Integers, broadcast against each other.
    alpha
        Probability with which the bound may be wrong.
    side
        ``lower`` or ``upper``.
    """
    return _counts("clopper_pearson", successes, trials, alpha, side)


def krichevsky_trofimov(
    successes: ArrayLike, trials: ArrayLike, alpha: float = 0.001, side: Side = "lower"
) -> Any:
    """As :func:`clopper_pearson`, but valid at all numbers of trials at once, whenever one stops."""
    return _counts("krichevsky_trofimov", successes, trials, alpha, side)


def hoeffding(scores: ArrayLike, alpha: float = 0.001, side: Side = "lower") -> Any:
    """Bound on the mean of scores in [0, 1], with the samples along the last axis (Hoeffding 1963)."""
    return _scores("hoeffding", scores, alpha, side)


def bernstein(scores: ArrayLike, alpha: float = 0.001, side: Side = "lower") -> Any:
    """Bound on the mean of scores in [0, 1] that gains from small variance (Maurer and Pontil 2009)."""
    return _scores("bernstein", scores, alpha, side)


def betting(scores: ArrayLike, alpha: float = 0.001, side: Side = "lower") -> Any:
    """Bound on the mean of scores in [0, 1] by betting against every other mean, in the order of the
    samples (Waudby-Smith and Ramdas 2024)."""
    return _scores("betting", scores, alpha, side)
