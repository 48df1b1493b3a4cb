"""The columns of metadata.csv: decided where there is no doubt, refused with the option to give them where there is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training import prepare
from training.corpus.manifest import write_manifest
from training.corpus.metadata import Metadata, read_metadata
from tritone.audio.wav import write_wav
from tritone.errors import ConfigError

CAT, DOG, BIRD = "The cat sat on the mat.", "A dog ran in the park.", "Birds sing in the morning."
VOICE = 0.1 * np.sin(np.arange(16000) * 0.05)


def folder(path: Path, content: str | bytes, names: tuple[str, ...] = ("u0", "u1", "u2")) -> Path:
    """Write a folder of recordings, empty files where only names matter, and its metadata."""
    for name in names:
        file = path / "wavs" / (name if "." in name else f"{name}.wav")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (path / "metadata.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, content: str | bytes, columns: str = "", names: tuple[str, ...] = ("u0", "u1", "u2")) -> Metadata:
    file = folder(path, content, names) / "metadata.csv"
    return read_metadata(file, columns.split(",") if columns else None)


def lines(*rows: str, end: str = "\n") -> str:
    return end.join(rows)


@pytest.mark.parametrize(
    ("content", "columns", "first"),
    [
        (lines(f"u0|{CAT}", f"u1|{DOG}"), "id,text", ("u0", "", CAT)),
        (lines(f"u0|{CAT}|", f"u1|{DOG}|"), "id,text", ("u0", "", CAT)),
        (lines(f"u0|{CAT}|", f"u1|{DOG}"), "id,text", ("u0", "", CAT)),
        (lines(f"{CAT}|u0", f"{DOG}|u1"), "text,id", ("u0", "", CAT)),
        (lines(f"u0|{CAT}|ann", f"u1|{DOG}|ben"), "id,text,speaker", ("u0", "ann", CAT)),
        (lines(f"u0|ann|{CAT}"), "id,speaker,text", ("u0", "ann", CAT)),
        (lines(f"u0|{CAT}|Jane Doe", f"u1|{DOG}|Jane Doe", f"u2|{BIRD}|Jane Doe"), "id,text,speaker",
         ("u0", "Jane Doe", CAT)),
        (lines("u0|田中|猫がいる。", "u1|田中|犬がいる。", "u2|田中|鳥がいる。"), "id,speaker,text",
         ("u0", "田中", "猫がいる。")),
        (lines("u0|It is 2.|It is two.", "u1|He has 3 cats.|He has three cats."), "id,text,normalised",
         ("u0", "", "It is two.")),
        (lines("u0|It is 2.|It is two.|0", "u1|He has 3 cats.|He has three cats.|0"), "id,text,normalised,speaker",
         ("u0", "0", "It is two.")),
        (lines("u0|0|It is 2.|It is two.", "u1|1|He has 3 cats.|He has three cats."), "id,speaker,text,normalised",
         ("u0", "0", "It is two.")),
        (lines("file_name|Speaker|transcript", f"u0|ann|{CAT}", f"u1|x|{DOG}"), "id,speaker,text", ("u0", "ann", CAT)),
        (lines("", "# made by hand", f"u0|{CAT}", "   ", f"u1|{DOG}", "", end="\r\n"), "id,text", ("u0", "", CAT)),
        (b"\xef\xbb\xbf" + lines(f"u0|{CAT}", f"u1|{DOG}").encode(), "id,text", ("u0", "", CAT)),
        (lines(f'"u0"|"He said ""{CAT}"""', f'"u1"|"{DOG}"'), "id,text", ("u0", "", f'He said "{CAT}"')),
        (lines(f'u0|"{CAT}" he said.', f'u1|"{DOG}"'), "id,text", ("u0", "", f'"{CAT}" he said.')),
        (lines("u0|One\u2028two.", "u1|A\x0bb."), "id,text", ("u0", "", "One\u2028two.")),
    ],
)  # fmt: skip
def test_columns_that_leave_no_doubt(tmp_path: Path, content: str | bytes, columns: str, first: tuple) -> None:
    metadata = read(tmp_path, content)
    row = metadata.rows[0]
    assert ",".join(name for name in metadata.columns if name != "-") == columns
    assert (row.id, row.speaker, row.text) == first
    assert metadata.summary().startswith("columns: id") or columns == "text,id"


