"""The contenders: one row each, with what it can do and how it fills a buffer; and the check of what it filled.

A contender that cannot write into a given buffer makes a new array, on fresh pages, each time: it is compared with the
ceilings on fresh pages. Nothing but fastinit is imported before a contender is made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import product
from typing import Any

import numpy as np

import fastinit as fi
from bench.ceilings import STORES, store
from fastinit.core.dtypes import FLOATS, dtype_of
from fastinit.sampling.threads import thread_count

Array = np.ndarray[Any, Any]
Fill = Callable[[Array], Any]  # fills the array, or leaves it alone and returns a new one

ALL = thread_count()
BOTH = tuple(dict.fromkeys((1, ALL)))
GIB = 1 << 30
OURS = "fastinit-weights"  # the package, as it is installed

UNIFORM, NORMAL, TRUNCATED, XAVIER, HE = DISTRIBUTIONS = (
    "uniform",
    "normal",
    "truncated normal",
    "Xavier uniform",
    "He normal",
)
ZEROS = "zeros"  # what the ceilings store
INITS = dict(
    zip(
        (*DISTRIBUTIONS, ZEROS),
        (fi.uniform(), fi.normal(), fi.truncated_normal(), fi.xavier_uniform(), fi.he_normal(), fi.zeros()),
        strict=True,
    )
)


def pages(size: int) -> Array:
    """So many bytes from a page's boundary on."""
    memory = np.empty(size + 4096, np.uint8)
    return memory[-memory.ctypes.data % 4096 :][:size]


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    contender: str
    distribution: str
    dtype: str
    nbytes: int
    threads: int

    @property
    def shape(self) -> tuple[int, int]:
        """Two axes, nearly square: the fans are those of a dense layer of this size."""
        size = self.nbytes // dtype_of(self.dtype).itemsize
        rows = 1 << (size.bit_length() - 1) // 2
        return rows, size // rows

    @property
    def values(self) -> Any:
        """The distribution that its values should follow."""
        return INITS[self.distribution].distribution(self.shape)

    def empty(self) -> Array:
        """An array on a page's boundary; its pages are fresh, if it is large."""
        return self.of(pages(self.nbytes))

    def of(self, memory: Array) -> Array:
        """The beginning of some memory as the array that is filled."""
        return memory[: self.nbytes].view(dtype_of(self.dtype)).reshape(self.shape)


@dataclass(frozen=True)
class Contender:
    """A row of the table."""

    name: str
    library: str  # of rows of one library the picture shows the best
    package: str  # as installed, for its version
    make: Callable[[Case], Fill]
    distributions: Sequence[str] = DISTRIBUTIONS
    dtypes: Sequence[str] = ("float32", "float64")
    threads: Sequence[int] = BOTH
    in_place: bool = True
    limit: int = GIB  # bytes of its largest array: more would take minutes


def _parts(fills: Sequence[Fill], block: int = GIB) -> Fill:
    """Fill an array in as many parts as there are fills, each on its own thread, in blocks of so many elements."""
    pool = ThreadPoolExecutor(len(fills))

    def part(fill: Fill, out: Array) -> None:
        for begin in range(0, out.size, block):
            fill(out[begin : begin + block])

    def whole(out: Array) -> None:
        flat = out.reshape(-1)
        if len(fills) == 1:
            part(fills[0], flat)
        else:
            list(pool.map(part, fills, np.array_split(flat, len(fills))))

    return whole


def _fastinit() -> Iterator[Contender]:
    def fill(case: Case) -> Fill:
        return lambda out: fi.fill(out, INITS[case.distribution], seed=0, name="bench", threads=case.threads)

    def array(case: Case) -> Fill:
        options: Any = {"seed": 0, "name": "bench", "dtype": case.dtype, "threads": case.threads}
        return lambda out: fi.array(case.shape, INITS[case.distribution], **options)

    yield Contender("fastinit.fill", "fastinit", OURS, fill, dtypes=FLOATS, limit=8 * GIB)
    yield Contender("fastinit.array", "fastinit.array", OURS, array, dtypes=FLOATS, in_place=False)


def _ceilings() -> Iterator[Contender]:
    def warm(kind: str) -> Callable[[Case], Fill]:
        return lambda case: lambda out: store(kind, out, case.threads)

    def fresh(kind: str) -> Callable[[Case], Fill]:
        def make(case: Case) -> Fill:
            def fill(_: Array) -> Array:
                out = case.empty()
                store(kind, out, case.threads)
                return out

            return fill

        return make

    for kind, (suffix, make) in product(STORES, (("", warm), (", fresh pages", fresh))):
        name = kind + suffix
        yield Contender(name, name, OURS, make(kind), [ZEROS], ["float32"], in_place=make is warm)


