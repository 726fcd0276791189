"""Filter designs: Butterworth, Chebyshev, Bessel, and whatever ``scipy.signal.iirfilter`` knows.

Functions that return ``DeltaSections``; no filter is defined here.

SciPy designs the analog filter; the step to gradients (the bilinear transform) is taken here, in
``d = z - 1``:

    d = 2 s / (1 - s),   s = j tan(pi frequency) on the unit circle

A pole s near 0 gives a d near 0 with all its digits, where ``z = (1 + s) / (1 - s)`` keeps those
after the leading 0.99999 only. So the designs hold down to any cutoff: the gain is exact to 2e-15
at 1e-10 cycles per step, where SciPy's own sections are 3e-6 off at 1e-6 and 3e-2 at 1e-8.

They are causal, as everything that filters gradients must be: a filter run forwards and backwards
(``filtfilt``), which SciPy has against the delay, would need the gradients of later steps.
"""

import math
import numbers
from collections.abc import Sequence

import numpy as np
import scipy  # it imports `signal` where that is used first, which takes half a second

from larq_filter._validation import (
    POSITIVE,
    Interval,
    is_number,
    shown,
    validate_choice,
    validate_integer,
    validate_number,
    validate_numbers,
)
from larq_filter.filters.delta import DeltaSections
from larq_filter.filters.direct import FIR
from larq_filter.filters.roots import sections_from_roots
from larq_filter.filters.transfer import DirectForm

HIGHEST_ORDER = 24  # the last one that SciPy's Bessel filters were checked for; Cascade for more
KINDS = ("lowpass", "highpass", "bandpass", "bandstop")
FAMILIES = {
    "butter": (),
    "cheby1": ("ripple",),
    "cheby2": ("attenuation",),
    "ellip": ("ripple", "attenuation"),
    "bessel": (),
}
CUTOFF = Interval(1e-12, 0.5, high_open=True)  # below, a pole can't be told from 1
DECIBELS = Interval(1e-6, 300.0)


def butterworth(
    order: int,
    cutoff: float | Sequence[float],
    *,
    btype: str = "lowpass",
    steps_per_epoch: float | None = None,
    compensated: bool | None = None,
) -> DeltaSections:
    """Butterworth filter: no ripple, and as flat as can be at frequency zero.

        abs(H)^2 = 1 / (1 + (tan(pi frequency) / tan(pi cutoff))^(2 order))

    The step response overshoots, by 4 % at order 2 and 16 % at order 8. Order 1 is an average like
    ``EMA``, but with gain 0 at the highest frequency.

    Args:
        order: number of poles, in [1, 24]; a band has twice as many.
        cutoff: where the power is half of that passed (-3 dB), in [1e-12, 0.5) cycles per step; a
            pair of them, ascending, for a band.
        btype: ``lowpass``, ``highpass``, ``bandpass`` or ``bandstop``.
        steps_per_epoch: None for a cutoff in cycles per step; a positive number for one in cycles
            per epoch, in (0, steps_per_epoch/2).
        compensated: as in ``DeltaSections``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument outside its interval.

    Example:
        >>> butterworth(order=2, cutoff=1e-3).order
        2
    """
    return iir("butter", order, cutoff, btype, None, None, steps_per_epoch, compensated)


