"""Doctests of adapters are collected where their packages are installed."""

from importlib.util import find_spec

collect_ignore_glob = [f"fastinit/{name}/*" for name in ("jax", "torch") if not find_spec(name)]
