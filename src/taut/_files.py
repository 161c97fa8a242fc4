"""Atomic writes: a file is either the old one or the whole new one, and nothing is left behind after an error."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from taut._errors import TautError


def atomic_write(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write ``content`` to ``path`` so that no reader, and no crash, ever sees half of it.

    The bytes go to a new file in the same folder, are flushed to the disk, and then take the target's name in one step.
    A symbolic link keeps pointing where it did: its target is replaced. An existing file keeps its permissions.

    Args:
        path: where to write; the folder must exist.
        content: bytes as they are, or text, stored as UTF-8 with its line ends untouched.

    Returns:
        The path as it was given.

    Raises:
        TautError: ``file-missing`` if the folder does not exist, ``file-access`` if the target is not a regular file or
            the system refuses the write.

    Example:
        >>> atomic_write("out.html", "<p>done</p>")
        PosixPath('out.html')
    """
    target = Path(os.path.realpath(path))
    data = content.encode() if isinstance(content, str) else content
    temporary = target.with_name(f".taut-{secrets.token_hex(8)}.tmp")  # short: a long target name cannot overflow it
    try:
        mode = _mode(path, target)
        # A plain open, not tempfile: the system then applies the umask, and the file is as readable as any other.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:  # Ctrl-C too must leave nothing behind
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TautError(
            "file-access",
            site=str(path),
            found=error.strerror or str(error),
            expected="a path that can be written",
            remedy="give a path in a folder that is yours and has room",
        ) from error
    return Path(path)


def _mode(path: str | os.PathLike[str], target: Path) -> int | None:
    """Permissions of the file that is about to be replaced, or None where there is none; refuses what is no file."""
    if not target.parent.is_dir():
        raise TautError(
            "file-missing",
            site=str(path),
            found=f"no folder {str(target.parent)!r}",
            expected="a folder that exists",
            remedy=f"mkdir -p {str(target.parent)!r}",
        )
    if not target.exists():
        return None
    mode = target.stat().st_mode
    if not stat.S_ISREG(mode):  # replacing /dev/null or a pipe would destroy it
        raise TautError(
            "file-access",
            site=str(path),
            found="a folder" if stat.S_ISDIR(mode) else "a device or a pipe",
            expected="a regular file, or a name that is free",
            remedy="give the name of a file",
        )
    return stat.S_IMODE(mode)