def chebyshev(
    order: int,
    cutoff: float | Sequence[float],
    ripple: float,
    *,
    kind: int = 1,
    btype: str = "lowpass",
    steps_per_epoch: float | None = None,
    compensated: bool | None = None,
) -> DeltaSections:
    """Chebyshev filter: steeper than Butterworth, paid for with ripple.

    Of kind 1 the gain ripples among the frequencies that pass, between 1 and -ripple dB, and
    ``cutoff`` is where it leaves that band for good (-ripple dB, not -3 dB). An even order has
    -ripple dB at frequency zero. Of kind 2 it ripples among those that are stopped, below -ripple
    dB, and ``cutoff`` is where it first reaches that.

    Args:
        order: as in ``butterworth``.
        cutoff: as in ``butterworth``, but for its meaning.
        ripple: in dB, in [1e-06, 300]; usual are 0.5 to 3 for kind 1, 20 to 60 for kind 2.
        kind: 1 or 2.
        btype: as in ``butterworth``.
        steps_per_epoch: as in ``butterworth``.
        compensated: as in ``DeltaSections``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument outside its interval.
    """
    if isinstance(kind, bool) or not isinstance(kind, numbers.Integral) or kind not in (1, 2):
        raise ValueError(
            f"`kind` is {shown(kind)}; it must be 1 (ripple in what passes) or 2 (in what is "
            "stopped)."
        )
    ripple = validate_number("ripple", ripple, DECIBELS)
    ripples = (ripple, None) if kind == 1 else (None, ripple)
    return iir(f"cheby{kind}", order, cutoff, btype, *ripples, steps_per_epoch, compensated)


def bessel(
    order: int,
    cutoff: float | Sequence[float],
    *,
    btype: str = "lowpass",
    steps_per_epoch: float | None = None,
    compensated: bool | None = None,
) -> DeltaSections:
    """Bessel filter: the same delay for all slow gradients, so that hardly any step overshoots.

    Arguments and errors as in ``butterworth``: ``cutoff`` is the -3 dB point (``norm="mag"`` of
    ``scipy.signal.bessel``, not SciPy's default, which normalises the phase). The bilinear
    transform keeps the constant delay for cutoffs far below 0.5.
    """
    return iir("bessel", order, cutoff, btype, None, None, steps_per_epoch, compensated)


def iir(
    ftype: str,
    order: int,
    cutoff: float | Sequence[float],
    btype: str = "lowpass",
    ripple: float | None = None,
    attenuation: float | None = None,
    steps_per_epoch: float | None = None,
    compensated: bool | None = None,
) -> DeltaSections:
    """Any design of ``scipy.signal.iirfilter``, exact for low cutoffs.

    Args:
        ftype: ``butter``, ``cheby1``, ``cheby2``, ``ellip`` or ``bessel`` (of norm ``mag``).
        order: as in ``butterworth``.
        cutoff: as in ``butterworth``; for ``cheby1`` and ``ellip`` where the band ends that passes,
            for ``cheby2`` where the one begins that is stopped.
        btype: as in ``butterworth``.
        ripple: most dB lost in the band that passes, in [1e-06, 300]: ``cheby1`` and ``ellip``.
        attenuation: least dB lost in the band that is stopped, in [1e-06, 300]: ``cheby2`` and
            ``ellip``.
        steps_per_epoch: as in ``butterworth``.
        compensated: as in ``DeltaSections``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument outside its interval, missing, or given to a family without it.
    """
    _validate_family(ftype, {"ripple": ripple, "attenuation": attenuation})
    order = validate_integer("order", order, high=HIGHEST_ORDER)
    edges = _validate_cutoff(cutoff, btype, steps_per_epoch)
    zeros, poles, gain = scipy.signal.iirfilter(
        order,
        edges if len(edges) == 2 else edges[0],
        rp=ripple,
        rs=attenuation,
        btype=btype,
        analog=True,
        ftype="bessel_mag" if ftype == "bessel" else ftype,
        output="zpk",
    )
    # A passing frequency, to scale the sections at.
    reference = {
        "lowpass": 0.0,
        "bandstop": 0.0,
        "highpass": -2.0,
        "bandpass": _bilinear(1j * math.sqrt(edges[0] * edges[-1])),
    }[btype]
    gain *= np.real(np.prod(1 - zeros) / np.prod(1 - poles))
    at_infinity = np.full(len(poles) - len(zeros), -2.0)
    zeros = np.concatenate([_bilinear(zeros), at_infinity])
    rows = sections_from_roots(zeros, _bilinear(poles), gain, reference)
    return DeltaSections(rows, compensated)


