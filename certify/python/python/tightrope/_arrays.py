"""Arrays on their way to the compiled part, and progress on the way back."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence, Sized
from contextvars import ContextVar
from itertools import chain
from typing import Any, Literal, TypeVar, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import TqdmWarning

from .errors import ClassifierError, InputError, Interrupted, TightropeError

with warnings.catch_warnings():
    # A notebook without ipywidgets gets a bar of text.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

#: The process that computed first: a fork of it has none of its threads.
_process: int | None = None

#: Seconds of work after which ``progress=None`` shows a bar.
PATIENCE = 2.0


def factor(x: ArrayLike, scale: float | None) -> float:
    """By what stored numbers are multiplied, by the rule of the command line: 8-bit pixels by 1/255, floats
    by 1; other integers only by a stated scale."""
    kind = np.asarray(x).dtype
    if scale is not None:
        number = real("scale", scale)
        if not 0 < number < np.inf:
            raise InputError(f"scale: found {number}; accepted: a finite factor above 0")
        return number
    if np.issubdtype(kind, np.integer) and kind != np.uint8:
        raise InputError(f"x: found an array of {kind} and no scale; accepted: uint8 or floats, or scale=...")
    return 1 / 255 if kind == np.uint8 else 1.0


def rows(x: ArrayLike, shape: Sequence[int] | None = None, scale: float | None = None) -> NDArray[np.float32]:
    """Inputs as one row each, scaled. Nothing is copied if ``x`` is a C-contiguous float32 array.

    ``x`` is a batch of inputs of ``shape`` (with or without its leading axis of 1, or flat), or a
    single input.
    """
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise TightropeError(
            "this process was forked from one that had computed already; accepted: multiprocessing with "
            'the start method "spawn", or threads'
        )
    array = np.asarray(x)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InputError(f"x: found an array of {array.dtype}; accepted: numbers")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise InputError(f"x: found an array of {array.dtype}; accepted: real numbers")
    by = factor(array, scale)
    if scale is None and array.dtype == np.uint8:
        # The nearest number to the quotient, as the command line has it.
        array = array.astype(np.float32) / np.float32(255)
    elif by != 1.0:
        array = array.astype(np.float64) * by
    array = np.ascontiguousarray(array, dtype=np.float32)
    if shape is None:
        if array.ndim < 2:
            raise InputError(f"x: found the shape {array.shape}; accepted: a batch, one input along the first axis")
        return array.reshape(len(array), int(np.prod(array.shape[1:])))
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
    if count and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"y: found the label {array.max()}; accepted: numbers of 64 bits with a sign")
    return array.tolist()  # type: ignore[no-any-return]


def whole(name: str, value: Any, least: int, most: int) -> int:
    """An option that is an integer from ``least`` to ``most``."""
    try:
        number = int(value)
        fits = number == value and least <= number <= most
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise InputError(f"{name}: found {value!r}; accepted: an integer from {least} to {most}")
    return number


def several(name: str, value: Any) -> list[Any]:
    """One value, or several, as a list of at least one."""
    values = [value] if isinstance(value, str) or np.ndim(value) == 0 else list(value)
    if not values:
        raise InputError(f"{name}: found none; accepted: at least one")
    return values


def real(name: str, value: Any) -> float:
    """An option that is a number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: found {value!r}; accepted: a number") from None


def _two(name: str, value: Any, form: str) -> tuple[Any, Any]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise InputError(f"{name}: found {value!r}; accepted: {form}") from None
    return first, second


def clipping(clip: Any, x: ArrayLike, scale: float | None) -> tuple[float, float] | None:
    """The range of the data, if there is one; ``"auto"`` is that of 8-bit pixels, and none for others."""
    if isinstance(clip, str) and clip == "auto":
        most = 1.0 if scale is None else float(np.float32(255 * factor(x, scale)))
        return (0.0, most) if np.asarray(x).dtype == np.uint8 else None
    if clip is None:
        return None
    low, high = _two("clip", clip, "(low, high)")
    return real("clip", low), real("clip", high)


#: A norm of perturbations, by name or as numpy has it.
Norm = Union[Literal["linf", "l2", "l1"], float]


