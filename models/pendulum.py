"""Trains the controller of an inverted pendulum whose properties are in properties/.

The state is (theta, omega), the angle from upright in rad and its rate in rad/s; the output is the torque.
With the unit torque of gravity and unit inertia the pendulum obeys theta'' = sin theta + u. The controller
learns the feedback -(3 sin theta + 2 omega), cut to [-2, 2], on states of [-1, 1] x [-2, 2].

    pip install numpy onnx
    python3 models/pendulum.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTHS = [2, 32, 32, 1]
STEPS, BATCH, RATE = 6000, 256, 3e-3


def feedback(state):
    """The torque that is learned, for states `n x 2`."""
    return np.clip(-(3.0 * np.sin(state[:, :1]) + 2.0 * state[:, 1:]), -2.0, 2.0)


def train(rng):
    """Weights and biases of every layer, by Adam on the squared error with a cosine rate."""
    layers = []
    for n, m in zip(WIDTHS, WIDTHS[1:]):
        layers += [rng.normal(size=(m, n)) * np.sqrt(2.0 / n), np.zeros(m)]
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in layers]
    for step in range(STEPS):
        x = rng.uniform([-1.0, -2.0], [1.0, 2.0], size=(BATCH, 2))
        activations = [x]
        for k in range(0, len(layers), 2):
            z = activations[-1] @ layers[k].T + layers[k + 1]
            activations.append(z if k + 2 == len(layers) else np.maximum(z, 0.0))
        gradient = 2.0 * (activations[-1] - feedback(x)) / BATCH
        gradients = [None] * len(layers)
        for k in range(len(layers) - 2, -1, -2):
            gradients[k], gradients[k + 1] = gradient.T @ activations[k // 2], gradient.sum(axis=0)
            gradient = (gradient @ layers[k]) * (activations[k // 2] > 0)
        rate = 0.5 * RATE * (1.0 + np.cos(np.pi * step / STEPS))
        for p, g, m in zip(layers, gradients, moments):
            m[0] = 0.9 * m[0] + 0.1 * g
            m[1] = 0.999 * m[1] + 0.001 * g * g
            first, second = m[0] / (1.0 - 0.9 ** (step + 1)), m[1] / (1.0 - 0.999 ** (step + 1))
            p -= rate * first / (np.sqrt(second) + 1e-8)
    return [p.astype(np.float32) for p in layers]


def export(layers, path):
    """Writes the network as ONNX: input `state`, N x 2; output `torque`, N x 1."""
    nodes, tensors, last = [], [], "state"
    for k in range(0, len(layers), 2):
        names = [f"w{k // 2}", f"b{k // 2}"]
        tensors += [numpy_helper.from_array(p, name) for p, name in zip(layers[k : k + 2], names)]
        end = k + 2 == len(layers)
        out = "torque" if end else f"z{k // 2}"
        nodes.append(helper.make_node("Gemm", [last, *names], [out], transB=1))
        if not end:
            nodes.append(helper.make_node("Relu", [out], [f"a{k // 2}"]))
        last = f"a{k // 2}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", m]) for n, m in (("state", 2), ("torque", 1))]
    graph = helper.make_graph(nodes, "pendulum", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    rng = np.random.default_rng(0)
    layers = train(rng)
    x = rng.uniform([-1.0, -2.0], [1.0, 2.0], size=(10000, 2))
    y = x
    for k in range(0, len(layers), 2):
        y = y @ layers[k].T + layers[k + 1]
        y = y if k + 2 == len(layers) else np.maximum(y, 0.0)
    error = np.abs(y - feedback(x))
    print(f"mean error {error.mean():.4f}, greatest of 10,000 states {error.max():.4f}")
    export(layers, Path(__file__).parent / "pendulum.onnx")


if __name__ == "__main__":
    main()
