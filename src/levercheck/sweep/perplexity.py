"""Perplexity of true statements under treatments: does the model still find true sentences as likely as before?

Every statement follows a fixed opening that counts as the prompt, and its own tokens count as generated, so that every
scope means what it means in deployment. One pass scores prompt and statement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from levercheck.evidence.unit import Row
from levercheck.interventions.hooks import Hooks
from levercheck.interventions.steps import Steps
from levercheck.lm.batches import right_padded
from levercheck.lm.model import LanguageModel
from levercheck.sweep.cells import LeverArm
from levercheck.sweep.engine import Block, Engine

OPENING = "A true statement:"
LOGITS = 2**25
"""Numbers that the logits of a batch may hold; a vocabulary of 262 144 then allows 128 positions."""


@dataclass(frozen=True)
class Statement:
    """A true sentence."""

    id: str
    cluster: str
    text: str


def statement_work(
    lm: LanguageModel, statements: Sequence[Statement], arms: Sequence[LeverArm], role: str
) -> tuple[Engine, Callable[[Block], list[Row]]]:
    """An engine whose blocks are statements x arms, and the function that makes STATEMENTS rows of one block."""
    opening = lm.start_ids + lm.encode(OPENING)
    sequences = [opening + lm.encode(f" {statement.text}") for statement in statements]
    vocabulary = int(lm.model.get_output_embeddings().weight.shape[0])
    engine = Engine(lm, [], sequences, [arm.treatment for arm in arms], batch_tokens=max(1, LOGITS // vocabulary))

    @torch.inference_mode()
    def score(block: Block) -> list[list[Row]]:
        chosen = [engine.treatments[i] for i in block.treatments]
        count = len(chosen)
        ids, last = right_padded(lm, [sequences[i] for i in block.prompts])
        spread = torch.arange(len(block.prompts), device=lm.device).repeat_interleave(count)
        lengths = (last[spread] + 1).tolist()
        with Hooks(lm, chosen) as hooks:
            hooks.assign(list(range(count)) * len(block.prompts))
            hooks.at(Steps.sequence([len(opening)] * len(lengths), lengths, lm.device))
            logits = lm.model(input_ids=ids[spread], use_cache=False).logits[:, len(opening) - 1 : -1].float()
            receipts = hooks.receipts()
        targets = ids[spread][:, len(opening) :]
        nll = logits.logsumexp(-1) - logits.gather(2, targets[..., None])[..., 0]
        found: list[list[Row]] = []
        for at, statement in enumerate(statements[i] for i in block.prompts):
            rows = []
            for number, treatment in enumerate(block.treatments):
                row = at * count + number
                size = lengths[row] - len(opening)
                mean = float(nll[row, :size].double().mean())
                dose = receipts[row].relative_dose
                rows.append(
                    {
                        "lever": arms[treatment].lever,
                        "dose": arms[treatment].dose,
                        "role": role,
                        "item_id": statement.id,
                        "cluster_id": statement.cluster,
                        "nll": mean if math.isfinite(mean) else None,
                        "tokens": size,
                        "relative_dose": dose if dose is not None and math.isfinite(dose) else None,
                    }
                )
            found.append(rows)
        return found

    return engine, lambda block: [row for rows in engine.resilient(block, score) for row in rows]
