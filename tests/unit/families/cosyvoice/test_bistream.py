"""Speech while text arrives: the published ids, the published turns, and an end in every case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from support.front_helpers import SYSTEM, hearing, recording, text
from support.golden_weights import golden
from support.v3_helpers import END_OF_PROMPT_ID, tiny_config, tiny_lm

from tritone.engines.torch import torch_call
from tritone.errors import InvalidRequest, TritoneError
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.lm.bistream import bistream
from tritone.families.cosyvoice.lm.mixing import TurnPrompt, UnexpectedId
from tritone.families.cosyvoice.lm.published_bistream import published_bistream
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT
from tritone.families.cosyvoice.lm.v2.network import SpeechLM, load_lm
from tritone.families.cosyvoice.lm.v2.session import TorchSession
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.lm.guard import SIGNS, Runaway
from tritone.lm.logits import LogitsLm
from tritone.lm.sampling import SamplingConfig
from tritone.lm.served import ServedLlm
from tritone.stage import Arrays, Family

V2 = LmConfig()


class Script:
    """A session that keeps what it is given and makes the next id of a list certain, then an ordinary code."""

    def __init__(self, config: LmConfig, ids: Sequence[int] = ()) -> None:
        self.config, self.ids, self.given = config, list(ids), []

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        self.given = []
        return self.extend(ids)

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        self.given += ids
        logits = np.zeros(self.config.head_size, np.float32)
        logits[len(self.given) % 1000] = 20.0
        if self.ids:
            logits[self.ids.pop(0)] = 90.0
        return logits

    def step(self, token: int) -> np.ndarray:
        return self.extend([token])

    def close(self) -> None:
        pass


def likeliest(probabilities: np.ndarray) -> int:
    return int(np.argmax(probabilities))


def multinomial(probabilities: np.ndarray) -> int:
    return int(torch.multinomial(torch.from_numpy(probabilities), 1, replacement=True))


def spoken(version: str, lm: SpeechLM, published: bool) -> Iterator[int]:
    """Codes of the golden request, its text given one token at a time."""
    known = golden("llm", version)
    prompt = known["prompt_text"][0].tolist()
    head = prompt.index(END_OF_PROMPT_ID) + 1 if version == "v3" else 0
    torch.manual_seed(1234)
    return (published_bistream if published else bistream)(
        TorchSession(lm),
        ([token] for token in known["text"][0].tolist()),
        lm.config,
        multinomial,
        TurnPrompt(prompt[:head], prompt[head:], known["prompt_speech_token"][0].tolist()),
    )


def test_v2_draws_the_published_ids(tiny_v2: Path) -> None:
    wanted = golden("llm", "v2")["bistream_ids"].tolist()
    lm = load_lm(CosyVoiceCheckpoint(tiny_v2))
    assert list(islice(spoken("v2", lm, published=True), 60)) == wanted and len(wanted) == 60


def test_v3_draws_the_published_ids_up_to_where_the_published_code_fails() -> None:
    wanted, found = golden("llm", "v3")["bistream_ids"].tolist(), []
    with pytest.raises(UnexpectedId, match="sampled id 6643 while text was arriving; only 6564 may"):
        for token in spoken("v3", tiny_lm(), published=True):
            found.append(token)
    assert found == wanted and len(wanted) == 8
    assert len(list(islice(spoken("v3", tiny_lm(), published=False), 60))) == 60


@pytest.mark.parametrize("config", [V2, tiny_config().lm], ids=["v2", "v3"])
def test_turns_of_text_and_speech(config: LmConfig) -> None:
    """Five text tokens, fifteen codes, and so on; the prompt's last turn is finished first; the rest after task_id."""
    session, v = Script(config, []), vocabulary(config)
    prompt_speech = [1] * 22
    pieces = [list(range(100, 103)), [], list(range(103, 112)), list(range(112, 117))]
    codes = []
    for code in bistream(session, pieces, config, likeliest, TurnPrompt([9], [50, 51], prompt_speech)):
        codes.append(code)
        if len(codes) == 40:
            break
    text = v.text_ids([50, 51, *range(100, 117)])
    expected = [v.sos, *v.text_ids([9]), *text[:5], *prompt_speech[:15], *text[5:10], *prompt_speech[15:]]
    expected += codes[:8] + text[10:15] + codes[8:23] + text[15:] + [v.task_id] + codes[23:39]
    assert session.given == expected


def test_speech_begins_as_soon_as_one_turn_of_text_is_there() -> None:
    read: list[int] = []

    def pieces() -> Iterator[list[int]]:
        for token in range(20):
            read.append(token)
            yield [token]

    stream = bistream(Script(V2), pieces(), V2, likeliest)
    next(stream)
    assert len(read) == 5
    list(islice(stream, 15))
    assert len(read) == 10


