"""Downloads from the first source that has a file: resumable, and checked by SHA-256.

A token is sent to its own source alone, over https or to the local machine, and never along a redirect.
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
    """A folder on a server: the `url` of the folder, and the environment variable with its token, if it needs one."""

    url: str = ""
    token_env: str = ""

    def checked(self) -> Source:
        """Return the source; raise ConfigError unless `url` is an http or https address."""
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ConfigError(f"train.base_model.sources has {self.url!r}, which is not an http or https address.")
        return self

    def headers(self) -> dict[str, str]:
        """Return the authorisation header; raise ConfigError if the token is not set or would travel unencrypted."""
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

    A file with the right SHA-256 is not downloaded again; an interrupted download is continued by a range request.

    Raises:
        EnvironmentProblem: no source has the file with the right SHA-256; the message lists the answer of each source.
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
            received = _download(url, source.headers(), part)
            if started and received != digest:  # the part is of another file, or of another version of it
                part.unlink()
                received = _download(url, source.headers(), part)
        except (OSError, HTTPException) as error:
            problems.append(f"{url}: {error}")
            continue
        if received == digest:
            os.replace(part, path)
            return path
        part.unlink()
        problems.append(f"{url}: SHA-256 is {received} instead of {digest}")
    kept = f" {part.stat().st_size} bytes are kept; the next run continues from there." if part.exists() else ""
    raise EnvironmentProblem(
        f"{name} could not be downloaded: {'; '.join(problems) or 'train.base_model.sources is empty'}.{kept} "
        f"Put the file into {path.parent} yourself, or add another source."
    )


def _download(url: str, headers: Mapping[str, str], part: Path) -> str:
    """Append the rest of `url` to `part`, and return the SHA-256 of `part`.

    Raises OSError when the connection ends before the announced length.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers=dict(headers) | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        response = urllib.request.build_opener(_Guarded).open(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing after our part: it is complete, or of another file
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
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(req.full_url)[:2] != urlsplit(newurl)[:2]:
            request.remove_header("Authorization")
        return request


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
