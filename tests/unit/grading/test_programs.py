"""The language of proposed tasks: what it says, what it refuses, and that hostile texts cost one outcome."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.grading.programs.interpreter import run, value_of, written
from harness.grading.programs.reader import Invalid, read_expression, read_program
from harness.grading.programs.runner import Ask, ProgramRunner, Ran


@pytest.fixture(scope="module")
def runner() -> Iterator[ProgramRunner]:
    with ProgramRunner(1) as made:
        yield made


def value(text: str) -> str:
    return written(value_of(read_expression(text)))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2+3*4-1", "13"), ("-7/2", "-4"), ("7 % 4", "3"), ("-(2+3)", "-5"), ("2-3-4", "-5"),
        ("'ab'+\"c\"", "'abc'"), ("[1,2]+[3]", "[1, 2, 3]"), ("'ab'*3", "'ababab'"), ("[1, 2, 3][-1]", "3"),
        ("'hello'[1:3]", "'el'"), ("[5,6,7][1:]",
        "[6, 7]"), ("[x*x for x in range(1, 5) if x % 2 == 0]", "[4, 16]"),
        ("if 1 < 2 then 'a' else 'b'", "'a'"), ("not 1 == 2 and 3 >= 3",
        "True"), ("sum([1,2,3])*len('ab')", "12"),
        ("sort([3,1,2])", "[1, 2, 3]"), ("reverse('abc')", "'cba'"),
        ("max([4, 9, 2])", "9"), ("str(12)+'3'", "'123'"),
        ("int('-12')", "-12"), ("[]", "[]"), ("[[1], 'a', True]", "[[1], 'a', True]"), ("1 == '1'", "False"),
    ],
)  # fmt: skip
def test_values_by_hand(text: str, wanted: str) -> None:
    assert value(text) == wanted


def test_programs_have_parameters_and_call_themselves() -> None:
    assert run(read_program("x*3+7"), [5]) == 22
    assert run(read_program("f(a, b) = a + 2*b"), [1, 4]) == 9
    assert run(read_program("f(n) = if n < 2 then 1 else n*f(n-1)"), [10]) == 3628800
    assert run(read_program("D*D", ["D"]), [12]) == 144


@pytest.mark.parametrize(
    "text",
    [
        "", "1+", "(1", "[1, 2", "1 2",
        "x", "import os", "__import__('os')", "x.y", "lambda: 1", "open('/etc/passwd')",
        "exec('1')", "eval('1')", "socket('localhost', 80)", "1/0",
        "[1][5]", "'a'+1", "1 < 'a'", "len(5)", "True+1",
        "[x for x in 5]", "f(1)", "max([])", "int('--5')",
        "10 ** 9", "if 1 then 2 else 3", "'open", "sort([1,'a'])",
        "(" * 40 + "1" + ")" * 40, "-" * 50 + "1", "1+" * 500 + "1",
        "1" * 41, "range(0, 100000)", "'ab' * 5000",
        "x" * 2001,
    ],
)  # fmt: skip
def test_what_is_no_value_is_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        value(text)


@pytest.mark.parametrize(
    ("program", "argument"),
    [
        ("f(x) = f(x+1)", 0), ("f(x) = f(x) + f(x)", 1), ("f(x) = if x == 0 then 1 else f(x-1)*f(x-1)", 50),
        ("f(x) = x*x*x*x*x*x*x*x*x*x*x*x", 10**9), ("[[x for a in range(0,1500)] for b in range(0,1500)]", 3),
        ("f(x) = [[[[x*9]*9]*9]*9]*9", [1] * 9), ("f(x) = f(x + x)", "ab" * 20),
    ],
)  # fmt: skip
def test_loops_and_sizes_end_at_a_limit(program: str, argument: object) -> None:
    began = time.process_time()
    with pytest.raises((Invalid, RecursionError)):
        run(read_program(program), [argument])  # type: ignore[list-item]
    assert time.process_time() - began < 2


def test_workers_run_programs_and_hostile_ones_cost_one_outcome(runner: ProgramRunner) -> None:
    """Loop, allocate, read a file, open a socket: each is one outcome, and the next program is run."""
    asks = [
        Ask("x*3+7", ("5", "0"), ("x",)),
        Ask("f(x) = f(x+1)", ("1",)),
        Ask("[[x for a in range(0,1999)] for b in range(0,1999)]", ("1",), ("x",)),
        Ask("open('/etc/passwd')", ("1",), ("x",)),
        Ask("socket('127.0.0.1', 80)", ("1",), ("x",)),
        Ask("import os", ("1",), ("x",)),
        Ask("f(a, b) = a+b", ("1, 2", "[1], [2]", "1", "1, 'a'")),
        Ask("12+30"),
        Ask("x*3+7", ("5", "0"), ("x",)),
    ]
    found = runner.run_all(asks)
    assert found[0] == found[8] == Ran("ran", ("22", "7"))
    assert found[1] == found[2] == found[3] == found[4] == Ran("ran", (None,))
    assert found[5] == Ran("invalid")
    assert found[6] == Ran("ran", ("3", "[1, 2]", None, None))
    assert found[7] == Ran("ran", ("42",))
