"""One decoding loop for everybody who listens to a language model: sequences join and leave between its steps.

A step costs hardly more for several sequences than for one, so all that are open share every step (scheduling by
iteration: Yu et al. 2022, "Orca"). A prompt is heard by itself and then joins. A listener who does not read pauses
its own sequence alone: that keeps its state and stays out of the steps until there is room for rows again.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from tritone.errors import TritoneError
from tritone.lm.protocols import RowSession

AHEAD = 64
"""Rows a sequence may be ahead of its listener, if not told otherwise."""
POLL = 0.1
"""Seconds after which a listener who waits asks whether it was taken back."""


class Closed(TritoneError):
    """The language model was closed while it spoke."""


class Engine(Protocol):
    """What computes logits; rows, logits and states are its own matter. Used by one thread at a time."""

    def prefill(self, prompt: Any) -> tuple[Any, Any]:
        """(logits, state) of a sequence after its prompt."""
        ...

    def step(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return logits of each sequence of the group after one more row of it."""
        ...

    def state(self, place: int) -> Any:
        """Return a copy of the state of one sequence of the group."""
        ...

    def regroup(self, kept: Sequence[int], joining: Sequence[Any]) -> None:
        """The group is now those in these places, in this order, and sequences of these states."""
        ...


class SharedRows(Iterator[Any]):
    """The rows of one sequence as they come. Raises what ended it before its time; close it if it is not read out."""

    def __init__(self, lm: SharedLm, session: RowSession, ahead: int | None, cancelled: Callable[[], bool]) -> None:
        self.session, self.over = session, False
        self.row: Any = None
        self.state: Any = None
        self._rows, self._ahead, self._cancelled = deque[Any](), ahead, cancelled
        self._error: BaseException | None = None
        self._work, self._arrived = lm.work, threading.Condition(lm.lock)

    def __next__(self) -> Any:
        while not self._cancelled():
            with self._arrived:
                if not self._rows and not self.over:
                    self._arrived.wait(POLL)
                if self._rows:
                    self._work.notify()
                    return self._rows.popleft()
                if self._error is not None:
                    raise self._error
                if self.over:
                    raise StopIteration
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Leave the sequence; more than once does no harm."""
        with self._arrived:
            self.over = True
            self._rows.clear()
            self._work.notify()

    def give(self, row: Any) -> None:
        """One more row, or the last; with the lock held, as all below."""
        if not self.over:
            self.row, self.over = row, self.session.over
            self._rows.append(row)
            self._arrived.notify()

    def end(self, error: BaseException) -> None:
        """No more rows will come, for this reason."""
        if not self.over:
            self.over, self._error = True, error
            self._arrived.notify()

    def room(self, part: float = 1.0) -> bool:
        """Return whether fewer rows wait than this part of those that may."""
        return self._ahead is None or len(self._rows) < max(1, part * self._ahead)


class SharedLm:
    """A language model all of whose sequences are decoded in one loop, in a thread that lives while there are any.

    Args:
        limit: sequences of a step at most; others wait until one of these ends or is paused.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        self.lock = threading.Lock()
        self.work = threading.Condition(self.lock)
        self._engine, self._limit = engine, limit
        self._open: list[SharedRows] = []
        self._group: list[SharedRows] = []
        self._resting = False
        self._thread: threading.Thread | None = None
        self._on_step: Callable[[], None] = lambda: None

    def warm_up(self) -> None:
        """Do nothing: the engine runs stages, which are warmed up where they run."""

    def rows(
        self, session: RowSession, ahead: int | None = AHEAD, cancelled: Callable[[], bool] = lambda: False
    ) -> SharedRows:
        """Return the session's rows; they are decoded from now on, whether or not they are read.

        Args:
            ahead: rows that may wait to be read before the sequence pauses, None for all there are.
            cancelled: asked before each row; when it says so, the rows end.
        """
        listener = SharedRows(self, session, ahead, cancelled)
        with self.lock:
            self._open.append(listener)
            self.work.notify()
            if self._thread is None:
                # A thread inside an engine while the interpreter goes away brings the process down.
                atexit.register(self.close)
                self._thread = threading.Thread(target=self._run, name="lm", daemon=True)
                self._thread.start()
        return listener

    def count(self, on_token: Callable[[], None]) -> None:
        """Call `on_token` after each step, however many sequences share it."""
        self._on_step = on_token

    def close(self) -> None:
        """End all sequences, with an error where rows were still to come, and wait until nothing is computed."""
        with self.lock:
            thread = self._thread
            self._end_all(Closed("the language model was closed before it had said everything"))
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while chosen := self._wait():
            try:
                self._advance(chosen)
            except BaseException as error:
                with self.lock:
                    self._end_all(error)
                    self._group = []

    def _wait(self) -> list[SharedRows]:
        """Return the sequences of the next step, as soon as there are any; none when the thread is to end."""
        with self.lock:
            while True:
                self._open = [one for one in self._open if not one.over]
                if not self._open:
                    self._thread, self._group = None, []
                    self._engine.regroup([], [])
                    atexit.unregister(self.close)
                    return []
                if chosen := self._choose():
                    return chosen
                self.work.wait()

    def _choose(self) -> list[SharedRows]:
        """Those of the group that go on, then as many more as fit, of which one new: a prompt makes all wait.

        When all have rows enough none is decoded until one has read half of them: so those that pause at all do it
        together, and share steps again when they go on. Who was left out meanwhile joins only for more than a few rows.
        """
        if self._resting and not any(one.room(0.5) for one in self._open):
            return []
        chosen = [one for one in self._group if not one.over and one.room()]
        new = False
        for one in self._open:
            fresh = one.row is None
            if one in self._group or len(chosen) >= self._limit or not one.room(0.75) or (fresh and new):
                continue
            chosen.append(one)
            new = new or fresh
        self._resting = not chosen
        return chosen

    def _advance(self, chosen: Sequence[SharedRows]) -> None:
        """One row more of each sequence, two of one that is new."""
        for one in chosen:
            if one.row is None:
                try:
                    logits, one.state = self._engine.prefill(one.session.prompt)
                except Exception as error:
                    with self.lock:
                        one.end(error)
                else:
                    self._give(one, logits)
        going = [one for one in chosen if not one.over]
        if going != self._group:
            self._regroup(going)
        if not going:
            return
        found = self._engine.step([one.row for one in going])
        self._on_step()
        for one, logits in zip(going, found, strict=True):
            self._give(one, logits)

    def _regroup(self, going: list[SharedRows]) -> None:
        """Those that stay come first in `going`; of those left out without being over the state is kept."""
        for place, one in enumerate(self._group):
            if one not in going and not one.over:
                one.state = self._engine.state(place)
        kept = [self._group.index(one) for one in going if one in self._group]
        self._engine.regroup(kept, [one.state for one in going[len(kept) :]])
        for one in going:
            one.state = None
        self._group = going

    def _give(self, one: SharedRows, logits: Any) -> None:
        """The row these logits make; an error in it ends this sequence alone."""
        try:
            row = one.session.next(logits)
        except Exception as error:
            with self.lock:
                one.end(error)
        else:
            with self.lock:
                one.give(row)

    def _end_all(self, error: BaseException) -> None:
        for one in self._open:
            one.end(error)
        self._open = []
        self.work.notify()
