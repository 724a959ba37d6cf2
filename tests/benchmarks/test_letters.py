import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levercheck.benchmarks.scorers.letter_phrases import plain
from levercheck.benchmarks.scorers.letters import RULER, Choice, read_choice
from levercheck.benchmarks.scorers.tiers import normalise
from levercheck.errors import UsageError

PLAIN = {"A": "sunlight", "B": "soil", "C": "wind", "D": "rain"}
GASES = {"A": "oxygen", "B": "carbon dioxide", "C": "nitrogen", "D": "helium"}
THINGS = {"1": "a beetle", "2": "a robin", "3": "an oak tree", "4": "a salmon"}
PLANETS = {"A": "Mercury", "B": "Venus", "C": "Earth", "D": "Mars", "E": "Jupiter"}
COUNTS = {"A": "2 apples", "B": "3 apples", "C": "4 apples", "D": "12 apples"}
DIGITS = {"1": "2", "2": "3", "3": "4", "4": "5"}
MASSES = {"A": "1.5 g", "B": "15 g", "C": "-5 g", "D": "5 g"}
NAMES = {"A": "vitamin C", "B": "vitamin D", "C": "iron", "D": "Both A and B"}
PLANTS = {"A": "A rock", "B": "A plant", "C": "A river", "D": "All of the above"}
GERMS = {"A": "a virus", "B": "E. coli", "C": "yeast", "D": "algae", "E": "moss"}
NESTED = {"A": "heat", "B": "heat energy", "C": "light", "D": "sound"}
SYMBOLS = {"A": "+", "B": "-", "C": "×", "D": "H2O"}
TWINS = {"A": "salt", "B": "Salt!", "C": "sugar", "D": "sugar"}
CROSSED = {"A": "D", "B": "C", "C": "B", "D": "A"}
BLOOD = {"A": "A", "B": "B", "C": "AB", "D": "O"}
NINE = {letter: f"town number {place}" for place, letter in enumerate("ABCDEFGHI")}
YESNO = {"yes": "the plan works", "no": "the plan fails"}

