"""Many treatments of many prompts in one pass: prompts x treatments are the rows of a batch.

What is shared is computed once: a prefix that all prompts open with, the layers below the first intervened one (for
every prompt), and the whole prompt where a scope leaves it alone. Results do not depend on how rows were batched, up to
the rounding of matrix products. A batch that does not fit into memory is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from levercheck.errors import UsageError
from levercheck.interventions.hooks import Hooks
from levercheck.interventions.receipts import RowReceipt
from levercheck.interventions.spec import Treatment
from levercheck.interventions.steps import Steps
from levercheck.lm import kv
from levercheck.lm.batches import head_at, right_padded, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.trunk import lower, resumed

BATCH_TOKENS = 2048
"""Padded tokens of a batch, over all of its rows; GPUs like more."""
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Block:
    """Prompts x treatments that run as one batch, by their index."""

    prompts: tuple[int, ...]
    treatments: tuple[int, ...]


@dataclass
class Prefilled:
    """State after the prompts: row = prompt-major, treatment-minor."""

    logits: torch.Tensor  # float32 [rows, vocabulary], after the last prompt token
    cache: Any
    gaps: list[int]  # filling in front of each row of the cache
    lengths: list[int]  # of each row, prefix included


@dataclass(frozen=True)
class Scored:
    """Candidate tokens after one prompt under one treatment."""

    logits: tuple[float, ...]  # of the candidates
    logprobs: tuple[float, ...]  # natural log
    finite: bool  # False: the treatment made the logits not finite, and nothing above means anything
    receipt: RowReceipt


class Engine:
    """Runs treatments over prompts that share the tokens `prefix`.

    `share_trunk` runs the layers below the first intervened one once per prompt; `share_prompt` runs prompts once for
    all treatments that touch none of their positions but the last. Without them every row passes whole through every
    layer.
    """

    def __init__(
        self,
        lm: LanguageModel,
        prefix: Sequence[int],
        prompts: Sequence[Sequence[int]],
        treatments: Sequence[Treatment],
        *,
        batch_tokens: int = BATCH_TOKENS,
        share_trunk: bool = True,
        share_prompt: bool = True,
    ) -> None:
        if any(not prompt for prompt in prompts):
            raise UsageError("a prompt has no token of its own behind the shared prefix: shorten the prefix")
        self.lm, self.prefix = lm, list(prefix)
        lm.check_length(len(self.prefix) + max(map(len, prompts), default=0))
        self.prompts, self.treatments = [list(p) for p in prompts], list(treatments)
        self.batch_tokens, self.share_trunk, self.share_prompt = batch_tokens, share_trunk, share_prompt
        self._prefix_of: tuple[tuple[int, ...], Any] = ((), None)
        self._hooks_of: tuple[tuple[int, ...], Hooks] | None = None

    def blocks(self) -> list[Block]:
        """Every prompt under every treatment. Treatments that leave the prompt alone share it with each other only."""
        groups: dict[bool, list[int]] = {}
        for number, treatment in enumerate(self.treatments):
            groups.setdefault(treatment.touches_prompt or not treatment.hooked, []).append(number)
        found = []
        longest = max(map(len, self.prompts), default=1)
        for members in groups.values():
            size = max(1, min(len(members), self.batch_tokens // longest))
            for start in range(0, len(members), size):
                some = tuple(members[start : start + size])
                for batch in token_batches(self.prompts, max(1, self.batch_tokens // len(some))):
                    found.append(Block(tuple(batch), some))
        return found

    def score(self, block: Block, candidates: Sequence[Sequence[int]]) -> list[list[Scored]]:
        """Next-token logits of each prompt's candidate tokens, [prompts of the block][treatments of the block].

        `candidates` holds one list per prompt of the engine. One forward pass, nothing is generated.
        """
        return self.resilient(block, lambda part: self._score(part, candidates))

    @torch.inference_mode()
    def _score(self, block: Block, candidates: Sequence[Sequence[int]]) -> list[list[Scored]]:
        chosen = [self.treatments[i] for i in block.treatments]
        with self.hooks(block.treatments) as hooks:
            state = self.prefill(hooks, block, use_cache=False)
            receipts = hooks.receipts()
        normaliser = state.logits.logsumexp(-1)
        good = torch.isfinite(normaliser).tolist()
        found = []
        for at, prompt in enumerate(block.prompts):
            rows = slice(at * len(chosen), (at + 1) * len(chosen))
            tokens = torch.tensor(list(candidates[prompt]), device=self.lm.device)
            picked = state.logits[rows][:, tokens]
            logprob = (picked - normaliser[rows, None]).double().tolist()
            table = zip(picked.double().tolist(), logprob, good[rows], receipts[rows], strict=True)
            found.append([Scored(tuple(a), tuple(b), finite, receipt) for a, b, finite, receipt in table])
        return found

    def hooks(self, treatments: tuple[int, ...]) -> Hooks:
        """The hooks of some treatments; those of the last ones are kept, because blocks mostly share theirs."""
        if self._hooks_of is None or self._hooks_of[0] != treatments:
            self._hooks_of = (treatments, Hooks(self.lm, [self.treatments[i] for i in treatments]))
        return self._hooks_of[1]

    def prefill(self, hooks: Hooks, block: Block, *, use_cache: bool) -> Prefilled:
        """Run a block's prompts; `hooks` must hold the block's treatments and be entered."""
        count, device = len(block.treatments), self.lm.device
        prompts = [self.prompts[i] for i in block.prompts]
        hooks.assign(list(range(count)) * len(prompts))
        spread = torch.arange(len(prompts), device=device).repeat_interleave(count)
        lengths = [len(self.prefix) + len(prompts[i]) for i in spread.tolist()]
        if self.share_prompt and not hooks.touches_prompt and any(self.treatments[i].hooked for i in block.treatments):
            return self._prompt_shared(hooks, prompts, spread, lengths)
        ids, last = right_padded(self.lm, prompts)
        by_row = torch.arange(count, device=device).repeat(len(prompts))
        prefix = self._prefix(hooks, block.treatments)
        cache = kv.selected(prefix, by_row) if prefix is not None else (kv.new_cache() if use_cache else None)
        steps = Steps.prompt([len(prompts[i]) for i in spread.tolist()], device)
        first = hooks.first_layer
        passed = self._cached(cache)
        with head_at(self.lm, last[spread]):
            if self.share_trunk and count > 1 and first > 0:
                below = None if cache is None else self._lower_cache(prefix, len(prompts))
                hooks.at(None)
                hidden = lower(self.lm, first, input_ids=ids, **self._cached(below))
                hooks.at(steps)
                with resumed(self.lm, first, hidden[spread]):
                    logits = self.lm.model(input_ids=ids[spread], **passed).logits
                if use_cache:
                    kv.take_below(cache, below, first, spread)
            else:
                hooks.at(steps)
                logits = self.lm.model(input_ids=ids[spread], **passed).logits
        longest = max(lengths)
        gaps = [longest - n for n in lengths]
        if use_cache:
            kv.right_aligned(cache, gaps)
        return Prefilled(logits[:, 0].float(), cache, gaps, lengths)

    def _prompt_shared(
        self, hooks: Hooks, prompts: list[list[int]], spread: torch.Tensor, lengths: list[int]
    ) -> Prefilled:
        """Prompts up to their last token once, unhooked; the last token once per row."""
        heads = [self.prefix + p[:-1] for p in prompts]
        hooks.at(None)
        cache = kv.new_cache()
        sizes = [len(h) for h in heads]
        longest = max(sizes)
        if longest:
            own = [p[:-1] for p in prompts]
            if self.prefix:
                cache = kv.selected(self._prefix(hooks, ()), torch.zeros(len(prompts), dtype=torch.long))
            filled = [h or [0] for h in own]  # a row of nothing but filling is not read
            if any(own):
                ids, _ = right_padded(self.lm, filled)
                self.lm.decoder(input_ids=ids, **self._cached(cache))
                longest = len(self.prefix) + ids.shape[1]
            kv.right_aligned(cache, [longest - n for n in sizes])
            cache = kv.selected(cache, spread)
        gaps = [longest - sizes[i] for i in spread.tolist()]
        tokens = torch.tensor([prompts[i][-1:] for i in spread.tolist()], device=self.lm.device)
        hooks.at(Steps.generated(1))
        logits = self.step(tokens, cache, gaps, [n - 1 for n in lengths])
        return Prefilled(logits, cache, gaps, lengths)

    def step(self, tokens: torch.Tensor, cache: Any, gaps: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """Feed one token per row, int64 [rows, 1], at the given positions; next-token logits float32 [rows, vocab]."""
        device = self.lm.device
        mask = None
        if any(gaps):
            held = cache.get_seq_length() + 1
            mask = (torch.arange(held, device=device)[None] >= torch.tensor(list(gaps), device=device)[:, None]).long()
        logits: torch.Tensor = self.lm.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=torch.tensor(list(positions), device=device)[:, None],
            **self._cached(cache),
        ).logits
        return logits[:, -1].float()

    def _cached(self, cache: Any) -> dict[str, Any]:
        """A cache as the model's arguments."""
        return {"use_cache": False} if cache is None else {self.lm.cache_name: cache, "use_cache": True}

    def _prefix(self, hooks: Hooks, treatments: tuple[int, ...]) -> Any:
        """The prefix's cache, one row per treatment ((): one unhooked row); None without a prefix."""
        if not self.prefix:
            return None
        if self._prefix_of[1] is None or self._prefix_of[0] != treatments:
            cache = kv.new_cache()
            rows = max(1, len(treatments))
            ids = torch.tensor([self.prefix] * rows, device=self.lm.device)
            present = hooks.present
            if treatments:
                hooks.assign(range(rows))
                hooks.at(Steps.before_answer(), record=False)
            self.lm.decoder(input_ids=ids, **self._cached(cache))
            if treatments:
                hooks.assign(present)
            self._prefix_of = (treatments, cache)
        return self._prefix_of[1]

    def _lower_cache(self, prefix: Any, rows: int) -> Any:
        """A cache for the lower layers of `rows` prompts; below the first intervened layer all treatments agree."""
        if prefix is None:
            return kv.new_cache()
        return kv.selected(prefix, torch.zeros(rows, dtype=torch.long, device=self.lm.device))

    def resilient(self, block: Block, run: Callable[[Block], list[list[Outcome]]]) -> list[list[Outcome]]:
        """Run a block; out of memory, run its halves instead and join what they give."""
        try:
            return run(block)
        except (RuntimeError, MemoryError) as error:
            single = len(block.prompts) == 1 and len(block.treatments) == 1
            if single or not (isinstance(error, MemoryError) or "out of memory" in str(error).lower()):
                raise
        self._prefix_of, self._hooks_of = ((), None), None
        if self.lm.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(block.prompts) > 1:
            half = len(block.prompts) // 2
            parts = [Block(p, block.treatments) for p in (block.prompts[:half], block.prompts[half:])]
            return [row for part in parts for row in self.resilient(part, run)]
        half = len(block.treatments) // 2
        sides = [Block(block.prompts, t) for t in (block.treatments[:half], block.treatments[half:])]
        left, right = (self.resilient(side, run) for side in sides)
        return [[*a, *b] for a, b in zip(left, right, strict=True)]
