"""The benchmarks that are shipped: importing this module registers them."""

from levercheck.benchmarks import (  # noqa: F401
    bioasq,
    capability,
    embedded,
    fabricated,
    faitheval,
    falseqa,
    jailbreak,
    simpleqa,
    sycophancy,
    triviaqa_bridge,
    truthfulqa,
)
