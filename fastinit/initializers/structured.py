"""Initializers whose elements depend on each other: the tensor is a matrix that is made as a whole."""

from __future__ import annotations

from typing import Literal

from fastinit.core.checks import check_choice, check_integer, check_real, check_std
from fastinit.core.text import quoted
from fastinit.initializers.base import Resolve, Shape, initializer
from fastinit.initializers.connections import axes_of, check_layout
from fastinit.initializers.matrices import Identity, Matrix, Orthogonal, Sinusoidal, Sparse
from fastinit.initializers.sinusoids import MOST_COLUMNS, MOST_POSITIONS, STYLES


@initializer
def orthogonal(gain: float = 1.0, *, layout: str = "OI...") -> Resolve:
    """Draw an orthogonal matrix from the Haar measure: Saxe et al. (2014); Mezzadri (2007), section 4, for the measure.

    As a matrix of the outputs by all else, the weight W has orthonormal rows, W W^T = gain**2 I, if it has no more rows
    than columns, and else orthonormal columns, W^T W = gain**2 I: to 1e-6 in float32. It is Q of the QR decomposition
    of the tensor's contract normals (of the transpose where that is taller), each column times the sign of its element
    on R's diagonal.

    Parameters
    ----------
    gain
        A factor, >= 0: see `gain`.
    layout
        O the axes of the outputs, N those of stacked weights, each orthogonal by itself, all other letters flattened
        in C order: see `fastinit.fans`. torch's ``orthogonal_`` is ``"OI..."``, Keras's and JAX's ``"...IO"``.

    Notes
    -----
    The decomposition is LAPACK's, in float64, then rounded to float32, and for 16 bits from there. Its last bits are
    LAPACK's and not part of the value contract. Any region is the slice of the whole, for which the whole is made: 8
    bytes for each element of one weight, and 4 for the normals while they are converted. LAPACK has threads of its own,
    and cannot be interrupted within a weight.

    Raises
    ------
    ValueError
        If gain < 0, or the shape has no axis beside the outputs'.

    Examples
    --------
    >>> import fastinit
    >>> w = fastinit.array((3, 2), orthogonal(2.0), seed=0, name="w")
    >>> abs(w.T @ w).round(5).tolist()
    [[4.0, 0.0], [0.0, 4.0]]
    """
    factor = check_std(gain, "gain")
    check_layout(layout)

    def resolve(shape: Shape) -> Matrix:
        axes = axes_of(shape, layout)
        if not set(axes) - {"O", "N"}:
            raise ValueError(f"orthogonal needs an axis beside the outputs', got shape {shape} as {quoted(layout)}")
        return Orthogonal(tuple(shape), factor, axes, delta=False)

    return resolve


@initializer
def delta_orthogonal(gain: float = 1.0, *, layout: str = "OI...") -> Resolve:
    """Make a convolution zero but for its middle tap, which is `orthogonal`: Xiao et al. (2018), algorithm 1.

    With the matrix H of the middle tap, H^T H = gain**2 I: a convolution with it keeps norms. Like JAX's, the middle of
    an even size k is (k - 1) // 2.

    Parameters
    ----------
    gain
        A factor, >= 0: see `gain`.
    layout
        How the shape is read: see `fastinit.fans`. JAX's is ``"...IO"``.

    Raises
    ------
    ValueError
        If gain < 0, or the shape has no receptive field or more inputs than outputs.

    Examples
    --------
    >>> import fastinit
    >>> w = fastinit.array((3, 2, 3), delta_orthogonal(), seed=0, name="w")
    >>> abs(w[:, :, 1].T @ w[:, :, 1]).round(5).tolist(), int(abs(w[:, :, [0, 2]]).max())
    ([[1.0, 0.0], [0.0, 1.0]], 0)
    """
    factor = check_std(gain, "gain")
    check_layout(layout)

    def resolve(shape: Shape) -> Matrix:
        axes = _convolution("delta_orthogonal", shape, layout)
        if shape[axes.index("O")] < shape[axes.index("I")]:
            raise ValueError(
                f"delta_orthogonal needs as many outputs as inputs or more, got {shape} as {quoted(layout)}"
            )
        return Orthogonal(tuple(shape), factor, axes, delta=True)

    return resolve


def _convolution(name: str, shape: Shape, layout: str) -> str:
    """Return the axes of a convolution's weight: one for outputs, one for inputs, and a receptive field."""
    axes = axes_of(shape, layout)
    if axes.count("O") != 1 or axes.count("I") != 1 or not set(axes) - set("OIN"):
        raise ValueError(
            f"{name} needs one axis of outputs, one of inputs and a field, got {shape} as {quoted(layout)}"
        )
    return axes


