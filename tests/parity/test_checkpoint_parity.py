"""Every stage and the language model of real checkpoints, exported and compared with torch at three sizes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tritone.build.layout import llm_path, stage_path
from tritone.catalog import open_family
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import TorchCall, torch_call
from tritone.export.to_genai import export_llm
from tritone.export.to_onnx import export_stage
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
    """A checkpoint, its stages in torch, and the folder they are exported to."""

    family: Family
    reference: TorchCall
    folder: Path


@pytest.fixture(scope="module", params=NAMES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = NANO if request.param == "nano" else request.getfixturevalue(request.param)
    family = open_family(folder)
    return Exported(family, torch_call(family.stages), tmp_path_factory.mktemp("build"))


def test_every_stage_with_a_module_is_checked(exported: Exported) -> None:
    assert tuple(stage.name for stage in exported.family.stages if stage.build is not None) == STAGES


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STAGES)
def test_three_point_parity(exported: Exported, name: str) -> None:
    stage = exported.family.stage(name)
    export_stage(stage, stage_path(exported.folder, name), exported.reference.module(name))
    engine = onnx_call(exported.folder, [stage])
    seed = int(time.time())
    rows = list(compare_stage(stage, exported.reference, engine, "onnx fp32", seed))
    assert [row.point for row in rows] == [point for point, _ in points(stage)] == ["smallest", "usual", "largest"]
    assert all(row.passed for row in rows), f"seed {seed}\n{table(rows)}"


def llm_rows(exported: Exported, precision: str) -> list[Row]:
    llm = exported.family.causal_lm
    assert llm is not None
    export_llm(llm, llm_path(exported.folder, precision), precision)
    with genai_sessions(exported.folder, precision)() as session:
        return compare_genai(llm, session, precision, int(time.time()))


def test_language_model_logits_in_fp32(exported: Exported) -> None:
    (row,) = llm_rows(exported, "fp32")
    assert row.tolerance == 1e-3 and row.passed, table([row])


def test_the_language_model_in_int8_chooses_the_same_speech(exported: Exported) -> None:
    rows = llm_rows(exported, "int8")
    assert [row.point for row in rows] == ["logits", "divergence", "other choice"]
    assert all(row.passed and row.sizes == {"texts": 2, "steps": 130} for row in rows), table(rows)


def test_the_engine_decodes_what_the_reference_session_decodes(exported: Exported) -> None:
    """The torch session embeds each kind of id from its own table: it shares nothing with the merged vocabulary."""
    from tritone.families.cosyvoice.lm.v2.session import TorchSession

    llm = exported.family.causal_lm
    assert llm is not None
    if not llm_path(exported.folder, "fp32").is_dir():
        export_llm(llm, llm_path(exported.folder, "fp32"), "fp32")
    reference = TorchSession(llm.build())
    prompt = [llm.vocabulary, *range(llm.vocabulary + 2, llm.vocabulary + 12), llm.vocabulary + 1, 5, 17]
    with genai_sessions(exported.folder, "fp32")() as session:
        wanted, found = [reference.prefill(prompt)], [session.prefill(prompt)]
        for token in (0, 6560, 3, 3, 1200):
            wanted.append(reference.step(token))
            found.append(session.step(token))
    np.testing.assert_allclose(found, wanted, atol=1e-3 * float(np.abs(wanted).max()))
