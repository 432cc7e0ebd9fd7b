"""Which distribution a tensor gets: initializers, fans, gains, and their text.

Imports core and distributions, never Numba. To add an initializer, write a factory in `elementwise` (every shape the
same), `scaling` (by fans: a scheme, and a row for each distribution) or `structured` (a matrix made as a whole, its
class in `matrices`) under the decorator of `base`: repr, equality, pickling and `fastinit.parse` follow from that.
"""
