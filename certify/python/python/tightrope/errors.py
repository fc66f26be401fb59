"""What can go wrong. Messages are those of the library: they name the file, node or argument and
say what would be accepted."""

from __future__ import annotations

from typing import Any

__all__ = ["ClassifierError", "InputError", "Interrupted", "ModelError", "TightropeError"]


class TightropeError(Exception):
    """Any error of this package."""


class ModelError(TightropeError):
    """A network that cannot be loaded, or that an analysis does not cover."""


class InputError(TightropeError, ValueError):
    """Arrays or options that cannot be used."""


class ClassifierError(TightropeError):
    """A base classifier whose answers cannot be used."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a long call.

    Attributes
    ----------
    results
        The results of the inputs that were finished, of the type that the call returns.
    """

    def __init__(self, results: Any) -> None:
        super().__init__(f"interrupted after {len(results)} inputs; see .results")
        self.results = results

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.results,)
