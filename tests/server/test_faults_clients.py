"""Clients that stop reading, leave, and come all at once: nobody else notices, and nothing stays behind."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.faults import LONG, SENTENCE, Belongings, Talk, client_of, good_request, inside, own_server, until
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from tritone.client.errors import ServerBusy, SpeechError
from tritone.supervisor.service import Service

READERS = 8
UNREAD = 128 << 10
"""Bytes that a client may leave unread in this test; the default is 2 MiB, some twenty seconds of speech."""


@pytest.fixture(scope="module")
def service(checkpoint: Path) -> Iterator[Service]:
    """A server of this file's own."""
    with own_server(checkpoint, "--streams=6") as running:
        for talk in [Talk(whole, running).start() for whole in (True, False)]:
            talk.end()
        yield running


def spoken(text: str, model: str) -> pb.ModelInferRequest:
    """Return a request to speak a text."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="target_text", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(len(text).to_bytes(4, "little") + text.encode())
    return request


class StuckReader:
    """A client that reads one chunk of a long stream, and no more."""

    def __init__(self, service: Service) -> None:
        # A small window: what the client's own library would take without being asked.
        options = [("grpc.http2.lookahead_bytes", 65536), ("grpc.http2.bdp_probe", 0)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{service.ports.grpc}", options=options)
        self._requests: queue.Queue[Any] = queue.Queue()
        self._requests.put(spoken(" ".join([SENTENCE] * 40), "cosyvoice2_stream"))
        self._call = rpc.GRPCInferenceServiceStub(self._channel).ModelStreamInfer(iter(self._requests.get, None))
        self.first = next(self._call)

    def leave(self) -> None:
        """Leave without a word."""
        self._call.cancel()
        self._channel.close()


def test_readers_that_stop_hold_up_only_themselves(service: Service) -> None:
    before = Belongings.of(service)
    desk = service.door._desk
    assert desk is not None
    desk.limits = replace(desk.limits, unread_bytes=UNREAD)
    readers: list[StuckReader] = []
    while len(readers) < READERS:  # those beyond what the machine carries get in as the others are paused
        reader = StuckReader(service)
        if "BUSY" in reader.first.error_message:
            reader.leave()
            time.sleep(0.2)
            continue
        readers.append(reader)
    until(lambda: desk.count("stream", paused=True) == READERS, "the pause of every stream nobody reads")
    good_request(service)
    now = Belongings.of(service)
    assert now.resident - before.resident < READERS * (80 << 20), "what nobody reads is bounded"
    for reader in readers:
        reader.leave()
    before.check(service, more_resident=READERS * (60 << 20))
    good_request(service)


def test_a_storm_of_cancellations_leaves_nothing_behind(service: Service) -> None:
    before = Belongings.of(service)
    rng = random.Random(0)

    def leave_soon(number: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{service.ports.grpc}") as channel:
            triton = rpc.GRPCInferenceServiceStub(channel)
            for _ in range(10):
                if number % 2:
                    call: Any = triton.ModelInfer.future(spoken(LONG, "cosyvoice2"))
                else:
                    call = triton.ModelStreamInfer(iter([spoken(LONG, "cosyvoice2_stream")]))
                time.sleep(rng.choice([0, 0.01, 0.05, 0.3]))
                call.cancel()

    threads = [threading.Thread(target=leave_soon, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before.check(service)
    good_request(service)


def test_a_short_request_passes_a_long_one_that_was_abandoned(service: Service) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{service.ports.grpc}") as channel:
        triton = rpc.GRPCInferenceServiceStub(channel)
        for _ in range(6):
            with pytest.raises(grpc.RpcError):
                triton.ModelInfer(spoken(" ".join([SENTENCE] * 20), "cosyvoice2"), timeout=0.3)
    good_request(service)
    until(lambda: inside(service) == 0, "the end of the abandoned work")


def test_all_at_once_some_are_served_and_the_others_told_at_once(service: Service) -> None:
    before = Belongings.of(service)
    results: list[tuple[float, int]] = []
    refused: list[str] = []

    def ask() -> None:
        try:
            with client_of(service) as client:
                began = time.monotonic()
                samples = sum(chunk.size for chunk in client.stream(LONG))
            results.append((time.monotonic() - began, samples))
        except ServerBusy as error:
            refused.append(str(error))
        except SpeechError as error:
            raise AssertionError(f"neither served nor busy: {error}") from error

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) + len(refused) == 32 and results and refused
    assert all("as many as this machine carries in real time" in sentence for sentence in refused)
    before.check(service, more_resident=len(results) * (80 << 20))
