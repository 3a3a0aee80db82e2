"""Sessions, tokens, invitations and accounts over HTTP."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest
from tests.feedback.workshop import Workshop

from hark.feedback import accounts
from hark.feedback.accounts import Person
from hark.feedback.refusals import (
    ConflictError,
    FeedbackError,
    InvalidLabelError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    ThrottledError,
)
from hark.web.client import FeedbackClient

Connect = Callable[[Person], FeedbackClient]
PASSWORD = "a long password"


@pytest.fixture
def ada(workshop: Workshop, server: str, connect: Connect) -> str:
    """The login of a labeler who came by an invitation."""
    secret = connect(workshop.owner).invite(study=workshop.study().settings.name).secret
    with FeedbackClient(server) as stranger:
        stranger.accept_invite(secret, "ada@example.org", PASSWORD)
    return "ada@example.org"


def test_one_logs_in_is_known_and_logs_out(server: str, ada: str) -> None:
    with FeedbackClient(server, login=ada, password=PASSWORD) as client:
        me = client.me()
        assert (me.person.login, me.person.role) == (ada, "labeler")
        assert me.csrf
        client.log_out()
        with pytest.raises(NotSignedInError):
            client.me()


def test_a_wrong_password_says_as_much_as_an_unknown_login(server: str, ada: str) -> None:
    for login in (ada, "nobody@example.org"):
        with pytest.raises(NotSignedInError, match="the login or the password is wrong"):
            FeedbackClient(server, login=login, password="wrong")


def test_after_some_wrong_passwords_one_waits(server: str, ada: str) -> None:
    with FeedbackClient(server) as client:
        for _ in range(5):
            with pytest.raises(NotSignedInError):
                client.log_in(ada, "wrong")
        with pytest.raises(ThrottledError) as caught:
            client.log_in(ada, PASSWORD)
        assert 0 < caught.value.seconds <= 15


def test_a_token_works_until_it_is_revoked(server: str, ada: str) -> None:
    with FeedbackClient(server, login=ada, password=PASSWORD) as client:
        token = client.create_token("script")
        with FeedbackClient(server, token.secret) as program:
            assert program.me().person.login == ada
            assert program.me().csrf is None
            with pytest.raises(ConflictError, match="an API token is no session"):
                program.log_out()
            with pytest.raises(NotAllowedError, match="an API token cannot do this"):
                program.create_token("another")
            assert client.revoke_tokens("another") == 0
            assert client.revoke_tokens("script") == 1
            with pytest.raises(NotSignedInError, match="not known, or was revoked"):
                program.me()


def test_a_token_is_good_for_as_long_as_was_said(workshop: Workshop, server: str, ada: str) -> None:
    with FeedbackClient(server, login=ada, password=PASSWORD) as client:
        now = workshop.store.clock()
        usual, short = client.create_token("script"), client.create_token("a moment", days=1e-9)
        assert usual.expires_at - now == pytest.approx(90 * 86400, abs=60)
        with (
            FeedbackClient(server, short.secret) as program,
            pytest.raises(NotSignedInError, match="the API token 'a moment' expired on"),
        ):
            program.me()
        with pytest.raises(InvalidLabelError, match="days"):
            client.create_token("for ever", days=366)


def test_a_new_password_ends_every_session_but_the_one_it_begins(server: str, ada: str) -> None:
    with (
        FeedbackClient(server, login=ada, password=PASSWORD) as here,
        FeedbackClient(server, login=ada, password=PASSWORD) as elsewhere,
    ):
        with pytest.raises(NotAllowedError, match="the present password is wrong"):
            here.change_password("wrong", "another password")
        here.change_password(PASSWORD, "another password")
        assert here.me().person.login == ada
        with pytest.raises(NotSignedInError):
            elsewhere.me()
    with FeedbackClient(server, login=ada, password="another password") as again:
        assert again.me().person.login == ada


def test_an_invitation_says_what_it_is_for_and_is_used_up(
    workshop: Workshop, server: str, connect: Connect
) -> None:
    study = workshop.study()
    link = connect(workshop.owner).invite(study=study.settings.name, held_out=True)
    with FeedbackClient(server) as stranger:
        found = stranger.look_at_invite(link.secret)
        assert (found.role, found.study, found.title) == ("labeler", "vote-study", "A study")
        assert "held_out" not in found.model_dump()
        stranger.accept_invite(link.secret, "eve@example.org", PASSWORD)
        assert [one.name for one in stranger.studies()] == ["vote-study"]
        with pytest.raises(NotFoundError, match="used up"):
            stranger.accept_invite(link.secret, "mal@example.org", PASSWORD)


def test_one_joins_another_study_with_the_account_one_has(
    workshop: Workshop, connect: Connect
) -> None:
    labeler = connect(workshop.labeler(workshop.study()))
    other = workshop.study("audit")
    labeler.join(connect(workshop.owner).invite(study=other.settings.name).secret)
    assert {one.name for one in labeler.studies()} == {"vote-study", "audit-study"}


@pytest.mark.parametrize(
    ("login", "password", "error", "message"),
    [
        ("a", PASSWORD, InvalidLabelError, "a login has 2 to 254"),
        ("eve", "short", InvalidLabelError, "a password has 10 to 1000"),
        ("owner", PASSWORD, ConflictError, "the login 'owner' is taken"),
    ],
)
def test_an_account_that_cannot_be_made_leaves_the_invitation(
    workshop: Workshop,
    server: str,
    connect: Connect,
    login: str,
    password: str,
    error: type[FeedbackError],
    message: str,
) -> None:
    secret = connect(workshop.owner).invite().secret
    with FeedbackClient(server) as stranger:
        with pytest.raises(error, match=message):
            stranger.accept_invite(secret, login, password)
        assert stranger.look_at_invite(secret).role == "labeler"


def test_who_may_invite_whom(workshop: Workshop, connect: Connect) -> None:
    owner, labeler = connect(workshop.owner), connect(workshop.labeler())
    with pytest.raises(NotAllowedError, match="this is for the owner and the researcher"):
        labeler.invite()
    person = workshop.labeler()
    owner.change_person(person.id, role="researcher")
    with pytest.raises(NotAllowedError, match="a researcher may not invite a owner"):
        connect(person).invite(role="owner")


def test_links_are_listed_and_revoked(workshop: Workshop, server: str, connect: Connect) -> None:
    owner, person = connect(workshop.owner), workshop.labeler()
    owner.change_person(person.id, role="researcher")
    researcher = connect(person)
    first = owner.invite(role="owner")
    link = researcher.invite(study=workshop.study().settings.name, held_out=True, uses=2)
    assert [one.role for one in owner.invites()] == ["labeler", "owner"]
    (listed,) = researcher.invites()
    assert (listed.study, listed.held_out, listed.uses_left) == ("vote-study", True, 2)
    with pytest.raises(NotAllowedError, match="may not revoke the invite of a owner"):
        researcher.revoke_invite(owner.invites()[1].id)
    researcher.revoke_invite(listed.id)
    assert [one.role for one in owner.invites()] == ["owner"]
    with FeedbackClient(server) as stranger:
        with pytest.raises(NotFoundError, match="used up"):
            stranger.look_at_invite(link.secret)
        assert stranger.look_at_invite(first.secret).role == "owner"
        with pytest.raises(NotSignedInError):
            stranger.revoke_invite(listed.id)
    with pytest.raises(NotFoundError, match="no invite 'nothing'"):
        owner.revoke_invite("nothing")


def test_owners_see_who_did_what_to_whom(workshop: Workshop, connect: Connect) -> None:
    owner, person = connect(workshop.owner), workshop.labeler()
    study = workshop.study()
    member = workshop.labeler(study)
    owner.change_person(person.id, role="researcher", disabled=False)
    researcher = connect(person)
    researcher.change_member(study.settings.name, member.id, state="rejected", held_out=True)
    researcher.change_member(study.settings.name, member.id, state="rejected")
    researcher.invite(study=study.settings.name)
    researcher.revoke_invite(researcher.invites()[0].id)
    owner.forget(member.id)
    told = list(owner.changes())
    assert [(one.kind, one.by, one.study) for one in told] == [
        ("forgotten", workshop.owner.pseudonym, None),
        ("invite_revoked", person.pseudonym, "vote-study"),
        ("invited", person.pseudonym, "vote-study"),
        ("member_changed", person.pseudonym, "vote-study"),
        ("member_changed", person.pseudonym, "vote-study"),
        ("person_changed", workshop.owner.pseudonym, None),
    ]
    changed = {"labeler": member.pseudonym, "what": "state"}
    assert told[4].about == changed | {"before": "active", "after": "rejected"}
    assert told[5].about["after"] == "researcher"
    with pytest.raises(NotAllowedError):
        list(researcher.changes())


def test_an_owner_keeps_somebody_out_and_lets_them_in_again(
    workshop: Workshop, connect: Connect
) -> None:
    owner, person = connect(workshop.owner), workshop.labeler()
    labeler = connect(person)
    assert owner.change_person(person.id, disabled=True).disabled
    with pytest.raises(NotSignedInError):
        labeler.me()
    assert not owner.change_person(person.id, disabled=False).disabled
    assert connect(person).me().person.id == person.id
    with pytest.raises(NotAllowedError):
        connect(person).change_person(person.id, role="owner")


def test_a_person_forgotten_is_nobody_and_in_no_list(workshop: Workshop, connect: Connect) -> None:
    owner, person, other = connect(workshop.owner), workshop.labeler(), workshop.labeler()
    labeler = connect(person)
    with pytest.raises(NotAllowedError):
        labeler.forget(other.id)
    with pytest.raises(NotAllowedError, match="asks for your password"):
        labeler.forget(person.id)
    assert {one.id for one in owner.people()} == {workshop.owner.id, person.id, other.id}
    owner.forget(person.id)
    owner.forget(other.id)
    with pytest.raises(NotSignedInError):
        labeler.me()
    assert [one.id for one in owner.people()] == [workshop.owner.id]
    with workshop.store.read() as connection:
        assert accounts.get_person(connection, person.id).login is None


def test_one_is_forgotten_who_says_the_password(
    workshop: Workshop, server: str, ada: str, connect: Connect
) -> None:
    with FeedbackClient(server, login=ada, password=PASSWORD) as client:
        with pytest.raises(NotAllowedError, match="the present password is wrong"):
            client.forget_me("wrong")
        assert client.me().person.login == ada
        client.forget_me(PASSWORD)
        with pytest.raises(NotSignedInError):
            client.me()
    assert [one.login for one in connect(workshop.owner).people()] == ["owner"]


def test_a_stolen_session_cannot_guess_the_password(server: str, ada: str) -> None:
    with FeedbackClient(server, login=ada, password=PASSWORD) as thief:
        for guess in range(5):
            with pytest.raises(NotAllowedError):
                thief.change_password(f"guess {guess}", "another password")
        with pytest.raises(ThrottledError):
            thief.change_password(PASSWORD, "another password")
        with pytest.raises(ThrottledError):
            thief.forget_me(PASSWORD)
        assert thief.me().person.login == ada


def test_a_browser_that_another_site_made_log_in_is_refused(server: str, ada: str) -> None:
    given = {"login": ada, "password": PASSWORD}
    foreign = {"Origin": "https://elsewhere.example"}
    response = httpx2.post(f"{server}/api/v1/sessions", json=given, headers=foreign)
    assert response.status_code == 403
    assert "set-cookie" not in response.headers
