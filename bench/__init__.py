"""Measurements and derivations that stand beside the package."""
