"""Speech tokens to mel in chunks, at constant cost, equal to one pass under the streaming mask.

A stream holds the state of one request, and its tokens wait for their lookahead. All network work goes through `call`,
so the same code runs on torch in tests and on any engine in a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.grid import chunk_tokens, encoder_chunk, estimator_chunk
from tritone.families.cosyvoice.flow.noise import noise_frames
from tritone.families.cosyvoice.flow.prompt_states import FlowState, PromptStates
from tritone.families.cosyvoice.flow.window import stream_window
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Call, Stage


class MelStream(Protocol):
    """Mel frames from the speech tokens of one segment, computed as the tokens arrive."""

    def push(self, tokens: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield mel `[1, 80, frames]` of every step that these tokens complete."""
        ...

    def finish(self) -> Iterator[np.ndarray]:
        """Yield the mel of the tokens still waiting; nothing may be pushed afterwards."""
        ...


class FlowStream:
    """A `MelStream` that carries the state of both networks from step to step (v2, v3).

    A past without a bound of its own grows up to the largest that the stages take, a minute; then its oldest part goes.

    Args:
        call: runs `flow_encoder_chunk` and `flow_estimator_chunk`.
        stages: the declarations of those two, from which the empty states are made.
        voice: its prompt tokens and prompt mel come first and are not part of the output.
        hop: tokens per step after the prompt; a multiple of the encoder's chunk, so that steps end on its grid.
        prompts: keeps the state after the prompt for later streams on the same networks; None computes it anew.
    """

    def __init__(
        self,
        call: Call,
        stages: Mapping[str, Stage],
        config: CosyVoiceConfig,
        voice: Voice,
        hop: int,
        prompts: PromptStates | None = None,
    ) -> None:
        chunk = chunk_tokens(config)
        if hop <= 0 or hop % chunk:
            raise ValueError(f"hop must be a positive multiple of the {chunk}-token chunk, got {hop}")
        self._call, self._config, self._voice, self._hop, self._stages = call, config.flow, voice, hop, stages
        self._encoder_chunk, self._estimator_chunk = encoder_chunk(config, True), estimator_chunk(config, True)
        self._window = stream_window(config, len(voice.speech_token))
        self._state = FlowState(
            cfm.initial_state(stages["flow_encoder_chunk"]),
            cfm.initial_solver_state(stages["flow_estimator_chunk"], config.flow.steps),
            [],
            0,
        )
        if prompts is not None and len(voice.speech_token):
            self._state = prompts.get(voice, config, hop, self._after_prompt)
        else:
            self._after_prompt()

    def push(self, tokens: Iterable[int]) -> Iterator[np.ndarray]:
        """Return the mel `[1, 80, frames]` of every step that the tokens complete, three tokens later."""
        return self._render(tokens, last=False)

    def finish(self) -> Iterator[np.ndarray]:
        """Return the mel of the tokens still waiting, with zeros as their lookahead."""
        return self._render((), last=True)

    def _after_prompt(self) -> FlowState:
        for _ in self._render(self._voice.speech_token, last=False):
            raise ValueError("a prompt's tokens must be covered by its mel, two frames to a token")
        return self._state.copied()

    def _render(self, tokens: Iterable[int], last: bool) -> Iterator[np.ndarray]:
        lookahead = self._config.pre_lookahead_len
        for token in tokens:
            self._state.tokens.append(int(token))
            if len(self._state.tokens) == self._hop + lookahead:
                yield from self._step(self._hop)
        if last and self._state.tokens:
            yield from self._step(len(self._state.tokens))

    def _step(self, count: int) -> Iterator[np.ndarray]:
        lookahead, frames = self._config.pre_lookahead_len, count * self._config.token_mel_ratio
        waiting, start = self._state.tokens, self._state.frame
        window = np.zeros((1, count + lookahead), np.int64)
        window[0, : len(waiting)] = waiting
        encoded = self._call(
            "flow_encoder_chunk",
            speech_token=window,
            speech_token_len=np.array([len(waiting)], np.int32),
            embedding=self._voice.embedding[None],
            **self._encoder_chunk,
            **self._state.encoder,
        )
        cond = np.zeros((1, self._config.output_size, frames), np.float32)
        known = self._voice.mel.T[None, :, start : start + frames]
        cond[:, :, : known.shape[2]] = known
        mel = self._solve(encoded["mu"], encoded["spks"], cond, noise_frames(start, start + frames))
        encoder = cfm.within(self._stages["flow_encoder_chunk"], cfm.next_state(encoded))
        self._state = FlowState(encoder, self._state.solver, waiting[count:], start + frames)
        if known.shape[2] < frames:
            yield mel[:, :, known.shape[2] :]

    def _solve(self, mu: np.ndarray, spks: np.ndarray, cond: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the mel of a step's frames: at once, or chunk by chunk if each attends to another part of the past."""
        solver, size, mels = self._state.solver, mu.shape[2] if self._window is None else self._window.chunk, []
        for start in range(0, mu.shape[2], size):
            part = np.s_[:, :, start : start + size]
            mel, _ = cfm.solve_chunk(
                self._call,
                mu[part],
                spks,
                cond[part],
                noise[part],
                solver,
                chunk_size=self._estimator_chunk,
                steps=self._config.steps,
                cfg_rate=self._config.cfg_rate,
            )
            mels.append(mel)
            for step, state in enumerate(solver):
                estimator = self._stages["flow_estimator_chunk"]
                solver[step] = cfm.within(estimator, state) if self._window is None else self._window.cut(state)
        return np.concatenate(mels, axis=2)
