"""Items as they are sent: a JSON array, or one item a line.

The body is read only after the sender has been found to be a manager, since it may be long.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Request
from pydantic import TypeAdapter, ValidationError

from hark.feedback.items import NewItem
from hark.feedback.refusals import FeedbackError, InvalidLabelError
from hark.settings import describe_validation_error
from hark.web.identity import Manager

JSON: Final = "application/json"
LINES: Final = ("application/x-ndjson", "application/jsonl")
ITEMS: Final[TypeAdapter[list[NewItem]]] = TypeAdapter(list[NewItem])
ITEM: Final[TypeAdapter[NewItem]] = TypeAdapter(NewItem)
ROUTE: Final = "#/paths/~1api~1v1~1studies~1%7Bname%7D~1items/post"
HERE: Final = ROUTE + "/requestBody/content/application~1json/schema"
"""Where the description has the schema of items: FastAPI knows no body that it does not read."""
ITEMS_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON: {"schema": ITEMS.json_schema(ref_template=HERE + "/$defs/{model}")},
        LINES[0]: {"schema": {"type": "string", "description": "One item a line, as JSON"}},
    },
}


class UnknownTypeError(FeedbackError):
    """A body that is neither JSON nor JSON lines."""

    status = 415


async def read_upload(request: Request, _caller: Manager) -> tuple[str, bytes]:
    """The type and the bytes of a manager's upload. Raises: UnknownTypeError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, *LINES):
        raise UnknownTypeError(f"items come as {JSON} or {LINES[0]}, not as '{kind}'")
    return kind, await request.body()


def read_items(upload: Annotated[tuple[str, bytes], Depends(read_upload)]) -> list[NewItem]:
    """The items of an upload. Raises: InvalidLabelError with item or line, from 1."""
    kind, body = upload
    if kind == JSON:
        try:
            return ITEMS.validate_json(body)
        except ValidationError as error:
            raise _refused(error, "the items (counted from 0)") from None
    found = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            try:
                found.append(ITEM.validate_json(line))
            except ValidationError as error:
                raise _refused(error, f"line {number}") from None
    return found


def _refused(error: ValidationError, where: str) -> InvalidLabelError:
    return InvalidLabelError(describe_validation_error(error, where=where))


Uploaded = Annotated[list[NewItem], Depends(read_items)]
