"""What results of all kinds have in common: what was asked and the records, with a NumPy array for each column."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

__all__ = ["concat"]

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


def _curve(ax: Any, radii: Floats, share: Callable[[Floats], Any], line: dict[str, Any]) -> Any:
    """Draws the share of inputs that are certified over the radius."""
    ax = _axes(ax)
    radii = np.sort(np.append(radii, 0.0))
    ax.step(np.append(radii, radii[-1]), np.append(share(radii), 0.0), where="pre", **line)
    ax.set(xlabel="radius", ylabel="certified accuracy", ylim=(0, 1))
    if "label" in line:
        ax.legend()
    return ax


class _Table:
    """Columns of equal length."""

    def _columns(self) -> dict[str, Any]:
        """Every one-dimensional column by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray) and value.ndim == 1}

    def summary(self) -> str:
        """One line that says what was found."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(next(iter(self._columns().values())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()})"

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


#: What a first line says of the inputs and of names: results of other inputs are made in the same way.
OF_INPUTS = {"data", "data_sha256", "indices", "labels", "labels_sha256", "model", "shard", "skip", "tightrope"}

Of = TypeVar("Of", bound="_Run")

#: A column: the key of a record, or what makes its value of one; its type; what stands for an absent value.
Column = tuple["str | Callable[[dict[str, Any]], Any]", Any, Any]

INDEX: dict[str, Column] = {"index": ("index", np.int64, None)}
INPUT: dict[str, Column] = {
    **INDEX,
    "label": ("label", np.int64, -1),
    "predicted": ("predicted", np.int64, -1),
}
SECONDS: dict[str, Column] = {"seconds": ("seconds", np.float64, None)}


class _Run(_Table):
    """The records of a run, as a run file has them."""

    _made_of: dict[str, Column]
    index: Integers
    seconds: Floats

    def __init__(self, header: dict[str, Any], lines: Iterable[str]) -> None:
        self.header = header
        self.lines = list(lines)
        for name, (key, kind, absent) in self._made_of.items():
            of = key if callable(key) else lambda record, key=key: record.get(key)
            values = [absent if value is None else value for value in map(of, self.records)]
            setattr(self, name, np.array(values, dtype=kind))

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The records in full, as the command line writes them."""
        return [json.loads(line) for line in self.lines]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.header, self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def clip(self) -> tuple[float, float] | None:
        """The range that perturbed inputs do not leave, if there is one."""
        clip = self.header.get("clip")
        return None if clip is None else (clip[0], clip[1])

    @property
    def scale(self) -> float:
        """The factor of stored numbers."""
        return float(self.header.get("scale", 1.0))

    def _asked(self) -> dict[str, Any]:
        return {name: value for name, value in self.header.items() if name not in OF_INPUTS and value is not None}

    def _others(self) -> list[dict[str, Any]]:
        """The records without what differs from run to run."""
        return [{k: v for k, v in r.items() if k not in ("seconds", "counterexample")} for r in self.records]

    def __eq__(self, other: object) -> bool:
        """Whether the same was asked of the same network, with the same answers; seconds aside."""
        if type(self) is not type(other) or not isinstance(other, _Run):
            return NotImplemented
        return self._asked() == other._asked() and self._others() == other._others()

    __hash__ = None  # type: ignore[assignment]

    def _of(self: Of, places: Sequence[int]) -> Of:
        return type(self)(self.header, [self.lines[i] for i in places])

    def __getitem__(self: Of, which: slice | NDArray[Any]) -> Of:
        """Some of the results: a slice, a mask or positions."""
        if isinstance(which, slice):
            return self._of(range(len(self))[which])
        positions = np.asarray(which)
        if positions.ndim != 1 or positions.dtype.kind not in "biu":
            raise InputError(f"found {which!r}; accepted: a slice, a mask, or an array of positions")
        if positions.dtype.kind == "b":
            if len(positions) != len(self):
                raise InputError(f"found a mask of {len(positions)}; accepted: one of {len(self)}")
            positions = np.flatnonzero(positions)
        return self._of(positions.tolist())

    def save(self, path: str | Path) -> None:
        """Writes the results as a run file, which :func:`read` and the command line take. One that is there
        is not overwritten."""
        text = "\n".join([json.dumps({"run": self.header}, separators=(",", ":")), *self.lines])
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text + "\n")

    def _with(self: Of, results: Sequence[Of]) -> Of:
        """All results, under a first line that is silent where theirs differ."""
        headers = [r.header for r in results]
        header = {k: v for k, v in self.header.items() if all(h.get(k) == v for h in headers)}
        if all("indices" in h for h in headers):
            ends = [h["indices"] for h in headers]
            header["indices"] = [min(from_ for from_, _ in ends), max(to for _, to in ends)]
        return type(self)(header, chain.from_iterable(r.lines for r in results))


def concat(results: Sequence[Of]) -> Of:
    """Results of several calls as one: of the same kind, made with the same options.

    Parameters
    ----------
    results
        In the order that the inputs shall have.
    """
    if not results or any(type(r) is not type(results[0]) for r in results):
        raise InputError(f"found {[type(r).__name__ for r in results]}; accepted: results of one kind, at least one")
    first = results[0]
    if not isinstance(first, _Run):
        joined = {name: np.concatenate([getattr(r, name) for r in results]) for name in vars(first)}
        return type(first)(**joined)
    asked = [r._asked() for r in results]
    for name in sorted(set().union(*asked)):
        values = [a.get(name) for a in asked]
        if any(value != values[0] for value in values):
            raise InputError(f"{name}: found {values}; accepted: results made with the same options")
    return first._with(results)


def _ragged(records: list[dict[str, Any]], name: str, absent: float) -> Floats:
    """Rows of numbers; empty ones where a record has none."""
    rows = [[absent if value is None else value for value in record[name]] for record in records]
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1) if rows else np.empty((0, 0))


def _shares(right: NDArray[np.bool_], radius: Floats, radii: ArrayLike) -> Any:
    radii = np.asarray(radii, dtype=np.float64)
    shares = np.mean(right & (radius >= radii[..., None]), axis=-1)
    return float(shares) if radii.ndim == 0 else shares
