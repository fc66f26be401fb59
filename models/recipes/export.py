"""Networks as ONNX files, and their cards."""

import json
import os

import numpy as np
import onnx
import onnxruntime
import torch


def inline_shared_weights(model):
    """Let nodes read a weight directly where the exporter put an Identity in between.

    It does so for equal tensors, here the shift of a block's last batch norm and that of
    its shortcut, which start alike and receive the same gradients.
    """
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    source = {}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in weights:
            source[node.output[0]] = node.input[0]
            graph.node.remove(node)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = source.get(name, name)


def export_onnx(network, path, sample):
    """Export, check against onnxruntime, move into place; return the largest difference."""
    temporary = path.with_name("." + path.name + ".tmp")
    # PRESERVE keeps BatchNormalization as a node of its own; EVAL would fold it into Conv.
    torch.onnx.export(
        network.eval(),
        (sample[:1].clone(),),
        str(temporary),
        dynamo=False,
        opset_version=17,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    model = onnx.load(str(temporary))
    inline_shared_weights(model)
    onnx.save(model, str(temporary))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
    difference = 0.0
    for count in (1, len(sample)):
        (got,) = session.run(["logits"], {"input": sample[:count].numpy()})
        with torch.no_grad():
            want = network(sample[:count]).numpy()
        difference = max(difference, float(np.abs(got - want).max()))
    if not difference <= 1e-4:
        raise SystemExit(f"{path.name}: onnxruntime differs from torch by {difference}")
    os.replace(temporary, path)
    return difference


def toml_value(value):
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(round(value, 6)) if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"
    return str(value)


def card_text(top, tables):
    lines = [f"{key} = {toml_value(value)}" for key, value in top.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]"] + [f"{key} = {toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
