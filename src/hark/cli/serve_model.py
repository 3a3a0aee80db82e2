"""`hark serve-model`: models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hark.cli.outcome import print_json
from hark.errors import SettingsError
from hark.runs.settings import Dtype
from hark.serving.listening import open_socket, url_of
from hark.serving.refusal import WITHHELD_REPLY

Models = Annotated[
    list[str],
    Parameter(
        name="--models",
        help="Model directories, runs or Hub names, each as NAME=PATH or a path alone, which is "
        "then named after its directory; the word --models may be left out. Clients choose by "
        "name.",
        consume_multiple=True,
        negative=(),
    ),
]


def serve_model(
    models: Models,
    *,
    host: Annotated[
        str, Parameter(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, Parameter(help="Port to listen at; 0 finds a free one.", validator=Number(gte=0))
    ] = 8000,
    device: Annotated[str, Parameter(help="Where to compute: auto, cpu, cuda or cuda:1.")] = "auto",
    dtype: Annotated[Dtype, Parameter(help="Precision of the arithmetic.")] = "float32",
    rows: Annotated[
        int, Parameter(help="Responses of a model drawn at once.", validator=Number(gte=1))
    ] = 64,
    max_waiting: Annotated[
        int,
        Parameter(
            help="Responses of a model that may wait for a row; beyond that a request is refused "
            "with status 503.",
            validator=Number(gte=0),
        ),
    ] = 256,
    context: Annotated[
        int | None,
        Parameter(
            help="Most tokens of a prompt with its response, by default the model's own context. "
            "Rows times context is what the keys and values take in memory.",
            validator=Number(gte=2),
        ),
    ] = None,
    scorer: Annotated[
        str | None,
        Parameter(
            help="A preference model's directory or run, which chooses among the responses where a "
            "chat asks for the best_of several; without it such requests are refused."
        ),
    ] = None,
    refuse_out_of_distribution: Annotated[
        Path | None,
        Parameter(
            help="A run of hark outliers: prompts that its detector finds strange are refused "
            "without asking a model. /health counts them."
        ),
    ] = None,
    refusal: Annotated[str, Parameter(help="What such a prompt is answered.")] = WITHHELD_REPLY,
    json: Annotated[
        bool,
        Parameter(
            help="Print one line of JSON on stdout once requests are answered: url, port, models.",
            negative=(),
            show_default=False,
        ),
    ] = False,
) -> None:
    """Serve models until Ctrl-C; with --json, one line says when and where they are ready."""
    # Imported here: `--help` should not wait for torch.
    from hark.serving.gatekeeper import Gatekeeper
    from hark.serving.ranker import Ranker
    from hark.serving.served_model import ServedModel, parse_names
    from hark.serving.server import serve

    paths = parse_names(models)
    if not paths:
        raise SettingsError("name at least one model to serve: a directory, a run or a Hub name")
    if refuse_out_of_distribution is None and refusal != WITHHELD_REPLY:
        raise SettingsError("--refusal would be ignored without --refuse-out-of-distribution")
    with open_socket(host, port) as listening:
        served = {
            name: ServedModel.load(
                name, path, device=device, dtype=dtype, rows=rows, most_waiting=max_waiting,
                context=context,
            )
            for name, path in paths.items()
        }  # fmt: skip
        ranker = None if scorer is None else Ranker.load(scorer, device=device, dtype=dtype)
        gatekeeper = None
        if refuse_out_of_distribution is not None:
            gatekeeper = Gatekeeper.load(refuse_out_of_distribution, text=refusal, device=device)
            if not json:
                print(gatekeeper.describe())
        url, names = url_of(listening), list(served)

        def announce_ready() -> None:
            if json:
                chosen = listening.getsockname()[1]
                print_json({"status": "ready", "url": url, "port": chosen, "models": names})
            else:
                print(f"serving {', '.join(names)} at {url} (Ctrl-C ends it)", flush=True)

        try:
            serve(served, listening, ranker=ranker, gatekeeper=gatekeeper, on_ready=announce_ready)
        except KeyboardInterrupt:
            if not json:
                print("stopped", flush=True)
