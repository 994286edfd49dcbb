"""What a caller may see of an account's users, and how far it may change them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from wharfinger.domain.errors import InvalidParameterError, NotGrantedError
from wharfinger.domain.model import Caller
from wharfinger.domain.policy import ADMINISTRATOR, Policy, covers, may
from wharfinger.store.principals import Roster, User, no_user

LIST_USERS = "iam:users:list"
EVERY_ENTERPRISE_PROJECT = "*"


class Reach:
    """How far a caller reaches among the users of its account.

    A user is seen by whoever is granted something in the same project. Nobody changes one, or
    acts in the name of one, who may do or see more than they may themselves; and nobody gives
    what they do not have. The account itself, its users of that kind and the operator reach all.
    """

    def __init__(self, caller: Caller, roster: Roster) -> None:
        self._caller = caller
        self._roster = roster
        self._me = next((one for one in roster.users if one.id == caller.user_id), None)

    @property
    def is_account(self) -> bool:
        """Whether the caller may do everything in every project of the account."""
        if self._caller.is_operator or not self._caller.user_id:
            return True
        return self._me is not None and self._me.kind == "account" and not self._me.disabled

    def held(self, project_id: str | None) -> tuple[Policy, ...]:
        """What the caller holds in a project; for ``None``, in every project there may be."""
        if self.is_account:
            return (ADMINISTRATOR,)
        if self._me is None or self._me.disabled:
            return ()
        return self._roster.policies_of(self._me, project_id)

    # --- what is seen ---------------------------------------------------------------------------

    @property
    def sees_all(self) -> bool:
        """Whether users of every project are seen, or those of the caller's own one only."""
        return may(self.held(None), LIST_USERS)

    def sees(self, user: User) -> bool:
        """Whether the caller may know of a user."""
        here = (None, self._caller.project_id)
        return (
            self.is_me(user)
            or self.sees_all
            or user.kind == "account"
            or any(one.project in here for one in user.grants)
        )

    def seen(self) -> list[User]:
        """The users whom the caller may know of, as they are."""
        return [user for user in self._roster.users if self.sees(user)]

    def user(self, name: str) -> User:
        """One of them by name.

        Raises:
            NotFoundError: there is none, or the caller may not know of it.
        """
        for user in self._roster.users:
            if user.name == name and self.sees(user):
                return user
        raise no_user(name)

    def shown(self, user: User) -> User:
        """One of them without what is none of the caller's business."""
        if self.sees_all:
            return user
        here = (None, self._caller.project_id)
        known = {EVERY_ENTERPRISE_PROJECT, *self._caller.enterprise_projects}
        return msgspec.structs.replace(
            user,
            grants=[one for one in user.grants if one.project in here],
            enterprise_projects=[one for one in user.enterprise_projects if one in known],
        )

    # --- what is changed ------------------------------------------------------------------------

    def is_me(self, user: User) -> bool:
        """Whether the caller is that user."""
        return user.id == self._caller.user_id

    def covers(self, user: User, projects: Iterable[str | None] | None = None) -> bool:
        """Whether a user may do nothing, and see nothing, that the caller may not.

        It is weighed in some projects, by default in all where the user is granted anything.
        """
        if self.is_account:
            return True
        if user.kind == "account" or not self._covers_sight(user.enterprise_projects):
            return False
        if projects is None:
            projects = {self._caller.project_id, *(one.project for one in user.grants)}
        return all(covers(self.held(one), self._roster.policies_of(user, one)) for one in projects)

    def check_covers(self, user: User, projects: Iterable[str | None] | None = None) -> None:
        """Refuse to touch a user who may do more than the caller.

        Raises:
            NotGrantedError: the user may.
        """
        if not self.covers(user, projects):
            raise NotGrantedError(f"user: {user.name!r} may do or see more than you may")

    def check_other(self, user: User) -> None:
        """Refuse what people do to themselves by mistake only.

        Raises:
            InvalidParameterError: the user is the caller.
        """
        if self.is_me(user):
            raise InvalidParameterError(
                "user", "must not be yourself; ask another administrator to do it"
            )

    def check_sight(self, enterprise_projects: Sequence[str]) -> None:
        """Refuse to show enterprise projects that the caller does not see.

        Raises:
            NotGrantedError: there is one among them.
        """
        if not self._covers_sight(enterprise_projects):
            raise NotGrantedError("enterprise_project_id: only those that you see can be passed on")

    def _covers_sight(self, enterprise_projects: Sequence[str]) -> bool:
        if self._caller.sees_every_enterprise_project:
            return True
        return set(enterprise_projects) <= set(self._caller.enterprise_projects)

    def may_give(self, role: str) -> bool:
        """Whether a policy, by name, allows nothing that the caller may not do here."""
        policy = self._roster.policies.get(role)
        return policy is not None and covers(self.held(self._caller.project_id), [policy])

    def check_roles(self, user: User, roles: Collection[str]) -> None:
        """Refuse roles that would let a user do more in the caller's project than the caller may.

        Raises:
            InvalidParameterError: there is no policy of that name.
            NotGrantedError: the user would.
        """
        for role in roles:
            if role not in self._roster.policies:
                raise InvalidParameterError("role", f"there is no policy {role!r}")
        everywhere = self._roster.policies_of(user, None)
        given = [*everywhere, *(self._roster.policies[role] for role in roles)]
        if not covers(self.held(self._caller.project_id), given):
            raise NotGrantedError("role: nobody gives more than they may do themselves")

    # --- who is left ----------------------------------------------------------------------------

    def check_somebody_is_left(self, changed: User) -> None:
        """Refuse a change that leaves a project without any administrator.

        Raises:
            InvalidParameterError: until now there was one.
        """
        users = self._roster.users
        after = [changed if one.id == changed.id else one for one in users]
        projects = {one.project for user in users for one in user.grants}
        for project in projects | {None, self._caller.project_id}:
            had_one = any(self.administers(one, project) for one in users)
            if had_one and not any(self.administers(one, project) for one in after):
                raise InvalidParameterError(
                    "user", "is the last administrator; make somebody else one first"
                )

    def administers(self, user: User, project_id: str | None) -> bool:
        """Whether a user may do everything in a project, and is not closed."""
        held = self._roster.policies_of(user, project_id)
        return not user.disabled and covers(held, [ADMINISTRATOR])