@pytest.mark.parametrize(
    "content",
    [
        lines("u0|Yes|No", "u1|Go|Stop"),
        lines(f"u0|{CAT}|{DOG}", f"u1|{DOG}|{BIRD}"),
        lines("u0|猫|ねこ", "u1|犬|いぬ"),
        lines(f"u0|{CAT}|en", f"u1|{DOG}|en", f"u2|{BIRD}|en"),
        lines(f"u0|{CAT}|1.25", f"u1|{DOG}|2.50"),
        lines(*(f"u0|word{i}|{CAT}" for i in range(30))),
        lines("u0|turn left|ann b", "u1|turn left|ann b", "u2|turn right|ben c", "u0|turn right|ben c"),
        lines(f"u0|{CAT}|ann|1.5|x", f"u1|{DOG}|ann|1.5|x"),
        lines("u0|u1", "u1|u2"),
    ],
)
def test_columns_that_could_be_two_things_are_refused_with_an_option(tmp_path: Path, content: str) -> None:
    with pytest.raises(
        ConfigError, match=r"metadata\.csv: .*Say what the \d columns are \('-' ignores one\): --columns"
    ):
        read(tmp_path, content)
    columns = {2: "id,text", 3: "id,text,speaker", 5: "id,text,speaker,-,-"}[content.split("\n")[0].count("|") + 1]
    metadata = read(tmp_path, content, columns)
    assert metadata.rows[0].id == "u0" and metadata.columns == tuple(columns.split(","))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no lines; it should have `id|text`"),
        ("id|text\n", "has a heading and no lines after it"),
        (f"u0|{CAT}\nu1|{DOG}|ann\n", "line 2 has 3, but line 1 has 2. A text may not contain '|'"),
        (
            f"u0\t{CAT}\nu1\t{DOG}",
            "separated by '|', as in `id|text`; they seem to be separated by tabs, such as line 1",
        ),
        (f'u0,"{CAT}"\nu1,{DOG}', "they seem to be separated by commas"),
        (f"u0;{CAT}\nu1;{DOG}", "they seem to be separated by semicolons"),
        (f"u0｜{CAT}", "they seem to be separated by full-width bars"),
        ("u0 The cat", "columns are separated by '|', as in `id|text`; found none, such as line 1"),
        ("u0|café time\nu1|hello".encode("latin-1"), "is not UTF-8 text: line 1 has the byte 0xe9. If it is Latin-1"),
        ("u0|猫。".encode("gbk"), "GBK, BIG5 and SHIFT_JIS are other names"),
        (f"u0|{CAT}".encode("utf-16"), "is UTF-16 text, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
        (f"u0|{CAT}".encode("utf-16-be"), "is UTF-16 text, not UTF-8"),
        (f"u0|{CAT}".encode("utf-32"), "is UTF-32 text, not UTF-8"),
        ("|".join(["u0", *"abcdefgh"]), "has 9 columns separated by '|'; it needs 2 to 8"),
    ],
)
def test_files_that_are_no_metadata(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value) and str(tmp_path / "metadata.csv") in str(caught.value)


@pytest.mark.parametrize("columns", ["id", "text,speaker", "id,text,text", "id,txt", "id,-", ""])
def test_options_that_are_no_columns(tmp_path: Path, columns: str) -> None:
    with pytest.raises(ConfigError, match=f"--columns {columns} is not a list of columns.*--columns id,text,speaker"):
        read_metadata(folder(tmp_path, f"u0|{CAT}") / "metadata.csv", columns.split(","))


