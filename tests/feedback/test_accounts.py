"""Accounts, invites, sessions: who gets in, who does not, and how one is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
from argon2 import PasswordHasher
from tests.feedback.workshop import Clock, Workshop

from hark.feedback import accounts, events, invites, sign_in, studies
from hark.feedback.refusals import (
    ConflictError,
    InvalidLabelError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    ThrottledError,
)
from hark.feedback.store import Store
from hark.feedback.tables import people

PASSWORD = "correct horse battery"


@pytest.fixture
def owner(store: Store) -> accounts.Person:
    return accounts.create_owner(store, "Ada@example.org", PASSWORD)


def labeler(store: Store, owner: accounts.Person, login: str = "bob") -> accounts.Person:
    return invites.accept(store, invites.invite(store, by=owner.id), login, PASSWORD)


def test_only_a_new_store_makes_an_owner(store: Store, owner: accounts.Person) -> None:
    assert owner.role == "owner"
    with pytest.raises(ConflictError, match="ask its owner for an invite"):
        accounts.create_owner(store, "eve", PASSWORD)


def test_signing_in_and_out(store: Store, owner: accounts.Person) -> None:
    session = sign_in.log_in(store, " ADA@example.org ", PASSWORD, address="10.0.0.1")
    assert sign_in.find_session(store, session.secret) == session
    sign_in.log_out(store, session.secret)
    with pytest.raises(NotSignedInError, match="log in"):
        sign_in.find_session(store, session.secret)


def test_sessions_end_by_themselves_and_differ(
    store: Store, owner: accounts.Person, clock: Clock
) -> None:
    first = sign_in.start_session(store, owner.id)
    second = sign_in.start_session(store, owner.id)
    assert first.secret != second.secret
    assert first.csrf != second.csrf
    clock.now += sign_in.SESSION_SECONDS
    with pytest.raises(NotSignedInError):
        sign_in.find_session(store, first.secret)


def test_the_store_keeps_no_secret(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        owner = accounts.create_owner(store, "ada", PASSWORD)
        secrets = [
            PASSWORD,
            sign_in.start_session(store, owner.id).secret,
            sign_in.create_api_token(store, owner.id, "test"),
            invites.invite(store, by=owner.id),
        ]
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"argon2id" in kept
    for secret in secrets:
        assert secret.encode() not in kept


def test_a_wrong_login_reads_like_a_wrong_password(store: Store, owner: accounts.Person) -> None:
    messages = []
    for login, password in (
        ("ada@example.org", "wrong password"),
        ("nobody", PASSWORD),
        ("\0", ""),
    ):
        with pytest.raises(NotSignedInError) as caught:
            sign_in.log_in(store, login, password, address="10.0.0.1")
        messages.append(str(caught.value))
    assert len(set(messages)) == 1


def test_guessing_is_slowed_down(store: Store, owner: accounts.Person, clock: Clock) -> None:
    """Five failures are free; then 15 s, and after one more failure 30 s."""

    def fail() -> None:
        with pytest.raises(NotSignedInError):
            sign_in.log_in(store, "ada@example.org", "wrong password", address="10.0.0.1")

    for _ in range(5):
        fail()
    with pytest.raises(ThrottledError) as caught:
        sign_in.log_in(store, "ada@example.org", PASSWORD, address="10.0.0.2")
    assert caught.value.seconds == pytest.approx(15)
    clock.now += 16
    fail()
    with pytest.raises(ThrottledError, match="30 seconds"):
        sign_in.log_in(store, "ada@example.org", PASSWORD, address="10.0.0.1")
    clock.now += 31
    sign_in.log_in(store, "ada@example.org", PASSWORD, address="10.0.0.1")
    fail()  # A success forgives: this is the first failure again.
    sign_in.log_in(store, "ada@example.org", PASSWORD, address="10.0.0.1")


def test_guesses_at_once_are_slowed_down_as_well(
    store: Store, owner: accounts.Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a right guess is hashed, five others fail: it comes too late."""
    check = accounts.is_password

    def meanwhile(password: str, password_hash: str) -> bool:
        monkeypatch.setattr(accounts, "is_password", check)
        for _ in range(5):
            with pytest.raises(NotSignedInError):
                sign_in.log_in(store, "ada@example.org", "wrong password", address="10.0.0.1")
        return check(password, password_hash)

    monkeypatch.setattr(accounts, "is_password", meanwhile)
    with pytest.raises(ThrottledError):
        sign_in.log_in(store, "ada@example.org", PASSWORD, address="10.0.0.1")


