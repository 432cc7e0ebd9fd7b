"""Verification of arrays against their distributions: `fastinit.verify`, also for the tensors of a file.

Imports core, distributions, initializers, sampling (threads, lowering) and kernels (the accumulators), not propagation.
`blocks` computes lazy arrays, `null_distribution` is the hypothesis in bins, `scan` the one pass over the array or its
`pieces`, `tests` the statistics, `pvalues` what they are compared with, `report` the verdict, `checkpoints` several
tensors, `regions` rows that have initializers of their own. To add a test, write a function in `tests` that adds to
its `Evidence` and call it in `look`: Holm's correction, the table and the JSON follow; a count it needs is one more
field of `Accumulated`.
"""
