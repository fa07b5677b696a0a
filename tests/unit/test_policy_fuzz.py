"""Whatever stands in a policy file, reading it answers with problems and never with an exception."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from policies.reading import read_policies

TEXTS = [path.read_text() for path in sorted((Path(__file__).parents[2] / "policies" / "library").glob("*.yaml"))]
SCRAPS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    "&a ",
    "*a",
    '"',
    "'",
    "null",
    "-1",
    "1e400",
    "9" * 50,
    "\t",
    "!!int x ",
    "%",
    "|",
    "? ",
    "<<: ",
    "\x00",
]


@st.composite
def mangled(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 30))
        scrap = draw(st.sampled_from(SCRAPS) | st.just(text[start : start + length] * 2))
        text = text[:start] + scrap + text[start + length :]
    return text


@given(mangled())
def test_a_mangled_policy_is_read_or_refused(text: str) -> None:
    reading = read_policies([("f.yaml", text)])
    assert reading.policies or reading.errors
    assert all(problem.line <= text.count("\n") + 2 for problem in reading.problems)
    assert all(problem.message and "\n" not in str(problem) for problem in reading.problems)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    reading = read_policies([("f.yaml", text)])
    assert reading.errors
