"""Columns of every row table a run writes. Unused columns of a table stay null; missing is never a number."""

from __future__ import annotations

from typing import Any

import polars as pl

Columns = dict[str, Any]  # column name to polars type

ANSWERS: Columns = {
    "item_id": pl.String,
    "category": pl.String,
    "entity": pl.String,  # the unit of splits and of clustered intervals
    "role": pl.String,  # readout, select or confirm
    "sample": pl.Int64,
    "text": pl.String,
    "tokens": pl.List(pl.Int64),
    "correct": pl.Boolean,
    "mean_logprob": pl.Float64,  # natural log, mean over the answer's tokens
    "first_logprob": pl.Float64,
    "stopped": pl.Boolean,  # False: cut by the token cap
}

CAPTURED: Columns = {"item_id": pl.String, "index": pl.Int64, "tokens": pl.Int64}
"""Which row of the array beside this table belongs to which item."""

PROBE_SCORES: Columns = {
    "item_id": pl.String,
    "purpose": pl.String,  # cv (out-of-fold, to choose C), test (opened once)
    "c": pl.Float64,
    "fold": pl.Int64,
    "score": pl.Float64,  # log-odds of "consistently wrong"
}

READOUT: Columns = {
    "c": pl.Float64,
    "layer": pl.Int64,  # null: the intercept
    "index": pl.Int64,
    "weight": pl.Float64,  # per standard deviation of the component
    "mean": pl.Float64,  # of the component over the training items
    "deviation": pl.Float64,
}

ITEMS: Columns = {
    "item_id": pl.String,
    "category": pl.String,
    "entity": pl.String,
    "role": pl.String,
    "asserted": pl.String,
    "true": pl.String,
    "asserted_token": pl.Int64,
    "true_token": pl.Int64,
    "dropped": pl.String,  # why the item is not used, null when it is
}

SETS: Columns = {"condition": pl.String, "control_seed": pl.Int64, "layer": pl.Int64, "index": pl.Int64}

SWEEP: Columns = {
    "benchmark": pl.String,
    "condition": pl.String,
    "control_seed": pl.Int64,
    "alpha": pl.Float64,
    "split": pl.String,
    "item_id": pl.String,
    "cluster_id": pl.String,
    "ruler": pl.String,
    "positive": pl.Boolean,  # complied with the asserted answer, or, without context, preferred the true one
    "value": pl.Float64,  # logit(asserted) - logit(true)
    "mass": pl.Float64,  # joint probability of the two candidate tokens
    "relative_dose": pl.Float64,  # ‖Δ‖/‖h‖ at the site, null where nothing was hooked
}

LEVERS: Columns = {
    "benchmark": pl.String,
    "lever": pl.String,  # the study's name of the intervention; baseline and noop are reserved
    "control": pl.String,  # name of the control this is a draw of, null for the lever itself
    "draw": pl.Int64,
    "dose": pl.Float64,  # in the operator's unit; null for an instruction and for the baseline
    "effort": pl.Float64,  # the declared share of the residual stream's length, null where doses are declared
    "role": pl.String,  # tune or confirm
    "item_id": pl.String,
    "cluster_id": pl.String,
    "ruler": pl.String,
    "style": pl.String,  # of the prompt; file:NAME@digest for a local prompt file
    "stratum": pl.String,  # kind of item whose rate is reported on its own: a framing, a category
    "outcome": pl.String,  # see benchmarks.outcomes
    "score": pl.Float64,  # what the metric averages, 0 to 1; null: no verdict
    "positive": pl.Boolean,  # whether a score of 0 or 1 is 1; null: no verdict, or a continuous score
    "value": pl.Float64,  # the benchmark's own measure; choice: logit(counted) - logit(other)
    "chosen": pl.String,  # label of the option, or the accepted answer that was found
    "how": pl.String,  # rule that found it
    "mass": pl.Float64,  # choice: joint probability of the candidates
    "option_logprobs": pl.List(pl.Float64),  # options: summed natural log-probability of each
    "text": pl.String,  # of generated answers
    "first": pl.String,  # the answer before a second turn
    "first_stop_reason": pl.String,
    "words": pl.Int64,
    "disclaimer_words": pl.Int64,
    "refused": pl.Boolean,  # by the lexical screen
    "hedged": pl.Boolean,
    "stop_reason": pl.String,
    "tokens": pl.Int64,
    "mean_logprob": pl.Float64,  # natural log, mean over the answer's tokens
    "degenerate": pl.Boolean,  # the logits were not finite
    "relative_dose": pl.Float64,  # ‖Δ‖/‖h‖ at the sites; null where nothing was hooked
    "change": pl.Float64,  # ‖Δ‖ at the sites
    "sites": pl.Int64,
    "prompt_positions": pl.Int64,  # positions edited in prefill
    "decode_positions": pl.Int64,  # positions edited in cached decoding
}

STATEMENTS: Columns = {
    "lever": pl.String,
    "dose": pl.Float64,  # null: the unhooked model
    "role": pl.String,
    "item_id": pl.String,
    "cluster_id": pl.String,
    "nll": pl.Float64,  # natural log, mean over the statement's tokens; null where any was not finite
    "tokens": pl.Int64,
    "relative_dose": pl.Float64,  # ‖Δ‖/‖h‖ at the sites; null where nothing was hooked
}

