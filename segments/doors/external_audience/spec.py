"""
An external audience in the vendor's form, and in the ledger's.

Members that we query by have columns; the others stay as sent, in `spec`. Of these a PATCH may
replace description and labels, but nothing that identifies persons.
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
"""Members of a request with a column of their own."""


def spec_of(body: AudienceDetails) -> dict[str, Any]:
    """Return a request's members without a column."""
    return body.model_dump(mode="json", exclude=set(_IN_COLUMNS), exclude_none=True)


def check_fields(body: AudienceDetails) -> None:
    """
    Refuse fields that can't identify persons.

    Raises:
        Problem: 422.
    """
    key_to_name: dict[str, str] = {}
    for field in body.fields:
        key = column_key(field.name)
        if key in key_to_name:
            # Column names of files are case-insensitive.
            raise Problem(422, f"two fields of one name: {key_to_name[key]} and {field.name}")
        key_to_name[key] = field.name
    identities = [field for field in body.fields if field.identityNs is not None]
    if not identities:
        raise Problem(422, "no field has an identityNs: no row could name a person")
    for field in identities:
        if field.type not in IDENTITY_TYPES or column_key(field.name) in CONTROLS:
            raise Problem(422, "a field with an identityNs whose name or type holds no id")


def check_change(now: ChangedAudience, body: AudienceChange) -> None:
    """
    Refuse to change fixed members; fixed members sent back unchanged are ignored.

    `now` is the audience as we would answer it now.

    Raises:
        Problem: 400, with the members that can be changed. 422: nothing to change.
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
    Return an audience's spec after a PATCH.

    Raises:
        Problem: 422, with the member that can't be changed.
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
    left = {name: each for name, each in spec.items() if name != member}
    return left if value is None else {**left, member: value}


def details_of(external: ExternalAudience) -> AudienceDetails:
    """Return an audience as requested, with all changes since."""
    return AudienceDetails(
        name=external.name,
        customAudienceId=external.custom_id,
        namespace=external.namespace,
        ttlInDays=external.ttl_days,
        **external.spec,
    )


def by_whom(external: ExternalAudience) -> dict[str, Any]:
    """Return the members for author and time of creation and last change."""
    return {
        "createdBy": external.created_by,
        "createdAt": external.created_at_s,
        "updatedBy": external.updated_by,
        "updatedAt": external.updated_at_s,
    }
