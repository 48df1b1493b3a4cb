"""The `tritone` command: its list, its messages, what it imports, and the functions it calls."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritone import cli, serve
from tritone.cli import bench, checkout, convert, say, voices
from tritone.cli.parser import Parser, option_strings
from tritone.errors import ConfigError

ROOT = Path(__file__).parents[3]
NANO = str(ROOT / "checkpoints" / "nano")
PARSERS = {
    "say": say.command_line,
    "build": import_module("tritone.export.build_engines").command_line,
    "parity": import_module("tritone.parity.check_build").command_line,
}


def test_help_lists_every_command_in_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in cli.COMMANDS.items():
        assert f"  {name:8} {command.help}" in lines and len(command.help) < 80
    assert list(cli.COMMANDS) == ["say", "serve", "check", "build", "parity", "voices", "train", "convert", "bench"]
    assert cli.main([]) == 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["bild"], ["voices", "--help"], ["convert"]])
def test_only_the_chosen_command_is_imported(arguments: list[str]) -> None:
    code = (
        "import sys; from tritone.cli import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'tritonclient'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=True, capture_output=True)


def test_the_command_line_names_no_family() -> None:
    for path in (ROOT / "tritone" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not any("families" in str(name) for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bild"], "error: unknown command bild; did you mean build?\nSee tritone --help"),
        (["xyz"], "error: unknown command xyz\n"),
        (["--hepl"], "error: unknown option --hepl; did you mean --help?"),
        (["convert", "huggingfase"], "error: unknown conversion huggingfase; did you mean huggingface?"),
        (["bench", "laod"], "error: unknown benchmark laod; did you mean load?"),
    ],
)
def test_a_misspelt_name_gets_the_nearest_one(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["build", NANO, "--tagret", "cpu"],
            "unknown option --tagret; did you mean --target?\nSee tritone build --help",
        ),
        (["build", "--tagret=cpu"], "unknown option --tagret; did you mean --target?"),
        (["serve", NANO, "--enigne", "onnx"], "unknown option --enigne; did you mean --engine?"),
        (["check", "--zzz"], "unknown option --zzz\n"),
        (["parity", NANO, "--fomats", "onnx"], "unknown option --fomats; did you mean --formats?"),
        (["say", "hello", "--speeker", "rms"], "unknown option --speeker; did you mean --speaker"),
        (["convert", "huggingface", NANO, "--dtpe", "x"], "unknown option --dtpe; did you mean --dtype?"),
        (["build"], "give one checkpoint directory, such as checkpoints/nano"),
        (["build", NANO, "--model-dir", NANO], "give one checkpoint directory"),
        (["build", NANO, "--target", "tpu"], "argument --target: invalid choice: 'tpu' (choose from 'cpu', 'gpu')"),
    ],
)
def test_wrong_options_exit_with_status_2_and_a_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_options_of_subcommands_and_of_other_commands_are_not_refused() -> None:
    parser = Parser(prog="toy")
    parser.add_argument("--run", nargs="...")
    add = parser.add_subparsers().add_parser("add")
    add.add_argument("--wav")
    assert "--wav" in option_strings(parser)[0]
    assert parser.parse_args(["add", "--wav", "x"]).wav == "x"
    assert parser.parse_args(["--run", "client", "--speed", "2"]).run == ["client", "--speed", "2"]


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_has_a_help_text_with_its_default(name: str) -> None:
    parser = PARSERS[name]()
    text = " ".join(parser.format_help().split())
    for action in parser._actions:
        assert action.help, f"tritone {name}: {action.option_strings or action.dest} has no help text"
        if action.option_strings and action.default not in (None, False, [], "", "==SUPPRESS=="):
            assert "default" in (parser._get_formatter()._get_help_string(action) or "")
    assert f"usage: tritone {name}" in text


def test_say_starts_a_server_and_hands_the_rest_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(serve, "main", lambda arguments: started.append(arguments) or 0)
    options = ["--checkpoint", NANO, "--grpc-port", "9001", "--speaker", "rms", "-o", "x.wav"]
    assert cli.main(["say", "Good morning.", *options]) == 0
    line = started[0]
    own, client = line[: line.index("--run")], line[line.index("--run") + 1 :]
    assert own == [NANO, "--http-port=8000", "--grpc-port=9001", "--metrics-port=8002"]
    assert client[1:3] == ["-m", "tritone.client.command"]
    words = ["Good morning.", "--speaker", "rms", "-o", "x.wav", "--model", "cosyvoice2", "--url", "127.0.0.1:9001"]
    assert client[3:] == words
    assert cli.main(["say", "Hi.", "--checkpoint", NANO, "--http", "--model", "mine"]) == 0
    assert started[1][-5:] == ["--http", "--model", "mine", "--url", "127.0.0.1:8000"]


def test_say_with_a_url_is_a_client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from tritone.client import command as client

    spoken: list[list[str]] = []
    monkeypatch.setattr(client, "main", lambda arguments: spoken.append(arguments) or 0)
    monkeypatch.setattr(serve, "main", lambda _: pytest.fail("a server was started"))
    assert cli.main(["say", "Hi.", "--url", "voices.example:8001", "-o", "x.wav"]) == 0
    assert spoken == [["Hi.", "--url", "voices.example:8001", "-o", "x.wav"]]


def test_say_without_a_checkpoint_names_both_ways_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["say", "Hi.", "--checkpoint", str(tmp_path / "none"), "-o", "x.wav"]) == 1
    message = capsys.readouterr().err
    assert "none is not a directory" in message and "choose it with --checkpoint, or a running server with" in message


def test_voices_belong_to_the_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["voices", NANO, "list"]) == 0
    assert "rms\t" in capsys.readouterr().out
    (tmp_path / "config.json").write_text('{"model": {}, "data": {}}')
    assert cli.main(["voices", str(tmp_path), "list"]) == 1
    message = capsys.readouterr().err
    assert "is recognised by config.json with model and data, G_*.pth, which `voices` does not support; " in message
    assert "it supports checkpoints recognised by cosyvoice.yaml, cosyvoice2.yaml, cosyvoice3.yaml" in message
    assert voices.main([]) == 2


def test_conversions_are_the_same_functions_as_the_scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tritone.export import to_huggingface

    called: list[list[str]] = []
    monkeypatch.setattr(to_huggingface, "main", lambda arguments: called.append(arguments) or 0)
    assert cli.main(["convert", "huggingface", NANO, "--out", "x"]) == 0
    source = tmp_path / "G_5.pth"
    source.write_bytes(b"")
    monkeypatch.setattr(convert, "command_module", lambda folder, name: SimpleNamespace(main=lambda a: called.append(
        [str(folder), name, *a]) or 0))  # fmt: skip
    assert cli.main(["convert", "compress", str(source), "small", "--fp32"]) == 0
    assert called == [[NANO, "--out", "x"], [str(tmp_path), "compress", str(source), "small", "--fp32"]]
    assert cli.main(["convert", "compress", "--fp32"]) == 2


@pytest.mark.parametrize(("command", "folder"), [("train", "training"), ("bench", "benchmarks")])
def test_what_needs_the_checkout_says_so(
    command: str, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkout.checkout(folder) == ROOT
    monkeypatch.setattr(checkout.tritone, "__file__", str(tmp_path / "tritone" / "__init__.py"))
    with pytest.raises(ConfigError):
        checkout.checkout(folder)
    assert cli.main([command, "x"]) == 1
    message = capsys.readouterr().err
    assert f"error: this needs the folder {folder}/ of the source checkout" in message
    assert "clone the repository that this package was built from and run: pip install -e" in message


def test_benchmarks_are_listed_and_run_with_their_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--help"]) == 0
    assert "  stages " in capsys.readouterr().out
    ran: list[Any] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(bench.subprocess, "run", run)
    assert cli.main(["bench", "cosyvoice/streaming", "--limit", "1"]) == 3
    assert ran[0][1:] == [str(ROOT / "benchmarks" / "cosyvoice" / "streaming.py"), "--limit", "1"]
    assert cli.main(["train", "cosyvoice", "--smoke"]) == 3
    assert ran[1][1:] == ["-m", "training", "cosyvoice", "--smoke"]