def test_text_that_is_too_short_for_a_turn_or_for_the_prompt() -> None:
    session, v = Script(V2), vocabulary(V2)
    codes = list(islice(bistream(session, [[4], [5]], V2, likeliest, TurnPrompt(speech=[7] * 20)), 2))
    assert session.given == [v.sos, *v.text_ids([4, 5]), v.task_id, *[7] * 20, codes[0]]
    published = Script(V2)
    next(published_bistream(published, [[4], [5]], V2, likeliest, TurnPrompt(speech=[7] * 20)))
    assert published.given == [v.sos, *v.text_ids([4, 5]), v.task_id]  # which drops the prompt's speech


def test_a_fill_of_the_models_own_begins_the_next_turn() -> None:
    session, v = Script(V2, [10, 11, V2.fill_id]), vocabulary(V2)
    codes = list(islice(bistream(session, [range(10)], V2, likeliest), 4))
    assert codes[:2] == [10, 11]
    assert session.given[: 1 + 5 + 2 + 5] == [v.sos, *v.text_ids(range(5)), 10, 11, *v.text_ids(range(5, 10))]


def test_it_always_ends() -> None:
    """Without a stop by the model: at twenty codes per text token, or at the limit; and when it is cancelled."""
    assert len(list(bistream(Script(V2), [range(3)], V2, likeliest))) == 60
    assert len(list(bistream(Script(V2), [range(5), range(2)], V2, likeliest, limit=31))) == 31
    assert len(list(bistream(Script(V2), [range(5)], V2, likeliest, limit=4))) == 4
    stopping = Script(V2, [*range(16), V2.end_id])
    assert len(list(bistream(stopping, [range(5)], V2, likeliest))) == 15
    seen: list[int] = []
    cancelled = bistream(Script(V2), [range(5)] * 9, V2, likeliest, cancelled=lambda: len(seen) == 18)
    for code in cancelled:
        seen.append(code)
    assert len(seen) == 18
    with pytest.raises(InvalidRequest, match="target_text: no speech fits: 0 text tokens"):
        list(bistream(Script(V2), [[], []], V2, likeliest, TurnPrompt(text=[1, 2])))


@pytest.mark.parametrize("speak", [bistream, published_bistream])
def test_a_runaway_decode_ends_by_an_explicit_error(speak: Callable[..., Iterator[int]]) -> None:
    """Speech that does not end, and speech that goes round in circles which sampling does not see."""
    spoken: list[int] = []
    with pytest.raises(Runaway, match="did not stop within 140 speech tokens for 7 text tokens; try another seed"):
        spoken.extend(speak(Script(V2), [range(5), range(2)], V2, likeliest))
    circle = [*range(12)] * 20
    with pytest.raises(Runaway, match=r"repeated itself after 0 speech tokens \(75 tokens of at most 15 kinds\)"):
        list(speak(Script(V2, circle), [range(4)] * 3, V2, likeliest))
    late = Script(V2, [*range(100, 140), *circle])
    heard: list[int] = []
    with pytest.raises(Runaway, match=r"repeated itself after 3[78] speech tokens"):
        for code in speak(late, [range(4)] * 3, V2, likeliest):
            heard.append(code)
    assert heard[:15] == [*range(100, 115)] and len(heard) < 38 + SIGNS.loop


def test_a_circle_of_very_few_codes_is_not_heard() -> None:
    free, heard = replace(V2, sampling=SamplingConfig(win_size=0)), []
    with pytest.raises(Runaway, match="repeated itself after"):
        for code in bistream(Script(free, [*range(100, 130), *[1, 2, 3] * 40]), [range(4)] * 3, free, likeliest):
            heard.append(code)
    assert heard[:15] == [*range(100, 115)] and len(heard) < 30 + SIGNS.doubt


def test_ids_without_a_meaning_are_not_sampled_unless_as_published() -> None:
    assert len(list(islice(bistream(Script(V2, [V2.end_id, 6562]), [range(9)], V2, likeliest), 16))) == 16
    with pytest.raises(UnexpectedId, match="sampled id 6562 where speech was to end; only 6561 may"):
        list(published_bistream(Script(V2, [6562]), [[1]], V2, likeliest))
    late = Script(V2, [*range(16), 6562, 6563])
    assert len(list(islice(bistream(late, [range(9)], V2, likeliest), 20))) == 20


