"""What bounds, attacks and searches say of every input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._records import INPUT, SECONDS, Floats, Integers, _axes, _curve, _ragged, _Run, _shares, _Table
from .errors import InputError

__all__ = ["Accuracy", "Bounds", "Brackets", "Certification"]


class Bounds(_Table):
    """Sound bounds on the outputs of a network.

    Attributes
    ----------
    lower, upper
        ``(n, classes)``: every output lies between them for every perturbation of the input. NaN where
        the network may be undefined.
    """

    def __init__(self, lower: Floats, upper: Floats) -> None:
        self.lower = lower
        self.upper = upper

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bounds):
            return NotImplemented
        sides = zip((self.lower, self.upper), (other.lower, other.upper))
        return all(np.array_equal(one, two, equal_nan=True) for one, two in sides)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, which: slice | NDArray[Any]) -> Bounds:
        """The bounds of some inputs: a slice, a mask or positions."""
        return Bounds(self.lower[which], self.upper[which])

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


class Accuracy(NamedTuple):
    """What became of the inputs at one radius by one method."""

    eps: float
    method: str
    inputs: int
    clean: float
    certified: float
    attacked: float


class Certification(_Run):
    """What bounds, attacks and searches say of every input; see :meth:`tightrope.Network.certify`.

    One row for each input, radius and method, in this order.

    Attributes
    ----------
    index, label, predicted
        Position, label and class of each input; -1 where a logit is NaN.
    eps, method
        The radius and the method of each row; the method is empty for an attack alone.
    certified
        Whether the network provably gives the label to every perturbation of the input.
    status
        ``certified``, ``falsified`` or ``unknown``.
    margin
        Lower bound on the least ``logit_label - logit_other``; NaN without a method.
    attack_margin
        The least margin that the attack found; NaN without one.
    seconds
        Time spent on each row.
    bounded_by
        The last method tried, which for ``best`` says what it took.
    reason
        Why branch and bound left an input open; empty where it did not.
    points
        ``(n, *input_shape)``: what the attack or the search found, counterexamples where ``status`` is
        ``falsified``; nothing without one, and in runs that were read from a file.
    """

    _made_of = {
        **INPUT,
        "eps": ("eps", np.float64, None),
        "method": ("method", np.str_, ""),
        "certified": ("certified", np.bool_, None),
        "status": ("status", np.str_, None),
        "attack_margin": ("attack_margin", np.float64, np.nan),
        "bounded_by": ("bounded_by", np.str_, ""),
        "reason": ("reason", np.str_, ""),
        **SECONDS,
    }
    label: Integers
    predicted: Integers
    eps: Floats
    method: NDArray[np.str_]
    certified: NDArray[np.bool_]
    status: NDArray[np.str_]
    attack_margin: Floats
    bounded_by: NDArray[np.str_]
    reason: NDArray[np.str_]

    def __init__(
        self, header: dict[str, Any], lines: Iterable[str], points: NDArray[np.float32] | None = None
    ) -> None:
        super().__init__(header, lines)
        self.points = points
        least = [[m for m in record["margin_lower"] if m is not None] for record in self.records]
        self.margin = np.array([min(margins, default=np.nan) for margins in least], dtype=np.float64)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.header, self.lines, self.points)

    def __eq__(self, other: object) -> bool:
        """Whether the same was asked of the same network, with the same answers; seconds aside."""
        same = super().__eq__(other)
        if same is not True or not isinstance(other, Certification):
            return same
        if self.points is None or other.points is None:
            return self.points is other.points
        return np.array_equal(self.points, other.points)

    __hash__ = None

    def _of(self, places: Sequence[int]) -> Certification:
        points = None if self.points is None else self.points[list(places)]
        return Certification(self.header, [self.lines[i] for i in places], points)

    def _with(self, results: Sequence[Certification]) -> Certification:
        points = [r.points for r in results if r.points is not None]
        joined = super()._with(results)
        joined.points = np.concatenate(points) if points and len(points) == len(results) else None
        return joined

    @property
    def margin_lower(self) -> Floats:
        """``(n, classes)`` lower bounds on the margins, ``inf`` at the label; no columns without a method."""
        return _ragged(self.records, "margin_lower", np.inf)

    @property
    def evaluation(self) -> str:
        """The arithmetic that certificates speak of: ``float32`` or ``real``."""
        return str(self.header.get("evaluation") or "")

    def at(self, eps: float | None = None, method: str | None = None) -> Certification:
        """The rows of one radius, of one method, or of both."""
        rows = np.ones(len(self), dtype=bool)
        if eps is not None:
            rows &= np.isclose(self.eps, eps, rtol=1e-12, atol=0)
        if method is not None:
            rows &= self.method == method
        if len(self) and not rows.any():
            asked = ", ".join(f"eps {a.eps:g} {a.method}".rstrip() for a in self.accuracies())
            raise InputError(f"found eps {eps}, method {method}; accepted: one of {asked}")
        return self[rows]

    def accuracies(self) -> list[Accuracy]:
        """Shares of inputs at each radius by each method, in the order asked for."""
        found = []
        for eps, method in dict.fromkeys(zip(self.eps.tolist(), self.method.tolist())):
            rows = (self.eps == eps) & (self.method == method)
            clean = np.mean(self.predicted[rows] == self.label[rows])
            certified, attacked = np.mean(self.certified[rows]), np.mean(self.status[rows] != "falsified")
            shares = float(clean), float(certified), float(attacked)
            found.append(Accuracy(eps, method, int(rows.sum()), *shares))
        return found

    def _one(self) -> Accuracy:
        found = self.accuracies()
        if len(found) > 1:
            several = ", ".join(f"eps {a.eps:g} {a.method}".rstrip() for a in found)
            raise InputError(f"found results of {several}; accepted: one of them, by .at(eps, method), or .accuracies()")
        return found[0] if found else Accuracy(np.nan, "", 0, np.nan, np.nan, np.nan)

    @property
    def clean_accuracy(self) -> float:
        """Share of inputs that are classified correctly."""
        return float(np.mean(self.predicted == self.label))

    @property
    def certified_accuracy(self) -> float:
        """Share of inputs that are certified: a lower bound on robust accuracy."""
        return self._one().certified

    @property
    def attacked_accuracy(self) -> float:
        """Share of inputs that are not falsified: an upper bound on robust accuracy."""
        return self._one().attacked

    def summary(self) -> str:
        """One line that says what was found."""
        if not len(self):
            return "no inputs"
        found = self.accuracies()
        within = "" if self.clip is None else f" within [{self.clip[0]:g}, {self.clip[1]:g}]"
        parts = [f"{found[0].inputs} inputs{within}, clean {self.clean_accuracy:.1%}"]
        for a in found:
            attacked = f" attacked {a.attacked:.1%}" if self.header.get("attack") or self.points is not None else ""
            parts.append(f"eps {a.eps:g}{attacked}" + (f" certified {a.certified:.1%} by {a.method}" if a.method else ""))
        return ", ".join(parts)

    def plot(self, ax: Any = None) -> Any:
        """Of one radius and method the sorted margins: what is proved from below, what an attack found from
        above. Of several the accuracies over the radius (needs matplotlib)."""
        ax, found = _axes(ax), self.accuracies()
        if len(found) <= 1:
            method = found[0].method if found else ""
            order = np.argsort(self.margin if method else self.attack_margin)
            for margins, name in [(self.margin, f"proved ({method})"), (self.attack_margin, "attack")]:
                if not np.all(np.isnan(margins)):
                    ax.plot(margins[order], label=name)
            ax.axhline(0, color="gray", linewidth=0.8)
            ax.set(xlabel="inputs, sorted", ylabel="least margin")
        else:
            for method in dict.fromkeys(a.method for a in found):
                line = sorted((a.eps, a.certified, a.attacked) for a in found if a.method == method)
                radii, certified, attacked = zip(*line)
                if method:
                    ax.plot(radii, certified, marker="o", label=f"certified ({method})")
                if self.header.get("attack"):
                    ax.plot(radii, attacked, marker="x", label=f"not falsified {method}".rstrip())
            ax.set(xlabel="eps", ylabel="share of inputs", ylim=(0, 1))
        ax.legend()
        return ax


class Brackets(_Run):
    """Between which radii the robustness of each input ends; see :meth:`tightrope.Network.brackets`.

    Attributes
    ----------
    index, label, predicted
        Position, label and class of each input; -1 where a logit is NaN.
    radius
        The largest radius that was proved; 0 if none was.
    attacked
        The smallest at which an attack or a search succeeded; ``inf`` where none did.
    seconds
        Time spent on each input.
    """

    _made_of = {
        **INPUT,
        "radius": ("certified_eps", np.float64, None),
        "attacked": ("attacked_eps", np.float64, np.inf),
        **SECONDS,
    }
    label: Integers
    predicted: Integers
    radius: Floats
    attacked: Floats

    def certified_accuracy(self, radii: ArrayLike = 0.0) -> Any:
        """Share of inputs that are right and certified at a radius, or at each of several."""
        return _shares(self.predicted == self.label, self.radius, radii)

    def summary(self) -> str:
        """One line that says what was found."""
        if not len(self):
            return "no inputs"
        text = f"{len(self)} inputs, mean certified radius {np.mean(self.radius):.4g} by {self.header['method']}"
        return f"{text} of at most {self.header['radius']:g}"

    def plot(self, ax: Any = None, **line: Any) -> Any:
        """Certified accuracy over the radius (needs matplotlib)."""
        return _curve(ax, self.radius[self.predicted == self.label], self.certified_accuracy, line)
