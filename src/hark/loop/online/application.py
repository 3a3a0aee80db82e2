"""The feedback application as a loop reaches it: a server that is there, or one of its own.

All else goes through `FeedbackClient`. No torch.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hark.errors import SettingsError
from hark.feedback.refusals import NotFoundError, NotSignedInError
from hark.loop.online.place import Loop
from hark.loop.online.processes import KeptProcess, kept_port, port_file, tell_process
from hark.runs.files import write_json
from hark.settings import read_settings_file
from hark.web.client import FeedbackClient, Patience

TOKEN_VARIABLE: Final = "HARK_TOKEN"
OWNER: Final = "owner.json"
TOKEN_LABEL: Final = "hark loop"
STORE: Final = "feedback.db"
PATIENCE: Final = Patience(seconds=120, longest_wait_seconds=1.0)
"""A server that was killed is started again within seconds."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """A server that answers, and its owner."""

    url: str
    client: FeedbackClient
    own: bool
    """Whether it ends with this process."""
    hint: str = ""
    """How a server that is not ours gets to know the snapshots of live dialogues."""


@contextlib.contextmanager
def application(
    loop: Loop, models: Mapping[str, str], *, stays: bool, people: bool = True
) -> Iterator[Application]:
    """The server, with an owner signed in, for the length of a block.

    models: name → model of the snapshots that answer while people work; a server of the loop's own
    is told where they are.
    stays: whether this process waits for labels, and so has models to serve.
    people: whether anybody but this process and its children may know the address.
    Raises: SettingsError without a token for a server that is there; RunError if nothing starts.
    """
    given = loop.settings.server
    with contextlib.ExitStack() as stack:
        folder = loop.path / "server"
        tell_process(folder, "loop", os.getpid())
        stack.callback(tell_process, folder, "loop", None)
        endpoints = {}
        if models and stays:
            endpoints = _serve_models(loop, models, stack)
        if given.url is not None:
            token = os.environ.get(TOKEN_VARIABLE)
            if not token:
                raise SettingsError(
                    f"the server at {given.url} wants an owner's API token: set {TOKEN_VARIABLE}"
                )
            client = stack.enter_context(FeedbackClient(given.url, token, patience=PATIENCE))
            hint = _hint(loop, models) if models else ""
            if hint and stays:
                print(hint.lstrip("; "), file=sys.stderr, flush=True)
            yield Application(url=given.url, client=client, own=False, hint=hint)
            return
        server = stack.enter_context(_own_server(loop, endpoints, people=people))
        client = stack.enter_context(_owner(folder, server))
        yield Application(url=server.said["url"], client=client, own=True)


def _hint(loop: Loop, models: Mapping[str, str]) -> str:
    """What a server of somebody else's needs for live dialogues."""
    given = loop.settings.server
    port = kept_port(loop.path / "server", "models", given.host, given.models_port)
    serve = " ".join(f"{name}={path}" for name, path in models.items())
    told = " ".join(f"--model {name}=http://{given.host}:{port}/v1#{name}" for name in models)
    return (
        f"; while people work, `hark serve-model {serve} --port {port}` must run (--wait does so), "
        f"and the server must have been started with {told}"
    )


def _serve_models(
    loop: Loop, models: Mapping[str, str], stack: contextlib.ExitStack
) -> dict[str, str]:
    """Name → endpoint of each snapshot, answering."""
    folder = loop.path / "server"
    host = loop.settings.server.host
    known_outside = loop.settings.server.url is not None
    port = kept_port(
        folder, "models", host, loop.settings.server.models_port, secret=not known_outside
    )
    command = [
        "serve-model", *(f"{name}={path}" for name, path in models.items()),
        "--host", host, "--port", str(port), "--device", loop.settings.device,
        "--dtype", loop.settings.dtype, "--json",
    ]  # fmt: skip
    way_out = _way_out(folder, "models", port)
    process = KeptProcess("models", command, folder=folder, serves=True, way_out=way_out)
    kept = stack.enter_context(process)
    url = kept.wait_ready()["url"]
    return {name: f"{url}#{name}" for name in models}


def _own_server(loop: Loop, endpoints: Mapping[str, str], *, people: bool) -> KeptProcess:
    folder, host = loop.path / "server", loop.settings.server.host
    port = kept_port(folder, "server", host, loop.settings.server.port, secret=not people)
    named = [part for name, url in endpoints.items() for part in ("--model", f"{name}={url}")]
    command = [
        "serve", "--store", str(folder / STORE), "--exports", str(folder / "exports"),
        "--host", host, "--port", str(port), *named, "--json",
    ]  # fmt: skip
    way_out = _way_out(folder, "server", port)
    return KeptProcess("server", command, folder=folder, serves=True, way_out=way_out)


def _way_out(folder: Path, name: str, port: int) -> str:
    """What helps if the port is another program's by now."""
    path = port_file(folder, name)
    if not path.exists():
        return f" (if another program has port {port}: end that one)"
    return f" (if another program has port {port}: end that one, or delete '{path}' for a new port)"


def _owner(folder: Path, server: KeptProcess) -> FeedbackClient:
    """The owner of the loop's own server; the first time by its invitation.

    Login and password are on the disk before the account is made, so that a kill in between locks
    nobody out.
    """
    path = folder / OWNER
    if not path.exists():
        write_secret(path, {"login": "loop", "password": secrets.token_urlsafe(24)})
    account = read_settings_file(path)
    if "token" not in account:
        with FeedbackClient(server.wait_ready()["url"], patience=PATIENCE) as client:
            _sign_in(client, account, server)
            client.revoke_tokens(TOKEN_LABEL)  # One that was made, but not written down.
            account["token"] = client.create_token(TOKEN_LABEL).secret
        write_secret(path, account)
    return FeedbackClient(server.wait_ready()["url"], account["token"], patience=PATIENCE)


def _sign_in(client: FeedbackClient, account: Mapping[str, str], server: KeptProcess) -> None:
    """Raises: NotSignedInError if somebody else owns the store."""
    with contextlib.suppress(NotSignedInError):
        client.log_in(account["login"], account["password"])
        return
    while True:
        link = server.said["invites"].get("owner")
        if link is None:
            client.log_in(account["login"], account["password"])
            return
        try:
            client.accept_invite(link.rpartition("/")[2], account["login"], account["password"])
            return
        except NotFoundError:
            time.sleep(1.0)  # A server that was started again has told another link.


def owner_of(loop: Loop) -> FeedbackClient:
    """A client of the loop's owner, from another process than the loop's. Raises: SettingsError."""
    if loop.settings.server.url is not None:
        token = os.environ.get(TOKEN_VARIABLE)
        return FeedbackClient(loop.settings.server.url, token, patience=PATIENCE)
    path = loop.path / "server" / OWNER
    if not path.exists():
        raise SettingsError(f"the loop '{loop.path}' has not served yet: `hark loop round` does")
    account = read_settings_file(path)
    return FeedbackClient(address_of(loop), account["token"], patience=PATIENCE)


def address_of(loop: Loop) -> str:
    """Where the application is, or will be."""
    given = loop.settings.server
    if given.url is not None:
        return given.url
    port = kept_port(loop.path / "server", "server", given.host, given.port)
    return f"http://{given.host}:{port}"


def write_secret(path: Path, values: Mapping[str, Any]) -> None:
    """Whole or not at all, and for its owner's eyes: its directory is for nobody else's."""
    write_json(path, dict(values))
    path.chmod(0o600)
