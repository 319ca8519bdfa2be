"""How far floating point can take a computation from its mathematics, as factors that bounds are widened by.

Bounds are computed in single precision (onnxruntime has no double-precision convolution on the CPU) and hold for the
deployed single-precision computation, whose order of summation is unknown. Let u = 2^-24, gamma = m u / (1 - m u). A
sum of products in which no term is rounded more than m times differs from the true one by at most gamma times the sum
of the terms' magnitudes, whatever the order, with fused multiply-add or without (Higham, *Accuracy and Stability of
Numerical Algorithms*, 2002, section 3.1). For an affine layer y = W x + b of n terms whose inputs lie in [l, u], let
c be fl(l + u) / 2, which halves exactly, and h = (u - l) / 2. Then

    deployed:  |y' - (W x + b)| <= gamma (|W| (|c| + h) + |b|)
    here:      |c' - (W c + b)| <= gamma (|W| |c| + |b|)
    between:   |W (x - c)|      <= |W| (h + 2^-24 |c|)

so y' lies within |W| (h + 3 gamma |c|) + 3 gamma |b| of c'. The rounding of this radius itself and of c' -+ radius is
relative to the same sums, and 4 gamma in place of 3 (`rounding_factor`) pays for both while gamma <= 0.05. With the
signs of W taken apart there are twice the terms here, gamma for the deployed and 2 gamma (1 + 8 gamma) for ours, which
4 gamma covers as well. `SPARE` roundings a term are added to n for what a runtime folds into a layer (batch
normalisation, scales, a constant or a tensor added before or after), and for weights that were folded here.

Assumed: binary32 with rounding to nearest; nothing overflows (bounds that do certify nothing); no kernel transforms
its operands (Winograd, FFT) or lowers their precision (bfloat16 fast math, TF32); what underflows is lost by no more
than 2^-126 a term. What rounds once (minimum, maximum, a product, a sum) is monotone and needs no widening.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError

_UNIT = 2.0**-24
SPARE = 32
MOST_TERMS = 2**19
"""Up to so many, gamma is at most 0.033."""
SIGMOID_ERROR = 2.0**-19
"""How far the runtime's logistic and tanh may lie from the true ones; measured: a quarter of it."""
SOFTMAX_ERROR = 2.0**-16
"""By what part of itself a probability of the runtime's softmax may be wrong, down to 1e-37; measured: half of it."""
_SMALLEST = 2.0**-126
MOVED, MOVED_MOST = 2.0**-21, 4.0
"""What is added to a radius, of the size of values and of the radius itself, for changes made in single precision.

Who adds d, |d| <= R, to a value x in single precision gives x' = fl(x + d), which may lie half a unit in the last place
beyond R, and fl(x' -+ R) is rounded once more: 3 x 2^-24 (|x'| + R) in all, of which 2^-21 is more than twice. Where R
is smaller than the last place x' lies no farther than 2 R, for x itself was as near, and 4 R besides pays for the rest.
So x lies within R and the smaller of the two of x', as single precision computes it.
"""


def rounding_factor(terms: int) -> float:
    """Four gamma of a sum of `terms` products, with `SPARE` roundings beside; refuses more than `MOST_TERMS`."""
    if terms > MOST_TERMS:
        raise MedwardError(
            f"a layer sums {terms} products for one value, rounding is bounded for at most {MOST_TERMS}; bound a "
            "smaller network"
        )
    most = (terms + SPARE) * _UNIT
    return 4 * most / (1 - most)


def underflow_allowance(terms: int) -> float:
    """What a sum of `terms` products may lose where values are too small to be normal."""
    return 4 * (terms + SPARE) * _SMALLEST


def moved_box(values: NDArray[np.floating], radius: NDArray[np.floating]) -> tuple[NDArray[np.float32], ...]:
    """The least and the largest value that a change of `radius`, made in single precision, can have come from."""
    wide, around = np.asarray(values, np.float64), np.asarray(radius, np.float64)
    reach = around + np.minimum((np.abs(wide) + around) * MOVED, around * MOVED_MOST)
    return rounded_down(wide - reach), rounded_up(wide + reach)


def rounded_down(value: float | NDArray[np.floating]) -> NDArray[np.float32]:
    """The largest single-precision number that is not above `value`, elementwise."""
    return -rounded_up(-np.asarray(value, np.float64))


def rounded_up(value: float | NDArray[np.floating]) -> NDArray[np.float32]:
    """The least single-precision number that is not below `value`, elementwise."""
    exact = np.asarray(value, np.float64)
    near = exact.astype(np.float32)
    above = np.nextafter(near, np.float32(np.inf))
    return np.where(near.astype(np.float64) < exact, above, near).astype(np.float32)