EFFORTS: Columns = {
    "lever": pl.String,
    "control": pl.String,
    "draw": pl.Int64,
    "target": pl.Float64,  # declared effort; its sign says which way the dose goes from the no-op
    "dose": pl.Float64,  # found; null: no dose reaches it
    "effort": pl.Float64,  # measured at that dose
    "low": pl.Float64,  # 95 % interval of the measured effort over prompts
    "high": pl.Float64,
    "prompts": pl.Int64,
    "relative_dose": pl.Float64,  # ‖Δ‖/‖h‖ at the sites, mean over prompts
    "reason": pl.String,  # why there is no dose, null when there is one
}

COMPONENTS: Columns = {
    "lever": pl.String,
    "control": pl.String,
    "draw": pl.Int64,
    "site": pl.String,
    "index": pl.Int64,  # component of the site (of a head: its first dimension); null for directions
    "fingerprint": pl.String,  # of the whole intervention
}

BALANCE: Columns = {
    "lever": pl.String,
    "control": pl.String,
    "covariate": pl.String,
    "kind": pl.String,  # components, set or distance
    "target": pl.Float64,
    "mean": pl.Float64,  # over draws
    "low": pl.Float64,
    "high": pl.Float64,
    "unit": pl.String,
    "smd": pl.Float64,  # standardised mean difference, null where nothing varies
    "rank": pl.Float64,
    "of": pl.Int64,
    "p": pl.Float64,  # two-sided Monte-Carlo p of the rank
    "flagged": pl.Boolean,
}

QUESTIONS: Columns = {
    "item_id": pl.String,
    "question": pl.String,
    "aliases": pl.List(pl.String),
    "category": pl.String,
    "entity": pl.String,
    "answerable": pl.Boolean,
    "skipped": pl.String,  # why it was not asked, null when it was
}

SAMPLES: Columns = {
    "item_id": pl.String,
    "sample": pl.Int64,
    "text": pl.String,
    "tokens": pl.List(pl.Int64),  # null from an endpoint, which returns text only
    "verdict": pl.String,  # true, false, uncertain (no answer was given) or error (the judge failed)
    "match": pl.String,  # how an alias was found: exact, boundary, substring, none; null from a language-model judge
    "ruler": pl.String,
    "mean_logprob": pl.Float64,  # natural log, mean over the answer's tokens
    "first_logprob": pl.Float64,
    "stopped": pl.Boolean,  # False: cut by the token cap
}

SPANS: Columns = {
    "item_id": pl.String,
    "label": pl.String,  # right, wrong
    "text": pl.String,  # the representative response, as decoded
    "tokens": pl.List(pl.Int64),
    "start": pl.Int64,  # token positions of the answer inside `tokens`, half-open
    "stop": pl.Int64,
    "char_start": pl.Int64,  # the same answer in characters of `text`
    "char_stop": pl.Int64,
    "answer": pl.String,  # the stated answer, normalised: the key of answer-disjoint splits
    "method": pl.String,  # whole, alias, extracted
    "mentions": pl.Int64,  # how often the answer stands in the response; the first one is the span
    "reencoded": pl.Boolean,  # True: tokens were made from the text afterwards
    "mean_logprob": pl.Float64,
    "agreement": pl.Float64,  # share of the samples that gave this text
    "reason": pl.String,  # why there is no span, null when there is one
}

SPLIT: Columns = {
    "item_id": pl.String,
    "label": pl.String,
    "category": pl.String,
    "answer": pl.String,
    "group": pl.String,  # items that share an entity, a gold answer or a near-identical question: one role
    "role": pl.String,  # train, test or reserve
    "fold": pl.Int64,  # of training items, for the choice of C; null elsewhere
    "reason": pl.String,  # why an item is in reserve, null elsewhere
}

CAPTURED_REGIONS: Columns = {
    "item_id": pl.String,
    "index": pl.Int64,  # the item's row in the store
    "tokens": pl.Int64,  # length of the sequence, shared prefix included
    "answer_tokens": pl.Int64,
    "other_tokens": pl.Int64,
    "prompt_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "batch_rows": pl.Int64,  # shape of the batch that computed it
    "batch_tokens": pl.Int64,
}

VERBOSITY: Columns = {
    "item_id": pl.String,
    "entity": pl.String,
    "length": pl.String,  # short or long
    "truth": pl.Boolean,
    "reduce": pl.String,  # mean or max over the response's tokens
    "layer": pl.Int64,  # null: the score of the whole readout
    "index": pl.Int64,
    "value": pl.Float64,
    "tokens": pl.Int64,
}

REFITS: Columns = {
    "purpose": pl.String,  # bootstrap, half, control (labels drawn per answer string), category, without (a component)
    "draw": pl.Int64,
    "c": pl.Float64,
    "held_out": pl.String,  # the category or the component left out
    "metric": pl.String,  # weight, intercept, score, label (of the control task), train_auroc; failed: no fit
    "item_id": pl.String,  # of scores and labels
    "layer": pl.Int64,  # of weights
    "index": pl.Int64,
    "value": pl.Float64,
}

VERDICTS: Columns = {
    "item_id": pl.String,
    "text": pl.String,  # a distinct answer
    "verdict": pl.String,  # true, false, uncertain or error
    "judge": pl.String,
}

PATH: Columns = {
    "c": pl.Float64,
    "layer": pl.Int64,  # null: the intercept
    "index": pl.Int64,
    "weight": pl.Float64,
    "mean": pl.Float64,  # null: raw features
    "deviation": pl.Float64,
    "kkt": pl.Float64,  # of the solution, in the intercept's row
}
