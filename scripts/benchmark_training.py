"""Generates comments and measures the training on them; scripts/benchmark_training.sh --help describes its use.

The comments are generated from a million words, which are made of syllables and drawn by rank after Zipf's law, so that
more comments contain more distinct words, as real ones do. The number of words in a comment is lognormal with median 9.
Each of five sources has 500 words of its own, from which one word in eight is drawn. Half of the comments are spam: one
word in four of these is from 300 typical words, and two in five comments have a link. One comment in ten repeats an
earlier one of its class with an added word, and one label in a hundred is wrong. The same number of comments always
gives the same texts.
"""

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

SOURCES = 5
LANGUAGE = 1_000_000
SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in ("a", "e", "i", "o", "u", "an", "er")]


def word(rank: int) -> str:
    """Make the word of a rank: frequent words are short."""
    syllables = []
    while rank or not syllables:
        rank, place = divmod(rank, len(SYLLABLES))
        syllables.append(SYLLABLES[place])
    return "".join(syllables)


def comments(number: int, seed: int) -> Iterator[tuple[str, int]]:
    """Yield the comments of one source with their classes."""
    draw = np.random.default_rng(seed)
    own, liked = 2_000 + 500 * seed, 10_000  # where the words of the source, and of spam, begin
    earlier: dict[bool, list[str]] = {False: ["so"], True: ["now"]}
    for _ in range(number):
        spam = bool(draw.random() < 0.5)
        count = int(np.clip(draw.lognormal(2.2, 0.8), 1, 200))
        ranks = np.minimum(draw.zipf(1.25, count), LANGUAGE)
        ranks = np.where(draw.random(count) < 1 / 8, draw.integers(own, own + 500, count), ranks)
        if spam:
            ranks = np.where(draw.random(count) < 1 / 4, draw.integers(liked, liked + 300, count), ranks)
        text = " ".join(map(word, ranks.tolist()))
        if draw.random() < 1 / 10:
            text = f"{earlier[spam][draw.integers(len(earlier[spam]))]} {word(int(ranks[0]))}"
        elif spam and draw.random() < 2 / 5:
            text += f" http://{word(int(ranks[0]))}.example.com/{draw.integers(10**6)}"
        earlier[spam].append(text)
        yield text, int(spam != (draw.random() < 1 / 100))


def generate(number: int, folder: Path) -> None:
    """Write a file for each source."""
    folder.mkdir(parents=True)
    for source in range(SOURCES):
        with (folder / f"Generated{source + 1:02}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["CONTENT", "CLASS"])
            writer.writerows(comments(number // SOURCES, source))


def memory(process: psutil.Process) -> int:
    """Return the bytes that a process and its descendants hold, what they share counted once."""
    held = 0
    for one in (process, *process.children(recursive=True)):
        try:
            found = one.memory_full_info()
        except psutil.Error:  # it has ended
            continue
        held += getattr(found, "pss", found.uss)
    return held


def measure(data_dir: Path) -> tuple[float, int]:
    """Train by the script; return seconds and peak bytes."""
    environ = os.environ | {"DATA_DIR": str(data_dir), "PYTHON": sys.executable, "ENVIRONMENT": "dev", "BUCKET": ""}
    started, peak = time.monotonic(), 0
    with psutil.Popen(["bash", "scripts/train.sh"], env=environ, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, memory(process))
            time.sleep(0.5)
    if process.returncode:
        sys.exit(process.returncode)
    return time.monotonic() - started, peak


def main(numbers: list[int]) -> None:
    """Print a line for each number of comments."""
    print("comments  seconds  peak MB", flush=True)
    for number in numbers:
        with TemporaryDirectory(prefix="pmip-") as folder:
            generate(number, Path(folder) / "training" / "20260101")
            seconds, peak = measure(Path(folder))
        print(f"{number:8}  {seconds:7.0f}  {peak / 1e6:7.0f}", flush=True)


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