# response, expected label or outcome, how
TABLE: list[tuple[dict[str, str], list[tuple[str, ...]]]] = [
    (
        PLAIN,  # the published extractor's cases, with the corrected results
        [
            ("B) text", "B", "letter"),
            ("A. text", "A", "letter"),
            (" d ", "D", "letter"),
            ("c)", "C", "letter"),
            ("\nB", "B", "letter"),
            ("(A)", "A", "letter"),
            ("**C**", "C", "letter"),
            ("The answer is C", "C", "stated"),
            ("the answer is b", "B", "stated"),
            ("the answer is (D).", "D", "stated"),
            ("I think **D** is correct", "D", "stated"),
            ("The correct answer is A", "A", "stated"),
            ("Hmm, probably B here", "B"),
            ("Option B", "B", "stated"),
            ("- C", "C", "letter"),
            ("`C`", "C", "letter"),
            ("", "empty"),
            ("I have no idea", "unparsed"),
            ("E is my choice", "unparsed"),
            ("Answer: C", "C", "stated"),
            ("answer : C", "C", "stated"),
            ("**Answer:** C", "C", "stated"),
            ("ANSWER IS D", "D", "stated"),
            ("Correct: B", "B", "stated"),
            ("apple", "unparsed"),
            ("Because it", "unparsed"),
            ("carbon dioxide", "unparsed"),
            ("the answer is carbon", "unparsed"),
            ("the answer is a plant", "unparsed"),
            ("A lot of plants die, so C", "C", "stated"),
            ("I choose A thing", "ambiguous"),
            ("The answer is not A, it is C", "ambiguous"),
            ("Both B and C", "ambiguous"),
            ("B) soil\n\nThe passage contradicts option C, which is not a valid answer.", "B", "letter"),
            ("B) soil\nC) wind", "ambiguous"),
            ("B) soil\n\nThe answer is C.", "ambiguous"),
            ("Answer is E or C", "ambiguous"),
            ("1", "unparsed"),
        ],
    ),
    (THINGS, [("100 metres", "unparsed"), ("1990s", "unparsed")]),
    (
        PLAIN,  # nothing, or nothing of use
        [
            ("   \n\t ", "empty"),
            ("...", "empty"),
            (".\n\n.\n\n.", "empty"),
            ("**", "empty"),
            ("?", "empty"),
            ("I don't know.", "unparsed"),
            ("The text does not provide an answer.", "unparsed"),
            ("None of the above.", "unparsed"),
            ("The answer is none of these.", "unparsed"),
            ("Aong  l", "unparsed"),
            ("Código", "unparsed"),
            ("tte.", "unparsed"),
            ("n", "unparsed"),
            ("E.", "unparsed"),
            ("E.**", "unparsed"),
            ("The answer is E.", "unparsed"),
            ("Answer: 2", "unparsed"),
            ("I", "unparsed"),
        ],
    ),
    (
        PLAIN,  # the label alone, however it is wrapped
        [
            ("a", "A", "letter"),
            ("A", "A", "letter"),
            ("A.", "A", "letter"),
            ("A \n\n.", "A", "letter"),
            ("**A", "A", "letter"),
            ("[B]", "B", "letter"),
            ("{B}", "B", "letter"),
            ("<B>", "B", "letter"),
            ('"b"', "B", "letter"),
            ("‘B’", "B", "letter"),
            ("“B.”", "B", "letter"),
            ("_C_", "C", "letter"),
            ("***D***", "D", "letter"),
            ("**(D)**", "D", "letter"),
            ("**D)**", "D", "letter"),
            ("( c )", "C", "letter"),
            ("C!", "C", "letter"),
            ("> C", "C", "letter"),
            ("# C", "C", "letter"),
            ("* C", "C", "letter"),
            ("• C", "C", "letter"),
            ("Ｃ", "C", "letter"),
            ("（Ｃ）", "C", "letter"),
            ("Ⓑ", "B", "letter"),
            ("𝐁", "B", "letter"),
            ("\u200bB\u200b", "B", "letter"),
            ("$B$", "B", "letter"),
            ("$\\boxed{B}$", "B", "stated"),
            ("\\(B\\)", "B", "letter"),
            ("<b>B</b>", "B", "letter"),
            ("<answer>B</answer>", "B", "stated"),
            ("<answer>\nB\n</answer>", "B", "stated"),
            ("B</s>", "B", "letter"),
            ("B<|im_end|>", "B", "letter"),
            ('{"answer": "C"}', "C", "stated"),
            ('```json\n{"answer": "C"}\n```', "C", "stated"),
            ("option (b)", "B", "stated"),
            ("Choice D.", "D", "stated"),
            ("Answer C", "C", "stated"),
            ("Letter B", "B", "stated"),
            ("A: C", "C", "stated"),
        ],
    ),
    (
        PLAIN,  # stated in a phrase
        [
            ("The answer is: C.", "C", "stated"),
            ("The answer is:\n\n**C**", "C"),
            ("Answer:\nC", "C"),
            ("Answer - B", "B", "stated"),
            ("Answer → B", "B", "stated"),
            ("answer=b", "B", "stated"),
            ("ans: d", "D", "stated"),
            ("Final answer: (d)", "D", "stated"),
            ("**Final Answer:** **D**", "D", "stated"),
            ("### Answer\n\n**D**", "D"),
            ("The correct option is **C) wind**", "C", "stated"),
            ("The best answer is therefore option (B).", "B", "stated"),
            ("The answer is clearly B.", "B", "stated"),
            ("The answer should be D", "D", "stated"),
            ("The answer would most likely be D.", "D"),
            ("The answer to this question is C.", "C", "stated"),
            ("The correct answer among the given options is B", "B", "stated"),
            ("My choice is b", "B", "stated"),
            ("My final answer is d.", "D", "stated"),
            ("The answer is a.", "A", "stated"),
            ("The answer is a because plants need it.", "A", "stated"),
            ("The answer is A because plants need it.", "A", "stated"),
            ("the correct answer's B", "B", "stated"),
            ("I choose B", "B", "stated"),
            ("I'd go with B.", "B", "stated"),
            ("I would choose option (c).", "C", "stated"),
            ("I'll pick D!", "D", "stated"),
            ("We select C.", "C", "stated"),
            ("I think it's B.", "B", "stated"),
            ("I believe the answer is B", "B", "stated"),
            ("I would say C", "C", "stated"),
            ("If I had to guess, I'd say B", "B", "stated"),
            ("Going with C here", "C", "stated"),
            ("Choose D", "D", "stated"),
            ("You should select C.", "C", "stated"),
            ("Definitely B", "B"),
            ("It must be C.", "C"),
            ("It is C.", "C"),
            ("Therefore, D.", "D", "stated"),
            ("Plants need water. Hence (D).", "D", "stated"),
            ("Plants need water, thus the answer is D", "D", "stated"),
            ("Based on the text, the answer is B.", "B", "stated"),
            ("According to the passage, B is correct.", "B", "stated"),
            ("B is the correct answer.", "B", "stated"),
            ("B is right", "B", "stated"),
            ("b is correct", "B", "stated"),
            ("(b) is the answer", "B", "stated"),
            ("D is my choice", "D", "stated"),
            ("D is the most likely option.", "D", "stated"),
            ("Option D would be the best choice here.", "D", "stated"),
            ("C makes the most sense", "C", "stated"),
            ("A is the correct answer", "A", "stated"),
            ("B) soil is the correct answer", "B"),
            ("The most likely cause is C.", "C", "stated"),
            ("The best explanation is D", "D", "stated"),
            ("Step 1: plants need light.\nStep 2: light is not soil.\n\\boxed{A}", "A", "stated"),
            ("The result is $\\boxed{\\text{C}}$.", "C", "stated"),
            ("\\boxed{B) soil}", "B"),
            ("Respuesta: C", "C", "stated"),
            ("Verdict: D", "D", "stated"),
            ("答案：C", "C", "stated"),
            ("The answer is (C), wind.", "C", "stated"),
            ("Answer: C) wind", "C", "stated"),
            ("Answer: C. Wind moves seeds.", "C", "stated"),
            ("Answer: C, since wind moves seeds", "C", "stated"),
            ("Answer: B soil", "B", "stated"),
            ("The answer is B—soil.", "B", "stated"),
            ("The answer is “D”", "D", "stated"),
            ("Answer: A\n\nExplanation: B and C are not needed.", "A", "stated"),
            ("Q: what do plants need?\nA: The answer is C", "C"),
            ("The question asks about plants. A plant needs rain. Answer: D", "D", "stated"),
            ("<think>A? No, B. Maybe C.</think>D", "D", "letter"),
            ("<think>The answer is A.</think>\n\nThe answer is **B**.", "B", "stated"),
        ],
    ),
    (
        PLAIN,  # a leading label
        [
            ("B. text that goes on", "B", "letter"),
            ("B: text", "B", "letter"),
            ("B - text", "B", "letter"),
            ("B – text", "B", "letter"),
            ("(B) text", "B", "letter"),
            ("[B] text", "B", "letter"),
            ("**B** text", "B", "letter"),
            ("**B)** soil", "B", "letter"),
            ("**B. soil**", "B", "letter"),
            ("b) soil", "B", "letter"),
            ("b. soil", "B", "letter"),
            ("B) Soil", "B", "letter"),
            ("B)soil", "B", "letter"),
            ("B.soil", "B", "letter"),
            ("B soil", "B", "letter"),
            ("B (soil)", "B", "letter"),
            ("B = soil", "B", "letter"),
            ("A sunlight", "A"),
            ("B\nsoil", "B", "letter"),
            ("B\n\nPlants grow in it.", "B", "letter"),
            ("b\n\nPlants grow in it.", "B", "letter"),
            ("B, because plants grow in it.", "B", "letter"),
            ("B because plants grow in it", "B", "letter"),
            ("C.\n\nExplanation:\n\nThe passage describes a shift in the", "C", "letter"),
            ("D) rain\n\nExplanation: A) sunlight and C) wind are not enough.", "D", "letter"),
            ("B) soil\n\nA) is wrong because it says so.\nC) is wrong too.\nD) is wrong.", "B", "letter"),
            ("B) soil\n\nWhy not A? Light comes later.", "B", "letter"),
            ("C. I am sure that a plant needs it", "C", "letter"),
            ("Option C: wind", "C", "stated"),
            ("Option (C) - wind", "C", "stated"),
            ("B) rain", "ambiguous"),
            ("B. Rain", "ambiguous"),
            ("Answer: B) rain", "ambiguous"),
            ("(B) wind because it blows", "ambiguous"),
            ("B\nrain", "ambiguous"),
            ("B\n\nQuestion: What do fish need?\nA) air B) water\nAnswer: A", "B", "letter"),
            ("B) soil\nQuestion 2: What do fish need?\nAnswer: C", "B", "letter"),
            ("Question: What do plants need?\nAnswer: C", "C", "stated"),
        ],
    ),
    (
        PLAIN,  # several, denied, corrected
        [
            ("B or C", "ambiguous"),
            ("B and C", "ambiguous"),
            ("B, C", "ambiguous"),
            ("B/C", "ambiguous"),
            ("B & D", "ambiguous"),
            ("A, C, and D", "ambiguous"),
            ("(b) and (c)", "ambiguous"),
            ("Either A or D", "ambiguous"),
            ("The answer is B or C.", "ambiguous"),
            ("Answer: B, C", "ambiguous"),
            ("Answer: both (a) and (b)", "ambiguous"),
            ("I choose B and D", "ambiguous"),
            ("The answer is B. The answer is C.", "ambiguous"),
            ("B is correct. C is correct.", "ambiguous"),
            ("B\nThe answer is C.", "ambiguous"),
            ("Not A.", "unparsed"),
            ("The answer is not A.", "unparsed"),
            ("It can't be A", "unparsed"),
            ("A is wrong", "unparsed"),
            ("A and B are wrong", "unparsed"),
            ("Neither A nor B", "unparsed"),
            ("A is incorrect.", "unparsed"),
            ("Incorrect: A", "unparsed"),
            ("I don't think it's A", "unparsed"),
            ("Not A but C", "C", "stated"),
            ("The answer is not A but C.", "C", "stated"),
            ("The answer is not A. The answer is C.", "C", "stated"),
            ("C, not A", "C"),
            ("C rather than A", "C"),
            ("The answer is C, not B.", "C", "stated"),
            ("A is wrong; the answer is C", "C", "stated"),
            ("A is wrong, so C", "C", "stated"),
            ("A isn't right. B doesn't fit. C is out. The answer: D", "D", "stated"),
            ("It can't be A or B, and C is wrong, so D.", "D", "stated"),
            ("I can eliminate A and B. C is the answer.", "C", "stated"),
            ("The answer is B, C is wrong", "B", "stated"),
            ("I'd choose D since A, B and C are all incorrect.", "D", "stated"),
            ("A. Actually, C", "C", "stated"),
            ("A\n\nWait, actually the answer is C.", "C", "stated"),
            ("The answer is A. No, wait, the answer is C.", "C", "stated"),
            ("The answer is A... sorry, I meant C.", "C", "stated"),
            ("At first the answer is A. On reflection... Final answer: C", "C", "stated"),
            ("If light mattered the answer is A. It does not. Therefore, the answer is D.", "D", "stated"),
            ("The answer might be B. However, the answer is D", "D", "stated"),
            ("The answer is A. Actually it is B or C.", "ambiguous"),
            ("A. Final answer: B. Final answer: B.", "B", "stated"),
            ("It's between B and C, but I lean B", "B", "stated"),
            ("B or C? I'd say B.", "B", "stated"),
            ("Could it be B?", "B"),
            ("Is A correct? No, D is correct.", "D", "stated"),
            ("If B is correct then plants need no light. They do, so the answer is A.", "A", "stated"),
            ("B is better than C", "B", "stated"),
        ],
    ),
    (
        PLAIN,  # reasoning over the options, and lists
        [
            ("A) x is wrong. B) y is right. Answer: B", "B", "stated"),
            ("A) sunlight is wrong. B) soil is right.", "B", "stated"),
            ("A) sunlight: incorrect.\nB) soil: correct.\nC) wind: incorrect.\nD) rain: incorrect.", "B", "stated"),
            (
                "A) sunlight - this is not needed.\nB) soil - this is correct.\nC) wind - wrong\nD) rain - wrong",
                "B",
                "stated",
            ),
            ("A: False\nB: False\nC: True\nD: False", "C", "stated"),
            ("A) ❌\nB) ✅\nC) ❌\nD) ❌", "B", "stated"),
            ("A) is wrong.\nB) feeds roots.\nC) is wrong.\nD) is wrong.", "B", "letter"),
            ("A) is wrong.\nB) is wrong.\nC) wind moves", "ambiguous"),
            ("A) sunlight\nB) soil\nC) wind\nD) rain", "ambiguous"),
            ("A) sunlight B) soil C) wind D) rain", "ambiguous"),
            ("A. sunlight, B. soil, C. wind, D. rain", "ambiguous"),
            ("Options:\n(A) sunlight\n(B) soil\n(C) wind\n(D) rain\n\nAnswer:", "ambiguous"),
            ("A) sunlight\nB) soil\nC) wind\nD) rain\n\nAnswer: C", "C", "stated"),
            ("A) sunlight\nB) soil\nC) wind\nD) rain\n\nC", "C", "letter"),
            ("A) sunlight\nB) soil\nC) wind\nD) rain\n\nB) soil", "B", "letter"),
            ("C) wind\n\nA) sunlight\nB) soil\nC) wind\nD) rain", "C", "letter"),
            ("sunlight\nsoil\nwind\nrain", "ambiguous"),
            ("Let's see. Option A says light. Option B says soil. Option C", "ambiguous"),
            ("Let me go through the options.\nA) This talks about light.\nB) This talks about", "ambiguous"),
            ("Option A describes light, which", "ambiguous"),
            ("Option A describes light. Option D describes rain. The answer is D.", "D", "stated"),
            ("We have A, B, C, and D to consider.", "ambiguous"),
            ("Which option is correct: A, B, C or D?", "ambiguous"),
            ("Light matters to leaves, but roots need more.\n\nB", "B", "letter"),
            ("Let's think. Roots drink.\n\n**D) rain**", "D", "letter"),
            ("I am not sure, but B", "B"),
            ("Option A states that light is all, which is incorrect. Option D is correct.", "D", "stated"),
            ("A seed needs rain. (D)", "D"),
        ],
    ),
    (
        PLAIN,  # a letter that is no label
        [
            ("A plant needs water", "unparsed"),
            ("A lot of plants", "unparsed"),
            ("a plant", "unparsed"),
            ("I think so", "unparsed"),
            ("Vitamin C is good for plants", "unparsed"),
            ("They have hepatitis B", "unparsed"),
            ("B cells make antibodies", "unparsed"),
            ("Plants need vitamin C.", "unparsed"),
            ("Based on the passage", "unparsed"),
            ("Climate change", "unparsed"),
            ("Do not know", "unparsed"),
            ("The U.S.A. grows plants", "unparsed"),
            ("C++ is a language", "unparsed"),
            ("C-14 dating", "unparsed"),
            ("It's 20 °C outside", "unparsed"),
            ("B's answer", "unparsed"),
            ("the plant(s) grow", "unparsed"),
            ("e.g. beans", "unparsed"),
            ("answer a question", "unparsed"),
            ("The answer a person gives depends", "unparsed"),
            ("I choose a thing", "unparsed"),
            ("The answer is A plant", "ambiguous"),
            ("so a plant grows", "unparsed"),
            ("ABCD", "unparsed"),
            ("AB", "unparsed"),
            ("Because a plant, as I said, is a plant", "unparsed"),
        ],
    ),
    (
        GASES,  # the option's text
        [
            ("carbon dioxide", "B", "text"),
            ("Carbon Dioxide.", "B", "text"),
            ("**Carbon dioxide**", "B", "text"),
            ("the carbon-dioxide", "B", "text"),
            ("the answer is carbon", "unparsed"),
            ("carbon", "unparsed"),
            ("carbon dioxides", "unparsed"),
            ("The answer is carbon dioxide", "B", "text"),
            ("The answer is carbon dioxide because plants breathe it", "B", "text"),
            ("Answer: Carbon dioxide", "B", "text"),
            ("Answer:\nCarbon dioxide", "B", "text"),
            ("\\boxed{carbon dioxide}", "B", "text"),
            ("I think it is carbon dioxide.", "B", "text"),
            ("It is carbon dioxide.", "B", "text"),
            ("Probably carbon dioxide", "B", "text"),
            ("Carbon dioxide\n\nPlants (A) breathe it.", "B", "text"),
            ("Carbon dioxide. Plants breathe it.", "B", "text"),
            ("Carbon dioxide, because plants breathe it.", "B", "text"),
            ("Carbon dioxide is the correct answer.", "B", "text"),
            ("Let me think.\n\nCarbon dioxide", "B", "text"),
            ("Oxygen and carbon dioxide", "ambiguous"),
            ("oxygen or nitrogen", "ambiguous"),
            ("oxygen and hydrogen", "unparsed"),
            ("It is not oxygen.", "unparsed"),
            ("not oxygen", "unparsed"),
            ("Oxygen is wrong.", "unparsed"),
            ("I don't think it is oxygen", "unparsed"),
            ("erratic oxygen patterns", "unparsed"),
            ("photolysis of nitrogen", "unparsed"),
            ("Oxygen. Actually, carbon dioxide.", "B", "text"),
            ("Oxygen\nThe answer is C", "ambiguous"),
            ("B) carbon dioxide", "B", "letter"),
            ("A) carbon dioxide", "ambiguous"),
            ("The answer is A: carbon dioxide", "ambiguous"),
            ("Since plants give off oxygen, the answer is B", "B", "stated"),
        ],
    ),
    (
        GASES,  # as small and large models write
        [
            ("The an\u00adswer is\u200b b", "B", "stated"),
            ("The answer is <b>b</b>.", "B", "stated"),
            ("The answer is \\(\\mathbf{b}\\).", "B", "stated"),
            ("Plants need it.\n- b\n- the rest is not needed", "B", "letter"),
            ("The answer is indeed carbon dioxide", "B", "text"),
            ("<answer>carbon dioxide</answer>", "B", "text"),
            ("Maybe helium", "D", "text"),
            ("Well, it would be helium, I think", "D", "text"),
            ("I think A is a good choice but D is better.", "D", "stated"),
            ("A? No. B? Yes.", "B"),
            ("Plants use light, water and a gas: carbon dioxide (CO2).\n\nThe answer is (B).", "B", "stated"),
            (
                "Let's analyze each option:\n\nA) Oxygen: Plants release it.\nB) Carbon dioxide: Plants take it in.\n"
                "C) Nitrogen: It comes from soil.\nD) Helium: It is inert.\n\nSo the answer is B) Carbon dioxide.",
                "B",
                "stated",
            ),
            ("**A) Oxygen:** This is incorrect.\n**B) Carbon dioxide:** This is correct.", "B", "stated"),
            ("* **A) Oxygen:** This is incorrect as plants release it.\n* **B) Carbon dioxide:** Taken", "ambiguous"),
            ("B) Carbon dioxide\n\nWhy not the others:\n\n* A) Oxygen is a product.\n* C) Nitrogen is no gas.", "B"),
            (
                "The answer is B) carbon dioxide.\n\n- A) oxygen is a product\n- C) nitrogen is a nutrient",
                "B",
                "stated",
            ),
            ("The passage says nitrogen (C). However, plants take in carbon dioxide. The answer is B.", "B", "stated"),
            ("A) Oxygen\n\nThe other options:\nB) a product\nC) from soil\nD) inert", "A", "letter"),
            ("C\n\nSo says the passage, although plants take in carbon dioxide (B).", "C", "letter"),
            ("The passage says C. In reality the answer would be B. The final answer is C.", "C", "stated"),
            ("Some might say C, but the answer is B.", "B", "stated"),
            ("I initially thought C, but the answer is B.", "B", "stated"),
            ("Although C seems plausible, the answer is B.", "B", "stated"),
            ("If the answer is A, plants die.", "ambiguous"),
            ("C is not supported by the text. B is.", "B"),
            ("A: no. B: yes. C: no. D: no.", "B", "stated"),
            ("A. Oxygen ✗\nB. Carbon dioxide ✓\nC. Nitrogen ✗", "B", "stated"),
            ("We can eliminate A, C, and D. That leaves B.", "B"),
            ("B B B B B", "B", "letter"),
            ("B) B) B)", "B", "letter"),
            ("carbon dioxide carbon dioxide carbon dioxide", "B", "text"),
            ("B) carbon dioxide\nB) carbon dioxide", "B", "letter"),
            ("B) carbon dioxide\nC) nitrogen", "ambiguous"),
            ("B) CO2", "B", "letter"),
            ("C), nitrogen", "C", "letter"),
            ("A. B", "ambiguous"),
            ("N/A", "unparsed"),
            ("~~B~~ D", "D", "letter"),
            ("E) helium", "ambiguous"),
            ("E) all of the above", "unparsed"),
            ("Carbon dioxide (B)", "B", "text"),
            ("Carbon dioxide, option C", "ambiguous"),
            ("The answer is carbon dioxide (C).", "ambiguous"),
            ("I choose carbon dioxide.", "B", "text"),
            ("Carbon dioxide is the gas that plants take in to make sugar.", "B", "text"),
            ("The gas that plants take in is called carbon dioxide.", "B", "text"),
            ("The gas that plants take in is not helium.", "unparsed"),
            ("Plants might take in helium", "unparsed"),
            ("Helium is a gas. Plants need a gas.", "unparsed"),
            ("A by-product of plants", "unparsed"),
            ("Let me go through them.\n\nOption A: oxygen is what plants", "ambiguous"),
            ("The correct answer is not given, but D is closest.", "D"),
            ("everything but B", "unparsed"),
            ("The letter is D", "D"),
            ("The text supports D.", "D"),
        ],
    ),
    (
        THINGS,  # numeric labels
        [
            ("1", "1", "letter"),
            ("2.", "2", "letter"),
            ("(3)", "3", "letter"),
            ("**4**", "4", "letter"),
            ("３", "3", "letter"),
            ("४", "unparsed"),
            ("1) a beetle", "1", "letter"),
            ("2. a robin", "2", "letter"),
            ("3: oak", "3", "letter"),
            ("4 - salmon", "4", "letter"),
            ("option 3", "3", "stated"),
            ("Number 3", "3", "stated"),
            ("The answer is 3", "3", "stated"),
            ("The answer is 3.", "3", "stated"),
            ("The answer is (3) because trees grow", "3", "stated"),
            ("3 is correct", "3", "stated"),
            ("I choose 4", "4", "stated"),
            ("Answer: 2", "2", "stated"),
            ("3 apples", "unparsed"),
            ("1.5 g", "unparsed"),
            ("The answer is 1.5", "unparsed"),
            ("The answer is 3 apples", "unparsed"),
            ("The answer is 3%", "unparsed"),
            ("1,000", "unparsed"),
            ("10", "unparsed"),
            ("$3.50", "unparsed"),
            ("It took 2 to 3 days", "unparsed"),
            ("C", "unparsed"),
            ("5", "unparsed"),
            ("1 or 2", "ambiguous"),
            ("1. a beetle\n2. a robin\n3. an oak tree\n4. a salmon", "ambiguous"),
            ("1. First, look.\n2. Then, think.\nAnswer: 4", "4", "stated"),
            ("1) a robin", "ambiguous"),
            ("2/3", "unparsed"),
            ("We get 1 + 6 = 7", "unparsed"),
            ("2 robins sat in 3 trees", "unparsed"),
            ("1. A bug\n2. A bird\n3. A tree\n\nAll are alive.", "ambiguous"),
            ("The answer is a salmon. Salmons swim.", "4", "text"),
            ("an oak tree", "3", "text"),
            ("oak tree", "3", "text"),
        ],
    ),
    (
        COUNTS,
        [
            ("3", "B", "numeric_prefix"),
            ("12", "D", "numeric_prefix"),
            ("5", "unparsed"),
            ("3 apples", "B", "text"),
            ("3 pears", "unparsed"),
            ("The answer is 4 apples.", "C", "text"),
        ],
    ),
    ({"A": "3 apples", "B": "3 pears"}, [("3", "unparsed")]),
    (
        DIGITS,
        [("1", "1", "letter"), ("5", "4", "text"), ("3", "ambiguous"), ("(3)", "3"), ("Option 3", "3"), ("2) 3", "2")],
    ),
    (
        MASSES,
        [
            ("1.5 g", "A", "text"),
            ("15 g", "B", "text"),
            ("-5 g", "C", "text"),
            ("5 g", "D", "text"),
            ("1.  5 g", "A", "text"),
            ("A) 1.5 g", "A", "letter"),
            ("C) -5 g", "C", "letter"),
            ("15", "B", "numeric_prefix"),
        ],
    ),
    (
        NAMES,  # letters within the options' texts
        [
            ("vitamin C", "A", "text"),
            ("Vitamin D is the answer", "B", "text"),
            ("The answer is vitamin C", "A", "text"),
            ("It is vitamin C.", "A", "text"),
            ("both A and B", "D", "text"),
            ("D) Both A and B", "D", "letter"),
            ("The answer is D, both A and B.", "D", "stated"),
            ("The answer is both A and B", "D", "text"),
            ("C", "C", "letter"),
            ("C) iron", "C", "letter"),
            ("C) vitamin C", "ambiguous"),
        ],
    ),
    (
        PLANTS,
        [
            ("A plant", "B", "text"),
            ("a plant", "B", "text"),
            ("plant", "B", "text"),
            ("The answer is A plant", "B", "text"),
            ("A", "A", "letter"),
            ("A) A rock", "A", "letter"),
            ("A. A plant", "ambiguous"),
            ("A river.", "C", "text"),
            ("All of the above", "D", "text"),
            ("Answer: D. All of the above", "D", "stated"),
        ],
    ),
    (
        {
            "A": "large, arid desert",
            "B": "50% black, 50% white",
            "C": "less than 20 g because gas is light",
            "D": "up - up",
        },
        [
            ("Large, arid desert.", "A", "text"),
            ("The answer is large, arid desert.", "A", "text"),
            ("A. large, arid desert", "A", "letter"),
            ("50% black, 50% white", "B", "text"),
            ("Answer: less than 20 g because gas is light", "C", "text"),
            ("The answer is up - up, since it says so", "D", "text"),
        ],
    ),
    (
        {"A": "Yes", "B": "No", "C": "Cannot be determined"},
        [
            ("No, it is not.", "B", "text"),
            ("Yes, because it is.", "A", "text"),
            ("The answer is no.", "B", "text"),
            ("B) No", "B", "letter"),
            ("A) No", "ambiguous"),
            ("It cannot be determined.", "C", "text"),
        ],
    ),
    (
        {"A": "speed", "B": "None of the above"},
        [("The answer is none of the above.", "B", "text"), ("Neither.", "unparsed")],
    ),
    (
        GERMS,
        [("E. coli", "B", "text"), ("E", "E", "letter"), ("E. moss", "E", "letter"), ("B) E. coli", "B", "letter")],
    ),
    (
        NESTED,
        [
            ("heat", "A", "text"),
            ("heat energy", "B", "text"),
            ("The answer is heat energy.", "B", "text"),
            ("The answer is heat.", "A", "text"),
            ("It is heat energy.", "B", "text"),
            ("Well, heat energy", "ambiguous"),
            ("It is light.", "C", "text"),
        ],
    ),
    (
        SYMBOLS,
        [
            ("+", "A", "text"),
            ("-", "B", "text"),
            ("?", "empty"),
            ("A) +", "A", "letter"),
            ("H2O", "D", "text"),
            ("H₂O", "D", "text"),
        ],
    ),
    (
        TWINS,
        [
            ("salt", "A", "text"),
            ("Salt!", "B", "text"),
            ("SALT", "A", "text"),
            ("sugar", "ambiguous"),
            ("C) sugar", "C"),
        ],
    ),
    (
        CROSSED,
        [("A", "ambiguous"), ("(A)", "A"), ("Answer: A", "ambiguous"), ("A) D", "A", "letter"), ("A) B", "ambiguous")],
    ),
    (BLOOD, [("A", "A"), ("O", "D", "text"), ("AB", "C", "text"), ("The answer is AB", "C", "text"), ("D) O", "D")]),
    (
        PLANETS,
        [
            ("E", "E", "letter"),
            ("e", "E", "letter"),
            ("E is my choice", "E", "stated"),
            ("Answer is E or C", "ambiguous"),
            ("Jupiter", "E", "text"),
            ("Mercury.", "A", "text"),
            ("E) Jupiter", "E", "letter"),
            ("Earth", "C", "text"),
            ("F", "unparsed"),
        ],
    ),
    (
        NINE,
        [
            ("I", "I", "letter"),
            ("I think so", "unparsed"),
            ("I think the answer is I.", "I", "stated"),
            ("I) town number 8", "I", "letter"),
            ("I would go with C", "C", "stated"),
            ("I am not sure, but G", "G"),
            ("I choose I", "I", "stated"),
        ],
    ),
    (
        YESNO,
        [("Yes", "yes", "letter"), ("The answer is no.", "no", "stated"), ("No.", "no"), ("yesterday", "unparsed")],
    ),
    (
        {"A": "vitamin C", "B": "vitamin", "C": "vitamin A", "D": "answer"},
        [("vitamin a", "C", "text"), ("the vitamin", "B", "text"), ("Answer: A", "A", "stated"), ("Vitamin A", "C")],
    ),
    (
        {"a": "salt", "b": "pepper"},
        [
            ("A", "a", "letter"),
            ("B) pepper", "b", "letter"),
            ("The answer is b", "b", "stated"),
            ("pepper", "b", "text"),
        ],
    ),
]
ROWS = [(options, *row) for options, rows in TABLE for row in rows]


