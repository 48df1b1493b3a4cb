"""The sentence shown for a server that ended: what its exit status means, then the first real error of its log."""

from __future__ import annotations

import pytest

from tritone.supervisor.reasons import ending, explain, last_words

MODEL_RAISED = r"""I1121 10:57:08.6 1 server.cc:1] "fine"
E1121 11:11:12.573192 3640 server.cc:241] "CudaDriverHelper has not been initialized."
E1121 11:11:13.4 3640 backend_model.cc:692] "ERROR: Failed to create instance: ArtifactError: x.onnx\n\nAt:\n  m.py(6)\n"
E1121 11:11:13.4 3640 model_lifecycle.cc:642] "failed to load 'b' version 1: Internal: ArtifactError: x.onnx is missing\n\nAt:\n  model.py(6): initialize\n"
E1121 11:11:13.4 3640 model_repository_manager.cc:703] "Invalid argument: ensemble 'e' depends on 'b'"
"""  # noqa: E501


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (MODEL_RAISED, "model b did not load: ArtifactError: x.onnx is missing"),
        ("tritonserver: option '--x' doesn't allow an argument\nUsage: ...\n", "tritonserver: option '--x'"),
        ('E1121 10:57:08.6 7 server.cc:2] "CudaDriverHelper"\nE1121 1:2:3 7 a.cc:5] "no space"\n', "no space"),
        ("", "its log is empty"),
        ("tritonserver: error while loading shared libraries: libx.so\n", "error while loading shared libraries"),
    ],
)
def test_the_first_real_error_is_found(log: str, sentence: str) -> None:
    assert sentence in explain(log)


HEALTHY = """E1126 00:36:48.450089 17951 server.cc:241] "CudaDriverHelper has not been initialized."
I1126 00:36:52.532036 17951 model_lifecycle.cc:472] "loading: cosyvoice2:1"
E1126 00:36:52.5 17951 ensemble_scheduler.cc:1468] "unable to create stream for cosyvoice2: CUDA driver version is insufficient for CUDA runtime version"
+------------------+------+
| Repository Agent | Path |
+------------------+------+

I1126 00:36:53.8 17951 grpc_server.cc:2558] "Started GRPCInferenceService at 127.0.0.1:8001"
"""  # noqa: E501


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (-9, "was killed (signal 9), often because the machine or its container had no memory left; `dmesg` says so"),
        (-11, "was ended by a segmentation fault (signal 11); its log ends with: loading: cosyvoice2:1 / Started"),
        (-6, "was ended by an abort (signal 6); its log ends with"),
        (-15, "was stopped by SIGTERM (signal 15), which another program sent"),
        (-40, "was ended by a signal (signal 40)"),
        (1, "stopped with code 1: its log has no error; it ends with: loading: cosyvoice2:1 / Started"),
    ],
)
def test_the_exit_status_is_the_reason_when_the_log_has_only_what_every_healthy_one_has(
    status: int, sentence: str
) -> None:
    said = ending(status, HEALTHY)
    assert said.startswith(sentence)
    assert "CUDA" not in said


def test_an_error_of_the_log_is_given_for_a_plain_exit() -> None:
    assert ending(1, HEALTHY + MODEL_RAISED) == (
        "stopped with code 1: model b did not load: ArtifactError: x.onnx is missing"
    )


def test_last_words_leave_out_tables_times_and_empty_logs() -> None:
    assert last_words(HEALTHY).endswith("Started GRPCInferenceService at 127.0.0.1:8001")
    assert "+--" not in last_words(HEALTHY)
    assert last_words("") == "nothing"
