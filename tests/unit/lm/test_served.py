"""The language model behind an HTTP server, against a server that streams known ids and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritone.catalog import open_family
from tritone.errors import ArtifactError, ConfigError, InvalidRequest
from tritone.export.to_huggingface import export_llm
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary
from tritone.lm.guard import Runaway
from tritone.lm.sampling import SamplingConfig
from tritone.lm.served import LlmFailed, ServedLlm, served_llm

CONFIG = LmConfig(16, 10, sampling=SamplingConfig(0.8, 25))
"""Speech codes 0 to 9, stop ids 10 to 12, markers 13 and 14, text from 15 on."""
IDS = {"first": 100, "rows": 13, "segments": [[0, 100, 13], [13, 113, 1], [14, 114, 1], [15, 0, 100]]}
ALWAYS = {"temperature": 1.0, "top_p": 0.8, "top_k": 25, "stop_token_ids": [110, 111, 112], "logit_bias": {"100": 50.5}}
PROMPT = [13, 15, 16, 17, 14, 3]

Events = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Knows one model, "voice"; answers completions by the server's `events`, and remembers their bodies."""

    server: Server

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "voice"}] if self.server.loaded else []})

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.paths.append(self.path)
        self.server.events(self)

    def reply(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()

    def event(self, value: Any) -> None:
        self.wfile.write(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def tokens(self, *ids: int, finish: str | None = None) -> None:
        self.event({"choices": [{"index": 0, "text": "", "token_ids": list(ids), "finish_reason": finish}]})

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.loaded = True
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.sent = 0
        self.broken = threading.Event()
        self.events: Events = lambda handler: None

    def handle_error(self, *_: Any) -> None:
        self.broken.set()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def llm(server: Server, engine: str = "trtllm", timeout: float = 5) -> ServedLlm:
    return ServedLlm(f"http://127.0.0.1:{server.server_port}", engine, IDS, ALWAYS, timeout)


def decode(
    model: ServedLlm, text_length: int = 3, cancelled: Callable[[], bool] = lambda: False, config: LmConfig = CONFIG
) -> list[int]:
    return list(model.generate(PROMPT, text_length, config, 7, cancelled))


def spoken(*ids: int, finish: str = "stop") -> Events:
    def events(handler: Handler) -> None:
        handler.begin()
        for token in ids:
            handler.tokens(token)
        handler.tokens(finish=finish)
        handler.event("[DONE]")

    return events


def endless(handler: Handler) -> None:
    """Send one token until the client disconnects."""
    handler.begin()
    while True:
        handler.tokens(105)
        handler.server.sent += 1
        time.sleep(0.002)


def test_codes_come_back_in_this_repositorys_ids(server: Server) -> None:
    server.events = spoken(104, 100, 109)
    assert decode(llm(server)) == [4, 0, 9]


def test_request_carries_ids_limits_seed_and_the_folders_settings(server: Server) -> None:
    server.events = spoken(104)
    decode(llm(server))
    assert server.paths == ["/v1/completions"]
    assert server.bodies[0] == {
        **ALWAYS, "model": "voice", "prompt": [113, 0, 1, 2, 114, 103], "stream": True, "seed": 7,
        "min_tokens": 6, "max_tokens": 60, "detokenize": False, "add_special_tokens": False,
    }  # fmt: skip


def test_vllm_is_asked_for_ids_in_its_own_words(server: Server) -> None:
    server.events = spoken(104)
    decode(llm(server, "vllm"))
    assert server.bodies[0]["return_token_ids"] is True
    assert "detokenize" not in server.bodies[0]


def test_several_tokens_of_one_event_all_count(server: Server) -> None:
    def events(handler: Handler) -> None:
        handler.begin()
        handler.tokens(101, 102, 103)
        handler.tokens(104, finish="stop")

    server.events = events
    assert decode(llm(server)) == [1, 2, 3, 4]


def test_stop_id_in_the_stream_ends_the_sequence(server: Server) -> None:
    server.events = spoken(104, 111, 105)
    assert decode(llm(server)) == [4]


def test_a_server_that_runs_away_is_cut_at_the_longest_length(server: Server) -> None:
    server.events = endless
    assert decode(llm(server), text_length=2) == [5] * 40
    assert server.broken.wait(5), "the server was not told to stop"
    assert server.sent < 400


def test_a_loop_is_asked_for_again_from_before_it_with_another_seed(server: Server) -> None:
    def events(handler: Handler) -> None:
        (spoken(104, 100, 103) if len(server.bodies) > 1 else endless)(handler)

    server.events = events
    found = decode(llm(server), text_length=100)
    assert found[-3:] == [4, 0, 3] and set(found[:-3]) == {5} and len(found) < 30
    first, second = server.bodies
    assert first["seed"] != second["seed"] and second["prompt"] == first["prompt"]
    assert (second["min_tokens"], second["max_tokens"]) == (200, 2000)
    assert server.broken.wait(5), "the first request goes on"


def test_a_model_that_loops_twice_is_an_error(server: Server) -> None:
    server.events = endless
    with pytest.raises(Runaway, match="repeated itself after 0 speech tokens"):
        decode(llm(server), text_length=100)
    assert len(server.bodies) == 2


def test_a_model_that_says_nothing_twice_is_an_error(server: Server) -> None:
    server.events = spoken(110)
    with pytest.raises(Runaway, match="gave no speech, and none with another seed"):
        decode(llm(server))
    assert len(server.bodies) == 2


def test_cancelling_breaks_the_connection_off(server: Server) -> None:
    server.events = endless
    seen: list[int] = []

    def cancelled() -> bool:
        seen.append(1)
        return len(seen) > 5

    assert decode(llm(server), text_length=1000, cancelled=cancelled) == [5] * 5
    assert server.broken.wait(5), "the server goes on sampling"


def test_leaving_the_generator_breaks_the_connection_off(server: Server) -> None:
    server.events = endless
    stream = llm(server).generate(PROMPT, 1000, CONFIG, 7, lambda: False)
    assert next(stream) == 5
    stream.close()
    stream.close()
    assert server.broken.wait(5)


def test_token_that_is_no_speech_is_an_error(server: Server) -> None:
    server.events = spoken(104, 55)
    with pytest.raises(LlmFailed, match=r"sampled id 55, which is not a speech token: it ignores the logit bias"):
        decode(llm(server))


def test_refusal_is_told_with_the_servers_own_words(server: Server) -> None:
    server.events = lambda handler: handler.reply(400, {"message": "logit_bias requires a tokenizer"})
    with pytest.raises(LlmFailed, match=r"http://127.* answered 400: .*logit_bias requires a tokenizer"):
        decode(llm(server))


def test_error_in_the_middle_of_the_stream(server: Server) -> None:
    def events(handler: Handler) -> None:
        handler.begin()
        handler.tokens(104)
        handler.event({"error": {"message": "CUDA out of memory"}})

    server.events = events
    with pytest.raises(LlmFailed, match=r"failed: .*CUDA out of memory"):
        decode(llm(server))


def test_stream_that_ends_too_early_is_not_taken_for_the_end_of_speech(server: Server) -> None:
    def events(handler: Handler) -> None:
        handler.begin()
        handler.tokens(104)

    server.events = events
    with pytest.raises(LlmFailed, match="closed its stream after 1 tokens without finishing"):
        decode(llm(server))


def test_server_that_hangs_is_told_apart(server: Server) -> None:
    release = threading.Event()

    def events(handler: Handler) -> None:
        handler.begin()
        handler.tokens(104)
        release.wait(20)

    server.events = events
    with pytest.raises(LlmFailed, match="gave no token in time, after 1 tokens"):
        decode(llm(server, timeout=0.3))
    release.set()


def test_answer_in_text_is_refused(server: Server) -> None:
    def events(handler: Handler) -> None:
        handler.begin()
        handler.event({"choices": [{"index": 0, "text": "<|s_4|>"}]})

    server.events = events
    with pytest.raises(LlmFailed, match="answered in text, not in token ids; is it really trtllm"):
        decode(llm(server))


def test_garbage_is_refused(server: Server) -> None:
    def events(handler: Handler) -> None:
        handler.begin()
        handler.event("Internal Server Error")

    server.events = events
    with pytest.raises(LlmFailed, match=r"sent b'Internal Server Error', which is not a completion"):
        decode(llm(server))


def test_missing_server_and_missing_model_are_told_by_the_check(server: Server) -> None:
    llm(server).warm_up()
    server.loaded = False
    with pytest.raises(LlmFailed, match="serves no model"):
        llm(server).warm_up()
    nobody = ServedLlm("http://127.0.0.1:9", "trtllm", IDS, ALWAYS)
    with pytest.raises(LlmFailed, match=r"no answer from the language model server at http://127\.0\.0\.1:9"):
        nobody.warm_up()


def test_every_token_of_a_model_that_samples_itself_is_counted(server: Server) -> None:
    server.events = spoken(104, 100, 109)
    model, seen = llm(server), list[int]()
    model.count(lambda: seen.append(1))
    assert decode(model) == [4, 0, 9] and len(seen) == 3


def test_text_in_pieces_is_refused(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="target_text: comes in pieces; the engine of the language model takes"):
        llm(server).session()


def test_address_and_engine_must_be_known() -> None:
    with pytest.raises(ConfigError, match="engine 'vlm'; there are trtllm, vllm"):
        ServedLlm("http://x:1", "vlm", IDS, ALWAYS)
    with pytest.raises(ConfigError, match=r"address is '\$\{TRITONE_LLM_URL\}'; it looks like http://host:port"):
        ServedLlm("${TRITONE_LLM_URL}", "trtllm", IDS, ALWAYS)


def test_folder_without_the_model_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"ids\.json does not exist; run: tritone build --target gpu"):
        served_llm(tmp_path, "http://x:1", "trtllm")
    folder = tmp_path / "llm" / "huggingface"
    folder.mkdir(parents=True)
    (folder / "ids.json").write_text(json.dumps(IDS))
    with pytest.raises(ArtifactError, match=r"request\.json does not exist"):
        served_llm(tmp_path, "http://x:1", "trtllm")
    (folder / "request.json").write_text(json.dumps(ALWAYS))
    assert served_llm(tmp_path, "http://x:1", "trtllm").segments == IDS["segments"]


def test_the_llm_step_speaks_the_servers_tokens(server: Server, tiny_v2: Path, tmp_path: Path) -> None:
    """The package as it is exported, the step as the server runs it, and between them nothing but HTTP."""
    family = open_family(tiny_v2)
    assert family.causal_lm is not None and family.causal_lm.huggingface is not None
    export_llm(family.causal_lm, tmp_path / "llm" / "huggingface")
    layout = family.causal_lm.huggingface()
    server.events = spoken(*(layout.first + code for code in (7, 3, 3, 11)))
    served = served_llm(tmp_path, f"http://127.0.0.1:{server.server_port}", "vllm")
    request = {
        "text_token": np.array([[5, 6, 9]]),
        "source_token": np.zeros((1, 0), np.int64),
        "segment_len": np.array([[1, 2]]),
        "prompt_text_token": np.zeros((1, 0), np.int64),
        "llm_prompt_speech_token": np.zeros((1, 0), np.int64),
        "seed_used": np.array([[1]]),
    }
    host = next(host for host in family.hosts if host.name == "llm")
    (result,) = host.run(None, served, [request])
    assert result["speech_token"].tolist() == [[7, 3, 3, 11] * 2]
    first, second = server.bodies
    vocabulary = Vocabulary(family.causal_lm.vocabulary)
    assert first["prompt"] == layout.ids(vocabulary.prompt([5]))
    assert second["prompt"] == layout.ids(vocabulary.prompt([6, 9]))
    assert first["seed"] != second["seed"], "segments have draws of their own"
    assert first["stop_token_ids"] == [layout.first + stop for stop in family.causal_lm.limits["stop_ids"]]
    assert set(first["logit_bias"]) == {str(layout.first + i) for i in range(layout.rows)}
