"""
An external audience as the vendor's document has it, and as the ledger keeps it.

What we ask the ledger for has columns; the other members of a request are kept as
they were sent, in the audience's `spec`, and given back so. Of these a PATCH may
replace the description and labels, and nothing by which a person is told from another.
"""

from typing import Any

from segments.doors.external_audience.schemas import AudienceChange, AudienceDetails
from segments.doors.rest.problem import Problem
from segments.ingest.external_audience.person import IDENTITY_TYPES
from segments.ledger.external_audience.audiences import ExternalAudience
from segments.model.customer_columns import CONTROLS, column_key

_IN_COLUMNS = frozenset({"name", "customAudienceId", "namespace", "ttlInDays"})
"""Members of a request that are columns of the ledger; the others are its `spec`."""


def spec_of(body: AudienceDetails) -> dict[str, Any]:
    """Return what is kept of a request beside the columns."""
    return body.model_dump(mode="json", exclude=set(_IN_COLUMNS), exclude_none=True)


def check_fields(body: AudienceDetails) -> None:
    """
    Refuse fields by which nobody could be told from another.

    Raises:
        Problem: 422.
    """
    key_to_name: dict[str, str] = {}
    for field in body.fields:
        key = column_key(field.name)
        if key in key_to_name:
            # A file's columns are found in any case.
            raise Problem(422, f"two fields of one name: {key_to_name[key]} and {field.name}")
        key_to_name[key] = field.name
    identities = [field for field in body.fields if field.identityNs is not None]
    if not identities:
        raise Problem(422, "no field has an identityNs: nobody could be told from another")
    for field in identities:
        if field.type not in IDENTITY_TYPES or column_key(field.name) in CONTROLS:
            raise Problem(422, "a field with an identityNs whose name or type holds no id")


def changed_spec(external: ExternalAudience, body: AudienceChange) -> dict[str, Any]:
    """
    Return the spec of an audience with what a PATCH says of it.

    Raises:
        Problem: 422; it says what can't be changed.
    """
    spec = dict(external.spec)
    if body.description is not None:
        spec["description"] = body.description
    if body.labels is not None:
        spec["labels"] = list(body.labels)
    if body.fields is not None:
        fields = {field["name"]: dict(field) for field in spec["fields"]}
        for change in body.fields:
            field = fields.get(change.name)
            if field is None:
                raise Problem(422, "a field is named that the audience does not have")
            for member in ("type", "identityNs"):
                said = getattr(change, member)
                if said is not None and said != field.get(member):
                    raise Problem(422, f"{member} of a field can't be changed")
            field["labels"] = list(change.labels)
        spec["fields"] = list(fields.values())
    return spec


def details_of(external: ExternalAudience) -> AudienceDetails:
    """Return an audience as it was asked for, and changed since."""
    return AudienceDetails(
        name=external.name,
        customAudienceId=external.custom_id,
        namespace=external.namespace,
        ttlInDays=external.ttl_days,
        **external.spec,
    )


def by_whom(external: ExternalAudience) -> dict[str, Any]:
    """Return the members that say who made and changed an audience, and when."""
    return {
        "createdBy": external.created_by,
        "createdAt": external.created_at_s,
        "updatedBy": external.updated_by,
        "updatedAt": external.updated_at_s,
    }
