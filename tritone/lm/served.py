"""The language model behind an OpenAI-compatible HTTP server that does the sampling: trtllm-serve or vLLM.

Token ids go in and come out, streamed; no text is tokenized or detokenized anywhere. The request asks for what comes
closest to this repository's own sampler:

    nucleus of top_k and top_p, temperature 1, seed      the same parameters (the draws themselves differ)
    no stop id before the minimum length                 min_tokens (hides every stop id, not the first alone)
    at most so many tokens                               max_tokens, and counted again here
    head bias and mask                                   logit_bias, from the folder's request.json
    repetition-aware second draw                         neither offers one: loops are caught instead (`guard.py`)

A token that is not a speech token is an error here instead of noise later. The tests use a server that streams known
ids; neither engine has been run with this module.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tritone.build.files import read_json
from tritone.build.layout import llm_path
from tritone.build.targets import HUGGINGFACE
from tritone.errors import ArtifactError, ConfigError, InvalidRequest, TritoneError
from tritone.lm.guard import guarded
from tritone.lm.hf_model import IDS, moved
from tritone.lm.rules import SpeechRules
from tritone.lm.sampling import length_limits

ENGINES: dict[str, dict[str, Any]] = {
    "trtllm": {"detokenize": False, "add_special_tokens": False},
    "vllm": {"return_token_ids": True, "add_special_tokens": False},
}
"""The parameters that make each server return ids instead of text."""
CONNECT_TIMEOUT = 5.0
TOKEN_TIMEOUT = 30.0
"""Seconds without a token after which the server counts as hung."""
REQUEST = "request.json"
"""The file beside the model that says what every request must carry: sampling, stop ids and the logit bias."""


class LlmFailed(TritoneError):
    """The language model's server is missing, refuses, breaks off, or returns something other than speech."""


