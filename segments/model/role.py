"""
The roles of the console's visitors.

A partner's user has the first, by being one; staff has any of the others, as given by an operator
of the machine.
"""

from enum import StrEnum


class Role(StrEnum):
    """What a visitor stands for."""

    PARTNER = "partner"  # an account: its audiences, deliveries
    OPERATOR = "operator"  # the deployment: grants, held jobs, no persons
    PRIVACY = "privacy"  # persons' requests


STAFF_ROLES = (Role.OPERATOR, Role.PRIVACY)
