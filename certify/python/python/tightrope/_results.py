"""Results of smoothing, tightness, Lipschitz constants and tables of properties; and runs that are in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _tightrope
from ._certification import Brackets, Certification
from ._records import INDEX, INPUT, SECONDS, Floats, Integers, _axes, _curve, _ragged, _Run, _shares, _Table
from .errors import InputError

__all__ = ["LipschitzReport", "Smoothing", "TightnessReport", "Verdicts", "read"]


class Smoothing(_Run):
    """Certified radii of a smoothed classifier; see :meth:`tightrope.Network.smooth`.

    Attributes
    ----------
    index, label
        Position and label of each input; -1 where no label was given.
    sigma
        Scale of the noise of each row; with several, each input has a row for each, in this order.
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
    """

    _made_of = {
        **INPUT,
        "sigma": ("sigma", np.float64, None),
        "radius": ("radius", np.float64, None),
        "correct": (lambda record: record["correct"] == 1, np.bool_, None),
        "samples": ("samples", np.int64, None),
        "map": ("map", np.str_, None),
        "bound": ("bound", np.str_, None),
        "p_lower": ("p_lower", np.float64, None),
        "p_upper": ("p_upper", np.float64, None),
        "alpha": (lambda record: record["ledger"]["total"], np.float64, None),
        **SECONDS,
    }
    label: Integers
    predicted: Integers
    sigma: Floats
    radius: Floats
    correct: NDArray[np.bool_]
    samples: Integers
    map: NDArray[np.str_]
    bound: NDArray[np.str_]
    p_lower: Floats
    p_upper: Floats
    alpha: Floats

    @property
    def abstentions(self) -> int:
        """How many rows are abstentions."""
        return int(np.sum(self.predicted == -1))

    @property
    def average_certified_radius(self) -> float:
        """Mean over inputs of the radius, 0 where the certified class is wrong."""
        return float(np.mean(np.where(self._one().correct, self.radius, 0.0)))

    def certified_accuracy(self, radii: ArrayLike = 0.0) -> Any:
        """Share of inputs that are certified correctly at a radius, or at each of several.

        An input counts at radius 0 if its certified class is right, at others if its radius is at least
        that large.
        """
        return _shares(self._one().correct, self.radius, radii)

    def summary(self) -> str:
        """One line that says what was found."""
        if not len(self):
            return "no inputs"
        if len(levels := self._levels()) > 1:
            return "; ".join(f"sigma {level.sigma[0]:g}: {level.summary()}" for level in levels)
        text = f"{len(self)} inputs, average certified radius {self.average_certified_radius:.4g}"
        return f"{text}, abstentions {self.abstentions}, samples {int(self.samples.sum())}"

    def at(self, sigma: float) -> Smoothing:
        """The rows of one scale of the noise."""
        if sigma not in self.sigma:
            raise InputError(f"sigma: found {sigma!r}; accepted: {', '.join(map(str, dict.fromkeys(self.sigma.tolist())))}")
        return self[self.sigma == sigma]

    def _levels(self) -> list[Smoothing]:
        return [self.at(sigma) for sigma in dict.fromkeys(self.sigma.tolist())]

    def _one(self) -> Smoothing:
        if len(levels := dict.fromkeys(self.sigma.tolist())) > 1:
            raise InputError(f"found results of the scales {', '.join(map(str, levels))}; accepted: one, by .at(sigma)")
        return self

    def to_tsv(self, path: str | Path) -> None:
        """Writes the table of the field's scripts (``idx label predict radius correct time``), radii
        rounded down, which ``tightrope curve`` reads too; of one scale of the noise."""
        self._one()
        lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
        for i in range(len(self)):
            radius = np.floor(self.radius[i] * 1e4) / 1e4
            numbers = f"{self.index[i]}\t{self.label[i]}\t{self.predicted[i]}\t{radius:.4f}"
            lines.append(f"{numbers}\t{int(self.correct[i])}\t{self.seconds[i]:.3f}")
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def plot(self, ax: Any = None, **line: Any) -> Any:
        """Certified accuracy over the radius, a line for each scale of the noise (needs matplotlib)."""
        if len(levels := self._levels()) > 1:
            for level in levels:
                ax = level.plot(ax, **{"label": f"sigma {level.sigma[0]:g}", **line})
            return ax
        return _curve(ax, self.radius[self.correct], self.certified_accuracy, line)


class TightnessReport(_Run):
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
    """

    _made_of = {
        **INPUT,
        "certified": ("certified", np.bool_, None),
        "tightness": ("tightness", np.float64, np.nan),
        "ratio_of_means": ("ratio_of_means", np.float64, np.nan),
        "optimal_radius": (lambda record: record["radii"][0], np.float64, np.nan),
        "layerwise_radius": (lambda record: record["radii"][1], np.float64, np.nan),
        "dead": (lambda record: record["units"]["dead"], np.float64, None),
        "unstable": (lambda record: record["units"]["unstable"], np.float64, None),
        "active": (lambda record: record["units"]["active"], np.float64, None),
        "sampled_unstable": ("sampled_unstable", np.float64, None),
        "box_radius": ("box_radius", np.float64, np.nan),
        "logit_margin": ("logit_margin", np.float64, np.nan),
        "ibp_loss": ("ibp_loss", np.float64, np.nan),
        **SECONDS,
    }
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

    @property
    def eps(self) -> str:
        """The radius, as it was written."""
        return str(self.header["eps"])

    @property
    def mask(self) -> str:
        """Which linear network stands in."""
        return str(self.header["mask"])

    @property
    def per_margin(self) -> Floats:
        """``(n, classes)`` ratios, NaN at the label."""
        return _ragged(self.records, "per_margin", np.nan)

    @property
    def per_layer(self) -> dict[str, Floats]:
        """The tightness of the sub-network before each activation, by its name, if that was asked for."""
        names = [layer["name"] for layer in self.records[0]["layers"]] if len(self) else []
        return {name: np.array([r["layers"][k]["tightness"] for r in self.records]) for k, name in enumerate(names)}

    def summary(self) -> str:
        """One line that says what was found."""
        if not len(self):
            return "no inputs"
        units = self.dead + self.unstable + self.active
        shares = ", ".join(f"{name} {np.mean(getattr(self, name) / units):.1%}" for name in ("dead", "unstable", "active"))
        return f"{len(self)} inputs, eps {self.eps}, mean tightness {np.mean(self.tightness):.4g} ({self.mask}), {shares}"

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Histogram of the tightness (needs matplotlib)."""
        ax = _axes(ax)
        ax.hist(self.tightness, bins=np.linspace(0, 1, 41), **{"alpha": 0.6, **options})
        ax.set(xlabel="tightness", ylabel="inputs")
        if "label" in options:
            ax.legend()
        return ax


class Verdicts(_Run):
    """The verdicts of the instances of a table; see :func:`tightrope.verify_table`.

    Attributes
    ----------
    index, network, property
        Place in the table and files of each instance.
    verdict
        ``sat``, ``unsat``, ``unknown``, ``timed-out``; empty if the question could not be asked.
    expected
        What the table says; empty where it says nothing.
    reason
        Why there is no verdict, or no question.
    subproblems, depth
        How many parts were bounded, and the greatest number of cuts of one.
    seconds
        From the reading of the files to the verdict.
    """

    _made_of = {
        **INDEX,
        "network": ("network", np.str_, None),
        "property": ("property", np.str_, None),
        "verdict": ("verdict", np.str_, ""),
        "expected": ("expected", np.str_, ""),
        "reason": ("reason", np.str_, ""),
        "subproblems": ("subproblems", np.int64, None),
        "depth": ("depth", np.int64, None),
        **SECONDS,
    }
    network: NDArray[np.str_]
    property: NDArray[np.str_]
    verdict: NDArray[np.str_]
    expected: NDArray[np.str_]
    reason: NDArray[np.str_]
    subproblems: Integers
    depth: Integers

    def summary(self) -> str:
        """One line that says what was found."""
        counts = {name or "not asked": int(np.sum(self.verdict == name)) for name in np.unique(self.verdict)}
        found = "".join(f", {count} {name}" for name, count in counts.items())
        return f"{len(self)} instances{found}, {self.seconds.sum():.1f} s"

    def plot(self, ax: Any = None, **line: Any) -> Any:
        """How many instances are settled within a time (needs matplotlib)."""
        ax = _axes(ax)
        seconds = np.sort(self.seconds[(self.verdict == "sat") | (self.verdict == "unsat")])
        ax.step(seconds, np.arange(1, len(seconds) + 1), where="post", **line)
        ax.set(xscale="log", xlabel="seconds", ylabel="instances settled", ylim=(0, len(self)))
        if "label" in line:
            ax.legend()
        return ax


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

    def __init__(
        self,
        node: NDArray[np.str_],
        operator: NDArray[np.str_],
        norm: Floats,
        constant: Floats,
        total: float | None,
        obstacle: str | None,
    ) -> None:
        self.node, self.operator, self.norm, self.constant = node, operator, norm, constant
        self.total, self.obstacle = total, obstacle

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


def read(*paths: str | Path) -> Certification | Brackets | Smoothing | TightnessReport | Verdicts:
    """The results in a run file, plain or gzipped; or those of the parts of a run (shards, ranges) in several,
    put together as ``tightrope merge`` does.

    Parameters
    ----------
    paths
        One file or more, written by ``out=``, by ``save`` or by the command line.
    """
    if not paths:
        raise InputError("found no run files; accepted: at least one")
    first, lines = _tightrope.read([str(path) for path in paths])
    header = json.loads(first)
    command = header.get("command")
    if command in ("certify", "attack"):
        return Brackets(header, lines) if header.get("radius") is not None else Certification(header, lines)
    if command == "smooth":
        return Smoothing(header, lines)
    if command == "tightness":
        return TightnessReport(header, lines)
    if command == "verify":
        return Verdicts(header, lines)
    raise InputError(f"{paths[0]}: found a run of {command!r}; accepted: certify, attack, smooth, tightness, verify")
