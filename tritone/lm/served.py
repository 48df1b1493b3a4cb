"""The language model behind an OpenAI-compatible HTTP server that samples by itself: trtllm-serve or vLLM.

Token ids go in and come out, streamed; no text is tokenized or detokenized anywhere. What the engine is asked for
stands for this repository's own sampler as far as such engines can:

    nucleus of top_k and top_p, temperature 1, seed      the same parameters (the draws themselves differ)
    no stop id before the minimum length                 min_tokens (hides every stop id, not the first alone)
    at most so many tokens                               max_tokens, and counted again here
    head bias and mask                                   logit_bias, from the folder's request.json
    repetition-aware second draw                         nothing: neither engine offers one

A token that is no speech token is an error here, not noise later. Tested against a server that streams known ids;
neither engine has been run with it.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tritone.artifacts import llm_path, read_json
from tritone.errors import ArtifactError, ConfigError, TritoneError
from tritone.families.cosyvoice.config import LmConfig
from tritone.formats import HUGGINGFACE
from tritone.lm.hf_model import HfModel
from tritone.lm.sampling import length_limits
from tritone.stage import LanguageModel

ENGINES: dict[str, dict[str, Any]] = {
    "trtllm": {"detokenize": False, "add_special_tokens": False},
    "vllm": {"return_token_ids": True, "add_special_tokens": False},
}
"""What each server must be told beyond the common parameters so that ids, not text, come back."""
CONNECT_TIMEOUT = 5.0
TOKEN_TIMEOUT = 30.0
"""Seconds without a token after which the server counts as hung."""
REQUEST = "request.json"
"""The file beside the model that says what every request must carry: sampling, stop ids and the logit bias."""


class LlmFailed(TritoneError):
    """The language model's server is not there, refuses, breaks off, or answers with something else than speech."""


class ServedLlm:
    """`llm() -> session`, each session one request to the server.

    Args:
        url: the server, such as "http://llm:8355".
        engine: "trtllm" or "vllm".
        model: how the ids of sessions are known to the server.
        always: what every request carries.
        timeout: seconds without a token after which the server counts as hung.
    """

    def __init__(
        self, url: str, engine: str, model: HfModel, always: Mapping[str, Any], timeout: float = TOKEN_TIMEOUT
    ) -> None:
        if engine not in ENGINES:
            raise ConfigError(f"there is no language model engine {engine!r}; there are {', '.join(ENGINES)}")
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(f"the language model's address is {url!r}; it looks like http://host:port")
        self.url, self.engine, self.timeout = url.rstrip("/"), engine, timeout
        self.model, self.always = model, {**always, **ENGINES[engine]}
        self._host, self._port, self._path = parts.hostname, parts.port or 80, parts.path.rstrip("/")
        self._name = ""
        self._lock = threading.Lock()

    def __call__(self) -> ServedSession:
        return ServedSession(self)

    def name(self) -> str:
        """What the server calls its model; asked once."""
        with self._lock:
            if not self._name:
                connection, answer = self.ask("GET", "/v1/models", CONNECT_TIMEOUT)
                with closing(connection):
                    found = json.loads(answer.read()).get("data") or [{}]
                self._name = str(found[0].get("id", ""))
                if not self._name:
                    raise LlmFailed(f"{self} serves no model")
            return self._name

    def ask(
        self, method: str, path: str, timeout: float, body: Mapping[str, Any] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The open connection and the answer's head; LlmFailed when there is none or its status is an error."""
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
        return connection, answer

    def __str__(self) -> str:
        return f"the language model server at {self.url}"


class ServedSession:
    """One sequence, sampled by the server; closing it tells the server to stop."""

    def __init__(self, llm: ServedLlm) -> None:
        self._llm = llm
        self._connection: http.client.HTTPConnection | None = None

    def check(self) -> None:
        """Raise LlmFailed unless the server is there and has a model."""
        self._llm.name()

    def generate(
        self, prompt: Sequence[int], text_length: int, config: LmConfig, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[int]:
        """Speech codes as they come, until the model stops, the longest length is reached, or `cancelled()` is true.

        Args:
            prompt: merged ids, as for `tritone.lm.sampling.tokens`.
        """
        least, most = length_limits(text_length, config)
        model = self._llm.model
        lengths = {"min_tokens": least, "max_tokens": most, "seed": seed}
        body = {"prompt": model.ids(prompt), "stream": True, **lengths, **self._llm.always}
        for count, token in enumerate(self._sampled(body)):
            if cancelled() or count == most:  # whatever the server makes of max_tokens
                return
            code = token - model.first
            if code in config.stop_ids:
                return
            if not 0 <= code < model.rows:
                raise LlmFailed(f"{self._llm} sampled id {token}, which is no speech token: it ignores the logit bias")
            yield code

    def close(self) -> None:
        """Break the connection off, at which the server stops sampling; more than once does no harm."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _sampled(self, body: Mapping[str, Any]) -> Iterator[int]:
        """The server's ids from its stream of server-sent events."""
        body = {"model": self._llm.name(), **body}
        self._connection, answer = self._llm.ask("POST", "/v1/completions", self._llm.timeout, body)
        count = 0
        while True:
            try:
                line = answer.readline().strip()
                end = not line and answer.isclosed()
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = "gave no token in time" if isinstance(error, TimeoutError) else f"broke off ({error})"
                raise LlmFailed(f"{self._llm} {reason}, after {count} tokens") from error
            if end:
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
            raise LlmFailed(f"{self._llm} sent {data[:200]!r}, which is no completion") from error
        if choice.get("text") and not choice.get("token_ids"):
            raise LlmFailed(f"{self._llm} answered in text, not in token ids; is it really {self._llm.engine}?")
        return choice


def served_llm(llm: LanguageModel, build: str | Path, url: str, engine: str) -> ServedLlm:
    """The language model that a server at `url` has loaded from the build folder.

    Raises:
        ArtifactError: the build folder does not hold it.
    """
    path = llm_path(build, HUGGINGFACE) / REQUEST
    always = read_json(path)
    if not always or llm.huggingface is None:
        raise ArtifactError(f"{path} does not exist; build it with python export/build_engines.py --target gpu")
    return ServedLlm(url, engine, llm.huggingface(), always)
