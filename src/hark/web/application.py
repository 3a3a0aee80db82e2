"""The application: the store, who may ask what, the API, the pages, and models that answer live."""

from __future__ import annotations

import asyncio
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
from hark.web.live.drawing import Drawer
from hark.web.live.endpoints import LiveModels
from hark.web.live.replies import Replies
from hark.web.rendering import STATIC
from hark.web.settings import WebSettings


def build_application(
    store: Store, *, settings: WebSettings | None = None, models: LiveModels | None = None
) -> FastAPI:
    """The application over a store, which stays its caller's to close.

    models: those that answer; while the application runs, what waits for them is drawn.
    """
    settings = settings or WebSettings()
    models = models or LiveModels()
    replies = Replies(store, models)

    @contextlib.asynccontextmanager
    async def lifespan(_application: FastAPI) -> AsyncIterator[None]:
        draws = models.any_expected
        drawer = asyncio.create_task(Drawer(store, models).run()) if draws else None
        yield
        if drawer is not None:
            drawer.cancel()
            await asyncio.gather(drawer, return_exceptions=True)
        replies.end()
        await replies.join()
        await models.close()

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
    application.state.replies = replies
    application.state.signer = Signer(secret_keys.find(store, "cookies"), salt="hark.session")
    failures.add_handlers(application)
    application.include_router(api.router, prefix="/api/v1")
    application.include_router(pages.router)
    application.mount("/static", StaticFiles(directory=STATIC), name="static")
    application.add_middleware(Limits, settings=settings)
    return application
