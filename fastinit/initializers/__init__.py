"""Distributions of tensors: initializers, fans, gains, and their text.

Imports core and distributions, never Numba. To add an initializer, write a factory under the decorator of `base`: in
`elementwise` (one distribution for all shapes), `scaling` (by fans: a scheme, and a row for each distribution) or
`structured` (a matrix made as a whole, its class in `matrices`). Repr, equality, pickling and `fastinit.parse` follow.
"""
