"""Real disks that are small or read-only, where root may mount them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import without


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """Mount a disk in memory with options such as `size=64k`; skip the test where this is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"mode=0777,{options}", "pmip-test", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        without("DISKS", "only root can mount a small disk, and not everywhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Remount a disk so that nobody can write to it, not even root."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