def from_transfer_function(
    b: Sequence[float] | np.ndarray,
    a: Sequence[float] | np.ndarray,
    compensated: bool | None = None,
) -> DeltaSections | FIR:
    """The filter ``sum_i b_i z^-i / sum_i a_i z^-i``, as ``scipy.signal.lfilter(b, a, x)``.

    In sections, by the roots of both: above order 4 or so, and for slow filters, b and a hold too
    few digits of the filter (``scipy.signal.butter`` says so too); ask a design for sections then.
    Without a feedback, a = [a_0], the taps are kept as they are.

    Args:
        b: finite numbers, the newest gradient first; may begin with zeros, which delay.
        a: finite numbers, a_0 not 0.
        compensated: as in ``DeltaSections``.

    Returns:
        ``DeltaSections``, or ``FIR`` if there is no feedback.

    Raises:
        TypeError: b or a is not a list of numbers.
        ValueError: not finite, a_0 of 0 (not causal), all b 0, or a pole not strictly inside the
            unit circle.
    """
    b = np.array(validate_numbers("b", b, "[0.5, 0.5]"))
    a = np.array(validate_numbers("a", a, "[1.0, -0.5]"))
    if a[0] == 0:
        raise ValueError(
            f"`a` begins with 0 (received {a.tolist()}): such a filter is not causal, its signal "
            "would need gradients of later steps. Drop the zero to delay the signal instead."
        )
    if not np.any(b):
        raise ValueError(f"All {len(b)} numbers of `b` are 0: no gradient would reach the signal.")
    b, a = b / a[0], a / a[0]
    if not np.any(a[1:]):
        return FIR(b.tolist())
    # A number that is lost beside the largest has a root so far away that it spoils the others.
    b = np.where(np.abs(b) < np.finfo(float).eps * np.max(np.abs(b)), 0.0, b)
    a, b = np.trim_zeros(a, "b"), np.trim_zeros(b, "b")
    longest = max(len(a), len(b))
    b, a = (np.pad(part, (0, longest - len(part))) for part in (b, a))
    return DeltaSections(sections_from_roots(*DirectForm(b, a).roots()), compensated)


def _bilinear(s):
    return 2 * s / (1 - s)


def _validate_family(ftype: str, given: dict) -> None:
    validate_choice("ftype", ftype, FAMILIES)
    for name, value in given.items():
        if name in FAMILIES[ftype]:
            if value is None:
                raise ValueError(f"{ftype} needs `{name}`, a number in {DECIBELS} dB.")
            validate_number(name, value, DECIBELS)
        elif value is not None:
            raise ValueError(f"{ftype} has no `{name}` (received {shown(value)}); leave it out.")
    if ftype == "ellip" and given["ripple"] >= given["attenuation"]:
        raise ValueError(
            f"`ripple` is {given['ripple']} dB and `attenuation` {given['attenuation']} dB; what "
            "passes must lose less than what is stopped."
        )


def _validate_cutoff(cutoff, btype: str, steps_per_epoch) -> list[float]:
    """The edges as frequencies of the analog design, ``tan(pi cutoff)``."""
    validate_choice("btype", btype, KINDS)
    scale, unit = 1.0, "cycles per step"
    if steps_per_epoch is not None:
        scale = validate_number("steps_per_epoch", steps_per_epoch, POSITIVE)
        unit = "cycles per epoch"
    count = 2 if btype.startswith("band") else 1
    edges = validate_numbers(
        "cutoff", [cutoff] if is_number(cutoff) else cutoff, "0.1 or [0.01, 0.1]"
    )
    interval = f"[{CUTOFF.low * scale:g}, {CUTOFF.high * scale:g}) {unit}"
    if len(edges) != count or list(edges) != sorted(set(edges)):
        wanted = "two ascending numbers" if count == 2 else "one number"
        raise ValueError(
            f"`cutoff` of a {btype} must be {wanted} in {interval}, not {shown(cutoff)}."
        )
    for edge in edges:
        if not CUTOFF.contains(edge / scale):
            raise ValueError(
                f"`cutoff` is {edge:g} {unit}; it must lie in {interval}: a faster gradient can't "
                "be told from a slower one, and a constant has frequency 0."
            )
    return [math.tan(math.pi * (edge / scale)) for edge in edges]
