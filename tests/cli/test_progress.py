"""What is shown while a run goes on, by a clock that the test sets."""

from __future__ import annotations

import io

import pytest

from pixano_vlm.cli.progress import PLAIN_SECONDS, Progress, Tally
from pixano_vlm.cli.tables import print_facts, print_table, readable


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_tally_has_rates_of_what_was_answered_and_the_time_left_for_what_was_done() -> None:
    clock = Clock()
    tally = Tally(total=100, clock=clock)
    clock.now += 10
    tally.ok, tally.failed, tally.tokens = 18, 2, 300
    assert str(tally) == "20 of 100 done, 2 failed, 1.8 records/s, 30 tokens/s, 0:40 left"


def test_without_a_total_no_time_is_promised() -> None:
    tally = Tally(clock=Clock())
    tally.ok = 1_000
    assert tally.seconds_left() is None
    assert str(tally).startswith("1,000 done, 0 failed")


@pytest.mark.parametrize(("seconds", "said"), [(59, "0:59 left"), (61, "1:01 left"), (7325, "2:02:05 left")])
def test_the_time_left_is_read_in_hours_minutes_seconds(seconds: int, said: str) -> None:
    clock = Clock()
    tally = Tally(total=seconds + 1, clock=clock)
    clock.now += 1
    tally.ok = 1
    assert str(tally).endswith(said)


def test_off_a_terminal_a_plain_line_comes_every_few_seconds() -> None:
    clock, file = Clock(), io.StringIO()
    with Progress(10, file=file) as progress:
        progress.tally.clock = clock
        progress.begin()
        for _ in range(10):
            clock.now += PLAIN_SECONDS / 4
            progress.add(ok=True, tokens=3)
    lines = file.getvalue().splitlines()
    assert [line.split(" of")[0] for line in lines] == ["4", "8"]


def test_loading_does_not_count_into_the_rates() -> None:
    clock = Clock()
    with Progress(10, file=io.StringIO()) as progress:
        progress.tally.clock = clock
        clock.now += 1000
        progress.begin()
        clock.now += 1
        progress.add(ok=True, tokens=5)
        assert progress.tally.per_second(progress.tally.tokens) == 5


def test_quiet_says_nothing_even_on_a_terminal() -> None:
    file = Terminal()
    with Progress(10, file=file, quiet=True) as progress:
        progress.say("hello")
        progress.add(ok=True, tokens=3)
    assert file.getvalue() == ""


def test_on_a_terminal_the_line_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    file = Terminal()
    with Progress(2, file=file) as progress:
        progress.say("loading [x] ...")
        progress.add(ok=True, tokens=3)
        progress.add(ok=False, tokens=0)
    assert "loading [x] ..." in file.getvalue()
    assert "2 of 2 done, 1 failed" in file.getvalue()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    file = Terminal()
    print_table(("name", "what"), [("a", "b")], file=file)
    assert "\x1b[3" not in file.getvalue()
    assert "\x1b[9" not in file.getvalue()


def test_off_a_terminal_a_row_is_one_line_however_long() -> None:
    file = io.StringIO()
    print_table(("name", "what"), [("a", "word " * 100), ("bcd", "two\nlines")], file=file)
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[2] == "bcd   two lines"


def test_markup_in_a_cell_is_text() -> None:
    plain, drawn = io.StringIO(), Terminal()
    for file in (plain, drawn):
        print_facts({"[red]name[/red]": "[bold]"}, file=file)
        assert "[red]name[/red]" in file.getvalue()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.123456, "0.123"),
        (12345.6, "12,346"),
        ("x", "x"),
    ],
)
def test_values_are_readable(value: object, said: str) -> None:
    assert readable(value) == said