class Answer:
    """An open answer; closing it closes the connection even while the server is still sending."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response

    def read(self) -> bytes:
        """Return the rest of the body."""
        return self._response.read()

    def line(self) -> bytes | None:
        """Return the next line without its end; None after the last."""
        line = self._response.readline()
        return line.strip() if line else None

    def close(self) -> None:
        """Give the connection up; calling it again has no effect."""
        # Of an answer that ends with its connection, the response alone holds the socket.
        self._response.close()
        self._connection.close()


class ServedLlm:
    """A `SpeechLm` whose sequences are requests to the server.

    Args:
        url: the server, such as "http://llm:8355".
        engine: "trtllm" or "vllm".
        ids: the folder's `ids.json`: where the ids of sessions stand in the server's vocabulary.
        always: what every request carries, the folder's `request.json`.
        timeout: seconds without a token after which the server counts as hung.
    """

    def __init__(
        self,
        url: str,
        engine: str,
        ids: Mapping[str, Any],
        always: Mapping[str, Any],
        timeout: float = TOKEN_TIMEOUT,
    ) -> None:
        if engine not in ENGINES:
            raise ConfigError(f"there is no language model engine {engine!r}; there are {', '.join(ENGINES)}")
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(f"the language model's address is {url!r}; it looks like http://host:port")
        self.url, self.engine, self.timeout = url.rstrip("/"), engine, timeout
        self.first, self.rows, self.segments = int(ids["first"]), int(ids["rows"]), ids["segments"]
        self.always = {**always, **ENGINES[engine]}
        self._host, self._port, self._path = parts.hostname, parts.port or 80, parts.path.rstrip("/")
        self._name = ""
        self._lock = threading.Lock()
        self._on_token: Callable[[], None] = lambda: None

    def warm_up(self) -> None:
        """Raise LlmFailed unless the server is there and has a model."""
        self.name()

    def count(self, on_token: Callable[[], None]) -> None:
        """Call `on_token` for every token the server sends."""
        self._on_token = on_token

    def session(self, conditioning: np.ndarray | None = None) -> NoReturn:
        """Raise InvalidRequest: the server samples, so no sequence can be decoded step by step here."""
        raise InvalidRequest(
            "target_text", "comes in pieces; the engine of the language model takes only a whole prompt"
        )

    def generate(
        self,
        prompt: Sequence[int],
        text_length: int,
        rules: SpeechRules,
        seed: int,
        cancelled: Callable[[], bool],
        conditioning: np.ndarray | None = None,
    ) -> Iterator[int]:
        """Yield speech codes as they come, until the model stops or `cancelled()` is true.

        Args:
            prompt: merged ids, as for `tritone.lm.sampling.tokens`.

        Raises:
            LlmFailed: the server failed. Runaway: the model did, twice.
        """
        request = ServedRequest(self)
        try:
            for code in request.codes(prompt, text_length, rules, seed, cancelled):
                self._on_token()
                yield code
        finally:
            request.close()

    def name(self) -> str:
        """Return the server's name of its model; the server is asked once."""
        with self._lock:
            if not self._name:
                with closing(self.ask("GET", "/v1/models", CONNECT_TIMEOUT)) as answer:
                    models = json.loads(answer.read()).get("data") or [{}]
                self._name = str(models[0].get("id", ""))
                if not self._name:
                    raise LlmFailed(f"{self} serves no model")
            return self._name

    def ask(self, method: str, path: str, timeout: float, body: Mapping[str, Any] | None = None) -> Answer:
        """Return the server's answer, whose body is still to be read.

        LlmFailed when the server does not answer or refuses.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, self._path + path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            problem = "" if answer.status == 200 else answer.read(2000).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise LlmFailed(f"no answer from {self}: {error}") from error
        if answer.status != 200:
            connection.close()
            raise LlmFailed(f"{self} answered {answer.status}: {problem}")
        return Answer(connection, answer)

    def __str__(self) -> str:
        return f"the language model server at {self.url}"


class ServedRequest:
    """One sequence, sampled by the server; closing it tells the server to stop."""

    def __init__(self, llm: ServedLlm) -> None:
        self._llm = llm
        self._answer: Answer | None = None

    def codes(
        self, prompt: Sequence[int], text_length: int, config: SpeechRules, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[int]:
        """Yield speech codes as they come, watched by `tritone.lm.guard`."""
        least, most = length_limits(text_length, config)

        def attempt(spoken: Sequence[int], seed: int) -> Iterator[int]:
            lengths = {"min_tokens": max(0, least - len(spoken)), "max_tokens": most - len(spoken), "seed": seed}
            return self._attempt([*prompt, *spoken], lengths, config, cancelled)

        return guarded(attempt, seed, text_length, most, cancelled)

    def _attempt(
        self, prompt: Sequence[int], lengths: Mapping[str, int], config: SpeechRules, cancelled: Callable[[], bool]
    ) -> Iterator[int]:
        """Yield the speech codes of one request to the server; an earlier request is broken off."""
        self.close()
        llm = self._llm
        body = {"prompt": moved(prompt, llm.segments), "stream": True, **lengths, **llm.always}
        for count, token in enumerate(self._sampled(body)):
            if cancelled() or count == lengths["max_tokens"]:  # even if the server ignores max_tokens
                return
            code = token - llm.first
            if code in config.stop_ids:
                return
            if not 0 <= code < llm.rows:
                raise LlmFailed(f"{llm} sampled id {token}, which is not a speech token: it ignores the logit bias")
            yield code

    def close(self) -> None:
        """Close the connection, which makes the server stop sampling; calling it again has no effect."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def _sampled(self, body: Mapping[str, Any]) -> Iterator[int]:
        """Yield the server's ids from its stream of server-sent events."""
        body = {"model": self._llm.name(), **body}
        self._answer = answer = self._llm.ask("POST", "/v1/completions", self._llm.timeout, body)
        count = 0
        while True:
            try:
                line = answer.line()
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = "gave no token in time" if isinstance(error, TimeoutError) else f"broke off ({error})"
                raise LlmFailed(f"{self._llm} {reason}, after {count} tokens") from error
            if line is None:
                raise LlmFailed(f"{self._llm} closed its stream after {count} tokens without finishing")
            if not line.startswith(b"data:"):
                continue
            data = line[len(b"data:") :].strip()
            if data == b"[DONE]":
                return
            choice = self._choice(data)
            for token in choice.get("token_ids") or ():
                yield int(token)
                count += 1
            if choice.get("finish_reason"):
                return

    def _choice(self, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data)
            if "error" in event or event.get("object") == "error":
                raise LlmFailed(f"{self._llm} failed: {event.get('error') or event.get('message')}")
            choices = event.get("choices") or [{}]
            choice: dict[str, Any] = choices[0]
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise LlmFailed(f"{self._llm} sent {data[:200]!r}, which is not a completion") from error
        if choice.get("text") and not choice.get("token_ids"):
            raise LlmFailed(f"{self._llm} answered in text, not in token ids; is it really {self._llm.engine}?")
        return choice


def served_llm(build: str | Path, url: str, engine: str) -> ServedLlm:
    """Return the language model of a build folder, which a server at `url` has loaded.

    Raises:
        ArtifactError: the build folder does not hold it.
    """
    folder = llm_path(build, HUGGINGFACE)
    ids, always = read_json(folder / IDS), read_json(folder / REQUEST)
    for name, content in ((IDS, ids), (REQUEST, always)):
        if not content:
            raise ArtifactError(f"{folder / name} does not exist; run: tritone build --target gpu")
    return ServedLlm(url, engine, ids, always)
