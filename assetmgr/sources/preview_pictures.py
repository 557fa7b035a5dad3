"""Pictures of a site for the place beside a model: fetched within limits, decoded, written anew.

Only pixels survive: metadata, colour profiles, further frames and whatever else hides in a file of
the network do not.
"""

from __future__ import annotations

import io
import warnings

from assetmgr.sources.web import Web
from converters.errors import CorruptFile, NotAvailable
from converters.progress import SILENT, Progress

MOST_BYTES = 16 << 20
MOST_PIXELS = 40_000_000
LONGEST_SIDE = 768
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def fetch(web: Web, address: str, subject: str, progress: Progress = SILENT) -> bytes:
    """A picture as PNG. Raises NotAvailable, CorruptFile, Cancelled."""
    with web.open_elsewhere(address, subject, progress=progress) as answer:
        if answer.status_code != 200:
            cause = f"the picture is answered with status {answer.status_code}"
            raise NotAvailable(cause, path=subject)
        body = web.read(answer, subject, MOST_BYTES)
    return redrawn(body, subject)


def redrawn(body: bytes, subject: str) -> bytes:
    """The pixels of a picture as PNG, no longer than `LONGEST_SIDE`. Raises CorruptFile."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(body), formats=_FORMATS)
            if picture.width * picture.height > MOST_PIXELS:
                raise CorruptFile("is a picture of too many pixels", path=subject)
            picture.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise CorruptFile("is a picture of too many pixels", path=subject) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError):  # what Pillow's readers raise
        raise CorruptFile("is no picture that can be read", path=subject) from None
    upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    target = io.BytesIO()
    Image.frombytes("RGB", upright.size, upright.tobytes()).save(target, "PNG")
    return target.getvalue()
