"""The files a render leaves behind: the PNG with its parameters text, and thumbnails of it."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from assetmgr.sampler.images.infotext import parameters_text
from assetmgr.sampler.process.jobs import RenderJob
from assetmgr.sampler.rendering.render import Picture
from converters.writers.atomic import write_whole
from registry.pictures import thumbnail_png

THUMBNAIL_EDGE = 256
"""Longest side of a thumbnail in pixels; smaller pictures keep their size."""


def write_picture(picture: Picture, job: RenderJob) -> None:
    """Write the image and thumbnails that the job wants, each whole or not at all.

    Raises WriteProblem.
    """
    image, parameters = to_image(picture.pixels), parameters_text(job)
    if job.image is not None:
        write_whole(Path(job.image), png_bytes(image, parameters), overwrite=job.overwrite)
    if job.thumbnail is not None:
        small = reduced(image)
        write_whole(Path(job.thumbnail), webp_bytes(small), overwrite=True)
        png = png_bytes(small, parameters)
        write_whole(Path(thumbnail_png(job.thumbnail)), png, overwrite=True)


def to_image(pixels: torch.Tensor) -> Image.Image:
    """An 8-bit RGB image of pixels `(3, H, W)` in 0..1."""
    rows = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return Image.fromarray(rows.numpy(), "RGB")


def png_bytes(image: Image.Image, parameters: str) -> bytes:
    """The image as PNG with the text chunk `parameters`, as other programs read it."""
    text = PngInfo()
    text.add_text("parameters", parameters)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=text)
    return file.getvalue()


def reduced(image: Image.Image) -> Image.Image:
    """The image with at most `THUMBNAIL_EDGE` pixels a side."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_EDGE, THUMBNAIL_EDGE), Image.Resampling.LANCZOS)
    return small


def webp_bytes(image: Image.Image) -> bytes:
    """The image as WebP."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=85)
    return file.getvalue()
