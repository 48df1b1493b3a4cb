"""Every endpoint of Triton is asked for from outside, and exactly those of docs/security.md answer."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from tritone.supervisor.processes import children
from tritone.supervisor.service import Service

MODEL = "/v2/models/cosyvoice2"
OPEN_HTTP = {
    ("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready"), ("GET", MODEL), ("GET", f"{MODEL}/ready"),
    ("GET", f"{MODEL}/config"), ("GET", f"{MODEL}/stats"), ("GET", f"{MODEL}/versions/1"), ("GET", "/v2/models/stats"),
    ("GET", f"{MODEL}/versions/1/ready"), ("GET", f"{MODEL}/versions/1/config"), ("GET", f"{MODEL}/versions/1/stats"),
    ("POST", "/v2/repository/index"), ("POST", f"{MODEL}/infer"), ("POST", f"{MODEL}/generate"),
    ("POST", f"{MODEL}/generate_stream"), ("POST", f"{MODEL}/versions/1/infer"),
    ("POST", f"{MODEL}/versions/1/generate"), ("POST", f"{MODEL}/versions/1/generate_stream"),
}  # fmt: skip
SHARED = ("systemsharedmemory", "cudasharedmemory")
CLOSED_HTTP = {
    *(("GET", f"/v2/{kind}/status") for kind in SHARED),
    *(("GET", f"/v2/{kind}/region/x/status") for kind in SHARED),
    *(("POST", f"/v2/{kind}/region/x/register") for kind in SHARED),
    *(("POST", f"/v2/{kind}/unregister") for kind in SHARED),
    *((method, f"{place}/trace/setting") for method in ("GET", "POST") for place in ("/v2", MODEL)),
    ("GET", "/v2/logging"), ("POST", "/v2/logging"),
    ("POST", "/v2/repository/models/cosyvoice2/load"), ("POST", "/v2/repository/models/cosyvoice2/unload"),
    ("POST", "/v2/repository/other/index"), ("GET", "/metrics"), ("GET", "/"), ("GET", "/v2/models/cosyvoice2_llm"),
    ("GET", "/v2/models/cosyvoice2_llm/config"), ("POST", "/v2/models/cosyvoice2_llm/infer"), ("GET", "/invocations"),
    ("GET", "/ping"), ("PUT", MODEL), ("DELETE", MODEL), ("GET", f"{MODEL}/../cosyvoice2_llm"), ("TRACE", "/v2"),
}  # fmt: skip
OPEN_GRPC = {
    "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics",
    "RepositoryIndex", "ModelInfer", "ModelStreamInfer",
}  # fmt: skip


def status(service: Service, method: str, path: str) -> int:
    """Return the HTTP status of a request with an empty JSON body."""
    connection = http.client.HTTPConnection("127.0.0.1", service.ports.http, timeout=60)
    try:
        connection.request(method, path, body=b"{}" if method == "POST" else None)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "path"), sorted(OPEN_HTTP))
def test_open_endpoints_answer_over_http(server: Service, method: str, path: str) -> None:
    # A request to speak without an input is a mistake of the client's, which the model names.
    assert status(server, method, path) == (400 if path.endswith(("infer", "generate", "generate_stream")) else 200)


@pytest.mark.parametrize(("method", "path"), sorted(CLOSED_HTTP))
def test_every_other_endpoint_of_triton_is_closed_over_http(server: Service, method: str, path: str) -> None:
    assert status(server, method, path) in (403, 404, 405)


def test_exactly_the_listed_calls_are_open_over_grpc(server: Service) -> None:
    calls = {name for name in dir(rpc.GRPCInferenceServiceServicer) if not name.startswith("_")}
    found = set()
    with grpc.insecure_channel(f"127.0.0.1:{server.ports.grpc}") as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)
        for name in calls:
            try:
                if name == "ModelStreamInfer":
                    list(stub.ModelStreamInfer(iter([]), timeout=60))
                else:
                    request = "ModelInfer" if name == "ModelInfer" else name
                    getattr(stub, name)(getattr(pb, f"{request}Request")(), timeout=60)
                found.add(name)
            except grpc.RpcError as error:
                if error.code().name not in ("PERMISSION_DENIED", "UNIMPLEMENTED"):
                    found.add(name)  # open: it complains about the request
    assert found == OPEN_GRPC


def test_the_server_listens_on_its_three_ports_and_nowhere_else(server: Service) -> None:
    """No process of the server has another listening socket, and none beyond this machine."""
    assert server.triton.process is not None
    processes = [server.triton.process.pid, *children(server.triton.process.pid)]
    inodes = {
        match[1]
        for pid in processes
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.fullmatch(r"socket:\[(\d+)\]", link.readlink().name))
    }
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and fields[9] in inodes
    ]
    assert listening == [], "Triton and its models have no port"
    for port in vars(server.ports).values():
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass


def test_only_this_user_can_enter_the_folder_of_sockets(server: Service) -> None:
    assert server.triton.run.path.stat().st_mode & 0o777 == 0o700