class Speaker:
    """A family of tiny networks whose language model is a script; recordings become twenty codes."""

    def __init__(self, folder: Path, ids: Sequence[int] = ()) -> None:
        self.family: Family = family(folder)
        self.config, self.front = CosyVoiceCheckpoint(folder).config, TextFrontend(folder)
        self.session = Script(self.config.lm, ids)
        self.llm = LogitsLm(lambda _: self.session)
        self._networks, self._ears = torch_call(self.family.stages), hearing(np.arange(20))

    def call(self, stage: str, **arrays: np.ndarray) -> Arrays:
        return (self._ears if stage.startswith("spe") else self._networks)(stage, **arrays)

    def speak(self, request: Arrays, pieces: Sequence[str], **options: object) -> np.ndarray:
        waves = self.family.synthesize_pieces(self.call, self.llm, request, pieces, **options)
        return np.concatenate(list(waves))


VOICE, REFERENCE = {"speaker": text("a")}, recording(12800)
PIECES = {
    "sft": (VOICE, "", ""),
    "cross_lingual": (REFERENCE, "", ""),
    "zero_shot": (REFERENCE | {"reference_text": text("Ah. Oh.")}, "", "Ah. Oh."),
    "instruct2": (REFERENCE | {"instruct_text": text("Calm.")}, "Calm." + END_OF_PROMPT, ""),
}
"""A request of each mode, and what stands before its text: the instruction and the transcript."""


@pytest.mark.parametrize("mode", PIECES)
@pytest.mark.parametrize("version", [2, 3])
def test_what_each_mode_reads_before_and_between(
    version: int, mode: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In v3 what goes up to <|endofprompt|> is read at once, in v2 all is divided into turns."""
    monkeypatch.setattr(Synthesizer, "audible", lambda _, speech, *__: iter([np.array(list(speech))]))
    end = 6561 if version == 2 else 6562
    speaker = Speaker(request.getfixturevalue(f"tiny_v{version}"), [*range(100, 200), end])
    inputs, instruction, transcript = PIECES[mode]
    heard = speaker.speak(inputs, ["Hello ", "you", "."])
    v, front = vocabulary(speaker.config.lm), speaker.front
    head = []
    if version == 3:
        head = front.encode(f"{SYSTEM} {instruction}" if instruction else SYSTEM + END_OF_PROMPT)
        instruction = ""
    spoken = v.text_ids([*front.encode(instruction), *front.encode(transcript), *front.encode("Hello you.")])
    first, *others = [spoken[start : start + 5] for start in range(0, len(spoken), 5)]
    rest = others.pop() if len(spoken) % 5 else []
    groups = [list(ids) for _, ids in groupby(speaker.session.given, lambda id: id < 6561)]
    assert groups[::2] == [[v.sos, *v.text_ids(head), *first], *others, [*rest, v.task_id]]
    assert [len(codes) for codes in groups[1::2]][: 1 + len(others)] == [15] * (1 + len(others))
    codes = [code for group in groups[1::2] for code in group]
    assert codes[:20] == list(range(20)) if transcript else codes[:15] == list(range(100, 115))
    assert heard[:15].tolist() == list(range(100, 115)) if not transcript else heard[0] == 100


def test_pieces_that_cannot_be_spoken(tiny_v2: Path, tiny_v1: Path) -> None:
    speaker = Speaker(tiny_v2)
    with pytest.raises(InvalidRequest, match="target_text: the text is empty"):
        speaker.speak(VOICE, [" ", ""])
    with pytest.raises(InvalidRequest, match="target_text: nothing to speak in '!'"):
        speaker.speak(VOICE, ["!"])
    with pytest.raises(InvalidRequest, match="mode: vc has no text that could come in pieces"):
        speaker.speak(REFERENCE | recording(12800, "source_wav"), ["Hi."])
    with pytest.raises(TritoneError, match="the text produced no speech; try another seed"):
        Speaker(tiny_v2, [V2.end_id]).speak(VOICE, ["Hi."])
    speaker.llm = ServedLlm("http://localhost:1", "vllm", {"first": 0, "rows": 1, "segments": ()}, {})
    with pytest.raises(InvalidRequest, match="target_text: comes in pieces; the engine of the language model takes"):
        speaker.speak(VOICE, ["Hi."])
    assert speaker.family.settings["text_in_pieces"] == "turns"
    assert "text_in_pieces" not in family(tiny_v1).settings and family(tiny_v1).synthesize_pieces is None


def test_pieces_of_a_request_nobody_waits_for_end_without_an_error(tiny_v2: Path) -> None:
    speaker = Speaker(tiny_v2)
    assert list(speaker.family.synthesize_pieces(speaker.call, speaker.llm, VOICE, [], lambda: True)) == []
