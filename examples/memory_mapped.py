"""Fill a memory-mapped .npy file in place: a stack of layers, each with a name of its own."""

import numpy as np

import fastinit as fi

LAYERS, WIDTH = 4, 256

stack = np.lib.format.open_memmap("layers.npy", "w+", np.float32, (LAYERS, WIDTH, WIDTH))
for k in range(LAYERS):
    fi.fill(stack[k], fi.normal(std=0.02, depth=LAYERS), seed=0, name=f"layers.{k}.weight")
stack.flush()

loaded = np.load("layers.npy", mmap_mode="r")
for k in range(LAYERS):
    report = fi.verify(loaded[k], fi.normal(std=0.02, depth=LAYERS))
    assert report.passed
    print(f"layers.{k}.weight: std {loaded[k].std():.5f}, {len(report.results)} tests passed")
