"""Serve a checkpoint on a real Triton server: `tritone serve checkpoints/nano`, or `python -m tritone.serve`.

Missing and stale artifacts are exported first. With `--check` every model is loaded, both entries speak once, and the
exit status is 0 if that worked. With `--run CMD ...` the command runs while the server is up (a server that already
serves this model is used), and its status is returned.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tritone.build import layout, manifest
from tritone.build.disk import in_words
from tritone.build.targets import Selection, for_target
from tritone.catalog import open_family
from tritone.cli.serve_options import FORMATS_ON_CPU, limits_of, tls_of, triton_options
from tritone.cli.serve_options import parse as parse
from tritone.engines import gpu
from tritone.engines.open import check_choices
from tritone.errors import ArtifactError, ConfigError, EnvironmentProblem, TritoneError
from tritone.load import check_choice, check_gpu
from tritone.server.repository import NOTHING, REPOSITORY, differences, render, write
from tritone.server.stage_models import link_plans
from tritone.stage import Family
from tritone.supervisor.health import ready, speak_stream, speak_whole
from tritone.supervisor.launch import Server
from tritone.supervisor.locate import Ports, complete_server
from tritone.supervisor.preflight import (
    check_ports,
    check_server,
    check_shared_memory,
    model_processes,
)
from tritone.supervisor.run_folder import RunFolder
from tritone.supervisor.served_checkpoint import PARAMETER, label, refuse_another
from tritone.supervisor.service import Service

GPU_OPTIONS = {"allow-gpu-metrics": "true", "rate-limit": "execution_count"}
"""Options of the server on a GPU: its rate limiter applies the resources in the stages' configs."""


def wanted(target: str, engine: str | None = None) -> Selection:
    """Return the artifacts that a server of the target loads on this machine.

    Args:
        engine: engine of the cpu target (default: onnxruntime); the gpu target always runs TensorRT.

    Raises:
        ConfigError: an engine was given for the gpu target.
        ArtifactError: the target needs TensorRT plans, and this machine cannot build those that Triton loads.
    """
    selection = for_target(target)
    if "tensorrt" not in selection.formats:
        return replace(selection, formats=FORMATS_ON_CPU[engine or "onnxruntime"])
    if engine:
        raise ConfigError(
            f"engine {engine} was asked for on the {target} target, whose stages are TensorRT plans; leave out "
            f"--engine, or choose --target cpu, which runs {', '.join(FORMATS_ON_CPU)}"
        )
    platform = gpu.target_platform()
    if platform.split()[0] != gpu.TENSORRT:
        raise ArtifactError(
            f"Triton loads plans of {gpu.TENSORRT}, but this machine has {platform}; serve it in the container: "
            "docker compose --profile gpu up --build"
        )
    return replace(selection, platform=platform)


def export_if_needed(
    family: Family,
    checkpoint: Path,
    build: Path,
    target: str = "cpu",
    engine: str | None = None,
    afresh: bool = False,
) -> None:
    """Export artifacts that are missing or stale, showing the exporter's progress.

    Args:
        afresh: read every byte of checkpoint and artifacts, also where size and time are as they were.
    """
    selection = wanted(target, engine)
    refuse_narrowed(build, checkpoint, selection)
    try:
        manifest.verify(build, family, checkpoint, selection, afresh)
        return
    except ArtifactError as error:
        first = not (build / manifest.MANIFEST).is_file()
        print(f"{build}: exporting ({'first use' if first else error})", file=sys.stderr, flush=True)
    command = [
        sys.executable,
        "-m",
        "tritone",
        "build",
        str(checkpoint),
        "--out",
        str(build),
        "--target",
        target,
        # The largest sizes take most of the time; the test suite checks them.
        "--quick",
        *(["--verify"] if afresh else []),
        *(["--formats", ",".join(selection.formats)] if engine else []),
    ]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise ArtifactError(f"the export stopped with status {status}; see the message above")
    manifest.verify(build, family, checkpoint, selection)


def refuse_narrowed(build: Path, checkpoint: Path, selection: Selection) -> None:
    """Raise ArtifactError if the build folder has plans of narrower sizes than the declared ones.

    A server takes requests of all declared sizes; plans that took long to compile are not replaced unasked.
    """
    if "tensorrt" not in selection.formats:
        return
    platforms = (entry.identity.platform for entry in manifest.read_manifest(build).values())
    sizes = sorted({platform.split()[3] for platform in platforms if len(platform.split()) > 3})
    if sizes:
        other = manifest.rebuild_command(checkpoint, build.with_name(f"{build.name}-served"), selection)
        raise ArtifactError(
            f"the plans in {build} were built with --profile {' and '.join(sizes)}; a server needs plans of all "
            f"declared sizes. These plans are of use to load_model(..., engine='tensorrt'). For a server run: {other}; "
            f"then serve with --build-dir {build.with_name(f'{build.name}-served')}"
        )