def test_an_address_that_tries_many_logins_is_slowed_down_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sign_in.FREE_FAILURES, "address", 3)  # type: ignore[misc]
    for login in ("anna", "bert", "cleo"):
        with pytest.raises(NotSignedInError):
            sign_in.log_in(store, login, PASSWORD, address="10.0.0.9")
    with pytest.raises(ThrottledError):
        sign_in.log_in(store, "dora", PASSWORD, address="10.0.0.9")


@pytest.mark.parametrize(("failures", "seconds"), [(4, 0), (5, 15), (6, 30), (10, 480), (99, 900)])
def test_the_wait_doubles_up_to_a_quarter_of_an_hour(failures: int, seconds: float) -> None:
    assert sign_in.wait_seconds(failures, 5) == seconds


@pytest.mark.parametrize(
    ("login", "password", "message"),
    [
        ("bob", "short", "10 to 1000 characters"),
        ("bob", "x" * 1001, "10 to 1000 characters"),
        ("bob@example.org", "Bob@Example.org", "the password is the login"),
        ("b", PASSWORD, "2 to 254 printable"),
        ("bo\0b", PASSWORD, "2 to 254 printable"),
    ],
)
def test_weak_accounts_are_refused(
    store: Store, owner: accounts.Person, login: str, password: str, message: str
) -> None:
    secret = invites.invite(store, by=owner.id)
    with pytest.raises(InvalidLabelError, match=message):
        invites.accept(store, secret, login, password)
    assert invites.look_at(store, secret).role == "labeler"


def test_an_invite_is_good_for_so_many_and_so_long(
    store: Store, owner: accounts.Person, clock: Clock
) -> None:
    secret = invites.invite(store, by=owner.id, role="reviewer", uses=2, days=1)
    assert invites.accept(store, secret, "bob", PASSWORD).role == "reviewer"
    with pytest.raises(ConflictError, match="'bob' is taken"):
        invites.accept(store, secret, "BOB", PASSWORD)
    invites.accept(store, secret, "cleo", PASSWORD)  # The refusal above used none up.
    with pytest.raises(NotFoundError, match="used up"):
        invites.accept(store, secret, "dora", PASSWORD)
    late = invites.invite(store, by=owner.id, days=1)
    clock.now += 86401
    with pytest.raises(NotFoundError, match="expired"):
        invites.look_at(store, late)


def test_who_may_invite_whom(store: Store, owner: accounts.Person) -> None:
    secret = invites.invite(store, by=owner.id, role="researcher")
    researcher = invites.accept(store, secret, "rita", PASSWORD)
    with pytest.raises(NotAllowedError, match="a researcher may not invite a owner"):
        invites.invite(store, by=researcher.id, role="owner")
    someone = invites.accept(store, invites.invite(store, by=researcher.id), "bob", PASSWORD)
    with pytest.raises(NotAllowedError, match="a labeler may not do this"):
        invites.invite(store, by=someone.id)


def test_a_link_ends_with_the_right_to_make_it(store: Store, owner: accounts.Person) -> None:
    """Who is put out, or down, does not come back by a link they made before."""
    rita = invites.accept(store, invites.invite(store, by=owner.id, role="owner"), "rita", PASSWORD)
    up, down = (invites.invite(store, by=rita.id, role=role) for role in ("owner", "labeler"))
    accounts.set_role(store, rita.id, "researcher", by=owner.id)
    with pytest.raises(NotFoundError, match="ask for another"):
        invites.accept(store, up, "eve", PASSWORD)
    assert invites.look_at(store, down).role == "labeler"
    assert [one.role for one in invites.list_invites(store)] == ["labeler"]
    accounts.disable(store, rita.id, by=owner.id)
    with pytest.raises(NotFoundError, match="ask for another"):
        invites.accept(store, down, "eve", PASSWORD)
    accounts.disable(store, rita.id, by=owner.id, disabled=False)
    assert invites.accept(store, down, "bob", PASSWORD).role == "labeler"


