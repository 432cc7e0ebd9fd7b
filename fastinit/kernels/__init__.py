"""Everything that Numba compiles; nothing above this package imports Numba."""
