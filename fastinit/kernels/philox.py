"""Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC'11)."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from fastinit.kernels.intrinsics import add, and_, high_product, low_product, xor

MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@register_jitable(forceinline=True)
def _round(c0, c1, c2, c3, k0, k1):
    """Return the counter after a round: two products, their high halves mixed with the other words and the key."""
    return (
        xor(xor(high_product(c2, MULTIPLIER_1), c1), k0),
        low_product(c2, MULTIPLIER_1),
        xor(xor(high_product(c0, MULTIPLIER_0), c3), k1),
        low_product(c0, MULTIPLIER_0),
    )


@register_jitable(forceinline=True)
def philox(c0, c1, c2, c3, k0, k1):
    """Return the block of counter (c0, c1, c2, c3) under the key (k0, k1): four words, in low halves of c0's type.

    Only the low 32 bits of every argument and result count. On the CPU a word lives in a 64-bit lane because the
    product that each round needs is 64 bits wide: one vector instruction multiplies the low halves and ignores the high
    ones, so that nothing is masked between the rounds. On ARM, which multiplies no such lanes, and on a GPU words are
    uint32.
    """
    for _ in range(10):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        k0 = and_(add(k0, WEYL_0), LOW)
        k1 = and_(add(k1, WEYL_1), LOW)
    return c0, c1, c2, c3