def test_a_link_is_revoked_by_whoever_might_make_it(store: Store, owner: accounts.Person) -> None:
    rita = invites.accept(
        store, invites.invite(store, by=owner.id, role="researcher"), "rita", PASSWORD
    )
    secrets = [invites.invite(store, by=owner.id, role=one) for one in ("owner", "labeler")]
    ids = {one.role: one.id for one in invites.list_invites(store)}
    with pytest.raises(NotAllowedError, match="may not revoke the invite of a owner"):
        invites.revoke(store, ids["owner"], by=rita.id)
    invites.revoke(store, ids["labeler"], by=rita.id)
    with pytest.raises(NotFoundError, match="no invite 'none': the list of links"):
        invites.revoke(store, "none", by=rita.id)
    assert [one.role for one in invites.list_invites(store)] == ["owner"]
    assert invites.look_at(store, secrets[0]).role == "owner"
    with pytest.raises(NotFoundError, match="ask for another"):
        invites.accept(store, secrets[1], "eve", PASSWORD)


def test_api_tokens(store: Store, owner: accounts.Person) -> None:
    secret = sign_in.create_api_token(store, owner.id, "nightly export")
    assert secret.startswith("hark_")
    assert sign_in.find_api_token(store, secret).id == owner.id
    with pytest.raises(NotSignedInError):
        sign_in.find_session(store, secret)
    assert sign_in.revoke_api_tokens(store, owner.id, "nightly export") == 1
    with pytest.raises(NotSignedInError, match="revoked"):
        sign_in.find_api_token(store, secret)


def test_api_tokens_expire(store: Store, owner: accounts.Person, clock: Clock) -> None:
    usual = sign_in.create_api_token(store, owner.id, "nightly export")
    soon = clock.now + 3600
    short = sign_in.create_api_token(store, owner.id, "workshop", expires_at=soon)
    assert [one.expires_at - clock.now for one in sign_in.list_api_tokens(store, owner.id)] == [
        90 * 86400,
        3600,
    ]
    clock.now = soon
    with pytest.raises(NotSignedInError, match="'workshop' expired on 2027-01-15: make another"):
        sign_in.find_api_token(store, short)
    assert sign_in.find_api_token(store, usual).id == owner.id
    sign_in.start_session(store, owner.id)
    assert len(sign_in.list_api_tokens(store, owner.id)) == 2, "it is shown that one has expired"
    clock.now += 90 * 86400
    with pytest.raises(NotSignedInError, match="'nightly export' expired"):
        sign_in.find_api_token(store, usual)


def test_a_changed_password_ends_every_session(store: Store, owner: accounts.Person) -> None:
    session = sign_in.start_session(store, owner.id)
    with pytest.raises(NotAllowedError, match="present password is wrong"):
        change_password(store, owner, "not the password")
    change_password(store, owner, PASSWORD)
    with pytest.raises(NotSignedInError):
        sign_in.find_session(store, session.secret)
    sign_in.log_in(store, "ada@example.org", "another password", address="a")


def change_password(store: Store, person: accounts.Person, old: str) -> None:
    sign_in.change_password(store, person.id, old, "another password", address="a")


def test_guessing_the_present_password_is_slowed_down_like_a_login(
    store: Store, owner: accounts.Person, clock: Clock
) -> None:
    """One count for both ways, so that neither gives five more guesses."""
    for _ in range(3):
        with pytest.raises(NotAllowedError):
            change_password(store, owner, "not the password")
    with pytest.raises(NotAllowedError):
        sign_in.forget_me(store, owner.id, "not the password", address="b")
    with pytest.raises(NotSignedInError):
        sign_in.log_in(store, "ada@example.org", "not the password", address="c")
    for guess in (
        lambda: change_password(store, owner, PASSWORD),
        lambda: sign_in.forget_me(store, owner.id, PASSWORD, address="d"),
    ):
        with pytest.raises(ThrottledError) as caught:
            guess()
        assert caught.value.seconds == pytest.approx(15)
    clock.now += 16
    change_password(store, owner, PASSWORD)


