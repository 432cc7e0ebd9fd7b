"""Adapters, and what a rank runs in a process of its own, are collected where their packages are installed."""

from importlib.util import find_spec

_ADAPTERS = {
    "torch": ["fastinit/torch/*", "tests/torch_ranks.py"],
    "jax": ["fastinit/jax/*"],
    "dask": ["fastinit/dask.py"],
    "zarr": ["fastinit/zarr.py", "fastinit/io/zarr_*"],
}
collect_ignore_glob = [glob for package, globs in _ADAPTERS.items() if not find_spec(package) for glob in globs]
