"""
A job's `metadata` before revision 0009, and its translation to an `order`.

Until then a job kept only the form of its door, in three variants:

    form            door                             members
    (none)          LiveAudience's folder, `load`    file: hash, digest, records
                                                     segments: id, name, action of each
    audience_file   the Audience API                 request_id, audience_id, segment_id, action,
                                                     hash_type, max_removed_share
    external_run    external audiences               run_id, audience_id, segment_id, replaces,
                                                     max_removed_share

Frozen with the revision, in plain JSON. During an upgrade a process of the previous release may run
beside ours: `order_of` reads its rows; for that process, `metadata_of` adds the form to ours. The
revision after 0009 fills in missing orders; then `segments.ledger.jobs` needs neither function.
"""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def order_of(metadata: Mapping[str, Any]) -> Json:
    """Return a job's order in the stored form of `segments.model.order.Order`."""
    match metadata.get("form"):
        case "audience_file":
            order = _of_audience(metadata, metadata["action"])
            return {**order, "hash_type": metadata["hash_type"]}
        case "external_run":
            order = _of_audience(metadata, "add")
            return {**order, "run_id": metadata["run_id"], "replaces": metadata["replaces"]}
        case _:
            file = metadata["file"]
            return {
                "segments": [
                    {"segment_id": said["id"], "name": said["name"], "action": said["action"]}
                    for said in metadata["segments"]
                ],
                "digest_algorithm": file["hash"],
                "digest": file["digest"].lower(),
                "records": file["records"],
            }


def metadata_of(order: Mapping[str, Any], request_id: str | None) -> Json:
    """
    Return the former form of a job for a single audience's file or run.

    The order is of one segment, with a known audience. `request_id` is the door's id of a file.
    """
    [segment] = order["segments"]
    said = {
        "audience_id": segment["audience_id"],
        "segment_id": segment["segment_id"],
        "max_removed_share": order.get("max_removed_share"),
    }
    if "run_id" in order:
        replaces = order.get("replaces", False)
        return {"form": "external_run", "run_id": order["run_id"], "replaces": replaces, **said}
    return {
        "form": "audience_file",
        "request_id": request_id,
        "action": segment["action"],
        "hash_type": order["hash_type"],
        **said,
    }


def _of_audience(metadata: Mapping[str, Any], action: str) -> Json:
    segment = {
        "segment_id": metadata["segment_id"],
        "name": "",
        "action": action,
        "audience_id": metadata["audience_id"],
    }
    order: Json = {"segments": [segment]}
    if metadata.get("max_removed_share") is not None:
        order["max_removed_share"] = metadata["max_removed_share"]
    return order
