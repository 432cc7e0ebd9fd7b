"""Shards filled by Spark's tasks: each gets a place, and makes the values that the whole tensor has there."""

import os
import sys

import numpy as np
from pyspark.sql import SparkSession

import fastinit as fi

SHAPE, NAME, INIT = (1000, 512), "layers.0.mlp.up", fi.he_normal()
ROWS = 300


def shard_from(row: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return the rows from this one on."""
    out = np.empty((min(ROWS, SHAPE[0] - row), SHAPE[1]), np.float32)
    return fi.fill(out, INIT, seed=0, name=NAME, global_shape=SHAPE, global_offset=(row, 0), threads=1)


os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
shards = spark.sparkContext.parallelize(range(0, SHAPE[0], ROWS), 4).map(shard_from).collect()
spark.stop()
assert np.array_equal(np.concatenate(shards), fi.array(SHAPE, INIT, seed=0, name=NAME))
print(f"{len(shards)} shards of Spark's tasks: the values of the whole tensor")
