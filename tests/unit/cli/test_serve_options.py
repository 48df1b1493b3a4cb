"""Options of `tritone serve` for the front door and for Triton itself."""

from __future__ import annotations

import pytest

from tritone.cli.serve_options import OWN, limits_of, parse, tls_of, triton_options
from tritone.door.limits import Limits
from tritone.errors import ConfigError, EnvironmentProblem
from tritone.serve import parameters


def test_limits_are_those_of_the_door_unless_options_change_them() -> None:
    assert limits_of(parse(["voice"])) == Limits()
    limits = limits_of(parse(["voice", "--streams", "3", "--max-request-mb", "2"]))
    assert (limits.streams, limits.request_bytes) == (3, 2 << 20)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "٣"])
def test_numbers_below_one_are_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["voice", f"--streams={value}"])
    assert "is not a whole number above zero" in capsys.readouterr().err


def test_tritons_own_options_are_handed_through() -> None:
    args = parse(["voice", "--triton", "log-verbose=1", "--triton=--trace-config=mode=opentelemetry"])
    assert triton_options(args) == {"log-verbose": "1", "trace-config": "mode=opentelemetry"}


@pytest.mark.parametrize("name", OWN)
def test_options_that_would_open_triton_or_move_it_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--triton {name}: tritone serve sets this option itself"):
        triton_options(parse(["voice", "--triton", f"{name}=1"]))


def test_device_dtype_and_attention_become_parameters_of_the_models() -> None:
    assert parameters(parse(["voice"])) == parameters(parse(["voice", "--engine", "onnx"])) == {}
    chosen = parameters(parse(["voice", "--engine=torch", "--dtype=bfloat16", "--attention=auto"]))
    assert chosen == {"stages": "torch", "dtype": "bfloat16", "attention": "auto"}
    for options, message in {
        ("--dtype=bfloat16",): "dtype bfloat16 was asked for with engine onnxruntime, which runs exported files",
        ("--target=gpu", "--attention=sdpa"): "attention sdpa was asked for with engine tensorrt",
        ("--engine=torchscript", "--dtype=float16"): "dtype float16 was asked for with engine torchscript",
        ("--target=gpu", "--device=cuda:1"): "--device cuda:1 was asked for on the gpu target, .* leave it out",
        ("--device=cuda",): "engine onnxruntime was asked for on cuda; here it computes on the CPU",
        ("--engine=torch", "--device=tpu"): "unknown device 'tpu'; there are cpu, cuda, and cuda:1",
    }.items():
        with pytest.raises(ConfigError, match=message):
            parameters(parse(["voice", *options]))


def test_an_option_needs_a_value_and_tls_both_files() -> None:
    with pytest.raises(ConfigError, match="give an option and its value"):
        triton_options(parse(["voice", "--triton", "log-verbose"]))
    with pytest.raises(EnvironmentProblem, match="needs both a certificate and its key"):
        tls_of(parse(["voice", "--tls-key", "key.pem"]))
