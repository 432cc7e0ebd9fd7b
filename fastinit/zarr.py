"""fastinit for zarr: arrays on disk or in any other store, filled chunk by chunk in parallel.

A room on top of all others. The work is that of `fastinit.io`'s modules of zarr, which the command line uses too.
"""

from fastinit.io.zarr_arrays import fill_zarr as fill
from fastinit.io.zarr_plans import create, package

package()  # so that an import without zarr says what is missing

__all__ = ["create", "fill"]
