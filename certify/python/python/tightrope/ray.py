"""Runs over a Ray cluster: the same questions, records and run files as in one process.

>>> import tightrope.ray  # doctest: +SKIP
>>> tightrope.ray.certify(net, x, y, 0.1, method="complete", address="auto", out="run.jsonl")  # doctest: +SKIP

Network and inputs go to the cluster once. Blocks of inputs are tasks, which Ray starts again where a worker
or a node is lost; their records come back to this process, which writes them in the order, and with the
bytes, of a run on one machine (seconds aside). After this process died, ``resume=True`` asks for the rest.

Needs ``pip install tightrope[ray]`` here, and Tightrope on every node.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import ray
from numpy.typing import ArrayLike

from . import _network, _smooth, _verify
from ._arrays import elsewhere, whole
from ._certification import Brackets, Certification
from ._network import Network
from ._results import Smoothing, TightnessReport, Verdicts
from .errors import InputError, ModelError

__all__ = ["brackets", "certify", "smooth", "tightness", "verify"]

#: Tasks for each slot of the cluster, so that the last ones end at about the same time.
TASKS_PER_SLOT = 8

#: Most inputs of a task, so that little is lost with it.
LARGEST_BLOCK = 64

#: Options of a call that this process sees to.
HERE = ("first", "out", "resume", "shard", "progress")

Result = TypeVar("Result")

#: Networks and functions that this worker has loaded, by their reference.
_loaded: dict[str, Any] = {}

#: The records of one input, and the points that were found for them.
Answer = tuple[list[str], Any]


class Cluster:
    """Where and how tasks run."""

    def __init__(self, address: str | None, num_cpus: Any, num_gpus: float, retries: Any, block: Any) -> None:
        self.num_cpus, self.num_gpus = whole("num_cpus", num_cpus, 1, 2**16), float(num_gpus)
        self.retries = whole("retries", retries, 0, 2**31 - 1)
        self.block = None if block is None else whole("block", block, 1, 2**31)
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)

    def blocks(self, places: list[int]) -> list[list[int]]:
        """Places that follow each other, as one task has them."""
        slots = max(1, int(ray.cluster_resources().get("CPU", 1)) // self.num_cpus)
        size = self.block or min(LARGEST_BLOCK, max(1, math.ceil(len(places) / (TASKS_PER_SLOT * slots))))
        # Inputs of other shards are between them: each a task of its own.
        runs = itertools.groupby(enumerate(places), key=lambda pair: pair[1] - pair[0])
        rows = ([place for _, place in run] for _, run in runs)
        return [run[at : at + size] for run in rows for at in range(0, len(run), size)]

    def answers(self, task: Any, places: list[int], *shared: Any) -> Iterator[Answer]:
        """What the tasks say of every input, in their order."""
        options = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "max_retries": self.retries}
        remote = task.options(**options)
        open_tasks = [remote.remote(block, self.num_cpus, *shared) for block in self.blocks(places)]
        try:
            while open_tasks:
                answer = ray.get(open_tasks[0])
                open_tasks.pop(0)
                yield from answer
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        finally:
            for one in open_tasks:
                ray.cancel(one, force=True)


def _shared(reference: list[Any], num_gpus: float = 0) -> Any:
    """What a reference stands for, loaded once by every worker."""
    key = reference[0].hex()
    if key not in _loaded:
        _loaded.clear()
        found = ray.get(reference[0])
        _loaded[key] = found.to("cuda") if num_gpus and hasattr(found, "state_dict") else found
    return _loaded[key]


def _by_input(lines: list[str], inputs: int, points: Any = None) -> list[Answer]:
    """Records of a block, input by input."""
    each = len(lines) // max(inputs, 1)
    cuts = range(0, len(lines), each or 1)
    return [(lines[at : at + each], None if points is None else points[at : at + each]) for at in cuts]


# A worker that holds a GPU keeps its model for the next task.
@ray.remote(max_calls=0)
def _rows(
    block: list[int], threads: int, what: str, base: list[Any], data: list[Any], num_gpus: float, options: dict[str, Any]
) -> list[Answer]:
    f, (x, y, first) = _shared(base, num_gpus), ray.get(data[0])
    part = slice(block[0], block[-1] + 1)
    ask = _smooth.smooth if what == "smooth" else getattr(_network.Network, what)
    labels = () if y is None else (y[part],)
    found = ask(f, x[part], *labels, first=first + block[0], threads=threads, progress=False, **options)
    return _by_input(found.lines, len(block), getattr(found, "points", None))


@ray.remote(max_calls=0)
def _instances(block: list[int], threads: int, table: str, options: dict[str, Any]) -> list[Answer]:
    found = _verify._table(table, indices=(block[0], block[-1] + 1), threads=threads, identified=False, **options)
    return _by_input(found.lines, len(block))


def _answered(answers: Callable[[list[int]], Iterator[Answer]], ask: Callable[[], Result]) -> Result:
    """Asks, with the answers of the cluster; the points that it found go into the results."""
    points: dict[int, Iterator[Any]] = {}

    def lines(places: list[int]) -> Iterator[list[str]]:
        for place, (records, found) in zip(places, answers(places)):
            if found is not None:
                points[place] = iter(found)
            yield records

    def fill(result: Any) -> None:
        if getattr(result, "points", None) is not None:
            first = result.header["indices"][0]
            for row, index in enumerate(result.index.tolist()):
                found = next(points.get(index - first, iter(())), None)
                if found is not None:
                    result.points[row] = found

    token = elsewhere.set(lines)
    try:
        result = ask()
    except BaseException as error:
        fill(getattr(error, "results", None))
        raise
    finally:
        elsewhere.reset(token)
    fill(result)
    return result


def _portable(network: Network) -> Network:
    """The network as nodes without its file can load it."""
    source, *rest = network._made_from
    if isinstance(source, str):
        try:
            with open(source, "rb") as file:
                return _network._again(file.read(), *rest)
        except ModelError:
            # Its weights are in other files: they must be where the nodes can read them.
            return network
    return network


def _over(
    cluster: Cluster, what: str, base: Any, x: ArrayLike, y: ArrayLike | None, here: Callable[..., Result], options: Any
) -> Result:
    if "threads" in options:
        raise InputError("threads: found with a cluster; accepted: num_cpus, the threads of each task")
    there = {name: value for name, value in options.items() if name not in HERE}
    kept = {name: value for name, value in options.items() if name in HERE}
    first = kept.get("first", 0)

    def answers(places: list[int]) -> Iterator[Answer]:
        sent = _portable(base) if isinstance(base, Network) else base
        shared = [ray.put(sent)], [ray.put((np.asarray(x), y, first))]
        return cluster.answers(_rows, places, what, *shared, cluster.num_gpus, there)

    labels = () if y is None else (np.asarray(y),)
    return _answered(answers, lambda: here(base, x, *labels, **kept, **there))


def certify(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    eps: Any,
    *,
    address: str | None = None,
    num_cpus: int = 1,
    retries: int = 3,
    block: int | None = None,
    **options: Any,
) -> Certification:
    """:meth:`tightrope.Network.certify` over a cluster.

    Parameters
    ----------
    network, x, y, eps, options
        As there.
    address
        Of the cluster: ``"auto"`` for the one that this machine belongs to; without one Ray starts on this
        machine alone. Not used where Ray is initialised already.
    num_cpus
        Threads of each task.
    retries
        How often a task is started again when its worker or node is lost.
    block
        Inputs of a task; by default as many as give every slot some tasks.
    """
    cluster = Cluster(address, num_cpus, 0, retries, block)
    return _over(cluster, "certify", network, x, y, Network.certify, {"eps": eps, **options})


def brackets(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    largest: float,
    *,
    address: str | None = None,
    num_cpus: int = 1,
    retries: int = 3,
    block: int | None = None,
    **options: Any,
) -> Brackets:
    """:meth:`tightrope.Network.brackets` over a cluster; see :func:`certify`."""
    cluster = Cluster(address, num_cpus, 0, retries, block)
    return _over(cluster, "brackets", network, x, y, Network.brackets, {"largest": largest, **options})


def tightness(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    eps: float,
    *,
    address: str | None = None,
    num_cpus: int = 1,
    retries: int = 3,
    block: int | None = None,
    **options: Any,
) -> TightnessReport:
    """:meth:`tightrope.Network.tightness` over a cluster; see :func:`certify`."""
    cluster = Cluster(address, num_cpus, 0, retries, block)
    return _over(cluster, "tightness", network, x, y, Network.tightness, {"eps": eps, **options})


def smooth(
    f: Network | Callable[[Any], Any],
    x: ArrayLike,
    y: ArrayLike | None = None,
    sigma: float | Sequence[float] = 0.25,
    *,
    address: str | None = None,
    num_cpus: int = 1,
    num_gpus: float = 0,
    retries: int = 3,
    block: int | None = None,
    **options: Any,
) -> Smoothing:
    """:func:`tightrope.smooth` over a cluster; see :func:`certify`.

    Parameters
    ----------
    num_gpus
        GPUs of each task, or the part of one; a torch module is moved to it.
    """
    cluster = Cluster(address, num_cpus, num_gpus, retries, block)
    return _over(cluster, "smooth", f, x, y, _smooth.smooth, {"sigma": sigma, **options})


def verify(
    table: str | os.PathLike[str],
    *,
    address: str | None = None,
    num_cpus: int = 1,
    retries: int = 3,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Verdicts:
    """:func:`tightrope.verify_table` over a cluster, an instance a task; see :func:`certify`. The files of the
    table must be where the nodes can read them."""
    cluster = Cluster(address, num_cpus, 0, retries, 1)
    path = os.path.abspath(os.fspath(table))

    def answers(places: list[int]) -> Iterator[Answer]:
        there = {name: value for name, value in options.items() if name != "indices"}
        return cluster.answers(_instances, places, path, there)

    kept: dict[str, Any] = {"out": out, "resume": resume, "shard": shard, "progress": progress}
    return _answered(answers, lambda: _verify.verify_table(table, **kept, **options))