def norm_name(norm: Any) -> str:
    """The name of a norm."""
    if isinstance(norm, str):
        return norm
    for number, name in ((np.inf, "linf"), (2, "l2"), (1, "l1")):
        if norm == number:
            return name
    raise InputError(f"norm: found {norm!r}; accepted: linf, l2, l1, or np.inf, 2, 1")


def budget(attack: Any) -> tuple[int, int] | None:
    """Steps and restarts of an attack, if there is one; as many as the command line takes."""
    if attack is None:
        return None
    steps, restarts = _two("attack", attack, "(steps, restarts)")
    return whole("attack", steps, 1, 100_000), whole("attack", restarts, 1, 100_000)


class Asked:
    """Options, read by the compiled part."""

    def __init__(self, **options: Any) -> None:
        self.__dict__.update(options)


#: Who answers in place of this process; see :class:`Run`.
elsewhere: ContextVar[Callable[[list[int]], Iterator[list[str]]] | None] = ContextVar("elsewhere", default=None)


class Run:
    """Where records go, which inputs are asked and by how many threads, read by the compiled part."""

    def __init__(
        self,
        scale: float,
        first: Any = 0,
        out: Any = None,
        resume: bool = False,
        shard: Any = None,
        threads: Any = None,
    ) -> None:
        if resume and out is None:
            raise InputError("resume: found without out; accepted: with the run file as out")
        if shard is not None:
            part, parts = _two("shard", shard, "(part, parts)")
            parts = whole("shard", parts, 1, 2**31)
            shard = whole("shard", part, 0, parts - 1), parts
        self.out = None if out is None else os.fspath(out)
        self.resume, self.shard = bool(resume), shard
        self.first, self.scale = whole("first", first, 0, 2**62), scale
        self.threads = None if threads is None else whole("threads", threads, 1, 2**16)
        self.elsewhere = elsewhere.get()


Result = TypeVar("Result", bound=Sized)


def finish(result: Result, failed: BaseException | None) -> Result:
    """The results of a call; if something ended it before the last input, that, with the results so far."""
    if failed is None:
        return result
    if isinstance(failed, KeyboardInterrupt):
        raise Interrupted(result) from failed
    # Also of an error that another process sent, which may have none of its own.
    failed.results = result  # type: ignore[attr-defined]
    if hasattr(failed, "add_note"):
        failed.add_note(f"the results of {len(result)} finished inputs are in .results of this exception")
    raise failed


class Progress:
    """Called with the number of inputs that are done; shows a bar on stderr or in the notebook."""

    def __init__(self, total: int, what: str, show: bool | None) -> None:
        self.total, self.what, self.show = total, what, show
        self.begin = time.monotonic()
        self.bar: Any = None

    def __call__(self, done: int) -> None:
        late = time.monotonic() - self.begin > PATIENCE
        if self.bar is None and (self.show or (self.show is None and late and done < self.total)):
            self.bar = tqdm(total=self.total, desc=self.what, unit="input", initial=done)
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if self.bar is not None:
            self.bar.close()


def logits(f: Callable[[Any], Any], shape: Sequence[int]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A base classifier as a function from rows to rows of float32 logits.

    A torch module gets tensors of its own type on its own device, without gradients and in whatever mode
    it is in.
    """
    if not callable(f):
        raise ClassifierError(
            f"f: found {type(f).__name__}, which cannot be called; accepted: a tightrope.Network, a torch "
            "module, or a function from a batch to logits"
        )
    shape = tuple(shape)
    module = _torch_module(f)

    def call(noisy: NDArray[np.float32]) -> NDArray[np.float32]:
        noisy = noisy.reshape((len(noisy), *shape))
        answer = module(noisy) if module else f(noisy)
        if hasattr(answer, "detach"):
            answer = answer.detach().float().cpu()
        answer = np.asarray(answer)
        if answer.ndim != 2 or len(answer) != len(noisy):
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
    if f.training:
        warnings.warn(
            "the torch module is in training mode, where answers may depend on the rest of a batch, which "
            "no certificate covers; call .eval() on it first",
            stacklevel=4,
        )
    own = list(chain(f.parameters(), f.buffers()))
    device = next((tensor.device for tensor in own), "cpu")
    kind = next((tensor.dtype for tensor in own if tensor.is_floating_point()), torch.float32)

    def call(noisy: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            return f(torch.from_numpy(noisy).to(device, kind))

    return call
