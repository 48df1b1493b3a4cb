"""JSON and YAML that stand for more than they have bytes are refused by name, before they are written out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tritone.checkpoint import documents
from tritone.checkpoint.documents import check_size, parse_json, parse_yaml, read_json, read_object, read_text
from tritone.errors import CheckpointError, ConfigError
from tritone.families.cosyvoice.checkpoint import hyperyaml

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, r"x\.yaml stands for more than 20000 values, with each alias written out"),
        (MERGES, r"x\.yaml stands for more than 20000 values"),
        ("[" * 100_000, r"x\.yaml nests lists or mappings too deeply; at most 64 may be inside each other"),
        ("[" * 70 + "]" * 70, r"x\.yaml nests lists or mappings too deeply"),
        ("a: &a [*a]", r"x\.yaml has an alias inside the value that it stands for"),
        ("a: " + "1:" * 10_000 + "1", r"x\.yaml has a value of 20001 characters; at most 10000 are allowed"),
        ("a: 2001-99-99", r"x\.yaml is not valid YAML: month must be in 1\.\.12"),
        ("a: !!timestamp x", r"x\.yaml is not valid YAML"),
        ("a: !!int ''", r"x\.yaml is not valid YAML"),
        ("a: " + "9" * 5000, r"x\.yaml is not valid YAML: Exceeds the limit"),
        ("a: b\n---\nc: d", r"x\.yaml is not valid YAML: expected a single document"),
        ("a: \0", r"x\.yaml is not valid YAML: unacceptable character"),
        ("? [a]\n: b", r"x\.yaml is not valid YAML: .*unhashable key"),
        ("a: !!python/object:os.system x", r"x\.yaml is not valid YAML: could not determine a constructor"),
    ],
)
def test_yaml_that_stands_for_too_much(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "x.yaml")


def test_ordinary_yaml_is_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]\nc: {<<: {d: 1}}", "x") == {
        "a": [1, 2],
        "b": [[1, 2], [1, 2]],
        "c": {"d": 1},
    }
    assert parse_yaml("", "x") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, r"x\.json nests lists or objects too deeply; at most 64"),
        ('{"a":' * 70 + "1" + "}" * 70, r"x\.json nests lists or objects too deeply"),
        ('{"a": ', r"x\.json is not valid JSON: Expecting value"),
        ("9" * 5000, r"x\.json is not valid JSON: Exceeds the limit"),
    ],
)
def test_json_that_is_too_much(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_json(text, "x.json", CheckpointError)


def test_the_values_of_json_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "NODES", 100)
    assert parse_json("[" + "0," * 90 + "0]", "x.json")
    with pytest.raises(ConfigError, match=r"x\.json has more than 100 values, which are too many"):
        parse_json("[" + "0," * 200 + "0]", "x.json")


def test_a_file_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch()
    os.truncate(path, 3 << 30)  # sparse: it takes no disk, and must take no memory
    with pytest.raises(ConfigError, match=r"config\.json has 3221225472 bytes; such a file may have at most 4194304"):
        read_json(path)
    with pytest.raises(CheckpointError, match=r"config\.json has 3221225472 bytes; such a file may have at most 9"):
        check_size(path, 9, CheckpointError)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match=r"config\.json cannot be read: No such file"):
        read_text(path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.json is not text in UTF-8: .*invalid start byte"):
        read_text(path)
    path.write_bytes(b"\xef\xbb\xbf[1]")  # a byte-order mark, as editors on Windows write it
    assert read_json(path) == [1]
    with pytest.raises(ConfigError, match=r"config\.json holds a list, not an object"):
        read_object(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a0: 2\n" + "".join(f"a{n}: !ref <a{n - 1}> * <a{n - 1}>\n" for n in range(1, 41)), "number beyond 1e.15"),
        (
            "a0: [1, 1]\n" + "".join(f"a{n}: [!ref <a{n - 1}>, !ref <a{n - 1}>]\n" for n in range(1, 41)),
            "stands for more than 20000 values, with each reference written out",
        ),
        ("".join(f"a{n}: [!ref <a{n + 1}>]\n" for n in range(200)) + "a200: 1", "nest too deeply; at most 64"),
        ("a: !ref 1 / 0", "!ref 1 / 0 divides by zero"),
        ("a: !ref 1 // 0", "!ref 1 // 0 divides by zero"),
        ("a: !ref 1e300 * 1e300", "number beyond 1e.15"),
        ("a: !ref " + "1 + " * 100 + "1", "a !ref has 401 characters; at most 200 are allowed"),
        ("a: !ref " + "(" * 190, r"cannot read !ref \(\(\("),
        ("a: !ref _7", "!ref _7 is not supported"),
    ],
)
def test_references_that_stand_for_too_much(text: str, message: str) -> None:
    with pytest.raises(hyperyaml.HyperYamlError, match=message):
        hyperyaml.parse(text)


def test_a_chain_of_sums_is_evaluated_once_each() -> None:
    text = "a0: 1\n" + "".join(f"a{n}: !ref <a{n - 1}> + <a{n - 1}>\n" for n in range(1, 41))
    assert hyperyaml.parse(text)["a40"] == 2**40