def test_the_table_is_large_and_its_rows_differ():
    assert RULER == "mc-letter/v1"
    assert len(ROWS) == len({(tuple(options.items()), response) for options, response, *_ in ROWS}) >= 400


@pytest.mark.parametrize("row", ROWS, ids=[f"{at}-{row[1][:40]!a}" for at, row in enumerate(ROWS)])
def test_reads_the_choice(row):
    options, response, expected, *how = row
    choice = read_choice(response, options)
    if expected in {"ambiguous", "unparsed", "empty"}:
        assert choice == Choice(None, "none", expected)
    else:
        assert (choice.label, choice.outcome) == (expected, "chosen")
        assert choice.how in (how or ["letter", "stated", "text"])


@pytest.mark.parametrize("options", [{}, {"": "salt"}, {"A": "salt", " a ": "sugar"}, {"A": "salt", "Ａ": "sugar"}])
def test_labels_must_differ(options):
    with pytest.raises(UsageError, match="expected labels that differ"):
        read_choice("A", options)


LABELS = st.sampled_from(["ABCD", "abcd", "1234", "ABCDEFGHIJ", "WXYZ", "AB"])
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=30)


@st.composite
def option_sets(draw, texts=WORDS):
    """Options whose texts differ when normalised and begin with a word that is no label, number or "answer"."""
    labels = draw(LABELS)
    distinct = st.lists(texts.filter(_usable), min_size=len(labels), max_size=len(labels), unique_by=_folded)
    return dict(zip(labels, draw(distinct), strict=True))


