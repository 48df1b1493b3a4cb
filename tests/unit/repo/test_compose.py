"""Containers, as far as files can be checked without an engine to run them: pins, ports, paths, commands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tritone
from tritone import serve
from tritone.build.layout import llm_key
from tritone.build.targets import HUGGINGFACE
from tritone.export import build_engines
from tritone.lm.served import ENGINES
from tritone.supervisor.locate import Ports

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
TARGETS = ("cpu", "gpu")
KEYS = {
    "profiles", "image", "build", "command", "environment", "ports", "networks", "volumes", "depends_on", "deploy",
    "shm_size", "cap_drop", "security_opt", "init", "stop_grace_period", "restart", "healthcheck",
}  # fmt: skip
sys.path.insert(0, str(ROOT / "docker"))


def words(service: dict[str, Any]) -> list[str]:
    return [str(word) for word in service.get("command", [])]


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def starts(path: Path) -> list[str]:
    """Return the words of the command a container of the Dockerfile runs."""
    command = yaml.safe_load(dict(instructions(path))["CMD"])
    assert command[:2] == ["sh", "-c"]
    return shlex.split(command[2].replace("${CHECKPOINT}", "checkpoints/nano"))


def test_services_are_written_in_composes_own_words() -> None:
    assert set(COMPOSE) == {"services", "volumes"}
    assert {name: set(service) - KEYS for name, service in SERVICES.items() if set(service) - KEYS} == {}
    for service in SERVICES.values():
        assert set(service["profiles"]) <= set(TARGETS)
        for other, condition in service.get("depends_on", {}).items():
            assert condition["condition"] in ("service_completed_successfully", "service_healthy")
            assert set(service["profiles"]) <= set(SERVICES[other]["profiles"]), "a profile would lack a service"
            if condition["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]


@pytest.mark.parametrize("target", TARGETS)
def test_each_profile_has_its_server_and_metrics(target: str) -> None:
    running = {name for name, service in SERVICES.items() if target in service["profiles"]}
    assert {target, "metrics"} <= running
    published = [port.split(":")[1] for name in running for port in SERVICES[name].get("ports", [])]
    assert len(published) == len(set(published)), "two services want one port"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    tag = image.rsplit(":", 1)[1]
    assert re.search(r"\d+\.\d+", tag) and "latest" not in tag
    if "build" in SERVICES[name]:
        assert tag.startswith(f"{tritone.__version__}-")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_base_images_and_packages_are_pinned(path: Path) -> None:
    found = instructions(path)
    bases = [argument for instruction, argument in found if instruction == "FROM"]
    assert bases and all(re.search(r":\d+\.\d+[\w.-]*$", base) for base in bases)
    arguments = dict(argument.split("=", 1) for instruction, argument in found if instruction == "ARG")
    for instruction, argument in found:
        if instruction == "RUN" and "pip install" in argument:
            packages = [
                word for word in shlex.split(argument.split("pip install")[1]) if not word.startswith(("-", "http"))
            ]
            for package in packages:
                pinned = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], package)
                assert pinned.startswith(".[") or re.search(r"==\d+(\.\d+){2}", pinned), package


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_everything_a_dockerfile_copies_exists(path: Path) -> None:
    for instruction, argument in instructions(path):
        if instruction == "COPY":
            *sources, _ = argument.replace("${CHECKPOINT}", "checkpoints/nano").split()
            assert [source for source in sources if not (ROOT / source).exists()] == []


def test_extras_a_dockerfile_installs_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in DOCKERFILES:
        asked = re.findall(r"'\.\[([\w,-]+)\]'", path.read_text())
        assert asked and {extra for names in asked for extra in names.split(",")} <= set(extras)


def test_every_file_the_services_name_exists() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], volume


@pytest.mark.parametrize("target", TARGETS)
def test_ports_are_the_servers(target: str) -> None:
    ports = [str(port) for port in vars(Ports()).values()]
    assert SERVICES[target]["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]
    dockerfile = dict(instructions(ROOT / SERVICES[target]["build"]["dockerfile"]))
    assert dockerfile["EXPOSE"].split() == ports
    assert f"ready({ports[0]})" in dockerfile["HEALTHCHECK"]
    scraped = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())["scrape_configs"]
    addresses = [address for job in scraped for group in job["static_configs"] for address in group["targets"]]
    assert f"tritone:{ports[2]}" in addresses
    assert SERVICES[target]["networks"]["default"]["aliases"] == ["tritone"]


def test_nothing_is_published_beyond_this_machine() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_containers_do_not_run_as_root(path: Path) -> None:
    found = [instruction for instruction, _ in instructions(path)]
    assert dict(instructions(path))["USER"] == "tritone"
    assert "RUN" not in found[found.index("USER") :], "the image is complete before it gives up its rights"


@pytest.mark.parametrize("target", TARGETS)
def test_servers_have_no_capabilities_and_gain_none(target: str) -> None:
    assert SERVICES[target]["cap_drop"] == ["ALL"]
    assert SERVICES[target]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("target", TARGETS)
def test_containers_start_the_server_of_their_target(target: str) -> None:
    command = starts(ROOT / SERVICES[target]["build"]["dockerfile"])
    assert command[0] == "exec" and command[2:4] == ["-m", "tritone.serve"]
    args = serve.parse(command[4:])
    assert (args.target, args.host) == (target, "0.0.0.0")
    assert Ports(args.http_port, args.grpc_port, args.metrics_port) == Ports()


def test_engines_are_built_by_the_same_command_into_what_the_server_reads() -> None:
    command = words(SERVICES["engines"])
    assert command[:2] == ["python3", "export/build_engines.py"]
    args = build_engines.parse(command[2:])
    assert args.target == "gpu"
    served = serve.parse(starts(ROOT / SERVICES["gpu"]["build"]["dockerfile"])[4:])
    assert args.model_dir == served.checkpoint
    assert args.out == Path("build") / served.checkpoint.name
    assert SERVICES["engines"]["volumes"] == SERVICES["gpu"]["volumes"] == ["engines:/opt/tritone/build"]
    assert SERVICES["engines"]["image"] == SERVICES["gpu"]["image"]


def test_language_model_is_what_was_built_and_where_the_server_asks() -> None:
    command, environment = words(SERVICES["llm"]), SERVICES["gpu"]["environment"]
    port = next(word.split("=")[1] for word in command if word.startswith("--port="))
    assert environment["TRITONE_LLM_URL"] == f"http://llm:{port}"
    assert environment["TRITONE_LLM_ENGINE"] in ENGINES and command[0] == "trtllm-serve"
    assert command[1] == f"/build/nano/{llm_key(HUGGINGFACE)}"
    assert f"--extra_llm_api_options={command[1]}/trtllm.yaml" in command
    assert SERVICES["llm"]["volumes"] == ["engines:/build:ro"]


def test_nothing_is_fetched_when_a_container_starts() -> None:
    fetching = re.compile(r"\b(pip|git|apt-get|apt|curl|wget|uv|conda)\b")
    texts = [" ".join(words(service)) for service in SERVICES.values()]
    texts += [dict(instructions(path))["CMD"] for path in DOCKERFILES]
    assert [text for text in texts if fetching.search(text)] == []


def test_another_tensorrt_than_the_servers_is_told_while_building(tmp_path: Path) -> None:
    from same_tensorrt import library, problem, version_text

    assert version_text(110201) == "11.2.1" and version_text(101602) == "10.16.2"
    assert problem("11.2.1.2", "11.2.1") == ""
    assert "the tensorrt package is 11.4.0.9, the server's TensorRT is 11.2.1; build with" in problem(
        "11.4.0.9", "11.2.1"
    )
    with pytest.raises(SystemExit, match=r"no libnvinfer\.so in .*; is this a tritonserver image"):
        library((str(tmp_path),))
    (tmp_path / "libnvinfer.so.11").touch()
    assert library((str(tmp_path),)) == tmp_path / "libnvinfer.so.11"
