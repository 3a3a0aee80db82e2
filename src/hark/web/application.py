"""The application: the store, who may ask what, the API, the pages, and models that answer live."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from itsdangerous import Signer
from starlette.staticfiles import StaticFiles

from hark import __version__
from hark.feedback import secret_keys
from hark.feedback.store import Store
from hark.web import api, failures, pages
from hark.web.limits import Limits
from hark.web.rendering import STATIC
from hark.web.settings import WebSettings


def build_application(store: Store, *, settings: WebSettings | None = None) -> FastAPI:
    """The application over a store, which stays its caller's to close."""
    settings = settings or WebSettings()

    @contextlib.asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        yield

    application = FastAPI(
        title="hark feedback",
        version=__version__,
        lifespan=lifespan,
        # The interactive pages fetch their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    application.state.store = store
    application.state.settings = settings
    application.state.signer = Signer(secret_keys.find(store, "cookies"), salt="hark.session")
    failures.add_handlers(application)
    application.include_router(api.router, prefix="/api/v1")
    application.include_router(pages.router)
    application.mount("/static", StaticFiles(directory=STATIC), name="static")
    application.add_middleware(Limits, settings=settings)
    return application
