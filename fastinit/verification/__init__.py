"""Verification of arrays against their distributions: `fastinit.verify`, also for the tensors of a file.

Imports core, distributions, initializers, sampling (threads, lowering) and kernels (the accumulators), not propagation.
`blocks` computes lazy arrays, `null_distribution` is the hypothesis in bins, `scan` the one pass over the array,
`tests` the statistics, `report` the verdict, `checkpoints` several tensors. To add a test, write a function in `tests`
that adds to its `Evidence` and call it in `look`: Holm's correction, the table and the JSON follow; a count it needs is
one more field of `Accumulated`.
"""
