"""Files that take their name only once they are complete: a reader, or a killed writer, never leaves half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mer.errors import UserError


@contextmanager
def draft_of(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well, and is gone when it does not.

    Raises:
        UserError: the folder cannot be made or written.
    """
    path = Path(path)
    # The mark: processes on several machines, and threads of one, may write the same file under the same process id.
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        os.replace(draft, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error})", "Choose another path, or make room"
        ) from None
    finally:
        with suppress(OSError):  # gone, or never made
            draft.unlink()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """`draft_of` as an open text file (UTF-8, line ends as written)."""
    with draft_of(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        yield file


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file."""
    with replacing(path) as file:
        file.write(text)
