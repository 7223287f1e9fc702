"""Comment files as an attacker would write them, by family."""

import io
import stat
import struct
import zipfile

Files = dict[str, bytes]

ROWS = b"CONTENT,CLASS\n" + b"".join(b"comment %d,%d\n" % (number, number % 2) for number in range(20))


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file of the entries, several of which may have the same name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content, method)
    return buffer.getvalue()


def named(name: str) -> bytes:
    """Return a zip file with comments under this name, beside another file of comments."""
    return zipped(("a.csv", ROWS), (name, ROWS))


def special(name: str, mode: int, content: bytes = b"/etc/passwd") -> tuple[zipfile.ZipInfo, bytes]:
    """Return an entry that claims to be something other than a file, such as a link."""
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry, content


ZIP = zipped(("x.csv", ROWS))
LOCAL, CENTRAL, END = 0, ZIP.index(b"PK\x01\x02"), ZIP.index(b"PK\x05\x06")


def patched(*changes: tuple[int, bytes], packed: bytes = ZIP) -> bytes:
    result = bytearray(packed)
    for at, value in changes:
        result[at : at + len(value)] = value
    return bytes(result)


def both(at: int, value: bytes) -> bytes:
    """Overwrite a field in both headers of the entry; `at` is its offset in the local header."""
    return patched((LOCAL + at, value), (CENTRAL + at + 2, value))


def overlapping(count: int) -> bytes:
    bomb = zipped(("x.csv", ROWS + (b"x" * 100_000 + b",1\n") * 40))
    start, end = bomb.index(b"PK\x01\x02"), bomb.index(b"PK\x05\x06")
    listed = bomb[start:end] * count
    tail = struct.pack("<HHHHIIH", 0, 0, count, count, len(listed), start, 0)
    return bomb[:start] + listed + b"PK\x05\x06" + tail


def nested(depth: int) -> bytes:
    content = zipped(("x.csv", b"\n" * 2**22))
    for _ in range(depth):
        content = zipped(*((f"{number}.zip", content) for number in range(4)))
    return content


