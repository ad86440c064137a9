"""The messages of ARTF as the official runtime has them, compiled from artf.proto once."""

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from grpc_tools import protoc

PROTO = Path(__file__).with_name("artf.proto")


def _compiled() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(["protoc", f"-I{PROTO.parent}", f"--python_out={folder}", PROTO.name])
        assert status == 0
        sys.path.insert(0, folder)
        try:
            return import_module("artf_pb2")
        finally:
            sys.path.remove(folder)


artf: Any = _compiled()


def rtb_request(bid_request: dict[str, Any] | None, **members: Any) -> bytes:
    """Return an `RTBRequest` around a bid request of JSON, with the members that protobuf has."""
    message = artf.RTBRequest()
    json = members if bid_request is None else {**members, "bid_request": bid_request}
    json_format.ParseDict(json, message, ignore_unknown_fields=True)
    serialized: bytes = message.SerializeToString()
    return serialized
