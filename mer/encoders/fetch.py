"""Published weights onto this machine: from a folder, or over https. A file has its name only when all of it is right."""

from __future__ import annotations

import hashlib
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mer import __version__
from mer.encoders.catalogue import Published
from mer.errors import UserError
from mer.files import draft_of

_MOST = 12 << 30  # bytes; no file of the catalogue comes near it
_BLOCK = 1 << 20
_PATIENCE = 60.0  # seconds without an answer
_NO_WEIGHTS = (b"<!doctype", b"<html", b"version https://git-lfs")  # a page that asks for a login, a pointer to a file


class NotAtSourceError(UserError):
    """The source answers, and has no such file."""


class Opener(urllib.request.OpenerDirector):
    """Opens https addresses, through the proxy that the environment names: neither plain http nor files nor ftp.

    Args:
        schemes: what else than https it opens (for tests on this machine).
    """

    def __init__(self, schemes: tuple[str, ...] = ("https",)):
        super().__init__()
        self.schemes = schemes
        handlers: list[Any] = [urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(), _Redirects(schemes)]
        handlers += [urllib.request.HTTPHandler()] if "http" in schemes else []
        handlers += [urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()]
        for handler in (*handlers, urllib.request.UnknownHandler()):
            self.add_handler(handler)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to allowed schemes and to nothing else."""

    def __init__(self, schemes: tuple[str, ...]):
        self.schemes = schemes

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in self.schemes:
            raise UserError(f"{req.full_url} sends on to {newurl}, which is not https", "Do not fetch it from there")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    entry: Published,
    folder: Path,
    mirror: Path | None = None,
    through: Opener | None = None,
) -> Iterator[str]:
    """Bring the files of an entry into a folder; what is there and right is left alone.

    Args:
        entry: of the catalogue.
        folder: as `MER_WEIGHTS` names one; a file is put into it, several into a folder of the entry's name.
        mirror: copy from such a folder, in the place of the entry's source.
        through: how addresses are opened.

    Yields:
        a line per file: what was done.

    Raises:
        UserError: not in the mirror, no source, not reached, another file than was published.
    """
    place = entry.place(folder)
    inside = place.parent if entry.single else place
    through = through or Opener()
    if mirror is None and entry.source is None:
        raise UserError(
            f"{entry.name} cannot be fetched, only asked for or downloaded by hand: {entry.page}",
            f"Put {' and '.join(entry.wanted())} into {inside}",
        )
    for names in (*((name,) for name in entry.files), *([entry.one_of] if entry.one_of else ())):
        there = next((inside / name for name in names if (inside / name).is_file()), None)
        if there is not None:
            yield f"{there}: {_checked(str(there), sha256_of(there), entry)}, already there"
        elif mirror is not None:
            yield _copied(entry, names, inside, mirror)
        else:
            yield _downloaded(entry, names, inside, through)


def _copied(entry: Published, names: tuple[str, ...], inside: Path, mirror: Path) -> str:
    place = entry.place(mirror)
    folders = (place.parent if entry.single else place, mirror)
    found = next((f / name for f in folders for name in names if (f / name).is_file()), None)
    if found is None:
        raise UserError(
            f"{mirror}: there is no {' or '.join(names)} of {entry.name} in it", "Name the folder that has it"
        )
    with draft_of(inside / found.name) as draft:
        shutil.copyfile(found, draft)
        said = _checked(str(found), sha256_of(draft), entry)
    return f"{inside / found.name}: {said}, copied"


def _downloaded(entry: Published, names: tuple[str, ...], inside: Path, through: Opener) -> str:
    for name in names:
        address = f"{entry.source}{name}"
        path = inside / name
        try:
            with draft_of(path) as draft:
                digest = _download(address, draft, through)
                said = _checked(address, digest, entry)
            return f"{path}: {said}, {path.stat().st_size / 1e6:.1f} MB"
        except NotAtSourceError:
            if name == names[-1]:
                raise
        except _UnreachedError as error:
            raise UserError(
                f"{address} was not reached ({error})",
                f"Download {' and '.join(entry.wanted())} where there is internet, put into {inside}",
            ) from None
    raise AssertionError(names)


class _UnreachedError(Exception):
    """No connection, or it broke."""


def _download(address: str, draft: Path, through: Opener) -> str:
    """Write what is at an address to a file; gives its sha256."""
    digest = hashlib.sha256()
    with draft.open("wb") as file:
        for number, block in enumerate(_blocks(address, through)):
            if not number and block[:99].lstrip().lower().startswith(_NO_WEIGHTS):
                raise UserError(f"{address} gives a page instead of weights", "Look at it with a browser")
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _blocks(address: str, through: Opener) -> Iterator[bytes]:
    if urllib.parse.urlsplit(address).scheme not in through.schemes:
        raise UserError(f"{address} is not an https address", "Report this entry of the catalogue")
    request = urllib.request.Request(address, headers={"User-Agent": f"mer/{__version__}"})
    try:
        with through.open(request, timeout=_PATIENCE) as answer:
            said = answer.headers.get("Content-Length", "")
            size = int(said) if said.isdecimal() else None
            got = 0
            with tqdm(total=size, unit="B", unit_scale=True, desc=address.rpartition("/")[2], leave=False) as progress:
                while block := answer.read(_BLOCK):
                    got += len(block)
                    if max(got, size or 0) > _MOST:
                        raise UserError(f"{address} is larger than {_MOST >> 30} GB", "Look at it with a browser")
                    progress.update(len(block))
                    yield block
            if size is not None and got != size:
                raise _UnreachedError(f"it broke off after {got} of {size} bytes")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise NotAtSourceError(f"{address} does not exist (any more)", "Look for it, and tell us") from None
        raise _UnreachedError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _UnreachedError(getattr(error, "reason", None) or error or type(error).__name__) from None


def _checked(where: str, digest: str, entry: Published) -> str:
    """What comparing a digest with the published one says.

    Raises:
        UserError: they differ.
    """
    wanted = entry.sha256.get(Path(where).name)
    if wanted is None:
        return f"sha256 {digest} (none is known to compare with)"
    if not digest.startswith(wanted):
        raise UserError(
            f"{where} is not what was published: its sha256 is {digest}, published is {wanted}",
            "Remove it and fetch it again; if it stays so, do not use it",
        )
    return "sha256 as published" if len(wanted) == len(digest) else f"sha256 begins {wanted} as published"


def sha256_of(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