def test_an_option_of_another_number_of_columns(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--columns id,text,- names 3 columns, but .* has 2, such as line 1: 'u0\|The"
    ):
        read(tmp_path, f"u0|{CAT}", "id,text,-")


def test_every_row_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        f"u0.wav|{CAT}", f"u0|{DOG}", f"wavs/u1|{DOG}", f"part/u2|{BIRD}", f"../secret|{CAT}", f"/etc/u0|{CAT}",
        f"U1|{CAT}", f"lost|{CAT}", f"|{CAT}", "u3|", f"u4|{CAT}", "u5|Привет, мир.", "u6|" + CAT,
    ]  # fmt: skip
    folder(tmp_path, "\n".join(rows))
    write_wav(tmp_path / "secret.wav", VOICE, 16000)
    for name in ("u0", "u1", "part/u2", "u3", "u5"):
        (tmp_path / f"wavs/{name}.wav").parent.mkdir(exist_ok=True)
        write_wav(tmp_path / f"wavs/{name}.wav", VOICE, 16000)
    write_wav(tmp_path / "wavs/u4.WAV", VOICE, 16000)
    (tmp_path / "wavs/u6.wav").symlink_to("u0.wav")
    assert prepare.main(["manifest", "--data", str(tmp_path), "--processes", "0"]) == 0
    entries = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [(e["id"], e["text"], e["file"]) for e in entries] == [
        ("u0", CAT, "wavs/u0.wav"), ("u1", DOG, "wavs/u1.wav"), ("part/u2", BIRD, "wavs/part/u2.wav"),
        ("u4", CAT, "wavs/u4.WAV"),
    ]  # fmt: skip
    rejected = (tmp_path / "manifest.rejected").read_text().splitlines()
    wavs = tmp_path / "wavs"
    assert rejected[:6] == [
        f"../secret: its id leads out of {wavs}/; an id is a name below that folder",
        f"/etc/u0: its id leads out of {wavs}/; an id is a name below that folder",
        f"U1: no recording {wavs}/U1.wav (or .flac, .ogg, .mp3); there is u1.wav",
        f"lost: no recording {wavs}/lost.wav (or .flac, .ogg, .mp3)",
        "line 9: has no id",
        "u3: has no text",
    ]
    assert rejected[6] == "u0: has 3 lines; the first is used" and rejected[7].startswith("u5: target_text: ")
    out = capsys.readouterr().out
    assert "metadata.csv: columns: id, text" in out and "manifest.jsonl: 4 utterances, 8 left out" in out
    assert all(f"  left out {line}" in out for line in rejected)


def test_errors_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, message in (
        ("u0|a|b", "Say what the 3 columns are"),
        (f"lost|{CAT}", "none of 1 utterances can be used"),
    ):
        folder(tmp_path, content)
        assert prepare.main(["manifest", "--data", str(tmp_path), "--processes", "0"]) == 1
        assert f"error: {tmp_path}" in (shown := capsys.readouterr().err) and message in shown
    write_wav(tmp_path / "wavs/u0.wav", VOICE, 16000)
    columns = ["--columns", "id, speaker,text"]
    folder(tmp_path, f"u0|a b|{CAT}", ())
    assert prepare.main(["manifest", "--data", str(tmp_path), "--processes", "0", *columns]) == 0
    assert json.loads((tmp_path / "manifest.jsonl").read_text())["speaker"] == "a b"


def test_more_than_a_screen_of_rows_left_out_is_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path, "\n".join([f"u0|{CAT}", *(f"lost{i}|{CAT}" for i in range(25))]), ())
    (tmp_path / "wavs").mkdir()
    write_wav(tmp_path / "wavs/u0.wav", VOICE, 16000)
    done = write_manifest(tmp_path, processes=0)
    assert (done.count, len(done.left_out)) == (1, 25)
    assert prepare.main(["manifest", "--data", str(tmp_path), "--processes", "0"]) == 0
    assert f"  and 5 more; all are in {tmp_path}/manifest.rejected" in capsys.readouterr().out
