"""Results: small objects with a NumPy array for each column."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

__all__ = ["Bounds", "Certification", "LipschitzReport", "Smoothing", "TightnessReport", "concat"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Rows of a table that a notebook shows.
SHOWN = 10


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def _html(header: list[str], lines: list[list[Any]], caption: str) -> str:
    def row(tag: str, cells: list[Any]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(_cell(c))}</{tag}>" for c in cells) + "</tr>"

    body = "".join(row("td", line) for line in lines)
    return f"<table><caption>{html.escape(caption)}</caption><thead>{row('th', header)}</thead><tbody>{body}</tbody></table>"


def _axes(ax: Any) -> Any:
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots()
    return ax


Table = TypeVar("Table", bound="_Table")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return bool(one == other) if type(one) is type(other) else False


def concat(results: Sequence[Table]) -> Table:
    """Results of several calls as one: of the same kind, made with the same options.

    Parameters
    ----------
    results
        In the order that the inputs shall have.
    """
    if not results or any(type(r) is not type(results[0]) for r in results):
        raise InputError(f"found {[type(r).__name__ for r in results]}; accepted: results of one kind, at least one")
    first = results[0]
    for f in fields(first):  # type: ignore[arg-type]
        values = [getattr(r, f.name) for r in results]
        if not isinstance(values[0], (np.ndarray, list)) and any(not _same(values[0], v) for v in values):
            raise InputError(f"{f.name}: found {values}; accepted: results made with the same options")
    columns = {}
    for f in fields(first):  # type: ignore[arg-type]
        values = [getattr(r, f.name) for r in results]
        if isinstance(values[0], np.ndarray):
            columns[f.name] = np.concatenate(values)
        elif isinstance(values[0], list):
            columns[f.name] = list(chain(*values))
    return replace(first, **columns)  # type: ignore[type-var]


class _Table:
    """Columns of equal length."""

    def _columns(self) -> dict[str, Any]:
        """Every one-dimensional column by name."""
        all_fields = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in all_fields.items() if isinstance(value, np.ndarray) and value.ndim == 1}

    def summary(self) -> str:
        """One line that says what was found."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(next(iter(self._columns().values())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()})"

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, seconds aside."""
        if type(self) is not type(other):
            return NotImplemented
        names = [f.name for f in fields(self) if f.name not in ("seconds", "records")]  # type: ignore[arg-type]
        return all(_same(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self: Table, which: slice | NDArray[Any]) -> Table:
        """The results of some inputs: a slice, a mask or positions."""
        if not isinstance(which, slice):
            positions = np.asarray(which)
            if positions.ndim != 1 or positions.dtype.kind not in "biu":
                raise InputError(f"found {which!r}; accepted: a slice, a mask, or an array of positions")
            which = np.flatnonzero(positions) if positions.dtype.kind == "b" else positions
        changed: dict[str, Any] = {}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                changed[f.name] = value[which]
            elif isinstance(value, list):
                changed[f.name] = value[which] if isinstance(which, slice) else [value[i] for i in which]
        return replace(self, **changed)  # type: ignore[type-var]

    def _repr_html_(self) -> str:
        columns = self._columns()
        lines = [[column[i] for column in columns.values()] for i in range(min(len(self), SHOWN))]
        if len(self) > SHOWN:
            lines.append(["..."] * len(columns))
        return _html(list(columns), lines, self.summary())

    def to_pandas(self) -> Any:
        """The columns as a ``pandas.DataFrame`` (needs pandas)."""
        import pandas

        return pandas.DataFrame(self._columns())


@dataclass(frozen=True, repr=False, eq=False)
class Bounds(_Table):
    """Sound bounds on the outputs of a network.

    Attributes
    ----------
    lower, upper
        ``(n, classes)``: every output lies between them for every perturbation of the input. NaN where
        the network may be undefined.
    """

    lower: Floats
    upper: Floats

    def _columns(self) -> dict[str, Any]:
        sides = {"lower": self.lower, "upper": self.upper}
        return {f"{name}[{k}]": side[:, k] for k in range(self.lower.shape[1]) for name, side in sides.items()}

    def __len__(self) -> int:
        return len(self.lower)

    def summary(self) -> str:
        """One line that says what was found."""
        width = float(np.mean(self.upper - self.lower)) if len(self) else float("nan")
        return f"{len(self)} inputs, {self.lower.shape[1]} outputs, mean width {width:.4g}"

    def plot(self, index: int = 0, ax: Any = None) -> Any:
        """The intervals of one input's outputs (needs matplotlib)."""
        ax = _axes(ax)
        lower, upper = self.lower[index], self.upper[index]
        ax.errorbar(range(len(lower)), (lower + upper) / 2, yerr=(upper - lower) / 2, fmt="none", capsize=4)
        ax.set(xlabel="class", ylabel="output")
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class Certification(_Table):
    """What bounds and attacks say of every input; see :meth:`tightrope.Network.certify`.

    Attributes
    ----------
    index, label, predicted
        Position, label and class of each input; -1 where a logit is NaN.
    certified
        Whether the network provably gives the label to every perturbation of the input.
    status
        ``certified``, ``falsified`` or ``unknown``.
    margin
        Lower bound on the least ``logit_label - logit_other``; NaN without a method.
    attack_margin
        The least margin that the attack found; NaN without one.
    seconds
        Time spent on each input.
    margin_lower
        ``(n, classes)`` lower bounds on the margins, ``inf`` at the label.
    bounded_by
        The last method tried, which for ``best`` says what it took.
    reason
        Why branch and bound left an input open.
    points
        ``(n, *input_shape)``: what the attack found, counterexamples where ``status`` is ``falsified``;
        nothing without an attack or a search.
    eps, method, evaluation
        As asked for.
    clip, scale
        The range that perturbed inputs do not leave, and the factor of stored numbers.
    """

    index: Integers
    label: Integers
    predicted: Integers
    certified: NDArray[np.bool_]
    status: NDArray[np.str_]
    margin: Floats
    attack_margin: Floats
    seconds: Floats
    margin_lower: Floats
    bounded_by: list[str | None]
    reason: list[str | None]
    points: NDArray[np.float32] | None
    eps: float
    method: str
    evaluation: str
    clip: tuple[float, float] | None
    scale: float

    @property
    def clean_accuracy(self) -> float:
        """Share of inputs that are classified correctly."""
        return float(np.mean(self.predicted == self.label))

    @property
    def certified_accuracy(self) -> float:
        """Share of inputs that are certified: a lower bound on robust accuracy."""
        return float(np.mean(self.certified))

    @property
    def attacked_accuracy(self) -> float:
        """Share of inputs that are not falsified: an upper bound on robust accuracy."""
        return float(np.mean(self.status != "falsified"))

    def summary(self) -> str:
        """One line that says what was found."""
        if not len(self):
            return "no inputs"
        within = "" if self.clip is None else f" within [{self.clip[0]:g}, {self.clip[1]:g}]"
        text = f"{len(self)} inputs, eps {self.eps:g}{within}, clean {self.clean_accuracy:.1%}"
        if self.points is not None:
            text += f", attacked {self.attacked_accuracy:.1%}"
        return text + (f", certified {self.certified_accuracy:.1%} by {self.method}" if self.method != "none" else "")

    def plot(self, ax: Any = None) -> Any:
        """Sorted margins: what is proved from below, what an attack found from above (needs matplotlib)."""
        ax = _axes(ax)
        order = np.argsort(self.margin if self.method != "none" else self.attack_margin)
        for margins, name in [(self.margin, f"proved ({self.method})"), (self.attack_margin, "attack")]:
            if not np.all(np.isnan(margins)):
                ax.plot(margins[order], label=name)
        ax.axhline(0, color="gray", linewidth=0.8)
        ax.set(xlabel="inputs, sorted", ylabel="least margin")
        ax.legend()
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class Smoothing(_Table):
    """Certified radii of a smoothed classifier; see :meth:`tightrope.Network.smooth`.

    Attributes
    ----------
    index, label
        Position and label of each input; -1 where no label was given.
    predicted
        The certified class, -1 for an abstention.
    radius
        The certified radius, 0 for an abstention; l2 for Gaussian noise, l1 for uniform and Laplace noise.
    correct
        Whether the certified class is the label.
    samples
        Noisy evaluations used, those of the selection included.
    map, bound
        Simplex map and confidence bound that the selection froze.
    p_lower, p_upper
        Bounds on the class's smoothed score and on every other (1 where it was not bounded).
    alpha
        The probability with which a radius may be false.
    seconds
        Time spent on each input.
    records
        The full records, as the command line writes them: statistics, ledger of alpha, verdict.
    """

    index: Integers
    label: Integers
    predicted: Integers
    radius: Floats
    correct: NDArray[np.bool_]
    samples: Integers
    map: NDArray[np.str_]
    bound: NDArray[np.str_]
    p_lower: Floats
    p_upper: Floats
    alpha: Floats
    seconds: Floats
    records: list[dict[str, Any]]

    @classmethod
    def _of(cls, lines: list[str]) -> Smoothing:
        records = [json.loads(line) for line in lines]

        def column(of: Any, kind: Any) -> Any:
            return np.array([of(r) for r in records], dtype=kind)

        return cls(
            index=column(lambda r: r["index"], np.int64),
            label=column(lambda r: -1 if r["label"] is None else r["label"], np.int64),
            predicted=column(lambda r: -1 if r["predicted"] is None else r["predicted"], np.int64),
            radius=column(lambda r: r["radius"], np.float64),
            correct=column(lambda r: r["correct"] == 1, np.bool_),
            samples=column(lambda r: r["samples"], np.int64),
            map=column(lambda r: r["map"], np.str_),
            bound=column(lambda r: r["bound"], np.str_),
            p_lower=column(lambda r: r["p_lower"], np.float64),
            p_upper=column(lambda r: r["p_upper"], np.float64),
            alpha=column(lambda r: r["ledger"]["total"], np.float64),
            seconds=column(lambda r: r["seconds"], np.float64),
            records=records,
        )

    @property
    def abstentions(self) -> int:
        """How many inputs were abstained on."""
        return int(np.sum(self.predicted == -1))

    @property
    def average_certified_radius(self) -> float:
        """Mean over inputs of the radius, 0 where the certified class is wrong."""
        return float(np.mean(np.where(self.correct, self.radius, 0.0)))

    def certified_accuracy(self, radii: ArrayLike = 0.0) -> Any:
        """Share of inputs that are certified correctly at a radius, or at each of several.

        An input counts at radius 0 if its certified class is right, at others if its radius is at least
        that large.
        """
        radii = np.asarray(radii, dtype=np.float64)
        shares = np.mean(self.correct & (self.radius >= radii[..., None]), axis=-1)
        return float(shares) if radii.ndim == 0 else shares

    def summary(self) -> str:
        """One line that says what was found."""
        if not len(self):
            return "no inputs"
        text = f"{len(self)} inputs, average certified radius {self.average_certified_radius:.4g}"
        return f"{text}, abstentions {self.abstentions}, samples {int(self.samples.sum())}"

    def save(self, path: str | Path) -> None:
        """Writes the table of the field's scripts (``idx label predict radius correct time``), radii
        rounded down, which ``tightrope curve`` reads too."""
        lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
        for i in range(len(self)):
            radius = np.floor(self.radius[i] * 1e4) / 1e4
            numbers = f"{self.index[i]}\t{self.label[i]}\t{self.predicted[i]}\t{radius:.4f}"
            lines.append(f"{numbers}\t{int(self.correct[i])}\t{self.seconds[i]:.3f}")
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def plot(self, ax: Any = None, **line: Any) -> Any:
        """Certified accuracy over the radius (needs matplotlib)."""
        ax = _axes(ax)
        radii = np.sort(np.append(self.radius[self.correct], 0.0))
        accuracy = self.certified_accuracy(radii)
        ax.step(np.append(radii, radii[-1]), np.append(accuracy, 0.0), where="pre", **line)
        ax.set(xlabel="radius", ylabel="certified accuracy", ylim=(0, 1))
        if "label" in line:
            ax.legend()
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class TightnessReport(_Table):
    """Why intervals can or cannot certify; see :meth:`tightrope.Network.tightness`.

    Attributes
    ----------
    index, label, predicted
        Position, label and class of each input.
    certified
        Whether interval bounds certify it.
    tightness
        Mean over margins of the optimal over the layer-wise radius, in [0, 1].
    ratio_of_means
        Mean optimal over mean layer-wise radius.
    optimal_radius, layerwise_radius
        Those means.
    dead, unstable, active
        Units in each state under interval bounds.
    sampled_unstable
        Units that sampled points prove unstable.
    box_radius, logit_margin, ibp_loss
        Mean radius of the output intervals, margin at the input, loss of the worst case that they allow.
    seconds
        Time spent on each input.
    per_margin
        ``(n, classes)`` ratios, NaN at the label.
    eps, mask
        As asked for.
    clip, scale
        The range to which boxes are cut, and the factor of stored numbers.
    """

    index: Integers
    label: Integers
    predicted: Integers
    certified: NDArray[np.bool_]
    tightness: Floats
    ratio_of_means: Floats
    optimal_radius: Floats
    layerwise_radius: Floats
    dead: Floats
    unstable: Floats
    active: Floats
    sampled_unstable: Floats
    box_radius: Floats
    logit_margin: Floats
    ibp_loss: Floats
    seconds: Floats
    per_margin: Floats
    eps: float
    mask: str
    clip: tuple[float, float] | None
    scale: float

    def summary(self) -> str:
        """One line that says what was found."""
        if not len(self):
            return "no inputs"
        units = self.dead + self.unstable + self.active
        shares = ", ".join(f"{name} {np.mean(getattr(self, name) / units):.1%}" for name in ("dead", "unstable", "active"))
        return f"{len(self)} inputs, eps {self.eps:g}, mean tightness {np.mean(self.tightness):.4g} ({self.mask}), {shares}"

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Histogram of the tightness (needs matplotlib)."""
        ax = _axes(ax)
        ax.hist(self.tightness, bins=np.linspace(0, 1, 41), **{"alpha": 0.6, **options})
        ax.set(xlabel="tightness", ylabel="inputs")
        if "label" in options:
            ax.legend()
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class LipschitzReport(_Table):
    """Upper bounds on Lipschitz constants, l2 to l2, that hold under floating point.

    Attributes
    ----------
    node, operator, norm, constant
        For each node its name, its ONNX operator, the norm of its linear part or the constant of its
        function, and the constant from the network's input to its result; NaN where there is none.
    total
        The network's constant; nothing if a node has none.
    obstacle
        The first such node.
    """

    node: NDArray[np.str_]
    operator: NDArray[np.str_]
    norm: Floats
    constant: Floats
    total: float | None
    obstacle: str | None

    def summary(self) -> str:
        """One line that says what was found."""
        if self.total is None:
            return f"none is known for the node {self.obstacle}"
        return f"at most {self.total:.6g}, {len(self)} nodes"

    def plot(self, ax: Any = None) -> Any:
        """How the constant grows from node to node (needs matplotlib)."""
        ax = _axes(ax)
        ax.plot(self.constant, marker="o")
        ax.set(xticks=range(len(self)), yscale="log", ylabel="Lipschitz constant")
        ax.set_xticklabels(list(self.node), rotation=90)
        return ax
