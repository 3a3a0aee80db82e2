"""The API for programs, under `/api/v1`; the pages' scripts use it too."""

from __future__ import annotations

from fastapi import APIRouter

from hark.web.api import exports, members, people, replies, results, sessions, studies, work

router = APIRouter()
router.include_router(sessions.router)
router.include_router(people.router)
router.include_router(studies.router)
router.include_router(members.router)
router.include_router(results.router)
router.include_router(exports.router)
router.include_router(work.router)
router.include_router(replies.router)