def _folded(text):
    return normalise(plain(text))


def _usable(text):
    words = _folded(text).split()
    return bool(words) and re.match(r"(?!answer$|\d+$)\w\w", words[0]) is not None


@given(option_sets(), st.data())
def test_plain_forms_choose_their_option(options, data):
    label = data.draw(st.sampled_from(list(options)))
    text = options[label]
    for response in (
        f"{label}) {text}",
        f"({label})",
        f"{label}",
        f"{label}.",
        f"**{label}**",
        f"Answer: {label}",
        f"The answer is {label}.",
        f"\\boxed{{{label}}}",
        text,
    ):
        assert read_choice(response, options).label == label, response
    assert read_choice(text, options).how == "text"
    assert read_choice(f"Answer: {label}", options).how == "stated"
    assert read_choice(f"{label}) {text}", options).how == "letter"


PIECES = [*"ABCDabI.,:-?\n", "(c)", "D)", "1", "2)", "**", "not", "wrong", "correct", "is", "the", "answer", "Answer:"]
PIECES += ["so", "but", "and", "or", "actually", "wait", "think", "final", "soil", "rain", "because", "option"]
PHRASES = st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join)


@given(st.text() | PHRASES, st.sampled_from([PLAIN, GASES, THINGS, NAMES, NINE, YESNO]))
def test_any_text_gives_an_option_or_none(response, options):
    choice = read_choice(response, options)
    assert (choice.label in options) == (choice.outcome == "chosen") == (choice.how != "none")
    assert choice.label is None or choice.outcome == "chosen"
    assert read_choice(response, options) == choice


