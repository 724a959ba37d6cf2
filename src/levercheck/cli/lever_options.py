"""Options by which a command turns a readout into an intervention."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

OperatorOption = Annotated[
    str | None,
    Parameter(help="What to do with it; default scale (neurons), add (directions), shift (heads), sae_delta (sae)."),
]
UnitOption = Annotated[
    Literal["absolute", "sigma", "relative"] | None,
    Parameter(help="Unit of the dose; default relative for directions, sigma for heads."),
]
LayersOption = Annotated[
    tuple[int, ...] | None,
    Parameter(name="--layer", negative="", help="Layer of a direction readout; again for more. Default the best one."),
]
KOption = Annotated[
    int | None, Parameter(help="How many heads, or neurons or latents of the largest weight.", validator=Number(gte=1))
]
ByOption = Annotated[str, Parameter(help="Ranking of heads: auroc, balanced_accuracy or gradient.")]
DtypeOption = Annotated[Literal["float32", "bfloat16", "float16"], Parameter(help="Number format of the weights.")]
