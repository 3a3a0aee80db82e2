"""The pages for people. None is in the API's description."""

from __future__ import annotations

from fastapi import APIRouter

from hark.web.pages import account, history, home, manage, study, work

router = APIRouter(include_in_schema=False)
router.include_router(account.router)
router.include_router(home.router)
router.include_router(study.router)
router.include_router(work.router)
router.include_router(history.router)
router.include_router(manage.router)