@initializer
def eye(gain: float = 1.0) -> Resolve:
    """Make the identity times ``gain``, rectangular or square: ``torch.nn.init.eye_``, Keras's ``Identity``.

    Parameters
    ----------
    gain
        Value of the diagonal, finite.

    Raises
    ------
    ValueError
        If the shape does not have two axes.

    Examples
    --------
    >>> import fastinit
    >>> fastinit.array((2, 3), eye(), seed=0, name=0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    factor = check_real("gain", gain)

    def resolve(shape: Shape) -> Matrix:
        if len(shape) != 2:
            raise ValueError(f"eye needs a tensor of two axes, got shape {shape}")
        return Identity(tuple(shape), factor, "OI", 1)

    return resolve


@initializer
def dirac(groups: int = 1, *, layout: str = "OI...") -> Resolve:
    """Make a convolution that passes its inputs on: ``torch.nn.init.dirac_``.

    Output k of a group is the group's input k, through a 1 at the middle of the field, k // 2 of a size k, as far as
    there are inputs; all else is 0.

    Parameters
    ----------
    groups
        Groups of a grouped convolution, of whose channels the I axis counts one group's.
    layout
        How the shape is read: see `fastinit.fans`.

    Raises
    ------
    ValueError
        If the shape has no receptive field, or the groups do not divide the outputs.

    Examples
    --------
    >>> import fastinit
    >>> fastinit.array((2, 2, 3), dirac(), seed=0, name=0).tolist()
    [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    groups = check_integer("groups", groups, 1)
    check_layout(layout)

    def resolve(shape: Shape) -> Matrix:
        axes = _convolution("dirac", shape, layout)
        if shape[axes.index("O")] % groups:
            raise ValueError(f"groups must divide the {shape[axes.index('O')]} outputs of shape {shape}, got {groups}")
        return Identity(tuple(shape), 1.0, axes, groups)

    return resolve


@initializer
def sparse(sparsity: float, std: float = 0.01, *, layout: str = "OI") -> Resolve:
    """Draw normals with exactly ceil(sparsity * rows) zeros a column: Martens (2010), ``torch.nn.init.sparse_``.

    A row is an output, a column an input. Element i of the tensor has as its key the word i mod 4 of the block i div 4
    at attempt 1, of any precision; the elements of the smallest keys of a column are zero, of equal keys the upper one
    first. All others are those of ``normal(0, std)``.

    Parameters
    ----------
    sparsity
        In [0, 1]. The product with the rows is that of the decimal number as it is written: 0.07 of 100 rows are 7;
        torch computes 7.000000000000001 and takes 8.
    std
        Of the normal, >= 0.
    layout
        ``"OI"``, or ``"IO"`` for Keras and JAX.

    Notes
    -----
    A region needs the keys of all its columns, 16 bytes each. Columns are made together up to 32 MiB of them.

    Raises
    ------
    ValueError
        If the sparsity is not in [0, 1], std < 0, or the shape does not have two axes.

    Examples
    --------
    >>> import fastinit
    >>> w = fastinit.array((100, 4), sparse(0.07), seed=0, name="w")
    >>> (w == 0).sum(axis=0).tolist()
    [7, 7, 7, 7]
    """
    share, spread = check_real("sparsity", sparsity), check_std(std)
    if not 0 <= share <= 1:
        raise ValueError(f"sparsity must be in [0, 1], got {quoted(sparsity)}")
    check_choice("layout", layout, ("OI", "IO"))

    def resolve(shape: Shape) -> Matrix:
        if len(shape) != 2:
            raise ValueError(f"sparse needs a tensor of two axes, got shape {shape}")
        return Sparse(tuple(shape), spread, share, layout)

    return resolve


@initializer
def sinusoidal(style: Literal["vaswani", "marian", "whisper"] = "vaswani", *, base: float = 10000.0) -> Resolve:
    """Make sines and cosines of positions: Vaswani et al. (2017), Attention is all you need, section 3.5.

    Row p of a matrix with d columns has the sine and the cosine of p / base**(2 i / d), for i = 0, 1, ...

    Parameters
    ----------
    style
        ``"vaswani"``: the sine in column 2 i, the cosine in 2 i + 1, as in the paper. ``"marian"``: all sines, then all
        cosines (Marian, and what follows it in transformers). ``"whisper"``: the same order, and i / (d / 2 - 1) in
        place of 2 i / d, so that the last wave is the slowest, p / base (tensor2tensor, fairseq, Whisper).
    base
        Of the longest wave, 2 pi base; 1 or more.

    Notes
    -----
    The positions are the last axis but one, axes before it repeat them. Angles are reduced in fixed point, and sines
    taken by products and sums in float64, to 2e-16; one rounding follows, for 16 bits by way of float32. So the bits
    are the same on every processor. Frameworks take sines of float32 angles, whose error grows with the position: 1e-4
    at position 1500.

    Raises
    ------
    ValueError
        If the shape has less than two axes, 2**32 positions or more, more than 65536 columns, or for ``"whisper"`` an
        odd number of columns or less than 4.

    Examples
    --------
    >>> import fastinit
    >>> fastinit.array((2, 4), sinusoidal(), seed=0, name=0).round(4).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8414999842643738, 0.5403000116348267, 0.009999999776482582, 1.0]]
    """
    check_choice("style", style, STYLES)
    longest = check_real("base", base)
    if longest < 1:
        raise ValueError(f"base must be 1 or more, got {quoted(base)}")

    def resolve(shape: Shape) -> Matrix:
        if len(shape) < 2:
            raise ValueError(f"sinusoidal needs axes of positions and of columns, got shape {shape}")
        if shape[-2] >= MOST_POSITIONS or shape[-1] > MOST_COLUMNS:
            raise ValueError(f"sinusoidal takes less than 2**32 positions and at most 65536 columns, got shape {shape}")
        if style == "whisper" and (shape[-1] % 2 or shape[-1] < 4):
            raise ValueError(f"style 'whisper' needs an even number of columns, 4 or more, got shape {shape}")
        return Sinusoidal(tuple(shape), style, longest)

    return resolve