@given(st.text() | PHRASES, st.text(" \t\n\r\u00a0\u3000", max_size=5), st.text(" \t\n\r", max_size=5))
def test_surrounding_space_never_matters(response, before, after):
    assert read_choice(before + response + after, PLAIN) == read_choice(response, PLAIN)


@given(PHRASES)
def test_the_case_of_the_options_labels_never_matters(response):
    lower = read_choice(response, {label.lower(): text for label, text in PLAIN.items()})
    upper = read_choice(response, PLAIN)
    assert lower == Choice(upper.label and upper.label.lower(), upper.how, upper.outcome)


@given(st.sampled_from(list(PLAIN)), st.text(st.characters(categories=["Ll"]), min_size=1, max_size=12))
def test_the_first_letter_of_a_word_is_never_a_choice(label, rest):
    options = dict.fromkeys(PLAIN, "") | {"A": "one two", "B": "three four", "C": "five six", "D": "seven eight"}
    for response in (f"{label}{rest}", f"the answer is {label}{rest}", f"{label}{rest} it goes"):
        assert read_choice(response, options).label is None


HOSTILE = ["*", "_", "(", "$", "<a", "`A", "~~a", "\\boxed{", "A ", "A) ", "A\n", "A, ", "A and ", "not ", "1 ", "- "]
HOSTILE += [
    "answer is ",
    "the best ",
    "I think ",
    "B is correct. ",
    "\nQ: ",
    "</think>",
    "\n",
    "ﷺ",
    "Question: ",
    "soil ",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_a_megabyte_of_anything_ends_soon(part):
    started = time.perf_counter()
    read_choice(part * (1_000_000 // len(part)), PLAIN)
    read_choice(part * (20_000 // len(part)), THINGS)
    assert time.perf_counter() - started < 15


def test_a_long_response_is_read_at_both_ends():
    filler = "Plants need many things. " * 40_000
    assert read_choice(f"{filler}The answer is B.", PLAIN) == Choice("B", "stated", "chosen")
    assert read_choice(f"B) soil\n{filler}", PLAIN) == Choice("B", "letter", "chosen")
    assert read_choice(filler, PLAIN).outcome == "unparsed"


def _reference():
    polars = pytest.importorskip("polars")
    place = Path(os.environ.get("LEVERCHECK_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
    if not (place / "faitheval.parquet").is_file():
        pytest.skip("REFERENCE ROWS NOT AVAILABLE: set LEVERCHECK_REFERENCE")
    return polars.read_parquet(place / "faitheval.parquet").filter(polars.col("answer_text").is_not_null())


def test_real_option_texts_are_chosen_by_text_and_never_by_letter():
    """Responses of a published study without a label, of which people or a strict match said which option they are."""
    rows = _reference().filter(ruler="strict_text_remap").select("label", "chosen", "answer_text").unique().rows()
    mapped = [(chosen, text) for label, chosen, text in rows if label == "strict_remap" and len(text) < 80]
    others = [text for label, _, text in rows if label != "strict_remap"]
    assert len(mapped) > 100 and len(others) > 5
    strange = [f"zq{number} zv" for number in range(4)]
    for chosen, text in mapped:
        labels = "1234" if chosen.isdigit() else "ABCD"
        without = dict(zip(labels, strange, strict=True))
        assert read_choice(text, without).label is None
        assert read_choice(text, without | {chosen: text}) == Choice(chosen, "text", "chosen")
    for text in others:
        assert read_choice(text, dict(zip("ABCD", strange, strict=True))) == Choice(None, "none", "unparsed")
