"""Everything that Numba compiles: the generator, the transforms, and the loops of the CPU and of a GPU.

The room imports Numba, `fastinit.core` and nothing else of the package: kernels are given finished parameters, and
never see a distribution. Who calls kernels imports ``cache``, ``entries``, ``layout``, ``measures``, ``parameters``,
``processor`` and ``workers``, which import no Numba. To add a transform, write its class in ``parameters`` and its
function in ``transforms``; a kind of processor is a `fastinit.kernels.processor.Target`.

All that decides compiled code comes from the files of this room and from the table of dtypes: the cache tells versions
apart by their text.
"""
