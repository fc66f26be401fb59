"""Networks and what can be asked of them."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _tightrope
from ._arrays import (
    Asked,
    Norm,
    Progress,
    Run,
    budget,
    clipping,
    factor,
    finish,
    labels,
    norm_name,
    real,
    rows,
    several,
    whole,
)
from ._certification import Bounds, Brackets, Certification
from ._records import _html
from ._results import LipschitzReport, TightnessReport
from ._smooth import smooth
from ._verify import Constraints, Evaluation, Verdict, verify_box
from .errors import InputError, ModelError

__all__ = ["Network", "Node", "load"]


#: How margins are bounded.
Method = Literal["ibp", "crown-ibp", "crown", "alpha-crown", "lipschitz", "best", "complete"]

#: Which linear network stands in for tightness.
Mask = Literal["local", "center", "identity", "stable"]


class Node(NamedTuple):
    """One operator of a network."""

    name: str
    operator: str
    kind: str
    shape: tuple[int, ...]


def load(
    model: str | os.PathLike[str] | bytes | Any,
    *,
    input_shape: Sequence[int] | None = None,
    mean: ArrayLike = (),
    std: ArrayLike = (),
    fix: Mapping[str, ArrayLike] | None = None,
    output: str | None = None,
) -> Network:
    """Loads an ONNX network, plain or gzipped.

    Parameters
    ----------
    model
        The file; or the bytes of one, an ``onnx.ModelProto``, or a torch module, which is exported in memory
        in evaluation mode and needs ``input_shape``.
    input_shape
        Shape of one input, for networks that leave it open.
    mean, std
        Normalisation before the network, one number or one per channel; perturbations then are of
        the pixels before it.
    fix
        Values of inputs that are not perturbed, by their names: of a model with several all but one.
    output
        The output that is looked at; by default the only one, or of a label and scores the scores.

    Raises
    ------
    ModelError
        If the file is no network, or holds an operator that is not supported.
    """
    shape = None if input_shape is None else [int(n) for n in input_shape]
    constants = [[float(v) for v in np.atleast_1d(np.asarray(c, dtype=np.float64))] for c in (mean, std)]
    if isinstance(model, (str, os.PathLike)):
        source: str | bytes = os.fspath(model)
        name = str(source)
    elif isinstance(model, (bytes, bytearray)):
        source, name = bytes(model), "(model in memory)"
    elif hasattr(model, "SerializeToString"):
        source, name = model.SerializeToString(), "(model in memory)"
    elif hasattr(model, "state_dict") and callable(model):
        source, name = _exported(model, shape), f"(torch module {type(model).__name__})"
    else:
        raise InputError(
            f"model: found {type(model).__name__}; accepted: a file, bytes, an onnx.ModelProto or a torch module"
        )
    fixed = {str(k): np.ascontiguousarray(v, dtype=np.float32) for k, v in (fix or {}).items()}
    made_from: tuple[Any, ...] = (source, shape, *constants, fixed, output)
    return Network(_tightrope.Network(*made_from), name, made_from)


def _exported(module: Any, shape: list[int] | None) -> bytes:
    """A torch module as the bytes of an ONNX file."""
    import torch

    if shape is None:
        raise InputError("input_shape: found none with a torch module; accepted: the shape of one input, (1, 3, 32, 32)")
    file = io.BytesIO()
    first = next(module.parameters(), torch.zeros(()))
    example = torch.zeros(shape, dtype=first.dtype, device=first.device)
    training = module.training
    module.eval()
    try:
        with warnings.catch_warnings():
            # The exporter that needs no package besides torch is an old one, and says so.
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (example,), file, dynamo=False, opset_version=17)
    except Exception as error:
        raise ModelError(f"(torch module {type(module).__name__}): cannot be exported: {error}") from error
    finally:
        module.train(training)
    return file.getvalue()


def _again(source: str | bytes, shape: list[int] | None, mean: Any, std: Any, fix: Any, output: str | None) -> Network:
    """A network that was sent to another process."""
    return load(source, input_shape=shape, mean=mean, std=std, fix=fix, output=output)


class Network:
    """A loaded network. Made by :func:`load`.

    Inputs ``x`` are arrays ``(n, *input_shape)``, or flat ``(n, entries)``, or a single input; a
    C-contiguous float32 array is used without a copy. As on the command line, ``uint8`` pixels are scaled
    to [0, 1] and floats are taken as they are; other integers need a ``scale``. All methods compute on
    all cores, or on as many ``threads`` as they are given, without holding the interpreter's lock, and
    no result depends on how many. Ctrl-C raises :class:`tightrope.Interrupted`, a
    ``KeyboardInterrupt`` that carries the results of the inputs that are done. ``progress`` shows a
    bar: always, never, or by default for calls of more than a few seconds.
    """

    def __init__(self, network: _tightrope.Network, path: str, made_from: tuple[Any, ...]) -> None:
        self._network = network
        self.path = path
        self._made_from = made_from

    def __reduce__(self) -> tuple[Any, ...]:
        # Of a file the other process reads it, and it must be there too.
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
        method: Method = "ibp",
        norm: Norm = "linf",
        clip: tuple[float, float] | Literal["auto"] | None = "auto",
        scale: float | None = None,
        threads: int | None = None,
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
        threads
            How many compute; by default all cores.
        progress
            Whether to show a bar.
        """
        array, asked = rows(x, self.input_shape, scale), _perturbed(x, eps, method, norm, clip, scale)
        with Progress(len(array), "bounds", progress) as bar:
            (lower, upper), failed = self._network.bounds(array, asked, Run(factor(x, scale), threads=threads), bar)
        return finish(Bounds(lower, upper), failed)

    def certify(
        self,
        x: ArrayLike,
        y: ArrayLike,
        eps: float | Sequence[float],
        *,
        method: Method | Literal["none"] | Sequence[Method] = "ibp",
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
        threads: int | None = None,
        progress: bool | None = None,
    ) -> Certification:
        """Certifies that no perturbation of size ``eps`` changes the decision, or refutes it.

        Parameters
        ----------
        x, y
            Inputs and their labels.
        eps
            Radius of the perturbations, or several.
        method
            How margins are bounded, in one way or in several: ``ibp``, ``crown-ibp``, ``crown``,
            ``alpha-crown``, ``lipschitz`` (the margin at the input less its l2 Lipschitz constant times the
            distance), ``best`` (the first of these that certifies), ``complete`` (the same, then branch and
            bound until an input is certified or falsified), or ``none`` for an attack alone.
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
        threads
            How many compute; by default all cores. No result depends on it.
        progress
            Whether to show a bar.
        """
        array = rows(x, self.input_shape, scale)
        asked = _perturbed(x, eps, method, norm, clip, scale, attack, seed, evaluation, timeout)
        run = Run(factor(x, scale), first, out, resume, shard, threads)
        with Progress(len(array), "certify", progress) as bar:
            found, points = self._network.certify(array, labels(y, len(array)), asked, run, bar)
        header, lines, failed = found
        if points is not None:
            points = points.reshape((len(lines), *_batched(self.input_shape)))
        return finish(Certification(json.loads(header), lines, points), failed)

    def brackets(
        self,
        x: ArrayLike,
        y: ArrayLike,
        largest: float,
        *,
        method: Method = "crown",
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
        threads: int | None = None,
        progress: bool | None = None,
    ) -> Brackets:
        """Between which radii the robustness of each input ends, to a thousandth of ``largest``.

        Parameters
        ----------
        x, y
            Inputs and their labels.
        largest
            The largest radius that is tried.
        method, norm, clip, scale, attack, seed, evaluation, timeout, first, out, resume, shard, threads, progress
            As for :meth:`certify`; ``complete`` searches until both ends meet.
        """
        array = rows(x, self.input_shape, scale)
        asked = _perturbed(x, largest, method, norm, clip, scale, attack, seed, evaluation, timeout)
        run = Run(factor(x, scale), first, out, resume, shard, threads)
        with Progress(len(array), "brackets", progress) as bar:
            header, lines, failed = self._network.brackets(array, labels(y, len(array)), asked, run, bar)
        return finish(Brackets(json.loads(header), lines), failed)

    def verify(
        self,
        lower: ArrayLike,
        upper: ArrayLike,
        unsafe: Constraints,
        *,
        evaluation: Evaluation = "float32",
        timeout: float | None = None,
        threads: int | None = None,
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
        threads
            How many compute; by default all cores.
        progress
            Whether to show a bar.
        """
        return verify_box(self._network, lower, upper, unsafe, evaluation, (timeout, threads), progress)

    def tightness(
        self,
        x: ArrayLike,
        y: ArrayLike,
        eps: float,
        *,
        mask: Mask = "local",
        layers: bool = False,
        clip: tuple[float, float] | Literal["auto"] | None = "auto",
        scale: float | None = None,
        samples: int = 8,
        seed: int = 0,
        first: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        shard: tuple[int, int] | None = None,
        threads: int | None = None,
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
        layers
            Whether to look at the sub-network before each activation, too.
        clip, scale
            Range of the data and factor of stored numbers, as for :meth:`certify`.
        samples, seed
            Points of each box at which units are looked at, and the seed that they depend on.
        first
            Position of the first input in its data set.
        out, resume, shard, threads
            As for :meth:`certify`.
        progress
            Whether to show a bar.
        """
        array = rows(x, self.input_shape, scale)
        asked = Asked(
            eps=real("eps", eps),
            mask=mask,
            layers=bool(layers),
            clip=clipping(clip, x, scale),
            samples=whole("samples", samples, 0, 2**32 - 1),
            seed=whole("seed", seed, 0, 2**64 - 1),
        )
        run = Run(factor(x, scale), first, out, resume, shard, threads)
        with Progress(len(array), "tightness", progress) as bar:
            header, lines, failed = self._network.tightness(array, labels(y, len(array)), asked, run, bar)
        return finish(TightnessReport(json.loads(header), lines), failed)

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

    # Randomized smoothing of this network by the built-in engine: the function with ``f`` bound to it.
    smooth = smooth


def _perturbed(
    x: ArrayLike,
    eps: Any,
    method: Any,
    norm: Any,
    clip: Any,
    scale: float | None,
    attack: Any = None,
    seed: Any = 0,
    evaluation: Evaluation | None = None,
    timeout: float | None = None,
) -> Asked:
    """What is asked of perturbed inputs, checked as far as it can be without the network."""
    methods = several("method", method)
    if timeout is not None and "complete" not in methods:
        raise InputError(f"timeout: of method complete, and the method is {method}")
    if evaluation is None:
        evaluation = "real" if "lipschitz" in methods else "float32"
    if "lipschitz" in methods and evaluation != "real":
        raise InputError(f"evaluation: method lipschitz speaks of real arithmetic, and found {evaluation!r}")
    return Asked(
        eps=[real("eps", one) for one in several("eps", eps)],
        method=[str(one) for one in methods],
        norm=norm_name(norm),
        clip=clipping(clip, x, scale),
        attack=budget(attack),
        seed=whole("seed", seed, 0, 2**64 - 1),
        evaluation=evaluation,
        timeout=60.0 if timeout is None and "complete" in methods else timeout,
    )


def _batched(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without the axis that stands for the batch."""
    return tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)
