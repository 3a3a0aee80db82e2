"""The API for programs, under `/api/v1`; the pages' scripts use it too."""

from __future__ import annotations

from fastapi import APIRouter

from hark.web.api import replies

router = APIRouter()
router.include_router(replies.router)
