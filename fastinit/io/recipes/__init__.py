"""Recipes of well-known models, by name: which initializer each of their tensors gets."""
