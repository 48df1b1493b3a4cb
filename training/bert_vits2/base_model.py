"""The files training starts from: fetched from a list of places, resumable and checked, and loaded strictly.

A token goes to the place it was configured for, over https or to this machine alone, and never along a redirect.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from torch import nn
from tqdm import tqdm

from training.loop import LOG
from tritone.checkpoint import load_strict
from tritone.errors import CheckpointError, ConfigError, EnvironmentProblem, TritoneError
from tritone.families.bert_vits2.checkpoint import read_model
from tritone.nn.weight_norm import older_layout

CHUNK = 1 << 20
LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Source:
    """A folder on a server: `url`, below which the files lie, and the environment variable that holds its token."""

    url: str = ""
    token_env: str = ""

    def checked(self) -> Source:
        """Itself; ConfigError when the address is none."""
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ConfigError(f"train.base_model.sources has {self.url!r}, which is no http or https address.")
        return self

    def headers(self) -> dict[str, str]:
        """The authorisation to send; ConfigError where it must not or cannot be sent."""
        if not self.token_env:
            return {}
        place = urlsplit(self.url)
        if place.scheme != "https" and place.hostname not in LOCAL:
            raise ConfigError(f"the token in {self.token_env} would travel unencrypted to {self.url}; use https.")
        token = os.environ.get(self.token_env, "")
        if not token:
            raise ConfigError(f"{self.url} is configured with a token in {self.token_env}, which is not set.")
        return {"Authorization": f"Bearer {token}"}


def fetch(files: Mapping[str, str], sources: Sequence[Source], folder: Path) -> list[Path]:
    """The paths of `files` (name -> SHA-256) in `folder`, downloaded from the first source that has them.

    A file that is there and right is not fetched again; an interrupted one is continued by a range request.

    Raises:
        EnvironmentProblem: no source gave a file with the right SHA-256; the message lists what each answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_fetch(name, digest.lower(), sources, folder / name) for name, digest in files.items()]


def _fetch(name: str, digest: str, sources: Sequence[Source], path: Path) -> Path:
    if path.is_file():
        if _sha256(path) == digest:
            return path
        raise EnvironmentProblem(
            f"{path} exists with SHA-256 {_sha256(path)} instead of {digest}. "
            "Delete it to download it again, or correct train.base_model.files."
        )
    part, problems = path.with_name(f"{path.name}.part"), []
    for source in sources:
        url = f"{source.url.rstrip('/')}/{name}"
        try:
            started = part.exists()
            found = _download(url, source.headers(), part)
            if started and found != digest:  # what was there is of another file or another version of it
                part.unlink()
                found = _download(url, source.headers(), part)
        except (OSError, HTTPException) as error:
            problems.append(f"{url}: {error}")
            continue
        if found == digest:
            os.replace(part, path)
            return path
        part.unlink()
        problems.append(f"{url}: SHA-256 is {found} instead of {digest}")
    kept = f" {part.stat().st_size} bytes are kept and will be continued." if part.exists() else ""
    raise EnvironmentProblem(
        f"{name} could not be downloaded: {'; '.join(problems) or 'train.base_model.sources is empty'}.{kept} "
        f"Put the file into {path.parent} yourself, or give another source."
    )


def _download(url: str, headers: Mapping[str, str], part: Path) -> str:
    """The SHA-256 of `part` with what it lacked of `url`; OSError when the connection ends before the announced end."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers=dict(headers) | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        response = urllib.request.build_opener(_Guarded).open(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies behind what we have: complete, or of another file
            return _sha256(part)
        raise
    with response:
        continued = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(
            f"bytes {have}-"
        )
        start = have if continued else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            open(part, "ab" if continued else "wb") as file,
            tqdm(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True) as bar,
        ):
            while block := response.read(CHUNK):
                file.write(block)
                bar.update(len(block))
            if total is not None and file.tell() < total:
                raise OSError(f"the connection ended after {file.tell()} of {total} bytes")
    return _sha256(part)


def load_base(networks: Mapping[str, nn.Module], folder: Path, allow_partial: bool = False) -> dict[str, Path]:
    """Which file of `folder` each network got its weights from: `<network>_<number>.pth` of the highest number.

    Networks without a file keep fresh weights, which the log tells; all but the generator, "G", may be without. With
    `allow_partial` so do parameters that are missing in a file or have another shape there.

    Raises:
        CheckpointError: no generator, a file that cannot be read, or (without `allow_partial`) one that does not fit.
    """
    used: dict[str, Path] = {}
    for name, network in networks.items():
        found = {int(m[1]): p for p in folder.glob("*.pth") if (m := re.fullmatch(rf"{name}_(\d+)\.pth", p.name))}
        if not found:
            LOG.warning("the base model in %s has no %s_*.pth: %s starts from fresh weights", folder, name, name)
            continue
        path = used[name] = found[max(found)]
        state = {k: v.float() if v.is_floating_point() else v for k, v in read_model(path).items()}
        if not allow_partial:
            try:
                load_strict(network, state, path)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{error} To start from what fits, set train.base_model.allow_partial=true."
                ) from error
            continue
        state, own = older_layout(state), older_layout(network.state_dict())
        fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
        if not fits:
            raise CheckpointError(f"nothing in {path} fits {name}; its first key is {next(iter(state))}.")
        for what, keys in (("kept fresh", own.keys() - fits.keys()), ("not used", state.keys() - fits.keys())):
            if keys:
                LOG.warning("%s: %d keys %s: %s", path, len(keys), what, ", ".join(sorted(keys)))
        network.load_state_dict(fits, strict=False)
    if "G" not in used:
        raise CheckpointError(f"{folder} has no G_<number>.pth to start from; it has {_listing(folder)}.")
    return used


def main(arguments: list[str] | None = None) -> None:
    """`python -m training.bert_vits2.base_model --config config.json` fetches the base model without training."""
    from training.bert_vits2.config import read

    parser = argparse.ArgumentParser(prog="python -m training.bert_vits2.base_model", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args(arguments)
    base = read(args.config, args.set).train.base
    if not base.files:
        raise ConfigError(f"{args.config} has no train.base_model.files to fetch.")
    for path in fetch(base.files, base.places(), Path(base.folder)):
        print(path)


def _listing(folder: Path) -> str:
    return ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing" if folder.is_dir() else "not been made"


class _Guarded(urllib.request.HTTPRedirectHandler):
    """Follows redirects without taking the token to another host, or from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is not None and urlsplit(req.full_url)[:2] != urlsplit(newurl)[:2]:
            found.remove_header("Authorization")
        return found


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    try:
        main()
    except TritoneError as error:
        sys.exit(f"error: {error}")
