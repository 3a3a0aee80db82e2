"""The pages for people. None is in the API's description."""

from __future__ import annotations

from fastapi import APIRouter

from hark.web.pages import account

router = APIRouter(include_in_schema=False)
router.include_router(account.router)
