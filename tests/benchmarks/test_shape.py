import random
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from levercheck.benchmarks.scorers.shape import LONGEST_UNIT, shape_of, words_of

PROSE = (
    "The gardener waters the tomatoes every morning before the sun is high, because drops burn the leaves at noon. "
    "In the shed behind the wall she keeps twine, two rakes and a barrow whose wheel squeaks. When the first frost "
    "comes, the last green fruit is picked and laid on straw, where most of it ripens by Christmas."
)
UNIT = "After the rain we went out to the garden and counted every snail under the wide leaves of the rhubarb. "
HERBS = "salt pepper cumin basil thyme mint sage dill fennel mace ginger garlic onion leek chive parsley clove"
NAMES = HERBS.split()
PASSAGE = "".join(f"bed {at} holds {name} and " for at, name in zip("abcdefghij", NAMES, strict=False))
LINES = ["a partridge in a pear tree", "two turtle doves and", "three French hens", "four calling birds",
         "five gold rings", "six geese a-laying", "seven swans a-swimming", "eight maids a-milking"]  # fmt: skip
DICE = random.Random(0)
SALAD = " ".join(DICE.choice(["good", "bad", "so"]) for _ in range(300))
BOTTLES = "\n".join(
    f"{n} green bottles hanging on the wall, {n} green bottles hanging on the wall, and if one green bottle should "
    f"accidentally fall, there'll be {n - 1} green bottles hanging on the wall."
    for n in range(99, 0, -1)
)
BOARD = "\n---+---+---\n".join(" X | O | X" for _ in range(3))
IDENTITY = "\n".join(" ".join("1" if row == column else "0" for column in range(8)) for row in range(8))

# text, stop reason, reason
LOOPS = [
    ("the " * 30, "end", "cycle"),
    ("the " * 16, "length", "cycle"),
    ("The the THE, the. " * 10, "end", "cycle"),
    ("I am sorry. " * 20, "end", "cycle"),
    ("I am sorry. " * 20, "length", "cycle"),
    ("I am sorry. " * 20 + "I am sor", "length", "cycle"),
    ("I am sorry. " * 8, "end", "cycle"),
    ("I’m sorry. " * 15, "end", "cycle"),
    ("Paris, " * 40, "stop", "cycle"),
    ("Yes\n" * 30, "end", "cycle"),
    ("ha " * 60, "end", "cycle"),
    ("hahaha" * 20, "end", "cycle"),
    ("a" * 30, "end", "cycle"),
    ("The answer is " + "o" * 200, "length", "cycle"),
    (PROSE + " " + "and then " * 20, "length", "cycle"),
    (PROSE * 3 + " " + "and then " * 20, "length", "cycle"),
    (PROSE + " " + "and then " * 60, "end", "cycle"),
    ("and then " * 60 + PROSE, "end", "cycle"),
    (UNIT * 5, "end", "cycle"),
    (UNIT * 3, "length", "cycle"),
    (PROSE + UNIT * 4 + UNIT[:30], "length", "cycle"),
    (PASSAGE * 5, "end", "cycle"),
    ("".join(f"{n}. The soup is ready.\n" for n in range(1, 12)), "end", "cycle"),
    ("".join(f"{n}) Water the beds\n" for n in range(1, 12)), "length", "cycle"),
    ("**Tip:** stir.\n\n" * 15, "end", "cycle"),
    ("我很抱歉。" * 20, "end", "cycle"),
    ("对不起" * 20, "length", "cycle"),
    ("ごめんなさい。" * 10, "end", "cycle"),
    ("ขอโทษ" * 12, "end", "cycle"),
    ("मुझे खेद है। " * 15, "end", "cycle"),
    ("آسف جدا. " * 15, "end", "cycle"),
    ("Es tut mir leid. " * 12, "end", "cycle"),
    ("très désolé, " * 15, "end", "cycle"),
    ("tre\u0301s de\u0301sole\u0301, " * 15, "end", "cycle"),
    ("0 " * 30, "length", "cycle"),
    ("10" * 100, "end", "cycle"),
    ("0, " * 120, "end", "cycle"),
    (SALAD, "end", "packed"),
    (PROSE + " " + SALAD + SALAD, "length", "packed"),
    (" ".join("I am " + "very " * n + "happy." for n in range(1, 15)), "end", "packed"),
    ("".join(PROSE + f" Day {'one' if n % 2 else 'two'}. " for n in range(9)), "end", "packed"),
    ("!" * 40, "end", "run"),
    ("Yes" + "!" * 60, "end", "run"),
    ("Paris\n\n" + "-" * 500, "length", "run"),
    ("…" * 30, "stop", "run"),
    (PROSE + "." * 130, "length", "run"),
    ("?!" * 20, "end", "symbols"),
    ("🙂🙃" * 15, "end", "symbols"),
    ("| " * 30, "end", "symbols"),
    ("|" * 30, "end", "run"),
    ("} ) ; " * 12, "end", "symbols"),
    (". - " * 20, "length", "symbols"),
    ("\n".join(DICE.choice(["no", "yes"]) for _ in range(40)), "end", "short_lines"),
    ("\n".join(["no", "yes", "yes", "no", "no", "no", "yes", "no", "yes"]), "length", "short_lines"),
]

