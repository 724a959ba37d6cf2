"""A control as a study names it, and what so many draws can show. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from levercheck.errors import UsageError, nearest
from levercheck.stats import attainable_p, sets_needed

Kind = Literal["random", "directions", "shuffled"]
Match = Literal["none", "layer", "activation"]
KINDS: tuple[str, ...] = get_args(Kind)
MATCHES: tuple[str, ...] = get_args(Match)
ALPHA = 0.05


@dataclass(frozen=True)
class ControlSpec:
    """One family of control draws.

    `kind`: random (other components of the target's family; random vectors where it is a direction), directions (the
    target's own heads with random directions), shuffled (the readout refitted on permuted labels).

    `match`: none (anywhere), layer (as many per layer as the target), activation (within the layer, on what the
    statistics say: neurons on write norm, mean |z| and frequency; latents on firing rate and decoder norm; heads on
    norms and variance; directions on the covariance of the activations). For directions, which have their layers
    already, none and layer are the same.

    `of` names the intervention of a study that is imitated; `orthogonal` takes the target's own direction out of
    control directions. `nearest` is how many of the closest components a matched draw picks among; `caliper` is the
    largest difference in any covariate, in standard deviations of the layer, that counts as a match.
    """

    kind: Kind = "random"
    match: Match = "layer"
    draws: int = 20
    seed: int = 0
    of: str | None = None
    orthogonal: bool = False
    nearest: int = 20
    caliper: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"control kind '{self.kind}' is unknown{nearest(str(self.kind), KINDS)}")
        if self.match not in MATCHES:
            raise UsageError(f"control match '{self.match}' is unknown{nearest(str(self.match), MATCHES)}")
        for name, least in (("draws", 1), ("seed", 0), ("nearest", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} of a control is {getattr(self, name)}, expected at least {least}")
        if not self.caliper > 0:
            raise UsageError(f"caliper of a control is {self.caliper}, expected more than 0 standard deviations")

    @property
    def attainable(self) -> Attainability:
        """What this many draws can show."""
        return attainability(self.draws)


@dataclass(frozen=True)
class Attainability:
    """The smallest p-values that `draws` controls can show, and how many draws `alpha` needs (Monte-Carlo ranks)."""

    draws: int
    alpha: float
    one_sided: float
    two_sided: float
    needed_one_sided: int
    needed_two_sided: int

    @property
    def sentence(self) -> str:
        """One line to print before a run."""
        told = (
            f"{self.draws} draws can show p = {self.one_sided:.3g} one-sided and {self.two_sided:.3g} two-sided at best"
        )
        if self.two_sided <= self.alpha:
            return f"{told}: enough for {self.alpha:g}"
        if self.one_sided <= self.alpha:
            return f"{told}: {self.alpha:g} two-sided needs {self.needed_two_sided}"
        return f"{told}: {self.alpha:g} needs {self.needed_one_sided} one-sided, {self.needed_two_sided} two-sided"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def attainability(draws: int, alpha: float = ALPHA) -> Attainability:
    """What `draws` control draws can show at level `alpha`, whatever the data; no draws can show nothing (p = 1)."""
    if draws < 0 or not 0 < alpha < 1:
        raise UsageError(
            f"{draws} draws at level {alpha:g}: expected no fewer than 0 draws and a level between 0 and 1"
        )
    return Attainability(
        draws,
        alpha,
        attainable_p(draws, "greater"),
        attainable_p(draws, "two-sided"),
        sets_needed(alpha, "greater"),
        sets_needed(alpha, "two-sided"),
    )
