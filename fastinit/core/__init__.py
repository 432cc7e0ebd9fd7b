"""Foundations of every room: checks of arguments, keys and streams, text for people, threads' environment and forks.

Imports NumPy and the standard library alone; `environment` takes LLVM where it must change a register. Something
belongs here if two rooms need it and it knows nothing of weights: give it a module named after its content, and a
check of an argument a function in `checks`, so that a message is written once.
"""
