#!/usr/bin/env python3
"""Writes standard.txt: the operators of ONNX's standard domain in operator set 24, with the set each came with."""

from pathlib import Path

from onnx import defs

LAST = 24
since = {}
for schema in defs.get_all_schemas_with_history():
    if schema.domain == "" and schema.since_version <= LAST:
        since[schema.name] = min(since.get(schema.name, LAST), schema.since_version)
Path(__file__).with_name("standard.txt").write_text("".join(f"{name} {n}\n" for name, n in sorted(since.items())))
