"""Torch modules while they are trained: their certificates, and a callback that records figures."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._certification import Certification
from ._network import Method, Network, _exported, load
from ._records import _axes
from ._results import TightnessReport
from .errors import InputError

__all__ = ["EpochFigures", "TrainingRecorder", "certify", "tightness"]

#: Networks of the last exports. The key is the whole export, so that nothing that a module computes can
#: change without the network changing, too.
_LOADED: OrderedDict[bytes, Network] = OrderedDict()
_KEPT = 4


def _array(x: Any) -> Any:
    """A torch tensor as an array; others as they are."""
    return x.detach().cpu().numpy() if hasattr(x, "detach") else x


def _network(module: Any, x: Any) -> Network:
    """The network of a module in evaluation mode with its present weights, for inputs like ``x[0]``."""
    if isinstance(module, Network):
        return module
    if not (hasattr(module, "state_dict") and callable(module)):
        raise InputError(f"module: found {type(module).__name__}; accepted: a torch module or a Network")
    shape = np.shape(x)
    if len(shape) < 2:
        raise InputError(f"x: found the shape {shape}; accepted: (n, ...), a batch of inputs of the module")
    exported = _exported(module, [1, *shape[1:]])
    key = hashlib.sha256(exported).digest()
    if key not in _LOADED:
        _LOADED[key] = load(exported)
        while len(_LOADED) > _KEPT:
            _LOADED.popitem(last=False)
    _LOADED.move_to_end(key)
    return _LOADED[key]


def tightness(module: Any, x: ArrayLike, y: ArrayLike, eps: float, **options: Any) -> TightnessReport:
    """How tight interval bounds are on a torch module: :meth:`Network.tightness` of it. A diagnostic, not a bound.

    Parameters
    ----------
    module
        A torch module, taken in evaluation mode with its present weights (exported in memory; that the same
        weights are asked again costs the export only). Or a :class:`Network`.
    x, y
        Inputs ``(n, ...)`` and their labels; arrays or tensors.
    eps
        Radius of the l-inf boxes.
    options
        Of :meth:`Network.tightness`: ``clip``, ``mask``, ``layers`` and others.

    Raises
    ------
    ModelError
        If the module cannot be exported, or has operators that are not supported.
    """
    x = _array(x)
    return _network(module, x).tightness(x, _array(y), eps, **options)


def certify(module: Any, x: ArrayLike, y: ArrayLike, eps: Any, **options: Any) -> Certification:
    """Certifies a torch module in evaluation mode: :meth:`Network.certify` of it.

    Parameters
    ----------
    module, x, y
        As for :func:`tightness`.
    eps
        Radius of the perturbations, or several.
    options
        Of :meth:`Network.certify`: ``method``, ``clip``, ``attack`` and others.
    """
    x = _array(x)
    return _network(module, x).certify(x, _array(y), eps, **options)


class EpochFigures(NamedTuple):
    """The figures after an epoch; accuracies and shares of units in [0, 1]."""

    epoch: int
    clean: float
    attacked: float
    certified: float
    tightness: float
    dead: float
    unstable: float
    #: Tightness of the sub-network before each activation, by its name; empty if not asked for.
    layers: dict[str, float]


class TrainingRecorder:
    """Records after epochs how accurate, robust and certifiable a module is, and why.

    In a loop of your own call :meth:`on_epoch_end`. The hook :meth:`on_train_epoch_end` has Lightning's name
    and arguments; its trainer asks for callbacks of its own class, which this becomes by
    ``class Recorder(tightrope.TrainingRecorder, lightning.Callback): pass``.

    >>> recorder = tightrope.TrainingRecorder(x, y, eps=0.1)  # doctest: +SKIP
    >>> for epoch in range(20):  # doctest: +SKIP
    ...     train_one_epoch(model)
    ...     recorder.on_epoch_end(model, epoch)
    >>> recorder.plot()  # doctest: +SKIP

    Parameters
    ----------
    x, y
        The inputs that are measured on, with their labels; some hundreds are enough.
    eps
        Radius of the l-inf balls.
    clip
        Range of the data; ``None`` for none.
    method
        How margins are bounded.
    attack
        ``(steps, restarts)`` of projected gradient descent.
    layers
        Whether to look at the sub-networks before activations: a pass per unit.
    every
        Epochs from one record to the next.

    Attributes
    ----------
    records
        One :class:`EpochFigures` for each recorded epoch.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        eps: float,
        *,
        clip: tuple[float, float] | Literal["auto"] | None = (0.0, 1.0),
        method: Method = "ibp",
        attack: tuple[int, int] = (10, 1),
        layers: bool = False,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise InputError(f"every: found {every}; accepted: a number of epochs from 1")
        self.x, self.y, self.eps = _array(x), _array(y), float(eps)
        if not len(self.x):
            raise InputError("x: found no inputs; accepted: at least one")
        self.clip, self.method, self.attack, self.layers, self.every = clip, method, attack, layers, every
        self.records: list[EpochFigures] = []

    def on_epoch_end(self, module: Any, epoch: int | None = None) -> EpochFigures | None:
        """Records the module's figures; nothing in an epoch between two records.

        ``epoch`` counts from 0; by default the one behind the last that was recorded.
        """
        if epoch is None:
            epoch = self.records[-1].epoch + self.every if self.records else 0
        if epoch % self.every:
            return None
        common: dict[str, Any] = {"clip": self.clip, "progress": False}
        net = _network(module, self.x)
        found = net.certify(self.x, self.y, self.eps, method=self.method, attack=self.attack, **common)
        report = net.tightness(self.x, self.y, self.eps, layers=self.layers, **common)
        units = report.dead + report.unstable + report.active
        layers = {name: float(np.mean(values)) for name, values in report.per_layer.items()}
        figures = EpochFigures(
            int(epoch),
            float(found.clean_accuracy),
            float(found.attacked_accuracy),
            float(found.certified_accuracy),
            float(np.mean(report.tightness)),
            float(np.mean(report.dead / units)),
            float(np.mean(report.unstable / units)),
            layers,
        )
        self.records.append(figures)
        return figures

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Lightning's hook: :meth:`on_epoch_end` with the trainer's ``current_epoch``."""
        self.on_epoch_end(pl_module, trainer.current_epoch)

    def _columns(self) -> dict[str, list[Any]]:
        names = [name for name in EpochFigures._fields if name != "layers"]
        columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in self.records] for name in names}
        for layer in self.records[0].layers if self.records else ():
            columns[f"tightness[{layer}]"] = [r.layers.get(layer, np.nan) for r in self.records]
        return columns

    def to_pandas(self) -> Any:
        """The records as a data frame, one row an epoch (needs pandas)."""
        import pandas

        return pandas.DataFrame(self._columns())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the records as CSV, one line an epoch."""
        columns = self._columns()
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values()))

    def plot(self, ax: Any = None) -> Any:
        """Accuracies, tightness and shares of units over the epochs (needs matplotlib)."""
        ax = _axes(ax)
        columns = self._columns()
        epochs = columns.pop("epoch")
        for name, values in columns.items():
            ax.plot(epochs, values, marker=".", label=name, linestyle=":" if name in ("dead", "unstable") else "-")
        ax.set(xlabel="epoch", ylabel=f"share or tightness at eps {self.eps:g}", ylim=(0, 1))
        ax.legend()
        return ax

    def __repr__(self) -> str:
        last = f", last {self.records[-1]}" if self.records else ""
        return f"TrainingRecorder(eps {self.eps:g}, {len(self.x)} inputs, {len(self.records)} epochs{last})"
