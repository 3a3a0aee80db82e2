"""`hark serve`: the feedback application, over a store, with models that answer."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from hark.cli.outcome import print_json
from hark.errors import SettingsError
from hark.feedback import invites
from hark.feedback.store import Store
from hark.loop import demo
from hark.runs.run import is_endpoint
from hark.serving.listening import address_of, open_socket
from hark.web.application import build_application
from hark.web.live.endpoints import LiveModel, LiveModels, parse_models
from hark.web.live.local_models import LocalModels
from hark.web.server import serve as serve_application
from hark.web.settings import WebSettings

STORE = "feedback.db"
DEMO = Path("runs") / "demo"
Flag = {"negative": (), "show_default": False}

Models = Annotated[
    list[str],
    Parameter(
        name="--model",
        help="A model that answers in studies which name it among their snapshots, as NAME=URL of "
        "an OpenAI-compatible endpoint (NAME=URL#MODEL where it has several), or as NAME=PATH of "
        "a model directory or run, which is then served in a process of its own; may be repeated. "
        "The key for NAME is read from the environment variable HARK_API_KEY_NAME, or from "
        "HARK_API_KEY.",
        negative=(),
        show_default=False,
    ),
]
Proxies = Annotated[
    list[str],
    Parameter(
        name="--trusted-proxies",
        help="Addresses of proxies whose X-Forwarded-For is believed.",
        consume_multiple=True,
        negative=(),
        show_default=False,
    ),
]


def serve(
    *,
    store: Annotated[
        str | None,
        Parameter(
            help="Where feedback is kept: a file, made if it is not there, or a postgresql:// URL; "
            f"{STORE} by default, and {DEMO}/{STORE} for the demo."
        ),
    ] = None,
    host: Annotated[
        str, Parameter(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, Parameter(help="Port to listen at; 0 finds a free one.", validator=Number(gte=0))
    ] = 8080,
    model: Models = [],  # noqa: B006 (cyclopts shows it; it is never changed)
    exports: Annotated[
        Path, Parameter(help="Directory for data snapshots that are made in the browser.")
    ] = Path("exports"),
    secure_cookies: Annotated[
        bool,
        Parameter(help="Send cookies over HTTPS only: on behind a proxy that speaks it.", **Flag),
    ] = False,
    trusted_proxies: Proxies = [],  # noqa: B006
    demo_: Annotated[
        bool,
        Parameter(
            name="--demo",
            help="Begin with three studies on the playground, invite links, and two small models: "
            "the quickstart's if it has run, else two that are trained meanwhile.",
            **Flag,
        ),
    ] = False,
    json: Annotated[
        bool,
        Parameter(
            help="Print lines of JSON on stdout: one once requests are answered, with url, port "
            "and invite links, and one once models that are served here answer.",
            **Flag,
        ),
    ] = False,
) -> None:
    """Serve until Ctrl-C; with --json, one line says when and where requests are answered."""
    settings = WebSettings(
        exports=exports, secure_cookies=secure_cookies, trusted_proxies=tuple(trusted_proxies)
    )
    given = parse_models(model)
    _log_to_stderr()
    with open_socket(host, port) as listening:
        teller = _Teller(as_json=json, address=address_of(listening))
        models = LiveModels(
            LiveModel(name, address) for name, address in given.items() if is_endpoint(address)
        )
        local = _local_models(given, models, teller, demo_=demo_)
        with _open_store(store, demo_=demo_) as place:
            if demo_:
                links = demo.prepare(place, _demo_names(given))
                teller.invite("owner", links.owner)
                for study, secret in links.labelers.items():
                    teller.invite(study, secret)
            else:
                teller.invite("owner", invites.invite_first_owner(place))
            try:
                application = build_application(place, settings=settings, models=models)
                if local is not None:
                    local.start()
                serve_application(
                    application,
                    listening,
                    on_ready=lambda: teller.ready(listening.getsockname()[1]),
                )
            except KeyboardInterrupt:
                teller.say("stopped")
            finally:
                if local is not None:
                    local.end()


@dataclass(kw_only=True)
class _Teller:
    """What the command prints, for a person or for a program."""

    as_json: bool
    address: str
    invites: dict[str, str] = field(default_factory=dict)

    def invite(self, whom: str, secret: str | None) -> None:
        """whom: "owner", or the name of a study for its labelers."""
        if secret is not None:
            self.invites[whom] = f"{self.address}/invite/{secret}"

    def ready(self, port: int) -> None:
        if self.as_json:
            links = {"invites": self.invites}
            print_json({"status": "ready", "url": self.address, "port": port, **links})
            return
        print(f"hark is at {self.address} (Ctrl-C ends it)", flush=True)
        for whom, link in self.invites.items():
            who = "the first owner" if whom == "owner" else f"labelers of {whom}"
            print(f"invite for {who}: {link}", flush=True)

    def models_ready(self, names: list[str]) -> None:
        if self.as_json:
            print_json({"status": "models ready", "models": names})
        else:
            print(f"models answer: {', '.join(names)}", flush=True)

    def say(self, line: str) -> None:
        if not self.as_json:
            print(line, flush=True)


def _open_store(place: str | None, *, demo_: bool) -> Store:
    if place is None and demo_:
        DEMO.mkdir(parents=True, exist_ok=True)
        return Store(DEMO / STORE)
    return Store(place or STORE)


def _demo_names(given: dict[str, str]) -> list[str]:
    return list(given or demo.find_quickstart(DEMO.parent)) or list(demo.TRAINED)


def _local_models(
    given: dict[str, str], models: LiveModels, teller: _Teller, *, demo_: bool
) -> LocalModels | None:
    """The models that this command serves itself, if any. Raises: SettingsError for no model."""
    paths = {name: address for name, address in given.items() if not is_endpoint(address)}
    for name, path in paths.items():
        if not Path(path).exists():
            raise SettingsError(
                f"--model {name}={path}: there is no such directory, nor is it a URL"
            )
    find_paths: Callable[[Any], Any]
    if paths:
        find_paths = lambda _run: paths  # noqa: E731
    elif demo_ and not given:
        ready_made = demo.find_quickstart(DEMO.parent)
        find_paths = lambda run: ready_made or demo.train(run, DEMO / "models")  # noqa: E731
    else:
        return None
    return LocalModels(models, find_paths, say=_say_of_models, on_ready=teller.models_ready)


def _say_of_models(line: str) -> None:
    print(f"models: {line}", file=sys.stderr, flush=True)


def _log_to_stderr() -> None:
    """Refusals, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("hark")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
