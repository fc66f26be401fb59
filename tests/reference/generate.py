#!/usr/bin/env python3
"""Writes operators.npz: small ONNX models with what onnxruntime computes of them.

    python3 tests/reference/generate.py [PATTERN]

needs onnx, onnxruntime and numpy (the file is by 1.23, 1.32 and 2.4). The cases
are the table in `cases.py`. With a PATTERN, the cases whose names contain it are
printed and nothing is written.

The file holds four arrays, which `tests/operators.rs` reads:

- `index`: UTF-8 JSON, one object a case: name, the model's place among the bytes
  of `models`, input and output shapes, number of points, radius, tolerance,
  options;
- `models`: the serialised models, one after the other;
- `inputs`, `outputs`: f32, the points of each case one after the other. The first
  point of a case is the centre of a box of the case's radius, all others lie in
  that box: its lowest and its highest corner, a random corner, a random point.
"""

import json
import pathlib
import sys
import zlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import cases

onnxruntime.set_default_logger_severity(4)
TYPES = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE, np.float16: TensorProto.FLOAT16}


# Operator sets of other domains.
DOMAINS = {"ai.onnx.ml": 3, "com.microsoft": 1}


def coarse(values, step=1 / 64):
    """Values with few bits in the mantissa, which compress well."""
    return np.round(np.asarray(values) / step) * step


def constants(case, rng):
    """The constants of a case by name: a tuple stands for random weights of that shape, none zero."""
    made = {}
    for name, value in case.constants.items():
        if isinstance(value, tuple):
            value = coarse(rng.normal(size=value), 1 / 32)
            value = np.where(value == 0, 1 / 32, value).astype(case.dtype)
        elif isinstance(value, (float, list)):
            value = np.array(value, case.dtype)
        made[name] = value
    return made


def build(case, tensors):
    """The model, with its constants stored as the case asks."""
    nodes, inputs, initializers = [], [], []
    declared = [helper.make_tensor_value_info("x", TYPES[case.dtype], case.declared or case.shape)]
    for name, value in tensors.items():
        tensor = numpy_helper.from_array(value, name)
        if case.store == "nodes":
            nodes.append(helper.make_node("Constant", [], [name], name=f"constant {name}", value=tensor))
        else:
            initializers.append(tensor)
        if case.store == "inputs":
            declared.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    for i, (kind, reads, writes, attributes) in enumerate(case.nodes):
        names = [[w if w != "_" else "" for w in words.split()] for words in (reads, writes)]
        nodes.append(helper.make_node(kind, *names, name=f"{kind}{i}", **attributes))
    output = helper.make_tensor_value_info("y", TYPES[case.result or case.dtype], None)
    graph = helper.make_graph(nodes, "case", declared, [output], initializers)
    version = 3 if case.store == "inputs" else 8
    opsets = [helper.make_opsetid("", case.opset)]
    opsets += [helper.make_opsetid(domain, DOMAINS[domain]) for domain in sorted({node.domain for node in nodes} - {""})]
    return helper.make_model(graph, opset_imports=opsets, ir_version=version, producer_name="")


def points(case, rng):
    """The centre of the box and points in it, `n x shape`, all of them exact in f32."""
    if case.x is None:
        centre = coarse(rng.uniform(*case.between, size=case.shape))
    else:
        centre = np.array(case.x, np.float64).reshape(case.shape)
    r = case.radius
    corner = r * rng.choice([-1.0, 1.0], size=case.shape)
    inner = coarse(rng.uniform(-r, r, size=case.shape), r / 64)
    return np.stack([centre, centre - r, centre + r, centre + corner, centre + inner]).astype(np.float32)


def evaluate(model, x, dtype):
    """What onnxruntime computes, node by node as the model says, for each of the points."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.stack([session.run(["y"], {"x": point.astype(dtype)})[0] for point in x]).astype(np.float32)


def main():
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    index, models, inputs, outputs, offset = [], [], [], [], 0
    for case in cases.CASES:
        if pattern not in case.name:
            continue
        # Seeded by its name, so that a case does not depend on the others.
        rng = np.random.default_rng(zlib.crc32(case.name.encode()))
        try:
            model = build(case, constants(case, rng))
            x = points(case, rng)
            y = evaluate(model, x, case.dtype)
        except Exception as error:
            sys.exit(f"{case.name}: {error}")
        if pattern:
            print(f"{case.name}\n{onnx.printer.to_text(model.graph)}\n{x[0]}\n-> {y[0]}\n")
        text = model.SerializeToString(deterministic=True)
        index.append({
            "name": case.name,
            "model": [offset, offset + len(text)],
            "input": list(case.shape),
            "output": list(y.shape[1:]),
            "points": len(x),
            "radius": case.radius,
            "tolerance": case.tolerance,
            "given_shape": case.given_shape,
            "continuous": case.continuous,
        })
        offset += len(text)
        models.append(text)
        inputs.append(x.ravel())
        outputs.append(y.ravel())
    names = [case["name"] for case in index]
    assert len(names) == len(set(names)), "names are unique"
    if not pattern:
        path = pathlib.Path(__file__).with_name("operators.npz")
        np.savez_compressed(
            path,
            index=np.frombuffer(json.dumps(index, separators=(",", ":")).encode(), np.uint8),
            models=np.frombuffer(b"".join(models), np.uint8),
            inputs=np.concatenate(inputs),
            outputs=np.concatenate(outputs),
        )
        print(f"{len(index)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
