"""What the first bytes of a file say it is, in words for an error message.

Sources: the magic numbers of the formats named; git-lfs `docs/spec.md` for pointer files.
"""

from __future__ import annotations

from converters.bytesource import ByteSource

HEAD = 4096
LONG_LOOK = 1 << 20

ZIP = "a zip archive"
TAR = "a tar archive"
GGUF = "a GGUF file"
PNG = "a PNG picture"

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"GGUF", GGUF),
    (b"\x93NUMPY", "a numpy array file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x89PNG", PNG),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
)
LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The number 0x1950a86a20f9469cfc6c as LONG1: how torch before 1.6 began its files."""

SAFETENSORS = "a safetensors file"
TORCH_LEGACY = "a torch legacy pickle (before torch 1.6)"
PICKLE = "a bare Python pickle"
JSON = "JSON text"
TEXT = "a text file"
UNKNOWN = "of an unknown format"


def sniff(source: ByteSource) -> str:
    """A name for what the bytes are, such as "a 7z archive"; reads 4 kB, at most 1 MB."""
    head = source.pread(0, min(source.size, HEAD))
    if looks_like_safetensors(head):
        return SAFETENSORS
    known = _by_magic(head)
    if known is not None:
        return known
    if _is_old_pickle(source.pread(0, min(source.size, LONG_LOOK))):
        return PICKLE
    return _text(head) or _onnx(head) or UNKNOWN


def _by_magic(head: bytes) -> str | None:
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return TAR
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return TORCH_LEGACY if _after_frame(head).startswith(LEGACY_MAGIC) else PICKLE
    return None


def _after_frame(head: bytes) -> bytes:
    """What follows PROTO, and FRAME with its length from protocol 4 on."""
    return head[11:] if head[2:3] == b"\x95" else head[2:]


def looks_like_safetensors(head: bytes) -> bool:
    """A header length below 2^32 followed by the brace that opens the header."""
    return head[4:8] == b"\0\0\0\0" and head[8:].lstrip(b" \t\r\n").startswith(b"{")


def _is_old_pickle(data: bytes) -> bool:
    """Whether data without the opcode PROTO is a pickle of protocol 0 or 1, or would act as one."""
    from converters.pickles.listing import plausible
    from converters.pickles.unpickling import unpickle

    stream = unpickle(data)
    if stream.stopped is None:
        return True
    return bool(stream.buried) or any(plausible(name) for name in stream.names)


def _text(head: bytes) -> str | None:
    try:
        text = str(head[:-4] if len(head) == HEAD else head, "utf-8")
    except UnicodeDecodeError:
        return None
    if any(character < " " and character not in "\t\r\n\f" for character in text):
        return None
    stripped = text.lstrip("\ufeff \t\r\n").lower()
    if stripped.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page in place of the file"
    if stripped.startswith("<"):
        return "an XML or HTML text"
    if stripped.startswith(("{", "[")):
        return JSON
    return TEXT


def _onnx(head: bytes) -> str | None:
    """ONNX is protobuf: ir_version as field 1, then producer as field 2 (`onnx/onnx.proto`)."""
    is_model = head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in {b"\x12", b":"}
    return "an ONNX model" if is_model else None