def _numpy() -> Iterator[Contender]:
    def make(generator: str) -> Callable[[Case], Fill]:
        def fills(case: Case) -> Fill:
            seeds = np.random.SeedSequence(0).spawn(case.threads)
            return _parts([draw(case.values, np.random.Generator(getattr(np.random, generator)(s))) for s in seeds])

        return fills

    def draw(distribution: Any, rng: Any) -> Fill:
        def uniform(out: Array) -> None:
            rng.random(out=out, dtype=out.dtype)
            if (distribution.low, distribution.high) != (0, 1):
                out *= distribution.high - distribution.low
                out += distribution.low

        def normal(out: Array) -> None:
            rng.standard_normal(out=out, dtype=out.dtype)
            if distribution.std != 1:
                out *= distribution.std

        return uniform if isinstance(distribution, fi.Uniform) else normal

    distributions = (UNIFORM, NORMAL, XAVIER, HE)
    for generator in ("PCG64", "SFC64", "Philox"):
        yield Contender(f"NumPy {generator}", "NumPy", "numpy", make(generator), distributions, threads=(1,))
        if ALL > 1:  # the recipe of NumPy's documentation: a generator a thread, from one seed's children
            name = f"NumPy {generator}, a part a thread"
            yield Contender(name, "NumPy, a part a thread", "numpy", make(generator), distributions, threads=(ALL,))


def _torch() -> Iterator[Contender]:
    def make(case: Case) -> Fill:
        import torch
        from torch.nn import init

        fills: dict[str, Callable[[Any], object]] = {
            UNIFORM: init.uniform_,
            NORMAL: init.normal_,
            TRUNCATED: init.trunc_normal_,
            XAVIER: init.xavier_uniform_,
            HE: init.kaiming_normal_,
        }

        def fill(out: Array) -> None:
            torch.set_num_threads(case.threads)
            half = out.dtype.name == "bfloat16"
            fills[case.distribution](
                torch.from_numpy(out.view(np.int16)).view(torch.bfloat16) if half else torch.from_numpy(out)
            )

        return fill

    yield Contender("torch.nn.init", "torch.nn.init", "torch", make, dtypes=FLOATS)


@cache
def _jitted(distribution: str, dtype: str, shape: tuple[int, int]) -> tuple[Any, Any]:
    """jax's compiled function and its key; float64 would need a switch that changes all of jax."""
    import jax
    from jax.nn.initializers import glorot_uniform, variance_scaling

    axes = {"in_axis": -1, "out_axis": -2}
    draws: dict[str, Callable[..., Any]] = {
        UNIFORM: jax.random.uniform,
        NORMAL: jax.random.normal,
        TRUNCATED: lambda key, shape, dtype: jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype),
        XAVIER: glorot_uniform(**axes),
        HE: variance_scaling(2.0, "fan_in", "normal", **axes),
    }
    key = jax.random.key(0)
    return jax.jit(lambda key: draws[distribution](key, shape, dtype_of(dtype))).lower(key).compile(), key


def _jax() -> Iterator[Contender]:
    def make(case: Case) -> Fill:
        compiled, key = _jitted(case.distribution, case.dtype, case.shape)
        return lambda _: compiled(key).block_until_ready()

    floats = [name for name in FLOATS if name != "float64"]
    yield Contender("jax, jit", "jax", "jax", make, dtypes=floats, threads=(ALL,), in_place=False)


def _randompack() -> Iterator[Contender]:
    def make(engine: str) -> Callable[[Case], Fill]:
        def fills(case: Case) -> Fill:
            import randompack

            def draw(k: int) -> Fill:
                rng, distribution = randompack.Rng(engine), case.values
                rng.seed(0, spawn_key=[k])
                if isinstance(distribution, fi.Uniform):
                    return lambda out: rng.unif(out=out, a=distribution.low, b=distribution.high)
                return lambda out: rng.normal(out=out, mu=distribution.mean, sigma=distribution.std)

            return _parts([draw(k) for k in range(case.threads)], 1 << 18)  # faster than the whole part at once

        return fills

    for engine in ("x256++simd", "x256**simd", "sfc64simd"):
        name = f"randompack {engine}"
        yield Contender(name, "randompack", "randompack", make(engine), (UNIFORM, NORMAL, XAVIER, HE))


@cache
def _mkl() -> Any:
    """The library, told to leave the threads to us."""
    files = metadata.files("mkl") or []
    library = ctypes.CDLL(str(next(file for file in files if file.name.startswith("libmkl_rt.so")).locate()))
    library.MKL_Set_Threading_Layer(1)
    for kind, real in (("s", ctypes.c_float), ("d", ctypes.c_double)):
        for distribution in ("Uniform", "Gaussian"):
            function = getattr(library, f"v{kind}Rng{distribution}")
            function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, real, real]
    return library


@cache
def _mkl_stream(engine: int, seed: int) -> Any:
    """A stream, kept."""
    stream = ctypes.c_void_p()
    if _mkl().vslNewStream(ctypes.byref(stream), ctypes.c_int(engine << 20), ctypes.c_uint(seed)):
        raise OSError(f"oneMKL has no generator {engine}")
    return stream


