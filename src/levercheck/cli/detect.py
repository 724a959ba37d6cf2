"""The commands of the H-neuron pipeline: collect, spans, split, capture, probe, and all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import ValidationError

from levercheck.cli import detect_tables as tables
from levercheck.cli.console import Stages, clean, output
from levercheck.errors import UsageError

if TYPE_CHECKING:
    from levercheck.detect.workspace import Workspace
    from levercheck.judges.client import ChatClient
    from levercheck.lm.model import LanguageModel

Directory = Annotated[Path, Parameter(help="Workspace that 'levercheck collect' started.")]
Model = Annotated[
    str | None,
    Parameter(help="Model to load: embedded:NAME, gguf:PATH, a directory or a Hugging Face id; default the recorded."),
]
Dtype = Annotated[Literal["float32", "bfloat16", "float16"], Parameter(help="Number format of the model's weights.")]
Device = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")]
Seed = Annotated[int, Parameter(help="Seed of every draw of this stage.", validator=Number(gte=0, lt=2**32))]
Name = Annotated[str, Parameter(help="Name of the probe inside the workspace.")]
DEFAULT_MODEL = "embedded:smollm2-135m"


@contextmanager
def opened(root: Path, *, create: bool = False) -> Iterator[Workspace]:
    """Claim a workspace with progress on the terminal."""
    from levercheck.detect.workspace import workspace

    with workspace(root, Stages(), create=create) as ws:
        yield ws


def recorded_model(ws: Workspace) -> dict[str, Any]:
    """The model that was captured, or else the one that wrote the answers; {} where other programs' rows name none."""
    units = [unit for unit in ("capture", "answers") if ws.has(unit)] or ["answers"]
    return next((found for unit in units if (found := ws.settings(unit).get("model"))), {})


def load(ws: Workspace, model: str | None, dtype: str | None, device: str | None) -> LanguageModel:
    """The model that was asked for, or else the recorded one, in the same number format."""
    from levercheck.evidence.provenance import model_label
    from levercheck.lm.model import load_model

    recorded = recorded_model(ws)
    name = model or recorded.get("name")
    if name is None:
        raise UsageError("the workspace records no model: give it with --model")
    if model is None and name.startswith(("dir:", "gguf:")):
        raise UsageError(f"the workspace records {clean(name)}, not where it is: give it with --model")
    stages = Stages()
    if not recorded:
        stages.notify("the workspace records no model: whether this is the one that made it cannot be checked")
    stages.notify(f"loading {model_label(name)}")
    return load_model(name, dtype=dtype or recorded.get("dtype", "float32"), device=device, notify=stages.notify)


@contextmanager
def client(url: str | None, model: str | None, key_variable: str, option: str) -> Iterator[ChatClient | None]:
    """A client of an endpoint given by two options, or None when neither is."""
    if url is None and model is None:
        yield None
        return
    if url is None or model is None:
        raise UsageError(f"--{option}-url and --{option}-model belong together: give both")
    from levercheck.judges.client import ChatClient, Endpoint

    try:
        endpoint = Endpoint(url=url, model=model, key_variable=key_variable)
    except ValidationError as error:
        raise UsageError(f"--{option}-url or its key: {error.errors()[0]['msg']}") from None
    with ChatClient(endpoint) as found:
        yield found


