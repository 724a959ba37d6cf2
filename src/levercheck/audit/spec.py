"""What an audit declares before it sees results: margins, directions and the grid they refer to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Margins(BaseModel):
    """Smallest effects of interest. A gate never passes because an interval excludes 0: it must exclude the margin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auroc: float = Field(0.10, description="localization: AUROC must exceed 0.5 by this much")
    matched_auroc: float = Field(0.05, description="localization: the same, among equally confident answers")
    context_pp: float = Field(10.0, description="measurement: the context must raise compliance by this much, in pp")
    headroom_pp: float = Field(
        5.0, description="measurement: compliance at the no-op dose stays this far from 0 and 100 %"
    )
    slope_pp: float = Field(2.0, description="control: pp of compliance per unit dose that counts as moving it")
    harm_pp: float = Field(
        5.0,
        description="externality: pp of bare accuracy or answer probability whose loss is harm",
    )


class AuditSpec(BaseModel):
    """Everything the audit needs besides rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    doses: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)
    noop_dose: float = 1.0
    level: float = 0.95
    caliper: float = Field(0.1, description="confidence matching: largest difference in mean log-probability")
    null_draws: int = 5000
    margins: Margins = Margins()
    seed: int = 0
