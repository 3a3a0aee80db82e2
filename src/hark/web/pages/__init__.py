"""The pages for people. None is in the API's description."""

from __future__ import annotations

from fastapi import APIRouter

from hark.web.pages import account, manage

router = APIRouter(include_in_schema=False)
router.include_router(account.router)
router.include_router(manage.router)
