"""
An external audience as the vendor's document has it, and as the ledger keeps it.

What we ask the ledger for has columns; the other members of a request are kept as
they were sent, in the audience's `spec`, and given back so. Of these a PATCH may
replace the description and labels, and nothing by which a person is told from another.
"""

from typing import Any

from segments.doors.external_audience.schemas import (
    AudienceChange,
    AudienceDetails,
    ChangedAudience,
)
from segments.doors.rest.problem import Problem, invalid
from segments.ingest.external_audience.person import IDENTITY_TYPES
from segments.ledger.external_audience.audiences import ExternalAudience
from segments.model.customer_columns import CONTROLS, column_key
from segments.runtime.validation_faults import Fault

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


def check_change(now: ChangedAudience, body: AudienceChange) -> None:
    """
    Refuse a change of what can't be changed; what is sent back as it is says nothing.

    Args:
        now: The audience, as it would be answered.
        body: Of a PATCH.

    Raises:
        Problem: 400; it says what can be changed. 422: there is nothing to change.
    """
    as_it_is = now.model_dump(mode="json", exclude_none=True)
    said = body.model_dump(mode="json", exclude_unset=True, exclude=set(body.changeable))
    refused = [name for name, value in said.items() if value != as_it_is.get(name)]
    if refused:
        *others, last = body.changeable
        sentence = f"can't be changed; {', '.join(others)} and {last} can"
        raise invalid("body", [Fault((name,), "fixed", sentence) for name in refused])
    if body.model_fields_set.isdisjoint(body.changeable):
        raise Problem(422, "nothing is to be changed")


def changed_spec(external: ExternalAudience, body: AudienceChange) -> dict[str, Any]:
    """
    Return the spec of an audience with what a PATCH says of it.

    Raises:
        Problem: 422; it says what can't be changed.
    """
    spec = dict(external.spec)
    said = body.model_fields_set
    if "description" in said:
        spec = _with(spec, "description", body.description)
    if "labels" in said:
        spec = _with(spec, "labels", None if body.labels is None else list(body.labels))
    if "fields" in said:
        fields = {field["name"]: dict(field) for field in spec["fields"]}
        for change in body.fields:
            field = fields.get(change.name)
            if field is None:
                raise Problem(422, "a field is named that the audience does not have")
            for member in ("type", "identityNs"):
                if member in change.model_fields_set and getattr(change, member) != field.get(
                    member
                ):
                    raise Problem(422, f"{member} of a field can't be changed")
            if "labels" in change.model_fields_set:
                labels = None if change.labels is None else list(change.labels)
                fields[change.name] = _with(field, "labels", labels)
        spec["fields"] = list(fields.values())
    return spec


def _with(spec: dict[str, Any], member: str, value: Any) -> dict[str, Any]:
    """Return a spec with one member as it was said; null is the end of it."""
    left = {name: each for name, each in spec.items() if name != member}
    return left if value is None else {**left, member: value}


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
