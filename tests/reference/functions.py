"""Writes functions.csv: values and derivatives of elementwise functions with 60 digits.

Each is the sum of two doubles, `high` (the nearest) and `low`. Needs mpmath.
"""

import random
from pathlib import Path

from mpmath import acos, acosh, asin, asinh, atan, atanh, cosh, diff, erf, erfc, exp, expm1, cos, log, log1p, mp, mpf, pi, sin, sinh, sqrt, tan, tanh, workdps

mp.dps = 60


def sigmoid(x):
    return 1 / (1 + exp(-x))


LINE = (-40.0, 40.0)
POSITIVE = (1e-6, 50.0)
INSIDE = (-0.9999, 0.9999)
FUNCTIONS = {
    "exp": (exp, LINE),
    "sigmoid": (sigmoid, LINE),
    "tanh": (tanh, (-25.0, 25.0)),
    "softplus": (lambda x: log1p(exp(x)), LINE),
    "elu": (lambda x: x if x >= 0 else expm1(x), LINE),
    "erf": (erf, (-6.0, 6.0)),
    "gelu": (lambda x: x * erfc(-x / sqrt(mpf(2))) / 2, (-30.0, 30.0)),
    "gelu_tanh": (lambda x: x * sigmoid(2 * sqrt(2 / pi) * (x + mpf(0.044715) * x**3)), (-12.0, 12.0)),
    "hard_swish": (lambda x: x * min(max(x / 6 + mpf(1) / 2, mpf(0)), mpf(1)), (-4.0, 4.0)),
    "log": (log, POSITIVE),
    "sqrt": (sqrt, POSITIVE),
    "reciprocal": (lambda x: 1 / x, POSITIVE),
    "pow3": (lambda x: x**3, (-30.0, 30.0)),
    "pow2.5": (lambda x: x ** mpf(2.5), POSITIVE),
    "pow-1.5": (lambda x: x ** mpf(-1.5), POSITIVE),
    "sin": (sin, (-1000.0, 1000.0)),
    "cos": (cos, (-1000.0, 1000.0)),
    "silu": (lambda x: x * sigmoid(x), LINE),
    "mish": (lambda x: x * tanh(log1p(exp(x))), LINE),
    "softsign": (lambda x: x / (1 + abs(x)), LINE),
    "tan": (tan, (-1.57, 1.57)),
    "asin": (asin, INSIDE),
    "acos": (acos, INSIDE),
    "atan": (atan, (-1000.0, 1000.0)),
    "sinh": (sinh, LINE),
    "cosh": (cosh, LINE),
    "asinh": (asinh, (-1000.0, 1000.0)),
    "acosh": (acosh, (1.0001, 1000.0)),
    "atanh": (atanh, INSIDE),
}


def main():
    draw = random.Random(1)
    lines = ["function,x,high,low,slope_high,slope_low"]
    for name, (function, (start, end)) in FUNCTIONS.items():
        points = [start, end] + [start + (end - start) * draw.random() for _ in range(60)]
        # Near zero and near one, where cancellation would show.
        points += [draw.choice([1, -1 if start < 0 else 1]) * 10 ** draw.uniform(-6, 0) for _ in range(30)]
        points += [1 + draw.uniform(-1e-3, 1e-3) for _ in range(10)]
        for x in (x for x in points if start <= x <= end):
            with workdps(160):
                slope = diff(function, mpf(x), h=mpf(10) ** -50)
            row = [name, repr(x)]
            for value in (function(mpf(x)), slope):
                high = float(value)
                row += [repr(high), repr(float(value - mpf(high)))]
            lines.append(",".join(row))
    Path(__file__).with_name("functions.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
