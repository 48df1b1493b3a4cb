"""The sentence shown for a server that did not start: the first real error of its log."""

from __future__ import annotations

import pytest

from tritone.server.launch import explain

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