def start(args: argparse.Namespace, created: Callable[[Service], None] = lambda _: None) -> tuple[Family, Service]:
    """Return the family and its running, warmed-up server.

    Args:
        created: called with the server before it starts.
    """
    on_gpu = args.target == "gpu"
    home = complete_server("tensorrt") if on_gpu else None
    chosen = parameters(args)
    family = open_family(args.checkpoint, args.dtype, args.attention, args.device)
    ports = Ports(args.http_port, args.grpc_port, args.metrics_port)
    limits, tls = limits_of(args), tls_of(args)
    options = {**(GPU_OPTIONS if on_gpu else {}), **triton_options(args)}
    check_ports(ports, args.host)
    check_server(home)
    for warning in check_shared_memory(model_processes(render(family, args.target))):
        print(warning, file=sys.stderr, flush=True)
    build = (args.build_dir or layout.default_folder(args.checkpoint)).resolve()
    export_if_needed(family, args.checkpoint.resolve(), build, args.target, args.engine, args.verify)
    env = {
        "TRITONE_MODEL_DIR": str(args.checkpoint.resolve()),
        "TRITONE_BUILD_DIR": str(build),
        "TRITONE_THREADS": str(args.threads),
        "TRITONE_LLM_URL": args.llm_url,
        "TRITONE_LLM_ENGINE": args.llm_engine,
        "OMP_NUM_THREADS": str(args.threads),
        "OMP_WAIT_POLICY": "passive",
    }
    models = repository(family, args.target, build, chosen)
    server = Server(models, build, env, home, options, name=f"server-{args.http_port}")
    most = args.max_server_mb << 20
    said = {PARAMETER: label(family, args.checkpoint, build)}
    service = Service(family, server, ports, args.host, limits, tls, on_gpu, most, said, args.alias)
    created(service)
    return family, service.start(args.timeout, show)


def parameters(args: argparse.Namespace) -> dict[str, str]:
    """Return the parameters of the Python models that the options choose.

    Raises:
        ConfigError: engine, device, dtype and attention do not go together.
        EnvironmentProblem: the GPU is missing, or torch cannot use it.
    """
    engine = "tensorrt" if args.target == "gpu" else args.engine or "onnxruntime"
    check_choices(engine, args.dtype, args.attention)
    if args.device != "cpu" and args.target == "gpu":
        raise ConfigError(
            f"--device {args.device} was asked for on the gpu target, whose plans run on the GPU that Triton is given; "
            "leave it out, or choose --target cpu with --engine torch or torchscript"
        )
    if args.target != "gpu":
        check_gpu(engine, check_choice(engine, args.device, False))
    chosen = {"stages": args.engine or "", "device": args.device, "dtype": args.dtype, "attention": args.attention}
    return {name: value for name, value in chosen.items() if value not in ("", "cpu", "onnxruntime")}


def repository(family: Family, target: str, build: Path, chosen: Mapping[str, str] = NOTHING) -> Path:
    """Return the committed model repository if it fits the checkpoint, otherwise one rendered into the build folder.

    Plans lie beside their models' configs, so a repository with plans is always in the build folder.
    """
    files = render(family, target, chosen=chosen)
    folder = REPOSITORY / target
    if target == "gpu" or differences(files, folder):
        folder = build / "model_repository" / "_".join((target, *chosen.values())).replace(":", "")
        try:
            write(files, folder)
        except OSError:  # a build folder that is complete may be read-only
            folder = RunFolder().path / "model_repository"
            write(files, folder)
    if target == "gpu":
        link_plans(folder, family, build)
    return folder


def show(model: str, done: int, total: int) -> None:
    """Print one line of progress for each loaded model; on a terminal, rewrite a single line."""
    terminal = sys.stderr.isatty()
    clear, end = ("\033[K" if terminal else ""), ("\r" if terminal and done < total else "\n")
    print(f"{clear}[{done}/{total}] {model} loaded", end=end, file=sys.stderr, flush=True)


def check(family: Family, port: int, host: str = "127.0.0.1") -> None:
    """Speak one word through the ensemble and the streaming entry; raise TritoneError if either returns no audio."""
    for name, speak in ((family.name, speak_whole), (f"{family.name}_stream", speak_stream)):
        began = time.monotonic()
        samples = speak(port, name, host=host, further=family.trial)
        if samples == 0:
            raise TritoneError(f"{name} answered without audio")
        print(f"{name}: {samples} samples in {time.monotonic() - began:.2f} s", flush=True)


def run_command(command: Sequence[str]) -> int:
    """Run the command of `--run` and return its exit status."""
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        raise EnvironmentProblem(f"--run {command[0]} cannot be run: {error.strerror}") from error


def wait(service: Service) -> int:
    """Wait for a signal, or until the server cannot be mended any more, and return the exit status."""
    try:
        reason = service.ended.result()
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
        return 0
    print(f"error: {reason}", file=sys.stderr)
    return 1


class Signals:
    """Ends the server on SIGTERM and Ctrl-C; the first lets running requests end, the second ends all at once."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._stopping = False

    def created(self, service: Service) -> None:
        """Take note of the server that a second signal has to end."""
        self._service = service

    def __call__(self, number: int, _frame: object) -> None:
        """Handle a signal."""
        if not self._stopping:
            self._stopping = True
            raise KeyboardInterrupt
        if self._service is not None:
            self._service.kill()
        os._exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve and return the exit status."""
    args = parse(arguments)
    signals = Signals()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signals)
    try:
        if args.run and ready(args.http_port, args.host, (family := open_family(args.checkpoint)).name):
            build = args.build_dir or layout.default_folder(args.checkpoint)
            refuse_another(args.http_port, args.host, family.name, label(family, args.checkpoint, build))
            return run_command(args.run)
        began = time.monotonic()
        family, service = start(args, signals.created)
        with service:
            if args.check:
                check(family, args.http_port, args.host)
                return 0
            print(
                f"{family.name} and {family.name}_stream are ready after {time.monotonic() - began:.1f} s: "
                f"http {args.host}:{args.http_port}, grpc {args.host}:{args.grpc_port}, "
                f"metrics {args.host}:{args.metrics_port}/metrics; log {service.triton.log}",
                file=sys.stderr,
                flush=True,
            )
            return run_command(args.run) if args.run else wait(service)
    except KeyboardInterrupt:
        return 130
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {in_words(error, args.build_dir or layout.default_folder(args.checkpoint))}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