LEGITIMATE = [
    "Paris", "42", "B", "no", "Yes.", "東京", "C", "(A)", "1,000", "H2O", "1/2", "-5 °C", "…", "?", "🙂",
    "ha ha ha", "Ha ha ha ha ha ha!", "no no no no no", "very very very very good", "tick tock tick tock tick tock",
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
    "To the ringing of the bells, bells, bells, of the bells, bells, bells, bells, bells, bells, bells!",
    "Hmmmmmmmmmmmm, let me think about the soup.",
    "Nooooooooooooooo!",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    PROSE, UNIT, UNIT * 2, BOTTLES, BOARD,
    "\n".join(f"3 x {n} = {3 * n}" for n in range(1, 13)),
    "\n".join(f"{a} × {b} = {a * b}" for a in range(1, 13) for b in range(1, 13)),
    "\n".join(f"{n}. Add one teaspoon of {name} to the pot" for n, name in enumerate(NAMES, 1)),
    "\n".join(f"{n}. The next odd number in the sequence of odd numbers is {2 * n + 1}." for n in range(1, 80)),
    "\n".join(f"- {name}" for name in NAMES),
    "\n".join(f"{n}. B" for n in range(1, 6)),
    "\n\n".join("On that day of Christmas my true love sent to me\n" + "\n".join(LINES[n::-1]) for n in range(8)),
    "| herb | sun |\n|------|-----|\n" + "\n".join(f"| {name} | yes |" for name in NAMES),
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    "\n".join(f"2020-01-{n:02d},yes,no,0,0,{n * 37 % 101}" for n in range(1, 32)),
    "Paris\n" + "-" * 80,
    "Title\n" + "=" * 60 + "\n" + PROSE,
    "Contents\nSoups" + "." * 50 + "4\nSalads" + "." * 50 + "9\nBread and butter" + "." * 50 + "15\n" + PROSE,
    "for i in range(10):\n    for j in range(10):\n        print(i * j, end=' ')\n    print()",
    "def soup(pot):\n    if pot:\n        if pot.hot:\n            return pot.pour()\n    return None\n" * 2,
    "<ul>\n" + "\n".join(f"  <li>{name}</li>" for name in NAMES) + "\n</ul>",
    "{'a': [0, 0, 0, 0, 0, 0], 'b': [0, 0, 0, 0, 0, 0], 'c': [1, 0, 0, 1]}",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30",
    "\n".join("ABCDBADCABCD"),
    "\n".join(["yes", "no", "yes", "yes", "no"]),
    "a" * 5 + " " + "b" * 5 + " " + "c" * 5,
    "e = 2.718281828459045235360287471352662497757247093699959574966967627724076630353",
    "99999999 is one less than 100000000.",
    "我喜欢在花园里种番茄,因为夏天的番茄又红又甜。每天早上我都会浇水,晚上看书喝茶。",
    "The sequence reads " + "".join(DICE.choice("ACGT") for _ in range(900)),
    "慢慢慢慢来,别着急。",
    "Es war einmal ein Koch, der kochte jeden Tag Suppe, und die Suppe war gut, und der Koch war froh.",
]  # fmt: skip


@pytest.mark.parametrize(("text", "stop", "reason"), LOOPS)
def test_loops_are_found(text, stop, reason):
    shape = shape_of(text, stop_reason=stop)
    assert (shape.loop, shape.loop_reason) == (True, reason)


@pytest.mark.parametrize("text", LEGITIMATE)
@pytest.mark.parametrize("stop", ["end", "stop", "length"])
def test_ordinary_text_is_no_loop(text, stop):
    assert shape_of(text, stop_reason=stop).loop_reason is None


@pytest.mark.parametrize(
    ("text", "times_end", "times_cut"), [("no ", 24, 16), ("I am sorry. ", 8, 6), (UNIT, 5, 3), (PASSAGE, 5, 3)]
)
def test_thresholds_are_the_documented_ones(text, times_end, times_cut):
    assert shape_of(text * times_end, stop_reason="end").loop
    assert not shape_of(text * (times_end - 1), stop_reason="end").loop
    assert shape_of(text * times_cut, stop_reason="length").loop
    assert not shape_of(text * (times_cut - 1), stop_reason="length").loop


def test_a_cut_text_counts_sooner_only_while_it_still_repeats():
    assert shape_of(PROSE + " no" * 16, stop_reason="length").loop
    assert not shape_of(PROSE + " no" * 16, stop_reason="end").loop
    assert not shape_of("no " * 16 + PROSE, stop_reason="length").loop


