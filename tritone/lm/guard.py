"""The guard of samplers without repetition awareness: it ends loops, endless speech and empty speech.

The sampler of this repository draws again when an id repeats (`tritone.lm.sampling`); engines that sample on their own
do not, and a model may then repeat itself for ever. A sequence is a loop when three seconds of it have at most 15
different ids (real speech of the nano voice has 21 in any single second). Such a sequence is cut off before the loop
and continued from there with another seed, once; after that it is an error. So is speech that does not end within the
longest length of its text, and a sequence without speech after two attempts.

Codes are yielded as they come, except those that may be the beginning of a loop: they wait until the sequence varies
again, and are dropped if it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tritone.errors import TritoneError

Attempt = Callable[[Sequence[int], int], Iterator[int]]
"""`attempt(spoken, seed)`: the speech codes that follow those already `spoken`, until the model stops or a limit."""


class Runaway(TritoneError):
    """The language model looped, did not end, or gave no speech, and another seed did not help."""


@dataclass(frozen=True)
class Signs:
    """The signs of a loop: the last `loop` codes of a sequence have at most `loop_ids` different ones.

    Codes wait while the last `doubt` of them have at most `doubt_ids` different ones. The numbers are for 25 codes a
    second.
    """

    loop: int = 75
    loop_ids: int = 15
    doubt: int = 25
    doubt_ids: int = 5

    def looping(self, codes: Sequence[int]) -> bool:
        """Return whether the end of the sequence is a loop."""
        return len(codes) >= self.loop and len(set(codes[-self.loop :])) <= self.loop_ids

    def start(self, codes: Sequence[int]) -> int:
        """Return the index at which the loop at the end of the sequence begins: its first code that is repeated."""
        end = list(codes[-self.loop :])
        again = next(index for index, code in enumerate(end) if end.count(code) > 1)
        return len(codes) - len(end) + again

    def doubtful(self, codes: Sequence[int]) -> bool:
        """Return whether the end of the sequence may become one."""
        return len(codes) >= self.doubt and len(set(codes[-self.doubt :])) <= self.doubt_ids


SIGNS = Signs()


def guarded(
    attempt: Attempt, seed: int, text_length: int, most: int, cancelled: Callable[[], bool], signs: Signs = SIGNS
) -> Iterator[int]:
    """Yield the speech codes of `attempt`, which is called at most twice, each time with a seed of its own.

    Args:
        text_length: tokens of the text, for the message.
        most: longest speech of that text. A text too short for a loop may reach it, as published.
        cancelled: after which the sequence may end anywhere.

    Raises:
        Runaway: the speech looped or was empty twice, or it did not end.
    """
    given = 0
    kept: list[int] = []
    for other in (False, True):
        codes, looped = list(kept), False
        for code in attempt(kept, another(seed) if other else seed):
            codes.append(code)
            if signs.looping(codes):
                looped = True
                break
            if len(codes) > given and not signs.doubtful(codes):
                yield from codes[given:]
                given = len(codes)
        if cancelled():
            return
        if looped:
            kept = codes[: signs.start(codes)]
            given = min(given, len(kept))
            continue
        check_length(len(codes), most, text_length, signs)
        if codes:
            yield from codes[given:]
            return
    if looped:
        raise Runaway(
            f"the language model repeated itself after {len(kept)} speech tokens ({signs.loop} tokens of at most "
            f"{signs.loop_ids} kinds), and again with another seed; try a third or another text"
        )
    raise Runaway("the language model gave no speech, and none with another seed; try a third or another text")


def watched(codes: Iterable[int], signs: Signs = SIGNS) -> Iterator[int]:
    """Yield the speech codes of a sequence that cannot be begun again, because its text is still arriving.

    Codes that may be the beginning of a loop wait, as in `guarded`.

    Raises Runaway at the first loop.
    """
    spoken: list[int] = []
    given = 0
    for code in codes:
        spoken.append(code)
        if signs.looping(spoken):
            raise Runaway(
                f"the language model repeated itself after {signs.start(spoken)} speech tokens ({signs.loop} tokens of "
                f"at most {signs.loop_ids} kinds); try another seed or another text"
            )
        if not signs.doubtful(spoken):
            yield from spoken[given:]
            given = len(spoken)
    yield from spoken[given:]


def check_length(spoken: int, most: int, text_length: int, signs: Signs = SIGNS) -> None:
    """Raise Runaway for speech that reached the longest length of its text, unless that is too short for a loop."""
    if spoken >= most >= signs.loop:
        raise Runaway(
            f"the language model did not stop within {most} speech tokens for {text_length} text tokens; "
            "try another seed"
        )


def another(seed: int) -> int:
    """Return the seed of the second attempt, the same on every machine."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
