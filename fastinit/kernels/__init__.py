"""Everything that Numba compiles: the generator, the transforms, and the loops of the CPU and of a GPU.

The room imports Numba, `fastinit.core` and nothing else of the package: kernels are given finished parameters, and
never see a distribution. To add a transform, write its class and function in `fastinit.kernels.transforms` and give it
a row of ``TRANSFORMS``; a kind of processor is a `fastinit.kernels.simd.Target`.

All that decides compiled code comes from the files of this room and from the table of dtypes: the cache tells versions
apart by their text.
"""
