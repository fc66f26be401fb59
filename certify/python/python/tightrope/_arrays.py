"""Arrays on their way to the compiled part, and progress on the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from .errors import InputError

#: Seconds of work after which ``progress=None`` shows a bar.
PATIENCE = 2.0


def rows(x: ArrayLike, shape: Sequence[int] | None = None) -> NDArray[np.float32]:
    """Inputs as one row each. Nothing is copied if ``x`` is a C-contiguous float32 array.

    ``x`` is a batch of inputs of ``shape`` (with or without its leading axis of 1, or flat), or a
    single input.
    """
    array = np.asarray(x)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InputError(f"x: found an array of {array.dtype}; accepted: numbers")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise InputError(f"x: found an array of {array.dtype}; accepted: real numbers")
    array = np.ascontiguousarray(array, dtype=np.float32)
    if shape is None:
        if array.ndim < 2:
            raise InputError(f"x: found the shape {array.shape}; accepted: a batch, one input along the first axis")
        return array.reshape(len(array), -1)
    length = int(np.prod(shape))
    inner = tuple(n for n in shape if n != 1)
    found = array.shape
    if found[1:] in (tuple(shape), tuple(shape[1:]), (length,)) or tuple(n for n in found[1:] if n != 1) == inner:
        return array.reshape(found[0], length)
    if tuple(n for n in found if n != 1) == inner or found == (length,):
        return array.reshape(1, length)
    wanted = tuple(shape[1:] if len(shape) > 1 and shape[0] == 1 else shape)
    raise InputError(f"x: found the shape {found}; accepted: (n, {', '.join(map(str, wanted))}) or (n, {length})")


def labels(y: ArrayLike, count: int) -> list[int]:
    """Labels as integers, one for each input."""
    array = np.atleast_1d(np.asarray(y))
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"y: found shape {array.shape} of {array.dtype}; accepted: one integer for each input")
    if len(array) != count:
        raise InputError(f"y: found {len(array)} labels for {count} inputs; accepted: one for each")
    if count and array.min() < 0:
        raise InputError(f"y: found the label {array.min()}; accepted: classes from 0 on")
    return [int(label) for label in array]


class Progress:
    """Called with the number of inputs that are done; shows a bar on stderr or in the notebook."""

    def __init__(self, total: int, what: str, show: bool | None) -> None:
        self.total, self.what, self.show = total, what, show
        self.begin = time.monotonic()
        self.bar: Any = None

    def __call__(self, done: int) -> None:
        late = time.monotonic() - self.begin > PATIENCE
        if self.bar is None and (self.show or (self.show is None and late and done < self.total)):
            self.bar = tqdm(total=self.total, desc=self.what, unit="input")
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if self.bar is not None:
            if kind is None:
                self(self.total)
            self.bar.close()


def logits(f: Callable[[Any], Any], shape: Sequence[int]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A base classifier as a function from rows to rows of float32 logits.

    A torch module gets tensors on its own device, without gradients and in whatever mode it is in.
    """
    shape = tuple(shape)
    module = _torch_module(f)

    def call(noisy: NDArray[np.float32]) -> NDArray[np.float32]:
        noisy = noisy.reshape((len(noisy), *shape))
        answer = module(noisy) if module else f(noisy)
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu()
        answer = np.asarray(answer)
        if answer.ndim != 2 or len(answer) != len(noisy):
            from .errors import ClassifierError

            raise ClassifierError(
                f"found logits of shape {answer.shape} for {len(noisy)} inputs; accepted: one row for each"
            )
        return np.ascontiguousarray(answer, dtype=np.float32)

    return call


def _torch_module(f: Any) -> Callable[[NDArray[np.float32]], Any] | None:
    """A torch module as a function of arrays; nothing if ``f`` is none. Does not import torch."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not isinstance(f, torch.nn.Module):
        return None
    parameter = next(f.parameters(), None)
    device = parameter.device if parameter is not None else "cpu"

    def call(noisy: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            return f(torch.from_numpy(noisy).to(device))

    return call
