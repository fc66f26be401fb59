from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

_Rows = NDArray[np.float32]
_Clip = tuple[float, float] | None
_Progress = Callable[[int], Any]

class Network:
    def __new__(cls, path: str, input_shape: list[int] | None, mean: list[float], std: list[float]) -> Network: ...
    @property
    def input_shape(self) -> list[int]: ...
    @property
    def output_shape(self) -> list[int]: ...
    @property
    def nodes(self) -> list[tuple[str, str, str, list[int]]]: ...
    def evaluate(self, x: _Rows) -> _Rows: ...
    def bounds(
        self, x: _Rows, eps: float, method: str, norm: str, clip: _Clip, run: Any, progress: _Progress
    ) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], BaseException | None]: ...
    def certify(
        self,
        x: _Rows,
        y: list[int],
        eps: float,
        method: str,
        norm: str,
        clip: _Clip,
        attack: tuple[int, int] | None,
        seed: int,
        evaluation: str,
        timeout: float | None,
        run: Any,
        progress: _Progress,
    ) -> tuple[dict[str, Any], BaseException | None]: ...
    def tightness(
        self,
        x: _Rows,
        y: list[int],
        eps: float,
        mask: str,
        clip: _Clip,
        samples: int,
        seed: int,
        run: Any,
        progress: _Progress,
    ) -> tuple[dict[str, Any], BaseException | None]: ...
    def lipschitz(
        self,
    ) -> tuple[list[tuple[str, str, list[int], float | None, float | None]], float | None, str | None]: ...

def smooth(
    base: Network | Callable[[_Rows], _Rows], x: _Rows, y: list[int] | None, asked: Any, run: Any, progress: _Progress
) -> tuple[list[str], BaseException | None]: ...
def verify(
    property: str, networks: list[tuple[str | None, str]], timeout: float | None, real: bool, progress: _Progress
) -> dict[str, Any]: ...
def verify_box(
    network: Network,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    disjuncts: list[list[tuple[list[float], float]]],
    evaluation: str,
    timeout: float | None,
    progress: _Progress,
) -> dict[str, Any]: ...
def bound_counts(
    name: str, successes: NDArray[np.int64], trials: NDArray[np.int64], alpha: float, upper: bool
) -> NDArray[np.float64]: ...
def bound_scores(name: str, scores: NDArray[np.float64], alpha: float, upper: bool) -> NDArray[np.float64]: ...
def radius(
    p_lower: NDArray[np.float64], p_upper: NDArray[np.float64] | None, sigma: float, noise: str
) -> NDArray[np.float64]: ...
