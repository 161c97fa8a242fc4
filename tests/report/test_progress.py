"""The progress line: throttled by the clock, silent between pictures, one plain line where there is no terminal."""

from __future__ import annotations

import io
import re

import pytest

from taut.report import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Costly:
    """A number that counts how often someone wanted its value, as a device array would be waited for."""

    asked = 0

    def __float__(self) -> float:
        Costly.asked += 1
        return -31.5


@pytest.fixture
def clock() -> Clock:
    Costly.asked = 0
    return Clock()


def pictures(screen: str) -> list[int]:
    """Step counts in the order they were drawn."""
    return [int(n) for n in re.findall(r"(\d+)/2000", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen))]


def test_a_terminal_is_redrawn_ten_times_a_second_at_most(clock: Clock):
    stream = Terminal()
    progress = Progress(2000, "SVI", stream=stream, clock=clock)
    for step in range(1, 2001):
        clock.now += 0.001  # two seconds in all
        progress.update(step, Costly(), 0.1)
    drawn = Costly.asked
    assert 18 <= drawn <= 21
    progress.close("converged")
    assert Costly.asked == drawn + 1  # the last picture
    seen = pictures(stream.getvalue())
    assert seen[-1] == 2000
    assert len(set(seen)) <= 23
    assert "converged" in stream.getvalue()
    assert "ELBO -31.50 ± 0.10" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


def test_slow_steps_are_all_drawn(clock: Clock):
    stream = Terminal()
    progress = Progress(2000, "SVI", stream=stream, clock=clock)
    for step in range(1, 6):
        clock.now += 1.0
        progress.update(step, Costly())
    assert Costly.asked == 5
    progress.close()


def test_elsewhere_one_line_at_the_end(clock: Clock):
    stream = io.StringIO()
    with Progress(2000, "SVI", stream=stream, clock=clock) as progress:
        for step in range(1, 1501):
            clock.now += 0.001
            progress.update(step, Costly(), 0.1, 1000.0)
        assert stream.getvalue() == ""
        assert Costly.asked == 0
    progress.close()  # a second call adds nothing
    assert stream.getvalue() == "SVI: 1,500 of 2,000 steps in 1.50 s, ELBO -31.50 ± 0.10\n"


def test_disabled_writes_nothing(clock: Clock):
    for stream in (io.StringIO(), Terminal()):
        with Progress(2000, "SVI", stream=stream, enabled=False, clock=clock) as progress:
            progress.update(1, Costly())
        assert stream.getvalue() == ""
    assert Costly.asked == 0


def test_a_run_without_a_step_says_nothing_and_an_error_closes_the_line(clock: Clock):
    stream = io.StringIO()
    Progress(None, "SVI", stream=stream, clock=clock).close()
    assert stream.getvalue() == ""
    with pytest.raises(RuntimeError), Progress(None, "SVI", stream=stream, clock=clock) as progress:
        progress.update(3, -2.0)
        raise RuntimeError
    assert stream.getvalue().startswith("SVI: 3 steps in 0 s, ELBO -2")


def test_batches_are_told_by_row_and_beside_what_is_held_out(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "110")
    plain, live = io.StringIO(), Terminal()
    for stream in (plain, live):
        with Progress(2000, "SVI", stream=stream, clock=clock, rows=1000, batch=64) as progress:
            for step in range(100, 1001, 100):
                clock.now += 2.0
                progress.update(step, -1500.0, 20.0, held_out=(-1.61, 0.01))
    # 100 steps in two seconds, of 64 rows; 1,500 nats over 1,000 rows.
    figures = ("-1.50 ± 0.02 a row", "held out -1.610 ± 0.010", "50 steps/s", "3,200 rows/s")
    for screen in (plain.getvalue(), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", live.getvalue())):
        assert all(figure in screen for figure in figures), screen
    assert "ELBO -1,500 ± 20, " in plain.getvalue()
