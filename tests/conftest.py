"""Fixtures of all tests: the tiny CosyVoice checkpoints behind the golden numbers, written once per session.

Helpers are imported inside the fixtures, so that the tests of one family need no other.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tests/support


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that take minutes unless they are asked for by `-m slow`."""
    if "slow" not in config.getoption("markexpr"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with -m slow"))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which a single test does not need
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run in several processes, a file's tests share one; all server tests do, for they share a server."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/server" if nodeid.startswith("tests/server/") else nodeid.split("::")[0]

    return ByFile(config, log)


@pytest.fixture(scope="session")
def tiny_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint of the v1 layout, which has no backbone but a vocabulary file of Whisper's."""
    from support.front_helpers import write_whisper_vocabulary
    from support.tiny_checkpoints import write_networks

    directory = write_networks(tmp_path_factory.mktemp("checkpoints") / "tiny_v1", 1)
    write_whisper_vocabulary(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official-layout directory with the tiny weights (read-only by agreement; copy it to change it)."""
    from support.tiny_checkpoints import write_tiny

    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny_v2", 2)


@pytest.fixture(scope="session")
def tiny_v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint of the v3 layout."""
    from support.tiny_checkpoints import write_tiny

    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny_v3", 3)


@pytest.fixture(scope="session")
def complete(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return a version's tiny checkpoint that can serve; read-only by agreement.

    It has a tokenizer for recordings as well, and in versions 2 and 3 its speech ends.
    """
    from support.tiny_checkpoints import make_it_stop, write_speech_tokenizer

    @cache
    def folder(version: int) -> Path:
        directory = tmp_path_factory.mktemp("complete") / f"tiny-v{version}"
        shutil.copytree(request.getfixturevalue(f"tiny_v{version}"), directory)
        write_speech_tokenizer(directory / f"speech_tokenizer_v{version}.onnx")
        if version > 1:
            make_it_stop(directory)
        return directory

    return folder
