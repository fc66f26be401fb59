"""Networks and what can be asked of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _tightrope
from ._arrays import Norm, Progress, Run, budget, clipping, factor, finish, labels, norm_name, real, rows, whole
from ._results import Bounds, Certification, LipschitzReport, Smoothing, TightnessReport, _html
from ._verify import Constraints, Evaluation, Verdict, verify_box
from .errors import InputError

__all__ = ["Network", "Node", "load"]


class Node(NamedTuple):
    """One operator of a network."""

    name: str
    operator: str
    kind: str
    shape: tuple[int, ...]


def load(
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int] | None = None,
    mean: ArrayLike = (),
    std: ArrayLike = (),
) -> Network:
    """Loads an ONNX network, plain or gzipped.

    Parameters
    ----------
    path
        The file.
    input_shape
        Shape of one input, for networks that leave it open.
    mean, std
        Normalisation before the network, one number or one per channel; perturbations then are of
        the pixels before it.

    Raises
    ------
    ModelError
        If the file is no network, or holds an operator that is not supported.
    """
    shape = None if input_shape is None else [int(n) for n in input_shape]
    constants = [[float(v) for v in np.atleast_1d(np.asarray(c, dtype=np.float64))] for c in (mean, std)]
    name = os.fspath(path)
    return Network(_tightrope.Network(name, shape, *constants), name, (name, shape, *constants))


def _again(path: str, shape: list[int] | None, mean: list[float], std: list[float]) -> Network:
    """A network that was sent to another process."""
    return load(path, input_shape=shape, mean=mean, std=std)


class Network:
    """A loaded network. Made by :func:`load`.

    Inputs ``x`` are arrays ``(n, *input_shape)``, or flat ``(n, entries)``, or a single input; a
    C-contiguous float32 array is used without a copy. As on the command line, ``uint8`` pixels are scaled
    to [0, 1] and floats are taken as they are; other integers need a ``scale``. All methods compute on all cores (as many as
    the environment variable ``RAYON_NUM_THREADS`` says) without holding the interpreter's lock, and
    no result depends on how many. Ctrl-C raises :class:`tightrope.Interrupted`, a
    ``KeyboardInterrupt`` that carries the results of the inputs that are done. ``progress`` shows a
    bar: always, never, or by default for calls of more than a few seconds.
    """

    def __init__(self, network: _tightrope.Network, path: str, made_from: tuple[Any, ...]) -> None:
        self._network = network
        self.path = path
        self._made_from = made_from

    def __reduce__(self) -> tuple[Any, ...]:
        # The other process reads the file, which must be there too.
        return _again, self._made_from

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, as the model writes it."""
        return tuple(self._network.input_shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return tuple(self._network.output_shape)

    @property
    def nodes(self) -> list[Node]:
        """The operators in order of evaluation."""
        return [Node(name, operator, kind, tuple(shape)) for name, operator, kind, shape in self._network.nodes]

    def __repr__(self) -> str:
        def size(shape: Sequence[int]) -> str:
            return " x ".join(map(str, shape))

        lines = [["node", "operator", "kind", "shape"]]
        lines += [[node.name, node.operator, node.kind, size(node.shape)] for node in self.nodes]
        widths = [max(len(line[k]) for line in lines) for k in range(4)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        return f"Network({self.path}: {size(self.input_shape)} -> {size(self.output_shape)})\n" + "\n".join(table)

    def _repr_html_(self) -> str:
        lines = [list(node) for node in self.nodes]
        return _html(["node", "operator", "kind", "shape"], lines, f"{self.path}: input {self.input_shape}")

    def __call__(self, x: ArrayLike) -> NDArray[np.float32]:
        """Logits ``(n, classes)`` of the deployed float32 network."""
        return self._network.evaluate(rows(x, self.input_shape))

    def bounds(
        self,
        x: ArrayLike,
        eps: float,
        *,
        method: str = "ibp",
        norm: Norm = "linf",
        clip: tuple[float, float] | Literal["auto"] | None = "auto",
        scale: float | None = None,
        progress: bool | None = None,
    ) -> Bounds:
        """Sound bounds on the outputs, in real arithmetic, over all perturbations of size ``eps``.

        Parameters
        ----------
        x
            Inputs.
        eps
            Radius of the perturbations.
        method
            ``ibp``, ``crown-ibp``, ``crown``, ``alpha-crown`` or ``lipschitz`` (the outputs at the input
            and their Lipschitz constants in the l2 norm).
        norm
            ``linf``, ``l2`` or ``l1``; or ``np.inf``, 2, 1.
        clip
            Range of the data, which perturbed inputs do not leave; by default that of 8-bit pixels for
            ``uint8`` arrays, and none for others.
        scale
            Factor of stored numbers; by default 1/255 for ``uint8``, 1 for floats.
        progress
            Whether to show a bar.
        """
        array = rows(x, self.input_shape, scale)
        reach = clipping(clip, x, scale)
        with Progress(len(array), "bounds", progress) as bar:
            (lower, upper), failed = self._network.bounds(
                array, real("eps", eps), method, norm_name(norm), reach, Run(x, scale), bar
            )
        return finish(Bounds(lower, upper), failed)

    def certify(
        self,
        x: ArrayLike,
        y: ArrayLike,
        eps: float,
        *,
        method: str = "ibp",
        norm: Norm = "linf",
        clip: tuple[float, float] | Literal["auto"] | None = "auto",
        scale: float | None = None,
        attack: tuple[int, int] | None = None,
        seed: int = 0,
        evaluation: Evaluation | None = None,
        timeout: float | None = None,
        first: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        shard: tuple[int, int] | None = None,
        progress: bool | None = None,
    ) -> Certification:
        """Certifies that no perturbation of size ``eps`` changes the decision, or refutes it.

        Parameters
        ----------
        x, y
            Inputs and their labels.
        eps
            Radius of the perturbations.
        method
            How margins are bounded: ``ibp``, ``crown-ibp``, ``crown``, ``alpha-crown``, ``lipschitz``
            (the margin at the input less its l2 Lipschitz constant times the distance), ``best`` (the
            first of these that certifies), ``complete`` (the same, then branch and bound until an input is
            certified or falsified), or ``none`` for an attack alone.
        norm
            ``linf``, ``l2`` or ``l1``; or ``np.inf``, 2, 1.
        clip
            Range of the data, which perturbed inputs do not leave: ``(0, 1)`` for pixels, which is the
            default for ``uint8`` arrays; none for others.
        scale
            Factor of stored numbers; by default 1/255 for ``uint8``, 1 for floats.
        attack
            ``(steps, restarts)`` of projected gradient descent on the margin, to falsify what is not
            robust.
        seed
            Of the attack's starting points.
        evaluation
            What certificates speak of: every evaluation of the network in ``float32``, or ``real`` arithmetic,
            as those of Lipschitz constants do. By default ``float32``; ``real`` with method ``lipschitz``.
        timeout
            Seconds of branch and bound after which ``complete`` leaves an input open; 60 by default.
        first
            Position of the first input in its data set, which the random streams depend on.
        out, resume
            A run file that takes every record as it comes, and whether to continue it. Inputs that it
            holds are not computed again; what the attack found for them is in no record, and ``points``
            has the inputs themselves.
        shard
            ``(i, n)``: only every ``n``-th input from the ``i``-th on, for ``tightrope merge``.
        progress
            Whether to show a bar.
        """
        array = rows(x, self.input_shape, scale)
        reach = clipping(clip, x, scale)
        y_list = labels(y, len(array))
        if timeout is not None and method != "complete":
            raise InputError(f"timeout: of method complete, and the method is {method}")
        if evaluation is None:
            evaluation = "real" if method == "lipschitz" else "float32"
        if method == "lipschitz" and evaluation != "real":
            raise InputError(f"evaluation: method lipschitz speaks of real arithmetic, and found {evaluation!r}")
        limit = 60.0 if timeout is None and method == "complete" else timeout
        run = Run(x, scale, first, out, resume, shard)
        with Progress(len(array), "certify", progress) as bar:
            found, failed = self._network.certify(
                array,
                y_list,
                real("eps", eps),
                method,
                norm_name(norm),
                reach,
                budget(attack),
                whole("seed", seed, 0, 2**64 - 1),
                evaluation,
                limit,
                run,
                bar,
            )
        done = len(found["predicted"])
        margin_lower, points = found["margin_lower"], found["points"]
        least = margin_lower.min(axis=1) if method != "none" and done else np.full(done, np.nan)
        if points is not None:
            points = points[found["index"] - first].reshape((done, *_batched(self.input_shape)))
        result = Certification(
            index=found["index"],
            label=found["label"],
            predicted=found["predicted"],
            certified=found["certified"],
            status=np.array(found["status"], dtype=np.str_),
            margin=least,
            attack_margin=found["attack_margin"],
            seconds=found["seconds"],
            margin_lower=margin_lower,
            bounded_by=found["bounded_by"],
            reason=found["reason"],
            points=points,
            eps=float(eps),
            method=method,
            evaluation=evaluation,
            clip=reach,
            scale=factor(x, scale),
        )
        return finish(result, failed)

    def verify(
        self,
        lower: ArrayLike,
        upper: ArrayLike,
        unsafe: Constraints,
        *,
        evaluation: Evaluation = "float32",
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> Verdict:
        """Decides by branch and bound whether an input of a box has an output that must not be.

        Parameters
        ----------
        lower, upper
            The ends of the box, one of each for every entry of the input.
        unsafe
            ``(A, b)``: a violation is an output ``y``, flat, with ``A @ y <= b`` in all rows. Or a list of
            such pairs, any of which is one.
        evaluation
            What ``unsat`` speaks of: every evaluation of the network in ``float32``, or ``real`` arithmetic.
        timeout
            Seconds after which the search gives up.
        progress
            Whether to show a bar.
        """
        return verify_box(self._network, lower, upper, unsafe, evaluation, timeout, progress)

    def tightness(
        self,
        x: ArrayLike,
        y: ArrayLike,
        eps: float,
        *,
        mask: str = "local",
        clip: tuple[float, float] | Literal["auto"] | None = "auto",
        scale: float | None = None,
        samples: int = 8,
        seed: int = 0,
        first: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        shard: tuple[int, int] | None = None,
        progress: bool | None = None,
    ) -> TightnessReport:
        """How tight interval bounds are, and why. A diagnostic, not a bound.

        Parameters
        ----------
        x, y
            Inputs and their labels.
        eps
            Radius of the l-inf boxes.
        mask
            Which linear network stands in: the one at the input (``local``), at the centre of the
            intervals (``center``), without activations (``identity``), or with those that intervals
            decide (``stable``).
        clip, scale
            Range of the data and factor of stored numbers, as for :meth:`certify`.
        samples, seed
            Points of each box at which units are looked at, and the seed that they depend on.
        first
            Position of the first input in its data set.
        out, resume, shard
            As for :meth:`certify`.
        progress
            Whether to show a bar.
        """
        array = rows(x, self.input_shape, scale)
        reach = clipping(clip, x, scale)
        y_list = labels(y, len(array))
        run = Run(x, scale, first, out, resume, shard)
        with Progress(len(array), "tightness", progress) as bar:
            found, failed = self._network.tightness(
                array,
                y_list,
                real("eps", eps),
                mask,
                reach,
                whole("samples", samples, 0, 2**32 - 1),
                whole("seed", seed, 0, 2**64 - 1),
                run,
                bar,
            )
        result = TightnessReport(
            eps=float(eps),
            mask=mask,
            clip=reach,
            scale=factor(x, scale),
            **found,
        )
        return finish(result, failed)

    def lipschitz(self) -> LipschitzReport:
        """Certified Lipschitz constants (l2 to l2), node by node and in total."""
        nodes, total, obstacle = self._network.lipschitz()
        names, operators, _, norms, constants = zip(*nodes) if nodes else ((), (), (), (), ())
        return LipschitzReport(
            node=np.array(names, dtype=np.str_),
            operator=np.array(operators, dtype=np.str_),
            norm=np.array(norms, dtype=np.float64),
            constant=np.array(constants, dtype=np.float64),
            total=total,
            obstacle=obstacle,
        )

    def smooth(self, x: ArrayLike, y: ArrayLike | None = None, sigma: float = 0.25, **options: Any) -> Smoothing:
        """Certifies radii of this network, smoothed, by the built-in engine.

        The parameters are those of :func:`tightrope.smooth`, and ``lipschitz``: ``"auto"`` for what
        :meth:`lipschitz` finds, or a constant of the logits that the caller vouches for; adds radii
        that know it.
        """
        from ._smooth import smooth

        return smooth(self, x, y, sigma, **options)


def _batched(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without the axis that stands for the batch."""
    return tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)
