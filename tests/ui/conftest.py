"""A running server for the console's pages, and browsers without scripts that visit it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator

import pytest
from house import House, Tenant, standing_house
from visitor import PASSWORD, Visitor

from wharfinger.domain.policy import read_policy
from wharfinger.identity.passwords import hash_password

HASH = hash_password(PASSWORD)


@pytest.fixture(scope="session")
def console_house(cluster, administrator, tmp_path_factory) -> Iterator[House]:
    with standing_house(cluster, administrator, tmp_path_factory.mktemp("keys")) as running:
        yield running


@pytest.fixture
def house(console_house) -> House:
    console_house.forget()
    return console_house


@pytest.fixture
def tenant(house) -> Tenant:
    return house.tenant()


@pytest.fixture
def stranger(house) -> Visitor:
    """Somebody who is not signed in."""
    return Visitor(house.port)


@pytest.fixture
def visitor(house, tenant) -> Visitor:
    """The tenant's account, signed in."""
    found = Visitor(house.port)
    assert found.sign_in(tenant.token).status == 200
    return found


@pytest.fixture
def add_user(house, tenant):
    """Make a user with a password and a policy of the given statements; returns a token."""

    def make(name, *statements, every=True):
        create = house.principals.create_user
        user_id = house.run(create(tenant.id, name, kind="user", password_hash=HASH))
        if statements:
            policy = read_policy(json.dumps({"Version": "1.1", "Statement": list(statements)}))
            house.run(house.principals.create_policy(tenant.id, f"of {name}", policy))
            house.run(house.principals.grant(tenant.id, name, f"of {name}", tenant.id))
        if every:
            tenant.sql.execute(
                "INSERT INTO enterprise_project_grant VALUES (%s, %s, NULL)", (tenant.id, user_id)
            )
        issued = house.callers.issue_token(tenant.id, user_id, dt.timedelta(hours=1))
        return house.run(issued).token

    return make