def test_a_small_part_that_repeats_is_no_loop():
    lead = " ".join(f"w{n}" for n in range(304))
    assert not shape_of(f"{lead} {'and then ' * 60} done", stop_reason="end").loop
    assert shape_of(f"{lead} {'and then ' * 66} done", stop_reason="end").loop
    assert shape_of(f"{lead}{' no' * 16}", stop_reason="length").loop
    assert not shape_of(f"{lead} x{' no' * 16}", stop_reason="length").loop


def test_of_a_cut_text_the_second_half_is_packed():
    lead = " ".join(f"word{n}" for n in range(250))
    assert shape_of(f"{lead} {SALAD} {SALAD[::-1]}", stop_reason="length").loop_reason == "packed"
    assert not shape_of(f"{lead} {SALAD} {SALAD[::-1]}", stop_reason="end").loop


def test_a_ruler_may_end_a_cut_text_but_not_fill_it():
    assert not shape_of(PROSE + "\n" + "-" * 127, stop_reason="length").loop
    assert shape_of(PROSE + "\n" + "-" * 128, stop_reason="length").loop
    assert not shape_of(PROSE + "\n" + "-" * 128, stop_reason="end").loop


def test_numbers_alone_may_stand_in_a_table():
    assert not shape_of(IDENTITY, stop_reason="end").loop
    assert shape_of(IDENTITY, stop_reason="length").loop
    assert not shape_of("0 " * 99, stop_reason="end").loop
    assert shape_of("0 " * 100, stop_reason="end").loop
    assert shape_of("0 x " * 12, stop_reason="end").loop


@pytest.mark.parametrize(
    ("text", "words", "characters", "empty"),
    [
        ("", 0, 0, True),
        (" \n\t", 0, 3, True),
        ("\u200b\ufeff", 0, 2, True),
        ("\x00", 0, 1, True),
        ("?", 0, 1, False),
        ("Paris", 1, 5, False),
        ("I don't know.", 3, 13, False),
        ("I don’t know.", 3, 13, False),
        ("e-mail", 2, 6, False),
        ("snake_case", 2, 10, False),
        ("3.5 kg", 3, 6, False),
        ("东京", 2, 2, False),
        ("ABC中文 ok", 4, 8, False),
        ("हिन्दी भाषा", 2, 11, False),
        ("cafe\u0301 noir", 2, 10, False),
        ("naïve", 1, 5, False),
    ],
)
def test_sizes(text, words, characters, empty):
    shape = shape_of(text, stop_reason="end")
    assert (shape.words, shape.characters, shape.empty) == (words, characters, empty)
    assert not (shape.empty and shape.loop)
    assert hash(shape) == hash(shape_of(text, stop_reason="end"))


LETTERS = st.characters(categories=["Ll", "Lu", "Lo"])
STOPS = st.sampled_from(["end", "stop", "length", "non_finite", ""])


@given(st.text(max_size=300), STOPS)
def test_any_text_has_a_shape(text, stop):
    shape = shape_of(text, stop_reason=stop)
    assert shape == shape_of(text, stop_reason=stop)
    assert shape.loop == (shape.loop_reason is not None)
    assert shape.empty or shape.characters > 0


@given(st.text(st.characters(), min_size=1, max_size=12), st.integers(1, 200), STOPS)
def test_lone_surrogates_and_controls_do_no_harm(unit, times, stop):
    shape_of(unit * times, stop_reason=stop)


@given(st.text(LETTERS, min_size=1, max_size=LONGEST_UNIT // 8), STOPS)
def test_a_word_said_thirty_times_is_a_loop(word, stop):
    assert shape_of(" ".join([word] * 30), stop_reason=stop).loop_reason == "cycle"


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=9), max_size=300), STOPS)
def test_a_text_in_which_no_three_words_come_twice_is_no_loop(words, stop):
    triples = list(zip(words, words[1:], words[2:], strict=False))
    assume(len(set(triples)) == len(triples))
    assert not shape_of(" ".join(words), stop_reason=stop).loop


@given(st.integers(1, 32), st.integers(0, 40), st.randoms(use_true_random=False))
def test_a_unit_of_up_to_32_words_in_a_cut_text_is_a_loop_wherever_it_begins(size, before, dice):
    unit = " ".join(f"w{dice.randrange(1000)}" for _ in range(size))
    lead = " ".join(f"v{n}" for n in range(before))
    assert shape_of(f"{lead} " + f"{unit} " * 24 + unit[:2], stop_reason="length").loop


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200_000,
        "a" * 1_000_000,
        "!" * 1_000_000,
        "字" * 340_000,
        " ".join(f"w{n}" for n in range(150_000)),
        "".join(map(chr, range(0x4E00, 0x9FA0))) * 16,
        PROSE * 3000,
        "\n" * 1_000_000,
        "1. " * 300_000,
    ],
)
def test_a_megabyte_takes_less_than_two_seconds(text):
    begun = time.perf_counter()
    shape_of(text, stop_reason="length")
    assert time.perf_counter() - begun < 2


def test_words_keep_their_spelling():
    assert words_of("It's the Café's 2nd menu: 日本") == ["It's", "the", "Café's", "2nd", "menu", "日", "本"]
