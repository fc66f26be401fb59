"""Verdicts on properties."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _tightrope
from ._arrays import Progress, Run, finish, whole
from ._results import Verdicts
from .errors import InputError

__all__ = ["Verdict", "verify", "verify_table"]

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
    threads: int | None = None,
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
    threads
        How many compute; by default all cores.
    progress
        Whether to show a bar.
    """
    if isinstance(networks, Mapping):
        files: list[tuple[str | None, str]] = [(name, os.fspath(file)) for name, file in networks.items()]
    else:
        files = [(None, os.fspath(networks))]
    with Progress(0, "verify", progress) as bar:
        return _result(_tightrope.verify(os.fspath(property), files, (timeout, _threads(threads)), bool(real), bar))


def verify_table(
    table: Path,
    *,
    timeout: float | None = None,
    real: bool = False,
    evaluation: Evaluation | None = None,
    indices: tuple[int, int] | None = None,
    out: Path | None = None,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> Verdicts:
    """The verdicts of a table of properties, as the verification competition has them.

    Parameters
    ----------
    table
        Lines ``network,property[,seconds]``, or with a first line of names, where a column ``verdict`` holds
        what is known.
    timeout
        Seconds after which the search for one gives up; the table's, where those are fewer.
    real
        Take variables of floating-point types for real numbers.
    evaluation
        The arithmetic that ``unsat`` speaks of; by default that of the variables' types.
    indices
        Only the instances from the first to before the second of these places.
    out, resume, shard, threads
        As for :meth:`tightrope.Network.certify`.
    progress
        Whether to show a bar.
    """
    return _table(table, timeout, real, evaluation, indices, out, resume, shard, threads, progress)


def _table(
    table: Path,
    timeout: float | None = None,
    real: bool = False,
    evaluation: Evaluation | None = None,
    indices: tuple[int, int] | None = None,
    out: Path | None = None,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    identified: bool = True,
) -> Verdicts:
    """:func:`verify_table`; the files of all instances are read for the first line only if it is wanted."""
    run = Run(1.0, 0, out, resume, shard, threads)
    arithmetic = (bool(real), evaluation, identified)
    with Progress(0, "verify", progress) as bar:
        found = _tightrope.verify_table(os.fspath(table), indices, arithmetic, timeout, run, bar)
    header, lines, failed = found
    return finish(Verdicts(json.loads(header), lines), failed)


def _threads(threads: int | None) -> int | None:
    return None if threads is None else whole("threads", threads, 1, 2**16)


def verify_box(
    network: _tightrope.Network,
    lower: ArrayLike,
    upper: ArrayLike,
    unsafe: Constraints,
    evaluation: Evaluation,
    limits: tuple[float | None, int | None],
    progress: bool | None,
) -> Verdict:
    """:meth:`Network.verify` on the compiled network."""
    low, high = (np.ascontiguousarray(np.asarray(end, dtype=np.float64).ravel()) for end in (lower, upper))
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
    limits = limits[0], _threads(limits[1])
    with Progress(0, "verify", progress) as bar:
        return _result(_tightrope.verify_box(network, low, high, disjuncts, evaluation, limits, bar))


def _result(found: dict[str, Any]) -> Verdict:
    return Verdict(**{"assignment": None, **found})
