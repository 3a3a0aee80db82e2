"""How the application is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from hark.settings import Settings


class WebSettings(Settings):
    """Limits and addresses of a server."""

    maximum_body_bytes: Annotated[int, Field(ge=1)] = 1_000_000
    """A longer request is refused with status 413."""
    maximum_upload_bytes: Annotated[int, Field(ge=1)] = 64_000_000
    """The same for files of items and of scores, which owners and researchers send."""
    secure_cookies: bool = False
    """Send cookies over HTTPS only: on behind a proxy that speaks it."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose `X-Forwarded-For` is believed."""
    exports: Path | None = None
    """Directory for data snapshots that are made over HTTP; None makes none."""
