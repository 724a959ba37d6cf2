from __future__ import annotations

import re
from typing import Any

import yaml

from levercheck.publish.card import card_markdown


def test_front_matter_is_yaml_with_the_standings(audit: dict[str, Any]) -> None:
    _, front, _ = card_markdown(audit).split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["tool"] == "levercheck"
    assert data["schema"] == audit["schema"]
    assert data["model"] == audit["study"]["model"]["name"]
    assert data["key"] == audit["study"]["key"]
    assert data["standings"] == {gate["name"]: gate["standing"] for gate in audit["gates"]}


def test_hostile_text_stays_text(audit: dict[str, Any]) -> None:
    body = card_markdown(audit).split("---\n", 2)[2]
    assert "<script" not in body
    assert "&lt;script&gt;" in body
    assert r"\[x\](javascript:alert(1))" in body
    assert not re.search(r"^# heading", body, re.MULTILINE)
    assert r"a\|b" in body


def test_estimates_carry_interval_unit_and_n(audit: dict[str, Any]) -> None:
    text = card_markdown(audit)
    assert r"| Slope, H-neurons | +0.20 | \[−0.80, +1.20\] | pp per unit dose | n = 110, 69 entities |" in text
    assert "levercheck verify DIR" in text


def test_missing_estimates_are_not_estimable(audit: dict[str, Any]) -> None:
    audit["estimates"]["random.new_set"] |= {"value": None, "low": None, "high": None, "note": "one set"}
    del audit["estimates"]["probe.auroc"]
    text = card_markdown(audit)
    assert "| not estimable: one set |" in text
    assert "AUROC of the probe on unseen entities | not estimable" in text


def test_the_card_is_deterministic_and_survives_an_empty_audit(audit: dict[str, Any]) -> None:
    assert card_markdown(audit) == card_markdown(audit)
    assert "The audit holds no verdict." in card_markdown({})
