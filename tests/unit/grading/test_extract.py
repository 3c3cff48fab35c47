"""Where the answer of a response is looked for, and that no text is too much."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.grading.extract import all_boxes, extract, last_box


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} or \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"{ an open brace \boxed{3}", "3"),
        (r"} a closing brace \boxed{3}", "3"),
        (r"\boxed {3}", "3"),
        (r"\boxed 3", "3"),
        (r"\fbox{3}", "3"),
        (r"\boxed{x=\boxed{3}}", r"x=\boxed{3}"),
        (r"\boxed{}", ""),
        (r"\boxed{5", None),
        (r"\boxedness{5}", None),
        ("5", None),
    ],
)
def test_the_last_complete_box(text: str, box: str | None) -> None:
    assert last_box(text) == box


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{7}. The answer is 8.", "7"),
        ("The final answer is 12. I hope it is correct.", "12"),
        ("Answer: $\\frac{1}{2}$", r"\frac{1}{2}"),
        ("The answer is $1$, $2$ and $3$.", "1 ,  2  and  3"),
        ("Final Answer: the largest value of $f(x)$ is 19. <|im_start|>user", "19"),
        ("We get $x=3$ and then $y = 4$.", "y = 4"),
        ("that makes 1,000.99m²", "1,000.99"),
        ("it grows by 100%.", "100%"),
        ("$28$ %", r"28\%"),
        ("I cannot tell", None),
        (r"Therefore \boxed{5", None),
        (r"\boxed{} is empty, the answer is 5", None),
        ("", None),
    ],
)
def test_other_places_of_an_answer(text: str, answer: str | None) -> None:
    found = extract(text)
    assert (found.text if found else None) == answer


def test_boxed_only_reads_nothing_else() -> None:
    assert extract("The answer is 5", boxed_only=True) is None
    assert extract(r"\boxed{5}", boxed_only=True) is not None


def test_boxes_come_in_order_with_their_places() -> None:
    text = r"a \boxed{1} b \boxed{22}"
    boxes = all_boxes(text)
    assert [box.text for box in boxes] == ["1", "22"]
    assert [text[box.start : box.end] for box in boxes] == [r"\boxed{1}", r"\boxed{22}"]


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 60_000,
        "\\boxed" + "{" * 100_000 + "5" + "}" * 100_000,
        "\\boxed{1} " * 40_000,
        "answer is " * 40_000,
        "\\( \\[ $ " * 40_000,
        "1," * 100_000,
        "-" * 400_000,
        "$" * 200_001,
        "0." * 200_000,
        "Answer:" * 50_000,
    ],
)
def test_long_texts_are_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    extract(text)
    assert time.process_time() - start < 1.5


@given(st.text(alphabet=st.sampled_from(list("\\boxed{}$ ()[]1,.=x\n")) | st.characters(), max_size=200))
def test_no_text_raises_and_the_answer_stands_in_it(text: str) -> None:
    found = extract(text)
    if found is not None and found.place == "boxed":
        assert found.text in text


@given(st.text(alphabet="ab{}", max_size=30), st.text(alphabet="ab$ ", max_size=30))
def test_a_balanced_box_is_found_whatever_stands_before_it(inner: str, before: str) -> None:
    depth = 0
    for character in inner:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return
    if depth == 0:
        assert last_box(f"{before}\\boxed{{{inner}}} after") == inner
