"""Speech tokens to waveform, chunk by chunk at constant cost, equal to one pass under the streaming mask.

Each class holds the state of one request: tokens wait for their lookahead, mel frames for the vocoder's context. All
network work goes through `call`, so the same code runs on torch in tests and on any engine in a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tritone.families.cosyvoice.config.common import CosyVoiceConfig, HiftConfig
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.grid import chunk_tokens, encoder_chunk, estimator_chunk
from tritone.families.cosyvoice.flow.noise import noise_frames
from tritone.families.cosyvoice.flow.prompt_states import FlowState, PromptStates
from tritone.families.cosyvoice.flow.window import stream_window
from tritone.families.cosyvoice.vocoder.receptive_field import f0_reach, vocoder_reach
from tritone.families.cosyvoice.vocoder.source import harmonic_source
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Call, Stage


class FlowStream:
    """Mel frames from speech tokens as they arrive.

    Args:
        call: runs `flow_encoder_chunk` and `flow_estimator_chunk`.
        stages: the declarations of those two, from which the empty states are made.
        voice: its prompt tokens and prompt mel come first and are not part of the output.
        hop: tokens per step after the prompt; a multiple of the encoder's chunk, so that steps end on its grid.
        prompts: where the state after the prompt is found or left; it must be of the networks that `call` runs.
    """

    def __init__(
        self,
        call: Call,
        stages: dict[str, Stage],
        config: CosyVoiceConfig,
        voice: Voice,
        hop: int,
        prompts: PromptStates | None = None,
    ) -> None:
        chunk = chunk_tokens(config)
        if hop <= 0 or hop % chunk:
            raise ValueError(f"hop must be a positive multiple of the {chunk}-token chunk, got {hop}")
        self._call, self._config, self._voice, self._hop = call, config.flow, voice, hop
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
        """Return mel `[1, 80, frames]` of every step the tokens complete (three more tokens must follow a step)."""
        return self._render(tokens, last=False)

    def finish(self) -> Iterator[np.ndarray]:
        """Return mel of the tokens still waiting.

        Nothing follows them, so their lookahead is silence in feature space.
        """
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
        self._state = FlowState(cfm.next_state(encoded), self._state.solver, waiting[count:], start + frames)
        if known.shape[2] < frames:
            yield mel[:, :, known.shape[2] :]

    def _solve(self, mu: np.ndarray, spks: np.ndarray, cond: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return mel of a step's frames: at once, or chunk by chunk where each sees another part of the past."""
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
            if self._window is not None:
                for step, state in enumerate(solver):
                    solver[step] = self._window.cut(state)
        return np.concatenate(mels, axis=2)


class SpeedStream:
    """Mel frames resampled in time by linear interpolation: `speed` 2 halves the duration.

    Output frame j lies at input position `(j + 0.5) * speed - 0.5`, held at both ends; the total is
    `floor(frames / speed)`. Cutting the input differently never changes the output.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._held = np.zeros((1, 0, 0), np.float32)
        self._first = 0
        self._done = 0

    def push(self, mel: np.ndarray, last: bool = False) -> np.ndarray:
        """Return mel `[1, 80, frames]` of every output frame now determined."""
        if self._speed == 1.0:
            return mel
        held = mel if self._held.shape[1] == 0 else np.concatenate([self._held, mel], axis=2)
        total = self._first + held.shape[2]
        stop = int(total / self._speed) if last else int(np.floor((total - 0.5) / self._speed - 0.5)) + 1
        position = (np.arange(self._done, max(stop, self._done)) + 0.5) * self._speed - 0.5
        position = np.clip(position, 0, max(total - 1, 0))
        left = np.minimum(np.floor(position).astype(np.int64), max(total - 2, 0))
        weight = (position - left).astype(np.float32)
        right = np.minimum(left + 1, total - 1)
        out = held[:, :, left - self._first] * (1 - weight) + held[:, :, right - self._first] * weight
        self._done = max(stop, self._done)
        keep = max(0, min(int(np.floor((self._done + 0.5) * self._speed - 0.5)), total - 1) - self._first)
        self._held, self._first = held[:, :, keep:], self._first + keep
        return out.astype(np.float32)


class VocoderStream:
    """Waveform from mel frames as they arrive, without seams.

    The vocoder has no state: it runs on the new frames with its receptive field of context on both sides and the middle
    is kept. f0 is settled first, so that the excitation's phase is integrated over exact values only.
    """

    def __init__(self, call: Call, config: HiftConfig, seed: int) -> None:
        self._call, self._config = call, config
        self._reach, (self._f0_left, self._f0_right) = vocoder_reach(config), f0_reach(config)
        self._source = harmonic_source(config, seed)
        self._mel = np.zeros((1, config.in_channels, 0), np.float32)
        self._harmonics = np.zeros((1, config.nb_harmonics + 1, 0), np.float32)
        self._first = 0
        self._f0_done = 0
        self._done = 0

    def push(self, mel: np.ndarray, last: bool = False) -> np.ndarray:
        """Return waveform `[samples]` of every frame whose context is complete; all the rest when `last`."""
        self._mel = np.concatenate([self._mel, mel], axis=2)
        total = self._first + self._mel.shape[2]
        self._extend_source(total, last)
        hop, reach = self._config.hop, self._reach
        known = self._first + self._harmonics.shape[2] // hop
        ready = total if last else min(total - reach.right, known - reach.source_right)
        if ready <= self._done:
            return np.zeros(0, np.float32)
        length = min(total, ready + max(reach.right, reach.source_right)) - self._first
        source = self._harmonics[:, :, : length * hop]
        # Where the mel looks farther ahead than the source, the last frames' source does not matter.
        source = np.pad(source, ((0, 0), (0, 0), (0, length * hop - source.shape[2])))
        wave = self._call(
            "vocoder", mel=self._mel[:, :, :length], mel_len=np.array([length], np.int32), harmonics=source
        )["waveform"][0]
        out = wave[(self._done - self._first) * hop : (ready - self._first) * hop]
        self._done = ready
        self._forget()
        return out

    def _extend_source(self, total: int, last: bool) -> None:
        settled = total if last else total - self._f0_right
        fresh = np.zeros((1, self._config.nb_harmonics + 1, 0), np.float32)
        if settled > self._f0_done:
            start = max(self._first, self._f0_done - self._f0_left)
            window = self._mel[:, :, start - self._first :]
            length = np.array([window.shape[2]], np.int32)
            f0 = self._call("f0_predictor", mel=window, mel_len=length)["f0"]
            fresh = self._source.push(f0[0, self._f0_done - start : settled - start])[None]
            self._f0_done = settled
        if last:
            fresh = np.concatenate([fresh, self._source.finish()[None]], axis=2)
        self._harmonics = np.concatenate([self._harmonics, fresh], axis=2)

    def _forget(self) -> None:
        first = max(self._first, min(self._done - self._reach.left, self._f0_done - self._f0_left))
        drop = first - self._first
        self._mel = self._mel[:, :, drop:]
        self._harmonics = self._harmonics[:, :, drop * self._config.hop :]
        self._first = first
