"""How small an effect a plan can detect, before any compute is spent."""

from __future__ import annotations

import math

from levercheck.stats._scipy import normal_quantile


def mde(sd: float, n: int, alpha: float = 0.05, power: float = 0.8, design_effect: float = 1.0) -> float:
    """Minimum detectable mean of n items (or paired differences) with standard deviation ``sd``, in sd's
    unit.

    (z_{1 - alpha/2} + z_power) * sd * sqrt(design_effect / n), two-sided. ``ValueError`` for impossible
    inputs.
    """
    _check(n, alpha, power, design_effect)
    if not 0 <= sd < math.inf:
        raise ValueError(f"sd is {sd}")
    return (normal_quantile(1 - alpha / 2) + normal_quantile(power)) * sd * math.sqrt(design_effect / n)


def mde_paired_proportion(
    n: int, discordance: float, alpha: float = 0.05, power: float = 0.8, design_effect: float = 1.0
) -> float | None:
    """Minimum detectable paired difference of two rates, in percentage points, two-sided McNemar test.

    ``discordance`` is the share of items that change either way. Connor (1987): with d the difference as a
    fraction, d sqrt(n) = z_{1 - alpha/2} sqrt(discordance) + z_power sqrt(discordance - d^2), solved for d.
    ``None`` when even all changes going one way would not be detected with that power.
    """
    _check(n, alpha, power, design_effect)
    if not 0 < discordance <= 1:
        raise ValueError(f"discordance is {discordance}: it must lie in (0, 1]")
    units = n / design_effect
    za, zb = normal_quantile(1 - alpha / 2), normal_quantile(power)
    inner = za**2 * units - (units + zb**2) * (za**2 - zb**2)
    if inner < 0:
        return None
    root = math.sqrt(discordance) * (za * math.sqrt(units) + math.copysign(math.sqrt(inner), zb)) / (units + zb**2)
    return 100.0 * root if root <= discordance else None


def items_needed(sd: float, effect: float, alpha: float = 0.05, power: float = 0.8, design_effect: float = 1.0) -> int:
    """Fewest items for which :func:`mde` is at most ``effect`` (same unit as ``sd``)."""
    if not 0 < effect < math.inf:
        raise ValueError(f"effect is {effect}: it must be positive")
    single = mde(sd, 1, alpha, power, design_effect)
    return max(1, math.ceil((single / effect) ** 2 * (1 - 1e-12)))


def _check(n: int, alpha: float, power: float, design_effect: float) -> None:
    if n < 1:
        raise ValueError(f"n is {n}: at least one item is needed")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: it must lie strictly between 0 and 1")
    if not 0.5 <= power < 1:
        raise ValueError(f"power is {power}: it must lie in [0.5, 1)")
    if not 0 < design_effect < math.inf:
        raise ValueError(f"design effect is {design_effect}: it must be positive")
