"""One decoding loop shared by all sequences of a language model, which join and leave between its steps.

A step costs hardly more for several sequences than for one, so all open sequences share every step (scheduling by
iteration: Yu et al. 2022, "Orca"). The prompt of a new sequence is computed in parts between these steps, so that a
long one does not stop the others (Agrawal et al. 2023, "Sarathi"), then the sequence joins. A reader that falls behind
pauses only its own sequence, which keeps its state and rejoins once there is room for rows again.
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
"""The default number of rows that a sequence may be ahead of its reader."""
POLL = 0.1
"""Seconds after which a waiting reader checks whether it was cancelled."""


class Closed(TritoneError):
    """The language model was closed before a sequence ended."""


class Engine(Protocol):
    """The engine that computes logits, used by one thread at a time; only it knows what rows, logits and states are."""

    def prefill(self, prompt: Any, state: Any) -> tuple[Any, Any]:
        """Return (logits, state) of a sequence after the next part of its prompt.

        Args:
            state: that after the part before; None for the first.

        Returns:
            logits: None until the prompt is complete.
        """
        ...

    def step(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return logits of each sequence of the group after one more row of it."""
        ...

    def state(self, place: int) -> Any:
        """Return a copy of the state of one sequence of the group."""
        ...

    def regroup(self, kept: Sequence[int], joining: Sequence[Any]) -> None:
        """Make the group those in these places, in this order, followed by sequences of these states."""
        ...


class SharedRows(Iterator[Any]):
    """The rows of one sequence as they come; an error that ended the sequence early is raised by `next`."""

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
        """Leave the sequence; calling it again has no effect."""
        with self._arrived:
            self.over = True
            self._rows.clear()
            self._work.notify()

    def give(self, row: Any) -> None:
        """Add a row, perhaps the last; the lock is held, as in all methods below."""
        if not self.over:
            self.row, self.over = row, self.session.over
            self._rows.append(row)
            self._arrived.notify()

    def end(self, error: BaseException) -> None:
        """End the sequence with this error."""
        if not self.over:
            self.over, self._error = True, error
            self._arrived.notify()

    def room(self, part: float = 1.0) -> bool:
        """Return whether fewer rows wait than this part of the limit."""
        return self._ahead is None or len(self._rows) < max(1, part * self._ahead)


class SharedLm:
    """A `RowSource` that decodes all sequences in one loop, in a thread that lives while a sequence is open.

    Args:
        limit: the largest number of sequences in a step; others wait until one of these ends or pauses.
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
            ahead: rows that may wait to be read before the sequence pauses, None for no limit.
            cancelled: asked before each row; the rows end once it returns True.
        """
        listener = SharedRows(self, session, ahead, cancelled)
        with self.lock:
            self._open.append(listener)
            self.work.notify()
            if self._thread is None:
                # A thread inside an engine while the interpreter shuts down crashes the process.
                atexit.register(self.close)
                self._thread = threading.Thread(target=self._run, name="lm", daemon=True)
                self._thread.start()
        return listener

    def count(self, on_token: Callable[[], None]) -> None:
        """Call `on_token` after each step, however many sequences share it."""
        self._on_step = on_token

    def close(self) -> None:
        """End all sequences, unfinished ones with an error, and wait until no step is running."""
        with self.lock:
            thread = self._thread
            self._end_all(Closed("the language model was closed before all speech was decoded"))
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
        """Return the sequences of the next step, as soon as there are any; empty when the thread shall end."""
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
        """Return the sequences of the next step: the group's, then as many others as fit, at most one of them new.

        A new sequence makes the others wait for a part of its prompt; the next new one begins when it has joined. When
        all have enough rows, no step is done until a reader has consumed half of its rows: sequences that pause do so
        together, and share steps again afterwards. A paused sequence rejoins only if it has room for more than a few
        rows.
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
        """Decode one more row of each sequence; a new one goes on with its prompt, after which it decodes two."""
        for one in chosen:
            if one.row is None:
                self._prefill(one)
        going = [one for one in chosen if not one.over and one.row is not None]
        if going != self._group:
            self._regroup(going)
        if not going:
            return
        results = self._engine.step([one.row for one in going])
        self._on_step()
        for one, logits in zip(going, results, strict=True):
            self._give(one, logits)

    def _prefill(self, one: SharedRows) -> None:
        """Compute the next part of a new sequence's prompt, and after the last its first row."""
        try:
            logits, one.state = self._engine.prefill(one.session.prompt, one.state)
        except Exception as error:
            with self.lock:
                one.end(error)
        else:
            if logits is not None:
                self._give(one, logits)

    def _regroup(self, going: list[SharedRows]) -> None:
        """Regroup the engine's sequences; those that stay come first in `going`, and paused ones keep their state."""
        for place, one in enumerate(self._group):
            if one not in going and not one.over:
                one.state = self._engine.state(place)
        kept = [self._group.index(one) for one in going if one in self._group]
        self._engine.regroup(kept, [one.state for one in going[len(kept) :]])
        for one in going:
            one.state = None
        self._group = going

    def _give(self, one: SharedRows, logits: Any) -> None:
        """Give the reader the row drawn from these logits; an error ends this sequence alone."""
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
