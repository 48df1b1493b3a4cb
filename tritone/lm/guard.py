"""What keeps a sampler without repetition awareness from running away: loops, speech without end, and no speech.

The sampler of this repository draws again when an id repeats (`tritone.lm.sampling`); engines that sample by themselves
do not, and a model may then say the same for ever. A sequence is taken for a loop when three seconds of it have at most
15 different ids (real speech of the nano voice has 21 in any single second). Such a sequence is taken back to before
the loop and goes on from there with another seed, once; then it is an error. So is speech that does not end within the
longest length its text can have, and no speech at all after two attempts: never silence in place of words.

Codes are passed on as they come, but for those that look like the beginning of a loop: they wait until it is none, and
are dropped if it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tritone.errors import TritoneError

Attempt = Callable[[Sequence[int], int], Iterator[int]]
"""`attempt(spoken, seed)`: the speech codes that follow those already `spoken`, until the model stops or a limit."""


class Runaway(TritoneError):
    """The language model looped, did not end, or said nothing, and another seed did not help."""


@dataclass(frozen=True)
class Signs:
    """When a sequence is a loop: its last `loop` codes have at most `loop_ids` different ones.

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
        """Where the loop at the end of the sequence begins: at the first code of it that comes again."""
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
    """Speech codes of `attempt`, of which at most two are made, each with a seed of its own.

    Args:
        text_length: tokens of the text, for the message.
        most: longest speech of that text. A text too short for a loop may reach it, as published.
        cancelled: after which the sequence may end anywhere.

    Raises:
        Runaway: says what went wrong twice, or that the speech did not end.
    """
    told = 0
    kept: list[int] = []
    for other in (False, True):
        codes, looped = list(kept), False
        for code in attempt(kept, another(seed) if other else seed):
            codes.append(code)
            if signs.looping(codes):
                looped = True
                break
            if len(codes) > told and not signs.doubtful(codes):
                yield from codes[told:]
                told = len(codes)
        if cancelled():
            return
        if looped:
            kept = codes[: signs.start(codes)]
            told = min(told, len(kept))
            continue
        if len(codes) >= most >= signs.loop:
            raise Runaway(
                f"the language model did not stop within {most} speech tokens for {text_length} text tokens; "
                "try another seed"
            )
        if codes:
            yield from codes[told:]
            return
    if looped:
        raise Runaway(
            f"the language model repeated itself after {len(kept)} speech tokens ({signs.loop} tokens of at most "
            f"{signs.loop_ids} kinds), and again with another seed; try a third or another text"
        )
    raise Runaway("the language model gave no speech, and none with another seed; try a third or another text")


def another(seed: int) -> int:
    """Return the seed of the second attempt, the same on every machine."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