def collect(
    source: str,
    /,
    *,
    out: Annotated[Path, Parameter(help="Workspace: a new folder, or one to continue.")],
    model: Annotated[
        str, Parameter(help="embedded:NAME, gguf:PATH, a directory, or a Hugging Face id.")
    ] = DEFAULT_MODEL,
    limit: Annotated[int | None, Parameter(help="Ask this many questions, drawn by the seed.")] = None,
    split: Annotated[str | None, Parameter(help="Split of a hub dataset.")] = None,
    samples: Annotated[int, Parameter(help="Answers per question.", validator=Number(gte=1))] = 10,
    temperature: Annotated[float, Parameter(validator=Number(gt=0))] = 1.0,
    top_k: Annotated[
        int, Parameter(help="0 leaves it out of requests to an endpoint that refuses it.", validator=Number(gte=0))
    ] = 50,
    top_p: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 0.9,
    max_new_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = 50,
    prompt: Annotated[
        Literal["auto", "chat", "examples"], Parameter(help="Chat turn, or after solved examples.")
    ] = "auto",
    instruction: Annotated[str | None, Parameter(help="Sentence after the question in a chat turn.")] = None,
    ruler: Annotated[
        str | None, Parameter(help="Version of the rule that judges answers; default the source's.")
    ] = None,
    seed: Seed = 0,
    dtype: Dtype = "float32",
    device: Device = None,
    batch: Annotated[int, Parameter(help="Questions per batch.", validator=Number(gte=1))] = 64,
    endpoint_url: Annotated[str | None, Parameter(help="Sample from this OpenAI-compatible endpoint instead.")] = None,
    endpoint_model: Annotated[str | None, Parameter(help="Model of that endpoint.")] = None,
    judge_url: Annotated[str | None, Parameter(help="Let a model at this endpoint judge the answers.")] = None,
    judge_model: Annotated[str | None, Parameter(help="Model of that endpoint.")] = None,
    key_variable: Annotated[
        str, Parameter(help="Environment variable that holds the endpoints' key.")
    ] = "OPENAI_API_KEY",
    json_: Json = False,
) -> int:
    """Ask every question several times and judge every answer.

    SOURCE is facts, nonexist, triviaqa, nq-open, bioasq, or a file: triviaqa:PATH, jsonl:PATH, csv:PATH. A kill or
    Ctrl-C loses nothing: the same command continues.

    Example: levercheck collect triviaqa:validation.parquet --limit 3500 --model google/gemma-3-4b-it --out runs/h
    """
    from levercheck.benchmarks.questions import load_questions
    from levercheck.detect.prompting import INSTRUCTION, Prompting

    if top_k == 0 and endpoint_url is None:
        raise UsageError("--top-k 0 is for endpoints: give at least 1 to sample with a loaded model")
    asked = instruction if instruction is not None else INSTRUCTION
    settings = {"samples": samples, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    questions = load_questions(source, limit=limit, seed=seed, split=split)
    with (
        opened(out, create=True) as ws,
        client(endpoint_url, endpoint_model, key_variable, "endpoint") as endpoint,
        client(judge_url, judge_model, key_variable, "judge") as judge,
    ):
        if endpoint is not None:
            from levercheck.detect.endpoints import collect_from
            from levercheck.judges.sampler import ChatSampling

            chat = ChatSampling(samples, temperature, top_k, top_p, max_new_tokens)
            collect_from(
                ws, endpoint, questions, prompting=Prompting("chat", asked), sampling=chat, seed=seed, ruler=ruler
            )
        else:
            from levercheck.detect.collect import collect as run
            from levercheck.detect.prompting import prompting_for
            from levercheck.lm.model import load_model
            from levercheck.lm.sample import Sampling

            stages = Stages()
            lm = load_model(model, dtype=dtype, device=device, notify=stages.notify)
            prompting = prompting_for(lm, prompt, asked)
            drawn = Sampling(**settings, max_new_tokens=max_new_tokens, stop=prompting.stop)  # type: ignore[arg-type]
            run(ws, lm, questions, prompting=prompting, sampling=drawn, seed=seed, ruler=ruler, batch=batch)
        results = {"out": str(out), "ruler": ws.settings("answers")["ruler"], **ws.results("answers")}
        if judge is not None:
            from levercheck.detect.endpoints import judge_answers

            judge_answers(ws, judge)
        if ws.has("verdicts"):
            results["judge"] = {"model": ws.settings("verdicts").get("model"), **ws.results("verdicts")}
    return tables.show(json_, results, lambda: tables.funnel(results))


def spans(
    directory: Directory,
    /,
    *,
    model: Model = None,
    extractor_url: Annotated[str | None, Parameter(help="Endpoint that quotes answers in long responses.")] = None,
    extractor_model: Annotated[str | None, Parameter(help="Model of that endpoint.")] = None,
    key_variable: Annotated[str, Parameter(help="Environment variable with the endpoint's key.")] = "OPENAI_API_KEY",
    use_aliases: Annotated[
        bool,
        Parameter(
            negative="", help="Let an accepted alias mark the answer in long responses; only right ones have one."
        ),
    ] = False,
    json_: Json = False,
) -> int:
    """Find the answer's tokens in every consistent response.

    Right and wrong responses are treated alike; a response without a span becomes a row with its reason.

    Example: levercheck spans runs/h
    """
    from levercheck.detect.spans import spans as run

    with opened(directory) as ws, client(extractor_url, extractor_model, key_variable, "extractor") as quoting:
        lm = load(ws, model, None, "cpu")
        if quoting is None:
            run(ws, lm, aliases=use_aliases)
        else:
            from levercheck.detect.endpoints import extractor, without_address
            from levercheck.judges.extract import extractor_identity

            identity = without_address(extractor_identity(quoting.endpoint))
            run(ws, lm, extract=extractor(quoting), identity=identity, aliases=use_aliases)
        results = ws.results("spans")
    return tables.show(json_, results, lambda: tables.spans(results))


def split(
    directory: Directory,
    /,
    *,
    test_share: Annotated[float, Parameter(help="Share of the groups that are held out.")] = 0.3,
    per_class: Annotated[int | None, Parameter(help="Most training items per label.")] = None,
    disjoint: Annotated[
        Literal["question", "entity", "answer"], Parameter(help="What train and test may not share.")
    ] = "answer",
    balance: Annotated[
        Literal["label", "category"], Parameter(help="Equal labels overall, or in every category.")
    ] = "label",
    folds: int = 5,
    seed: Seed = 0,
    json_: Json = False,
) -> int:
    """Divide the items into balanced roles that share no question, entity or stated answer.

    Example: levercheck split runs/h --per-class 1000
    """
    from levercheck.detect.split import SplitSpec
    from levercheck.detect.split import split as run

    spec = checked(
        SplitSpec,
        test_share=test_share,
        per_class=per_class,
        disjoint=disjoint,
        balance=balance,
        folds=folds,
        seed=seed,
    )
    with opened(directory) as ws:
        run(ws, spec)
        results = ws.results("split")
    return tables.show(json_, results, lambda: tables.split(results))


def capture(
    directory: Directory,
    /,
    *,
    model: Model = None,
    regions: Annotated[
        str, Parameter(help="Comma-separated: answer, other (all but the answer), prompt, output.")
    ] = "answer,other",
    reduce: Annotated[str, Parameter(help="mean, max or both, comma-separated.")] = "mean",
    raw: Annotated[bool, Parameter(negative="", help="Store |z| beside CETT.")] = False,
    store: Annotated[Literal["float32", "float16"], Parameter(help="Number format of the store.")] = "float32",
    batch_tokens: Annotated[int, Parameter(help="Padded tokens per batch; GPUs like more.")] = 1024,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, Parameter(help="Of the model; default as recorded.")
    ] = None,
    device: Device = None,
    plan_only: Annotated[bool, Parameter(name="--plan", negative="", help="Print the plan and stop.")] = False,
    json_: Json = False,
) -> int:
    """Measure every neuron's share of its layer's output (CETT) over regions of question and answer.

    Example: levercheck capture runs/h --regions answer,other,output --reduce mean,max
    """
    from levercheck.detect.capture import capture as run
    from levercheck.detect.capture import plan
    from levercheck.detect.stored import CaptureSpec

    spec = checked(
        CaptureSpec,
        regions=_words(regions),
        reduces=_words(reduce),
        measures=("cett", "abs") if raw else ("cett",),
        dtype=store,
        batch_tokens=batch_tokens,
    )
    with opened(directory) as ws:
        lm = load(ws, model, dtype, device)
        planned = plan(ws, lm, spec)
        Stages().notify(planned.line())
        results = {"items": planned.items, "channels": list(planned.channels), "bytes": planned.bytes}
        results |= {"tokens": planned.tokens, "shape": list(planned.shape), "line": planned.line()}
        if not plan_only:
            run(ws, lm, spec)
    done = "planned" if plan_only else "captured"
    return tables.show(
        json_, results, lambda: output.print(f"{done}: {planned.line()}", style="bold green", soft_wrap=True)
    )


