"""Randomized smoothing of any classifier."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from . import _tightrope
from ._arrays import Asked, Progress, Run, factor, finish, labels, logits, real, rows, several, whole
from ._results import Smoothing

if TYPE_CHECKING:
    from ._network import Network

__all__ = ["smooth"]


#: Bounds on probabilities and mean scores.
BoundName = Literal[
    "clopper-pearson",
    "randomized-clopper-pearson",
    "krichevsky-trofimov",
    "hoeffding",
    "bernstein",
    "betting",
    "test-martingale",
]

NoiseName = Literal["gaussian", "gaussian-input", "lattice", "uniform", "laplace"]


def smooth(
    f: Network | Callable[[Any], Any],
    x: ArrayLike,
    y: ArrayLike | None = None,
    sigma: float | Sequence[float] = 0.25,
    *,
    n: int = 100_000,
    n0: int | None = None,
    alpha: float = 0.001,
    map: str = "auto",
    bound: BoundName | None = None,
    rule: Literal["one-sided", "two-sided", "pairwise"] | None = None,
    radius: float | None = None,
    tolerance: float | None = None,
    noise: NoiseName = "gaussian",
    scale: float | None = None,
    lipschitz: float | Literal["auto"] | None = None,
    seed: int = 0,
    first: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    threads: int | None = None,
    batch_size: int = 1024,
    progress: bool | None = None,
) -> Smoothing:
    """Certifies radii of the classifier ``x -> argmax_j E s_j(f(x + noise))``.

    The noise, the statistics, the split of alpha and the stopping rule are the library's; ``f`` only
    answers. Each radius is false with probability at most ``alpha`` over the noise.

    Parameters
    ----------
    f
        The base classifier: a :class:`Network` (whose method ``smooth`` is this function), a torch module (called on its own device and in its own
        type, in the mode it is in: say ``.eval()`` first), or any function from a float32 array ``(m, *x.shape[1:])`` to
        logits ``(m, classes)``.
    x, y
        Inputs along the first axis, and their labels if ``correct`` is wanted.
    sigma
        Scale of the noise: standard deviation, half-width of uniform noise, scale of Laplace noise; or
        several, each a question of its own: the result has a row for each input and scale.
    n, n0
        Samples for the estimation (the most, with ``radius`` or ``tolerance``) and for the selection; by
        default 2 % of ``n``, 1 % with ``tolerance``, at least 100, and 50 with ``radius``.
    alpha
        Probability with which a radius may be false.
    map
        Simplex map ``s``: ``hardmax``, ``softmax:T``, ``sparsemax:T``, or ``auto`` for the most
        promising one on the selection samples.
    bound
        ``clopper-pearson``, ``randomized-clopper-pearson``, ``krichevsky-trofimov``, ``hoeffding``,
        ``bernstein``, ``betting`` or, with ``radius``, ``test-martingale``; by default Clopper-Pearson for
        hardmax, Bernstein else, with ``radius`` the test and betting. With ``auto`` the bound of hardmax:
        ``randomized-clopper-pearson`` by default, or ``clopper-pearson``.
    rule
        ``one-sided``, ``two-sided`` or ``pairwise``.
    radius
        Stop as soon as it is settled whether this radius is certified.
    tolerance
        Plan the samples of each input, up to ``n``, so that more could enlarge the radius by less than this
        fraction of it.
    noise
        ``gaussian``, ``gaussian-input``, ``lattice`` (Gaussian on the grid of 8-bit pixels, exact),
        ``uniform`` or ``laplace``. Gaussian noise is drawn behind a dense first layer of a
        :class:`Network` to at most half as many entries, where it is the same at less cost;
        ``gaussian-input`` draws it on the input of every network, from the streams that functions get.
    scale
        Factor of stored numbers; by default 1/255 for ``uint8``, 1 for floats.
    lipschitz
        For a :class:`Network` only: ``"auto"`` for what :meth:`Network.lipschitz` finds, or a constant of
        the logits that the caller vouches for; adds radii that know it.
    seed, first
        Seed, and position of the first input in its data set: what is drawn depends on them alone.
    out, resume, shard, threads
        As for :meth:`Network.certify`. The file does not tell which function was asked: to continue it with
        another is the caller's mistake.
    batch_size
        Most noisy inputs that ``f`` is given at once; does not influence the result.
    progress
        Whether to show a bar.

    Raises
    ------
    Interrupted
        On Ctrl-C, with the results of the inputs that are done.
    Exception
        Whatever ``f`` raises, with the results of the inputs that are done as its ``results``.
    ClassifierError
        If ``f`` does not answer with one row of logits for each input.
    """
    network = getattr(f, "_network", None)
    if isinstance(network, _tightrope.Network):
        base: Any = network
        array = rows(x, network.input_shape, scale)
    else:
        array = rows(x, None, scale)
        base = logits(f, np.shape(x)[1:])
    y_list = None if y is None else labels(y, len(array))
    run = Run(factor(x, scale), first, out, resume, shard, threads)
    asked = Asked(
        noise=noise,
        sigma=[real("sigma", one) for one in several("sigma", sigma)],
        n=whole("n", n, 1, 2**32 - 2),
        n0=None if n0 is None else whole("n0", n0, 1, 2**32 - 2),
        alpha=real("alpha", alpha),
        map=map,
        bound=bound,
        rule=rule,
        radius=None if radius is None else real("radius", radius),
        tolerance=None if tolerance is None else real("tolerance", tolerance),
        lipschitz=None if lipschitz in (None, "auto") else real("lipschitz", lipschitz),
        aware=lipschitz is not None,
        seed=whole("seed", seed, 0, 2**64 - 1),
        batch=whole("batch_size", batch_size, 1, 2**32 - 1),
    )
    with Progress(len(array), "smooth", progress) as bar:
        header, lines, failed = _tightrope.smooth(base, array, y_list, asked, run, bar)
    return finish(Smoothing(json.loads(header), lines), failed)
