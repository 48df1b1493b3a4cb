"""Files from the first of a list of places that has them: resumable, and checked by their SHA-256.

A token goes to the place it was configured for, over https or to this machine alone, and never along a redirect.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from tritone.errors import ConfigError, EnvironmentProblem

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
        """Return the authorisation to send; ConfigError where it must not or cannot be sent."""
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
    """Return the paths of `files` (name -> SHA-256) in `folder`, downloaded from the first source that has them.

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
    """Return the SHA-256 of `part` with what it lacked of `url`.

    OSError when the connection ends before the announced end.
    """
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
