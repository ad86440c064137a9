"""
The roles of the console's visitors; the machine's operator gives staff theirs.
"""

from enum import StrEnum


class Role(StrEnum):
    """The role of a visitor."""

    PARTNER = "partner"  # an account: its audiences, deliveries
    OPERATOR = "operator"  # the deployment: grants, held jobs, no persons
    PRIVACY = "privacy"  # persons' requests


STAFF_ROLES = (Role.OPERATOR, Role.PRIVACY)
