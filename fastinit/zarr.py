"""fastinit for zarr: arrays on disk or in any other store, filled chunk by chunk in parallel.

Only the command line may import this room. The work is that of `fastinit.io`'s modules of zarr, which the command line
uses too; zarr is imported when a function is called.
"""

from fastinit.io.zarr_arrays import fill_zarr as fill
from fastinit.io.zarr_plans import create

__all__ = ["create", "fill"]
