"""Values into memory: `fill`, `array` and `words` check, plan and run.

`fastinit.sampling.checks` refuses, `plan` is layout arithmetic, `lowering` turns a distribution into a kernel's
arguments, `cpu` and `cuda` are the backends. The room imports the initializers, the distributions and, at the first
fill, the kernels, since importing Numba takes 0.3 s. To add a kind of memory, write a module with the functions of
`fastinit.sampling.backend.Backend`, and let ``fill`` select it.
"""
