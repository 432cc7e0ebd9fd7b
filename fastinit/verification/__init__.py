"""Verification of arrays against their distributions: `fastinit.verify`, also for the tensors of a file.

Imports core, distributions, initializers, sampling (threads, lowering) and kernels (the measures), not propagation.
`blocks` computes lazy arrays, `null_distribution` is the hypothesis in bins and normal scores, `geometry` the matrix
that an array is seen as, `scan` the one pass over the array or its `pieces`. Of what it has counted, `tests` looks at
the elements, `lines` at rows and columns, `lags` at correlations and periods, `dependence` at pairs of lines and
spectra, `repeats` at copies. `pvalues` are what statistics are compared with, `evidence` and `report` the verdict,
`checkpoints` several tensors, `streams` what they have in common, `regions` rows that have initializers of their own.
To add a test, write a function that adds to `Evidence` and call it in `tests.look`: Holm's correction, the table and
the JSON follow; a count it needs is one more field of `Accumulated`.
"""