def _onemkl() -> Iterator[Contender]:
    def make(engine: int, method: int) -> Callable[[Case], Fill]:
        def fills(case: Case) -> Fill:
            distribution = case.values
            uniform = isinstance(distribution, fi.Uniform)
            name = f"v{'s' if case.dtype == 'float32' else 'd'}Rng{'Uniform' if uniform else 'Gaussian'}"
            one, two = (distribution.low, distribution.high) if uniform else (distribution.mean, distribution.std)
            function = getattr(_mkl(), name)

            def draw(seed: int) -> Fill:
                stream = _mkl_stream(engine, seed)

                def fill(out: Array) -> None:
                    if status := function(0 if uniform else method, stream, out.size, out.ctypes.data, one, two):
                        raise OSError(f"{name} failed with status {status}")

                return fill

            return _parts([draw(seed) for seed in range(1, case.threads + 1)])

        return fills

    engines = {"SFMT19937": 0xD, "ARS-5": 0xF, "Philox4x32-10": 0x10}
    methods = {"Box-Muller": 0, "Box-Muller 2": 1, "ICDF": 2}
    for (name, engine), (gaussian, method) in product(engines.items(), methods.items()):
        distributions = (UNIFORM, NORMAL, XAVIER, HE) if method == 2 else (NORMAL, HE)  # uniforms know no method
        yield Contender(f"oneMKL {name}, {gaussian}", "oneMKL", "mkl", make(engine, method), distributions)


def _scipy() -> Iterator[Contender]:
    def make(case: Case) -> Fill:
        from scipy.stats import truncnorm

        rng = np.random.default_rng(0)
        return lambda _: truncnorm.rvs(-2, 2, size=case.shape, random_state=rng)

    name = "scipy.stats.truncnorm"
    yield Contender(name, name, "scipy", make, (TRUNCATED,), ("float64",), (1,), in_place=False, limit=16 << 20)


TABLES = (_fastinit, _ceilings, _numpy, _torch, _jax, _randompack, _onemkl, _scipy)
CONTENDERS = {row.name: row for rows in TABLES for row in rows()}


def versions() -> dict[str, str | None]:
    """The version of each contender's package; None where it is absent."""

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in dict.fromkeys(row.package for row in CONTENDERS.values())}


def cases(sizes: Sequence[int]) -> list[Case]:
    """List what to measure: the largest size of every distribution, and from there along each axis, not the product."""
    here = {package for package, version in versions().items() if version}
    some, every = (ZEROS, UNIFORM, NORMAL), (ZEROS, *DISTRIBUTIONS)
    found = []
    for row in CONTENDERS.values():
        first = ["float32" if "float32" in row.dtypes else row.dtypes[0]]
        slices: list[tuple[Sequence[str], Sequence[str], Sequence[int], Sequence[int]]] = [
            (every, first, sizes[-1:], row.threads[-1:]),
            (some, first, sizes[:-1], row.threads),
            (some, FLOATS, sizes[-2:] if row.package == OURS else sizes[-2:-1], row.threads[-1:]),
        ]
        for axes in slices:
            found += [
                Case(row.name, distribution, dtype, min(size, row.limit), threads)
                for distribution, dtype, size, threads in product(*axes)
                if row.package in here and distribution in row.distributions and dtype in row.dtypes
            ]
    return list(dict.fromkeys(found))


STANDARD_ERRORS = 5  # that a mean or a standard deviation may be off: 6e-7 of right contenders are taken for wrong


def check(case: Case, out: Any) -> None:
    """Raise ValueError unless the values are of the case's distribution, as far as mean, deviation and bounds can tell.

    A mean or deviation may be off by `STANDARD_ERRORS`, and by what the dtype cannot tell from 1. From 2**22 values on
    an error of 0.3 % of a standard deviation in the mean is found surely, in float32 and float64.
    """
    values, distribution, grain = np.asarray(out), case.values, float(np.spacing(dtype_of(case.dtype).type(1)))
    if (values.shape, values.dtype) != (case.shape, dtype_of(case.dtype)):
        raise ValueError(f"got {values.dtype.name} of shape {values.shape}, not {case.dtype} of {case.shape}")
    wide = values.astype(np.float64)
    error = STANDARD_ERRORS * distribution.std / values.size**0.5
    found = wide.mean(), wide.std(), wide.min(), wide.max()
    slack = [
        error + grain * distribution.std,
        error / 2**0.5 + grain * distribution.std,
    ]  # a normal's; the other distributions' is smaller
    slack += [grain * abs(bound) if np.isfinite(bound) else 0 for bound in distribution.support]
    mean, std, least, most = found
    right = abs(mean - distribution.mean) <= slack[0] and abs(std - distribution.std) <= slack[1]
    if not (right and distribution.support[0] - slack[2] <= least and most <= distribution.support[1] + slack[3]):
        raise ValueError(
            "mean {:.6g}, std {:.6g}, bounds [{:.6g}, {:.6g}]".format(*found) + f" are not those of {distribution}"
        )
