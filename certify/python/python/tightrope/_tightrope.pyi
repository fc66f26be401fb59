from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

_Rows = NDArray[np.float32]
_Clip = tuple[float, float] | None
_Progress = Callable[[int], Any]
_Lines = tuple[str, list[str], BaseException | None]
_Limits = tuple[float | None, int | None]

class Network:
    def __new__(
        cls,
        model: str | bytes,
        input_shape: list[int] | None,
        mean: list[float],
        std: list[float],
        fix: dict[str, NDArray[np.float32]],
        output: str | None,
    ) -> Network: ...
    @property
    def input_shape(self) -> list[int]: ...
    @property
    def output_shape(self) -> list[int]: ...
    @property
    def nodes(self) -> list[tuple[str, str, str, list[int]]]: ...
    def evaluate(self, x: _Rows) -> _Rows: ...
    def bounds(
        self, x: _Rows, asked: Any, run: Any, progress: _Progress
    ) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], BaseException | None]: ...
    def certify(
        self, x: _Rows, y: list[int], asked: Any, run: Any, progress: _Progress
    ) -> tuple[_Lines, _Rows | None]: ...
    def brackets(self, x: _Rows, y: list[int], asked: Any, run: Any, progress: _Progress) -> _Lines: ...
    def tightness(self, x: _Rows, y: list[int], asked: Any, run: Any, progress: _Progress) -> _Lines: ...
    def lipschitz(
        self,
    ) -> tuple[list[tuple[str, str, list[int], float | None, float | None]], float | None, str | None]: ...

def smooth(
    base: Network | Callable[[_Rows], _Rows], x: _Rows, y: list[int] | None, asked: Any, run: Any, progress: _Progress
) -> _Lines: ...
def verify(
    property: str, networks: list[tuple[str | None, str]], limits: _Limits, real: bool, progress: _Progress
) -> dict[str, Any]: ...
def verify_table(
    table: str,
    indices: tuple[int, int] | None,
    arithmetic: tuple[bool, str | None, bool],
    timeout: float | None,
    run: Any,
    progress: _Progress,
) -> _Lines: ...
def verify_box(
    network: Network,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    disjuncts: list[list[tuple[list[float], float]]],
    evaluation: str,
    limits: _Limits,
    progress: _Progress,
) -> dict[str, Any]: ...
def images(
    files: tuple[str, str | None, str | None],
    scale: float | None,
    shape: list[int] | None,
    indices: tuple[int | None, int | None],
) -> tuple[_Rows, list[int], list[int] | None, tuple[float, float] | None, list[str] | None]: ...
def read(files: list[str]) -> tuple[str, list[str]]: ...
def bound_counts(
    name: str, successes: NDArray[np.int64], trials: NDArray[np.int64], alpha: float, upper: bool
) -> NDArray[np.float64]: ...
def bound_scores(name: str, scores: NDArray[np.float64], alpha: float, upper: bool) -> NDArray[np.float64]: ...
def radius(
    p_lower: NDArray[np.float64], p_upper: NDArray[np.float64] | None, sigma: float, noise: str
) -> NDArray[np.float64]: ...
