"""Prompt templates: what is filled in, what is left alone, and what a prompt file must be."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levercheck.benchmarks.templates import read_template, render
from levercheck.errors import UsageError

FIELDS = {"question": "Who bakes?", "context": "A baker bakes."}
WHERE = "benchmark 'bread'"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{question}", "Who bakes?"),
        ("Read: {context}\nQ: {question}\nA:", "Read: A baker bakes.\nQ: Who bakes?\nA:"),
        ("{question} {question}", "Who bakes? Who bakes?"),
        ("no field", "no field"),
        ("", ""),
        ("{{question}}", "{question}"),
        ("{{{question}}}", "{Who bakes?}"),
        ('{{"q": "{question}"}}', '{"q": "Who bakes?"}'),
        ("a } before a { alone", "a } before a { alone"),
        ("{over\nlines}", "{over\nlines}"),
    ],
)
def test_fields_are_filled_in_and_doubled_braces_stand_for_one(template: str, text: str) -> None:
    assert render(template, FIELDS, WHERE) == text


@given(st.text(), st.text())
def test_what_a_field_holds_is_never_a_template(first: str, second: str) -> None:
    assert render("<{a}|{b}>", {"a": first, "b": second}, WHERE) == f"<{first}|{second}>"
    nested = {"a": "{b} {{", "b": second}
    assert render("{a}", nested, WHERE) == "{b} {{"


@given(st.text(alphabet=st.sampled_from("{}ab\n"), max_size=12))
def test_any_text_with_doubled_braces_is_itself(text: str) -> None:
    assert render(text.replace("{", "{{").replace("}", "}}"), {"a": "x", "ab": "y"}, WHERE) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{qestion}", "benchmark 'bread': the prompt names {qestion} (did you mean 'question'?)"),
        ("{question} {Context}", "benchmark 'bread': the prompt names {Context} (did you mean 'context'?)"),
        ("{ question }", "benchmark 'bread': the prompt names { question } (did you mean 'question'?)"),
        ("{zzz}", "benchmark 'bread': the prompt names {zzz} (valid: context, question)"),
        ("{}", "benchmark 'bread': the prompt names {} (valid: context, question)"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(template: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(template, FIELDS, WHERE)
    assert str(caught.value) == message


def test_a_file_is_read_with_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    data = "Frage: {question}\nKürze:\n\n".encode()
    path.write_bytes(data)
    assert read_template(path) == ("Frage: {question}\nKürze:\n", hashlib.sha256(data).hexdigest())
    path.write_bytes(b"\xef\xbb\xbf" + data)
    text, digest = read_template(path)
    assert text == "Frage: {question}\nKürze:\n"  # the byte-order mark is no part of the prompt
    assert digest == hashlib.sha256(b"\xef\xbb\xbf" + data).hexdigest()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Q: {question}\nA\xe9:\n", "short.txt:2: not UTF-8 text (byte 0xe9)"),
        (b"\xff\xfe{\x00", "short.txt:1: not UTF-8 text (byte 0xff)"),
        (b"Name a loaf.", "short.txt names no field in braces, such as {question}"),
        (b"", "short.txt names no field"),
        (b"{{question}}", "short.txt names no field"),
        (b"{}", "short.txt names no field"),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "short.txt"
    path.write_bytes(data)
    refused(path, message)


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.txt", "prompt_file none.txt cannot be read (No such file or directory)")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "prompt_file folder cannot be read (Is a directory)")


def refused(path: Path, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_template(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(path.parent) not in str(caught.value)