def probe(
    directory: Directory,
    /,
    *,
    name: Name = "default",
    mode: Annotated[
        Literal["1-vs-1", "3-vs-1"], Parameter(help="Wrong against right answers, or against all other tokens too.")
    ] = "3-vs-1",
    c: Annotated[str, Parameter(help="Values of C, comma-separated; default a grid.")] = "",
    scale: Annotated[bool, Parameter(negative="", help="Standardise features first.")] = False,
    measure: Annotated[Literal["cett", "abs"], Parameter(help="Feature to read.")] = "cett",
    reduce: Annotated[Literal["mean", "max"], Parameter(help="Reduction over the answer's tokens.")] = "mean",
    intercept: Annotated[Literal["free", "penalised"], Parameter(help="liblinear's problem penalises it.")] = "free",
    solver: Annotated[
        Literal["working-set", "liblinear"], Parameter(help="liblinear: scikit-learn's, slower, as an oracle.")
    ] = "working-set",
    seed: Seed = 0,
    json_: Json = False,
) -> int:
    """Fit a sparse logistic readout; choose C on training folds and open the test role once.

    Example: levercheck probe runs/h --mode 3-vs-1 --c 0.1,0.3,1,3
    """
    from levercheck.detect.probe import ProbeSpec
    from levercheck.detect.probe import probe as run
    from levercheck.detect.stored import open_store

    spec = checked(
        ProbeSpec,
        mode=mode,
        cs=_numbers(c),
        scale=scale,
        measure=measure,
        reduce=reduce,
        intercept=intercept,
        solver=solver,
        seed=seed,
    )
    with opened(directory) as ws:
        readout = run(ws, open_store(ws), spec, name)
        results = {
            **ws.results(f"probes/{name}"),
            **ws.results(f"probes/{name}/path"),
            "components": len(readout.components),
            "h_neurons": len(readout.neurons),
            "fingerprint": readout.fingerprint,
        }
    return tables.show(json_, results, lambda: tables.probe(results))


def checked(kind: Any, **values: Any) -> Any:
    """A settings object; the first invalid value becomes a one-line UsageError."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where} = {first['input']!r}: {first['msg']}") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in _words(text))
    except ValueError:
        raise UsageError(f"--c '{text}' holds something that is no number: give e.g. 0.1,1,10") from None
    if any(not 0 < value < float("inf") for value in found):
        raise UsageError(f"--c '{text}': expected positive numbers")
    return found
