"""Doctests of adapters are collected where their packages are installed."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["fastinit/torch/*"]