def test_a_hash_of_other_days_is_made_anew_at_login(
    store: Store, owner: accounts.Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed() -> str:
        with store.read() as connection:
            row = connection.execute(people.select().where(people.c.id == owner.id)).one()
        return str(row.password_hash)

    before = hashed()
    sign_in.log_in(store, "ada@example.org", PASSWORD, address="a")
    assert hashed() == before, "the parameters are those of today"
    today = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    monkeypatch.setattr(accounts, "_HASHER", today)
    with pytest.raises(NotSignedInError):
        sign_in.log_in(store, "ada@example.org", "not the password", address="a")
    assert hashed() == before
    sign_in.log_in(store, "ada@example.org", PASSWORD, address="a")
    assert "m=16,t=2,p=1" in hashed()
    sign_in.log_in(store, "ada@example.org", PASSWORD, address="a")


def test_a_disabled_person_is_out(store: Store, owner: accounts.Person) -> None:
    bob = labeler(store, owner)
    session = sign_in.start_session(store, bob.id)
    accounts.disable(store, bob.id, by=owner.id)
    with pytest.raises(NotSignedInError):
        sign_in.find_session(store, session.secret)
    with pytest.raises(NotSignedInError):
        sign_in.log_in(store, "bob", PASSWORD, address="a")
    accounts.disable(store, bob.id, by=owner.id, disabled=False)
    sign_in.log_in(store, "bob", PASSWORD, address="a")


def test_the_last_owner_stays(store: Store, owner: accounts.Person) -> None:
    bob = labeler(store, owner)
    for act in (
        lambda: sign_in.forget_me(store, owner.id, PASSWORD, address="a"),
        lambda: accounts.disable(store, owner.id, by=owner.id),
        lambda: accounts.set_role(store, owner.id, "labeler", by=owner.id),
    ):
        with pytest.raises(ConflictError, match="last owner"):
            act()
    with pytest.raises(NotAllowedError):
        accounts.set_role(store, bob.id, "owner", by=bob.id)
    accounts.set_role(store, bob.id, "owner", by=owner.id)
    accounts.forget(store, owner.id, by=bob.id)


def test_the_servers_own_account_is_no_other_owner(store: Store) -> None:
    link = invites.invite_first_owner(store)
    assert link is not None
    ada = invites.accept(store, link, "ada", PASSWORD)
    for act in (
        lambda: sign_in.forget_me(store, ada.id, PASSWORD, address="a"),
        lambda: accounts.disable(store, ada.id, by=ada.id),
        lambda: accounts.set_role(store, ada.id, "labeler", by=ada.id),
    ):
        with pytest.raises(ConflictError, match="last owner"):
            act()


def test_a_forgotten_person_leaves_their_labels_and_no_name(workshop: Workshop) -> None:
    """The labels stay under the pseudonym; the login is free again and its bytes are gone."""
    store = workshop.store
    login = "zebulon.quartermain@example.org"
    secret = invites.invite(store, by=workshop.owner.id)
    person = invites.accept(store, secret, login, PASSWORD)
    session = sign_in.start_session(store, person.id)
    with store.write() as connection:
        new = events.NewEvent(kind="message", author=person.pseudonym, client_key="k")
        events.append(connection, new, now=1.0)
    if store.is_sqlite:
        assert login.encode() in _bytes_of(store)
    with pytest.raises(NotAllowedError):
        accounts.forget(store, workshop.owner.id, by=person.id)
    with pytest.raises(NotAllowedError, match="asks for your password"):
        accounts.forget(store, person.id, by=person.id)
    with pytest.raises(NotAllowedError, match="present password is wrong"):
        sign_in.forget_me(store, person.id, "not the password", address="a")
    sign_in.forget_me(store, person.id, PASSWORD, address="a")
    with store.read() as connection:
        kept = list(events.iterate(connection, author=person.pseudonym))
        row = accounts.get_person(connection, person.id)
    assert [one.kind for one in kept] == ["message", "forgotten"]
    assert (row.login, row.disabled, row.pseudonym) == (None, True, person.pseudonym)
    with pytest.raises(NotSignedInError):
        sign_in.log_in(store, login, PASSWORD, address="a")
    with pytest.raises(NotSignedInError):
        sign_in.find_session(store, session.secret)
    if store.is_sqlite:
        assert login.encode() not in _bytes_of(store)


def _bytes_of(store: Store) -> bytes:
    path = Path(str(store.url.database))
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_joining_by_an_invite(workshop: Workshop) -> None:
    store = workshop.store
    study = workshop.study()
    owner = workshop.owner
    secret = invites.invite(store, by=owner.id, study_id=study.id, held_out=True, uses=2)
    bob = invites.accept(store, secret, "bob", PASSWORD)
    invites.accept_as(store, secret, owner.id)
    with store.read() as connection:
        assert studies.get_member(connection, study.id, bob.id).held_out
        assert accounts.get_person(connection, owner.id).role == "owner"
        assert studies.get_member(connection, study.id, owner.id).state == "active"