NAMES = ["../marker.csv", "../../marker.csv", "./../marker.csv", "a/../../marker.csv", "a/./../../marker.csv"]
NAMES += ["marker.csv/../../marker.csv", "/marker.csv", "//host/share/marker.csv", "///marker.csv", "..\\marker.csv"]
NAMES += ["a\\..\\..\\marker.csv", "a/..\\..\\marker.csv", "\\marker.csv", "\\\\host\\share\\marker.csv"]
NAMES += ["C:\\marker.csv", "C:marker.csv", "C:/marker.csv", "file:///marker.csv", "../marker.txt", "..%2fmarker.csv"]
NAMES += ["..∕marker.csv", "．．／marker.csv", "~/marker.csv", "$HOME/marker.csv"]
SLIPPING: Files = {name: named(name) for name in NAMES}
NAMING: Files = {
    "NUL byte": patched((LOCAL + 30, b"\0"), (CENTRAL + 46, b"\0"), packed=ZIP),
    "NUL byte before another ending": zipped(("marker.csv_.sh", ROWS)).replace(b"csv_", b"csv\0"),
    "line break": named("x\nmarker.csv"),
    "terminal's escape": named("\x1b[2J\x1b[31mmarker.csv"),
    "right-to-left": named("x\u202evsc.csv"),
    "not Unicode": zipped(("é.csv", ROWS)).replace("é".encode(), b"\xff\xfe"),
    "65,000 characters": named("x" * 65_000 + ".csv"),
    "2,000 folders": named("x/" * 2000 + "x.csv"),
    "only dots": named("...csv"),
    "devices of Windows": zipped(*((f"{name}.csv", ROWS) for name in ("CON", "NUL", "AUX", "COM1", "LPT1"))),
    "stream": named("x.csv:stream.csv"),
    "ends in a dot": named("x.csv."),
    "other case": zipped(("x.csv", ROWS), ("X.CSV", ROWS)),
    "file and folder": zipped(("x.csv", ROWS), ("x.csv/y.csv", ROWS), ("x.csv/", b"")),
    "header of another name": patched((LOCAL + 30, b"y")),
}
LINKING: Files = {
    "link to a file": zipped(special("x.csv", stat.S_IFLNK | 0o777)),
    "link to a folder": zipped(special("a", stat.S_IFLNK | 0o777, b"/etc"), ("a/passwd.csv", ROWS)),
    "link upwards": zipped(special("a.csv", stat.S_IFLNK | 0o777, b"../.."), ("a.csv/marker.csv", ROWS)),
    "device": zipped(special("x.csv", stat.S_IFCHR | 0o666, ROWS)),
    "pipe": zipped(special("x.csv", stat.S_IFIFO | 0o666, ROWS)),
    "socket": zipped(special("x.csv", stat.S_IFSOCK | 0o666, ROWS)),
    "setuid": zipped(special("x.csv", stat.S_IFREG | 0o6777, ROWS)),
}
BOMBING: Files = {
    "deflated": zipped(("x.csv", ROWS + b"\n" * 2**27)),
    "stated small": patched((22, b"\x10\0\0\0"), packed=zipped(("x.csv", b" " * 2**26))),
    "overlapping": overlapping(1000),
    "nested": nested(3),
    "lzma": zipped(("x.csv", ROWS + b"\n" * 2**26), method=zipfile.ZIP_LZMA),
    "bzip2": zipped(("x.csv", ROWS + b"\n" * 2**26), method=zipfile.ZIP_BZIP2),
    "not comments": zipped(("x.csv", ROWS), ("x.bin", b"\0" * 2**26)),
    "10,000 entries": zipped(*((f"{number}.csv", b"CONTENT,CLASS\n") for number in range(10_000))),
    "10,000 other entries": zipped(("x.csv", ROWS), *((f"{number}.txt", b"") for number in range(10_000))),
    "one long field": zipped(("x.csv", ROWS + b'"' + b"x" * 2**24)),
    "one long row": zipped(("x.csv", ROWS + b"," * 2**20)),
    "many columns": zipped(("x.csv", b"CONTENT,CLASS" + b"".join(b",%d" % n for n in range(2000)) + b"\n")),
    "quotes": zipped(("x.csv", ROWS + b'"' * 2**20)),
}
DAMAGED: Files = {
    "encrypted": both(6, b"\x01"),
    "strongly encrypted": both(6, b"\x41"),
    "patch data": both(6, b"\x20"),
    **{f"method {number}": both(8, bytes([number])) for number in (1, 6, 9, 12, 14, 93, 95, 97, 99)},
    "of version 25.5": both(4, b"\xff"),
    "wrong sum": both(14, b"\0\0\0\0"),
    "packed to nothing": both(18, b"\0\0\0\0"),
    "packed to 4 GiB": both(18, b"\xfe\xff\xff\xff"),
    "unpacks to 4 GiB": both(22, b"\xfe\xff\xff\xff"),
    "sizes elsewhere": both(18, b"\xff" * 8),
    "header beyond the end": patched((CENTRAL + 42, b"\xf0\xff\xff\x7f")),
    "header in the list": patched((CENTRAL + 42, struct.pack("<I", CENTRAL))),
    "name beyond the end": patched((CENTRAL + 28, b"\xff\xff")),
    "extra field beyond the end": patched((CENTRAL + 30, b"\xff\xff")),
    "remark beyond the end": patched((END + 20, b"\xff\xff")),
    "list beyond the end": patched((END + 16, b"\xf0\xff\xff\x7f")),
    "list of 4 GiB": patched((END + 12, b"\xf0\xff\xff\xff")),
    "65,535 entries": patched((END + 8, b"\xff\xff\xff\xff")),
    "on other disks": patched((END + 4, b"\x07\0\x07\0")),
    "an end alone": ZIP[END:],
    "two ends": ZIP + ZIP[END:],
    "code before it": b"#!/bin/sh\ntouch marker\n" + ZIP,
    "2**60 entries": ZIP[:END]
    + b"PK\x06\x06"
    + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2**60, 2**60, END - CENTRAL, CENTRAL)
    + b"PK\x06\x07"
    + struct.pack("<IQI", 0, END, 1)
    + b"PK\x05\x06"
    + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 0xFFFFFFFF, 0xFFFFFFFF, 0),
}
