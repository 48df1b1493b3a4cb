"""The rules of docs/architecture.md that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUDGETS = {"tritone/stage.py": 200, "tritone/server/glue.py": 80}
FORMATS = (
    *("to_torchscript", "to_onnx", "to_fp16", "to_genai", "to_tensorrt", "to_huggingface", "to_trtllm"),
    *("make_artifact", "build_engines", "fp16_rewriter", "fp16_rounding", "onnx_file", "onnx_graph", "to_2d"),
)
LARGEST = 400


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level and dotted module names a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize(("file", "lines"), BUDGETS.items())
def test_core_files_stay_small(file: str, lines: int) -> None:
    assert len((ROOT / file).read_text().splitlines()) <= lines


def test_no_source_file_outgrows_one_idea() -> None:
    folders = ("tritone", "export", "training", "client", "benchmarks", "model_repository", "tests")
    sizes = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for f in folders for p in sources(f)}
    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}


def test_exporters_stay_within_250_lines() -> None:
    sizes = {p.name: len(p.read_text().splitlines()) for p in sources("tritone/export")}
    assert len(sizes) > 10 and {name: size for name, size in sizes.items() if size > 250} == {}


def test_families_never_mention_formats() -> None:
    words = re.compile(r"onnxruntime|tensorrt|torchscript|torch\.jit|torch\.onnx", re.IGNORECASE)
    hits = [str(p) for p in sources("tritone/families") if words.search(p.read_text())]
    assert hits == []


def test_formats_never_mention_families() -> None:
    words = re.compile(r"cosyvoice|bert_vits2|moss_ttsd", re.IGNORECASE)
    files = [*sources("tritone/parity"), *(p for p in sources("tritone/export") if p.stem in FORMATS)]
    assert len(files) > len(FORMATS)
    hits = [p.name for p in files if words.search(p.read_text())]
    assert hits == []


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("tritone", ("export", "training", "benchmarks", "client")),
        ("training", ("export", "benchmarks", "client")),
    ],
)
def test_import_direction(folder: str, forbidden: tuple[str, ...]) -> None:
    hits = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(folder)
        for name in imports(path)
        if name.split(".")[0] in forbidden
    ]
    assert hits == []


def test_the_client_needs_tritonclient_and_numpy_alone() -> None:
    allowed = {"tritonclient", "numpy", *sys.stdlib_module_names, "soundfile"}  # the last for other files than wav
    shared = ("tritone.audio.reference.", "tritone.audio.wav.", "tritone.errors.")
    hits = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*sources("client"), *sources("tritone/client"))
        for name in imports(path)
        if name.split(".")[0] not in allowed and not f"{name}.".startswith(("tritone.client.", *shared))
    ]
    assert hits == []
    blocked = ("soundfile", "soxr", "yaml", "aiohttp", "onnxruntime", "torch")
    program = f"import sys; sys.modules |= dict.fromkeys({blocked}); import tritone.client.command"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


FAMILIES = sorted(p.name for p in (ROOT / "tritone" / "families").iterdir() if (p / "family.py").is_file())


def test_nothing_outside_the_families_imports_one() -> None:
    """A family's own folders in benchmarks and training, and its tests, are its own business."""
    own = {(folder, name) for folder in ("benchmarks", "training") for name in FAMILIES}
    folders = ("tritone", "export", "client", "benchmarks", "training", "model_repository")
    hits = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in folders
        for path in sources(folder)
        if path.relative_to(ROOT).parts[:2] not in own | {("tritone", "families")}
        for name in imports(path)
        if name.startswith(("tritone.families.", "training.bert_vits2", "training.cosyvoice"))
    ]
    assert hits == []


@pytest.mark.parametrize("family", FAMILIES)
def test_families_do_not_import_each_other(family: str) -> None:
    foreign = {name for name in FAMILIES if name != family}
    folders = [f"tritone/families/{family}", *(f"{f}/{family}" for f in ("benchmarks", "training"))]
    hits = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in folders
        for path in sources(folder)
        for name in imports(path)
        if foreign & set(name.split("."))
    ]
    assert hits == []


@pytest.mark.parametrize("module", ["tritone.stage", "tritone.errors", "tritone.families.cosyvoice.config.common"])
def test_the_description_needs_numpy_alone(module: str) -> None:
    heavy = ("torch", "onnxruntime", "transformers", "onnx", "tritonclient", "gruut")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_scripts_do_not_shadow_the_packages_they_need() -> None:
    packages = {"grpc", "onnx", "tensorrt", "torch", "queue", "numpy", "tritonclient", "yaml", "types", "json"}
    names = {p.stem for folder in ("export", "client", "benchmarks", "training") for p in (ROOT / folder).glob("*.py")}
    assert names & packages == set()
