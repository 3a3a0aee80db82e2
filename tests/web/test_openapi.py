"""The description of the API against the API: whatever is sent, the answer is one it describes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.feedback.workshop import Workshop

from hark.feedback import assignment, labelling, sign_in
from hark.feedback.accounts import Person
from hark.feedback.assignment import Assignment

EXAMPLES = 6
"""Of each route and role, of fitting and unfitting data, and of ids that exist and do not."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDS_THE_CALLER = {("DELETE", "/api/v1/me"), ("PUT", "/api/v1/me/password")}
DESCRIPTION = "/api/v1/openapi.json"
REACHED = {
    "labeler": ["/studies/{name}", "/assignments/{assignment_id}", "/studies/{name}/labels"],
    "owner": ["/studies/{name}/items", "/studies/{name}/events", "/studies/{name}/members"],
}
"""Some of what each must have got at, for refusals alone would show little."""


class World:
    """A study with work in it, and the ids by which routes are reached."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        study = workshop.study(overlap=3, categories={"violence": "Violent."})
        workshop.votes(study, 20)
        waiting = workshop.votes(study, 1)[0]
        self.labeler = workshop.labeler(study)
        done, held = (self._work(study.id, step) for step in (True, False))
        self.ids = {
            "name": study.settings.name,
            "item_id": waiting,
            "assignment_id": held,
            "event_id": done,
            "person_id": workshop.labeler(study).id,
            "category": "violence",
        }

    def _work(self, study_id: str, step: bool) -> str:
        store = self.workshop.store
        claimed = assignment.claim(store, study_id, self.labeler.id)
        assert isinstance(claimed, Assignment)
        if not step:
            return claimed.id
        vote = {"chosen": None}
        kept = labelling.submit(store, claimed.id, self.labeler.id, "vote", vote, client_key="k")
        return kept.event.id

    def token(self, person: Person) -> str:
        return sign_in.create_api_token(self.workshop.store, person.id, "not to be guessed 9f2c")


def streams(operation: APIOperation[Any, Any, Any]) -> bool:
    """Whether it answers for as long as somebody listens."""
    responses = operation.definition.raw["responses"]
    return "text/event-stream" in responses.get("200", {}).get("content", {})


@pytest.mark.parametrize("role", ["labeler", "owner"])
def test_whatever_is_sent_the_answer_is_as_described(
    server: str, workshop: Workshop, role: str
) -> None:
    world = World(workshop)
    person = world.labeler if role == "labeler" else workshop.owner
    token = world.token(person)
    schema = schemathesis.openapi.from_url(server + DESCRIPTION)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 35
    done: set[str] = set()
    for operation in operations:
        if streams(operation):
            continue
        fresh = role == "labeler" and (operation.method.upper(), operation.full_path) in (
            ENDS_THE_CALLER
        )
        tokens = (lambda: world.token(workshop.labeler())) if fresh else (lambda: token)
        answers = hold(st.one_of(*strategies(operation, world.ids)), tokens)
        done |= {operation.label} if any(one < 300 for one in answers) else set()
    assert done >= {f"GET /api/v1{path}" for path in REACHED[role]}, "nothing was got at"


def hold(strategy: Any, token: Callable[[], str]) -> list[int]:
    """Send what the strategy makes, each with a token; check the answers, return their statuses."""
    answers = []

    @seed(4)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def check(case: Case) -> None:
        headers = {"Authorization": f"Bearer {token()}"}
        response = case.call(headers=headers)
        answers.append(response.status_code)
        case.validate_response(response, checks=CHECKS, headers=headers)

    check()
    return answers


def strategies(operation: APIOperation[Any, Any, Any], ids: dict[str, str]) -> Iterator[Any]:
    """Fitting and unfitting requests, for what exists and for what does not."""
    named = {one.name for one in operation.path_parameters}
    known = {name: value for name, value in ids.items() if name in named}
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        for path_parameters in [known, None] if known else [None]:
            if mode is GenerationMode.NEGATIVE and not can_be_wrong(operation):
                continue
            yield operation.as_strategy(generation_mode=mode, path_parameters=path_parameters)


def can_be_wrong(operation: APIOperation[Any, Any, Any]) -> bool:
    """Whether anything about a request could fail to fit."""
    return bool(operation.body or len(operation.query) or len(operation.headers))


@pytest.fixture
def routes(server: str) -> dict[str, dict[str, Any]]:
    """Method and path → what the description says."""
    paths = httpx2.get(server + DESCRIPTION).json()["paths"]
    return {
        f"{method.upper()} {path}": described
        for path, methods in paths.items()
        for method, described in methods.items()
    }


def test_every_route_says_what_it_does_and_how_it_refuses(
    routes: dict[str, dict[str, Any]],
) -> None:
    assert len(routes) > 35
    for name, route in routes.items():
        assert route["summary"], name
        assert len(route["description"]) > 10, name
        for status, response in route["responses"].items():
            if status >= "400":
                (content,) = response["content"].values()
                assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}, name


def test_every_route_but_the_doors_says_who_may_ask(routes: dict[str, dict[str, Any]]) -> None:
    open_to_all = {name for name, route in routes.items() if "security" not in route}
    assert open_to_all == {
        "POST /api/v1/sessions",
        "GET /api/v1/invites/{secret}",
        "POST /api/v1/invites/{secret}",
    }
    for name in set(routes) - open_to_all:
        assert {"401", "403"} <= set(routes[name]["responses"]), name


def test_steps_are_described_with_their_key(routes: dict[str, dict[str, Any]]) -> None:
    keyed = {
        name.removeprefix("POST /api/v1")
        for name, route in routes.items()
        if any(one["name"] == "Idempotency-Key" for one in route.get("parameters", ()))
    }
    assert keyed >= {
        "/assignments/{assignment_id}/steps",
        "/assignments/{assignment_id}/skip",
        "/assignments/{assignment_id}/finish",
        "/events/{event_id}/corrections",
        "/events/{event_id}/grade",
        "/studies/{name}/screening/assessment",
    }


def test_no_answer_to_a_labeler_has_a_place_for_what_they_must_not_see(server: str) -> None:
    schemas = httpx2.get(server + DESCRIPTION).json()["components"]["schemas"]
    for name in ("StudyForLabeler", "ViewBody", "ShownCandidate", "OwnLabel", "ReceiptBody"):
        fields = set(schemas[name]["properties"])
        assert not fields & {
            "snapshot", "gold", "gold_fraction", "use", "labeler", "author", "settings", "overlap",
            "held_out", "sampling", "logprob", "snapshots",
        }, name  # fmt: skip
        assert schemas[name]["additionalProperties"] is False
