"""Verdicts on properties."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _tightrope
from ._arrays import Progress
from .errors import InputError

__all__ = ["Verdict", "verify"]

Path = Union[str, "os.PathLike[str]"]

Evaluation = Literal["real", "float32"]

Constraints = Union[tuple[ArrayLike, ArrayLike], Sequence[tuple[ArrayLike, ArrayLike]]]


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer to a query, and the search that found it.

    Parameters
    ----------
    verdict
        ``unsat``: no input has the property, proved. ``sat``: ``x`` has it, as the float32 network computes.
        ``unknown`` or ``timed-out``: neither, for the ``reason``.
    x, y
        The witness and the network's output there, flat; for ``sat``, and for an ``unknown`` point at which
        the float32 network has the property and the network in real arithmetic has not.
    reason
        Why there is no verdict.
    assignment
        The values of all variables of the property at the witness, in the format of its language.
    subproblems, depth
        How many parts were bounded, and the greatest number of cuts of one.
    root, lower
        The least bound before anything was cut, and at the end.
    seconds
        From the reading of the files to the verdict.
    """

    verdict: Literal["sat", "unsat", "unknown", "timed-out"]
    x: NDArray[np.float32] | None
    y: NDArray[np.float32] | None
    reason: str | None
    assignment: str | None
    subproblems: int
    depth: int
    root: float
    lower: float
    seconds: float

    def __repr__(self) -> str:
        why = f", {self.reason}" if self.reason else ""
        return f"Verdict({self.verdict}, {self.subproblems} subproblems, {self.seconds:.3f} s{why})"


def verify(
    networks: Path | Mapping[str, Path],
    property: Path,
    *,
    timeout: float | None = None,
    real: bool = False,
    progress: bool | None = None,
) -> Verdict:
    """Decides whether some input has a property, by branch and bound.

    Parameters
    ----------
    networks
        The model file; or the file of each network that the property declares, by its name.
    property
        A file in VNN-LIB 1 or 2, plain or gzipped.
    timeout
        Seconds after which the search gives up.
    real
        Take variables of floating-point types for real numbers.
    progress
        Whether to show a bar.
    """
    if isinstance(networks, Mapping):
        files: list[tuple[str | None, str]] = [(name, os.fspath(file)) for name, file in networks.items()]
    else:
        files = [(None, os.fspath(networks))]
    with Progress(0, "verify", progress) as bar:
        return _result(_tightrope.verify(os.fspath(property), files, timeout, bool(real), bar))


def verify_box(
    network: _tightrope.Network,
    lower: ArrayLike,
    upper: ArrayLike,
    unsafe: Constraints,
    evaluation: Evaluation,
    timeout: float | None,
    progress: bool | None,
) -> Verdict:
    """:meth:`Network.verify` on the compiled network."""
    ends = [np.ascontiguousarray(np.asarray(end, dtype=np.float64).ravel()) for end in (lower, upper)]
    parts: Any = [unsafe] if isinstance(unsafe, tuple) else list(unsafe)
    disjuncts = []
    for part in parts:
        if not (isinstance(part, tuple) and len(part) == 2):
            raise InputError("unsafe: accepted: (A, b) with A @ y <= b in a violation, or a list of such pairs")
        rows = np.atleast_2d(np.asarray(part[0], dtype=np.float64))
        bounds = np.atleast_1d(np.asarray(part[1], dtype=np.float64))
        if rows.ndim != 2 or bounds.shape != (len(rows),):
            raise InputError(f"unsafe: A of shape {rows.shape} with b of shape {bounds.shape}; give one b for each row")
        disjuncts.append([(row.tolist(), float(bound)) for row, bound in zip(rows, bounds)])
    with Progress(0, "verify", progress) as bar:
        return _result(_tightrope.verify_box(network, *ends, disjuncts, evaluation, timeout, bar))


def _result(found: dict[str, Any]) -> Verdict:
    return Verdict(**{"assignment": None, **found})
