"""Every stage and the language model of real checkpoints, exported and compared with torch at three sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.exports import exported

from tritone.build.layout import llm_path
from tritone.catalog import open_family
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import TorchCall, torch_call
from tritone.export.to_genai import export_llm
from tritone.lm.genai import genai_sessions
from tritone.parity.compare import Row, compare_stage, points
from tritone.parity.quantised import compare_genai
from tritone.parity.report import table
from tritone.stage import Family

NANO = Path(__file__).parents[2] / "checkpoints" / "nano"
NAMES = ["tiny_v2", "tiny_v3"] + (["nano"] if (NANO / "cosyvoice2.yaml").is_file() else [])
STAGES = ("flow_encoder", "flow_encoder_chunk", "flow_estimator", "flow_estimator_chunk", "f0_predictor", "vocoder")


@dataclass
class Exported:
    """A checkpoint, its stages in torch, its build folder, and a folder for further language models."""

    name: str
    family: Family
    reference: TorchCall
    build: Path
    llm: Path


@pytest.fixture(scope="module", params=NAMES)
def checkpoint(
    request: pytest.FixtureRequest, complete: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    name = request.param
    folder = NANO if name == "nano" else complete(int(name[-1]))
    build = exported(folder, name if name == "nano" else f"tests-tiny-v{name[-1]}")
    family = open_family(folder)
    return Exported(name, family, torch_call(family.stages), build, tmp_path_factory.mktemp("llm"))


def test_every_stage_with_a_module_is_checked(checkpoint: Exported) -> None:
    assert tuple(stage.name for stage in checkpoint.family.stages if stage.build is not None) == STAGES


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STAGES)
def test_three_point_parity(checkpoint: Exported, name: str) -> None:
    stage = checkpoint.family.stage(name)
    engine = onnx_call(checkpoint.build, [stage])
    seed = int(time.time())
    # Nano has the networks of tiny_v2 and the same largest sizes.
    quick = checkpoint.name == "tiny_v2" and "nano" in NAMES
    rows = list(compare_stage(stage, checkpoint.reference, engine, "onnx fp32", seed, quick))
    assert [point for point, _ in points(stage)] == ["smallest", "usual", "largest"]
    assert [row.point for row in rows] == ["smallest", "usual", "largest"][: 2 if quick else 3]
    assert all(row.passed for row in rows), f"seed {seed}\n{table(rows)}"


def llm_rows(checkpoint: Exported, build: Path, precision: str) -> list[Row]:
    llm = checkpoint.family.causal_lm
    assert llm is not None
    with genai_sessions(build, precision)() as session:
        return compare_genai(llm, session, precision, int(time.time()))


def test_language_model_logits_in_fp32(checkpoint: Exported) -> None:
    assert checkpoint.family.causal_lm is not None
    export_llm(checkpoint.family.causal_lm, llm_path(checkpoint.llm, "fp32"), "fp32")
    (row,) = llm_rows(checkpoint, checkpoint.llm, "fp32")
    assert row.tolerance == 1e-3 and row.passed, table([row])


def test_the_language_model_in_int8_chooses_the_same_speech(checkpoint: Exported) -> None:
    rows = llm_rows(checkpoint, checkpoint.build, "int8")
    assert [row.point for row in rows] == ["logits", "divergence", "other choice"]
    assert all(row.passed and row.sizes == {"texts": 2, "steps": 130} for row in rows), table(rows)


def test_the_engine_decodes_what_the_reference_session_decodes(checkpoint: Exported) -> None:
    """The torch session embeds each kind of id from its own table: it shares nothing with the merged vocabulary."""
    from tritone.families.cosyvoice.lm.v2.session import TorchSession

    llm = checkpoint.family.causal_lm
    assert llm is not None
    if not llm_path(checkpoint.llm, "fp32").is_dir():
        export_llm(llm, llm_path(checkpoint.llm, "fp32"), "fp32")
    reference = TorchSession(llm.build())
    prompt = [llm.vocabulary, *range(llm.vocabulary + 2, llm.vocabulary + 12), llm.vocabulary + 1, 5, 17]
    with genai_sessions(checkpoint.llm, "fp32")() as session:
        wanted, found = [reference.prefill(prompt)], [session.prefill(prompt)]
        for token in (0, 6560, 3, 3, 1200):
            wanted.append(reference.step(token))
            found.append(session.step(token))
    np.testing.assert_allclose(found, wanted, atol=1e-3 * float(np.abs(wanted).max()))
