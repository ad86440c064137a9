"""
The OpenAPI 3.1 document, generated from the operations.

Paths and statuses come from the decorators, schemas from the pydantic models, summaries
from the docstrings.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from segments.doors.rest.auth import Scheme
from segments.doors.rest.door import Door, Operation
from segments.doors.rest.idempotency import HEADER, MAX_KEY_CHARS

VERSION = "3.1.0"
_REF = "#/components/schemas/{model}"
_Wanted = tuple[type[BaseModel], Any]
"""A model and its mode: `validation` for requests, `serialization` for answers."""
_PATTERN_IN_PATH = re.compile(r"\{(\w+):[^/]*\}")


def document(doors: Sequence[Door], *, title: str, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of all operations of some doors."""
    operations = [each for door in doors for each in door.operations()]
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = _PATTERN_IN_PATH.sub(r"{\1}", each.spec.path)
        paths.setdefault(path, {})[each.spec.method.lower()] = _operation(each, schemas)
    schemes: dict[str, Any] = {}
    for door in doors:
        for scheme in door.schemes:
            schemes |= _security_schemes(scheme)
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": version},
        "tags": [{"name": door.tag, "description": _doc(type(door))} for door in doors],
        "paths": paths,
        "components": {"schemas": schemas.definitions, "securitySchemes": schemes},
    }


_IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Makes it safe to send the request again: it is carried out once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
}


def _security_schemes(scheme: Scheme) -> dict[str, Any]:

    return {scheme.name: dict(scheme.openapi), **getattr(scheme, "openapi_besides", {})}


class _Schemas:
    def __init__(self, operations: Iterable[Operation]) -> None:
        wanted: dict[_Wanted, None] = {}
        for each in operations:
            wanted.update(dict.fromkeys(_models(each)))
        self._refs, self.definitions = _generated(tuple(wanted))

    def ref(self, model: type[BaseModel], mode: Any) -> dict[str, Any]:
        return self._refs[(model, mode)]

    def resolved(self, model: type[BaseModel]) -> dict[str, Any]:
        name = self.ref(model, "validation")["$ref"].rsplit("/", 1)[1]
        resolved: dict[str, Any] = self.definitions[name]
        return resolved


@cache
def _generated(wanted: tuple[_Wanted, ...]) -> tuple[Mapping[Any, dict[str, Any]], dict[str, Any]]:
    """Return references to the schemas, and the schemas; both read-only."""
    refs, top = models_json_schema(wanted, ref_template=_REF)
    definitions: dict[str, Any] = top.get("$defs", {})
    return {(model, mode): ref for (model, mode), ref in refs.items()}, definitions


def _models(each: Operation) -> Iterator[_Wanted]:
    for name in ("path", "query", "body"):
        if name in each.takes:
            yield each.takes[name], "validation"
    for answer in each.spec.answers.values():
        if answer is not None:
            yield answer, "serialization"
    yield each.door.problem_model, "serialization"


def _operation(each: Operation, schemas: _Schemas) -> dict[str, Any]:
    doc = _doc(each.method)
    summary, _, description = doc.partition("\n\n")
    described: dict[str, Any] = {
        "operationId": each.operation_id,
        "tags": [each.door.tag],
        "summary": " ".join(summary.split()),
        "responses": _responses(each, schemas),
    }
    if description:
        described["description"] = description
    parameters = [*_parameters(each, "path", schemas), *_parameters(each, "query", schemas)]
    if each.spec.is_idempotent:
        parameters.append(_IDEMPOTENCY_KEY)
    if parameters:
        described["parameters"] = parameters
    content = _consumed(each, schemas)
    if content:
        # A DELETE's body is an alternative to the query (RFC 9110, 9.3.5).
        described["requestBody"] = {"required": each.spec.method != "DELETE", "content": content}
    if each.needs_caller:
        described["security"] = [
            {name: [] for name in _security_schemes(scheme)} for scheme in each.door.schemes
        ]
    return described


def _parameters(each: Operation, where: str, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    if where not in each.takes:
        return
    model = schemas.resolved(each.takes[where])
    for name, schema in model["properties"].items():
        yield {
            "name": name,
            "in": where,
            "required": where == "path" or name in model.get("required", ()),
            "schema": schema,
        }


def _consumed(each: Operation, schemas: _Schemas) -> Mapping[str, Any]:
    content = {kind: {"schema": dict(schema)} for kind, schema in each.spec.consumes.items()}
    if "body" in each.takes:
        content["application/json"] = {"schema": schemas.ref(each.takes["body"], "validation")}
    return content


def _responses(each: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in each.spec.answers.items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if model is not None:
            schema = schemas.ref(model, "serialization")
            responses[str(status)]["content"] = {"application/json": {"schema": schema}}
    form = {"schema": schemas.ref(each.door.problem_model, "serialization")}
    for status in sorted(_problems(each)):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {each.door.problem_content_type: form},
        }
    return responses


def _problems(each: Operation) -> set[int]:
    implied = {500, 503}
    if each.needs_caller:
        implied |= {401, 429}
        if any(scheme.openapi.get("in") == "cookie" for scheme in each.door.schemes):
            implied.add(403)
    if each.spec.is_idempotent:
        implied |= {409, 422}
    if {"path", "query", "body"} & each.takes.keys():
        implied.add(400)
    if "body" in each.takes:
        implied |= {413, 415}
    if {"body", "request"} & each.takes.keys():
        implied.add(507)
    return implied | set(each.spec.problems)


def _doc(described: Any) -> str:
    return inspect.cleandoc(described.__doc__ or "").strip()
