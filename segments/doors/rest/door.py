"""
The framework of REST doors: operations, whose signatures declare their input.

    class Greetings(Door):
        tag = "Greetings"

        @operation("POST", "/greetings/{name}", answers={201: Greeting}, problems=(404,))
        async def greet(self, *, caller: Caller, path: Whom, body: Words) -> Reply:
            "Greet someone."
            ...

Parameters are filled by name: `path`, `query` and `body` are pydantic models; `caller`
requires authentication by one of the door's schemes; `request` is aiohttp's, for streams. Call
and OpenAPI document come from the same signature, so they can't differ.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, get_type_hints

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel

from segments.doors.rest.auth import Scheme, authenticate
from segments.doors.rest.bodies import MAX_BYTES, SMALL_BYTES, Bodies, Body, Sender, body_of
from segments.doors.rest.idempotency import Once
from segments.doors.rest.problem import CONTENT_TYPE, Problem, ProblemDocument, problem_document
from segments.doors.rest.rate_limit import RateLimit
from segments.doors.rest.read_form import read_json, read_text
from segments.runtime.http_server import client_is_known

T = TypeVar("T", bound=Callable[..., Any])
Model = TypeVar("Model", bound=BaseModel)

_SPEC = "__operation__"


class Reply(NamedTuple):
    """An answer with another status or other headers than usual."""

    body: BaseModel | None
    status: int
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Spec:
    """The arguments of the `operation` decorator."""

    method: str
    path: str
    answers: Mapping[int, type[BaseModel] | None]
    problems: tuple[int, ...]
    consumes: Mapping[str, Mapping[str, Any]]
    expects_itself: bool
    is_idempotent: bool
    max_body_bytes: int | None


def operation(
    method: str,
    path: str,
    *,
    answers: Mapping[int, type[BaseModel] | None],
    problems: Sequence[int] = (),
    consumes: Mapping[str, Mapping[str, Any]] | None = None,
    expects_itself: bool = False,
    is_idempotent: bool = False,
    max_body_bytes: int | None = None,
) -> Callable[[T], T]:
    """
    Make a door's method an operation; its docstring goes into the OpenAPI document.

    Args:
        method: HTTP method.
        path: With `{names}` of the `path` model's members.
        answers: Status to body, the usual status first; `None` for an empty body.
        problems: Statuses of its problems, besides those that the signature implies.
        consumes: Content type to schema of a body read from `request`.
        expects_itself: The operation answers `Expect: 100-continue` itself.
        is_idempotent: Repeatable by an `Idempotency-Key`.
        max_body_bytes: Limit of a body in memory; `None`: the default of `bodies`.
    """

    def mark(method_of_door: T) -> T:
        setattr(
            method_of_door,
            _SPEC,
            Spec(
                method,
                path,
                answers,
                tuple(problems),
                consumes or {},
                expects_itself,
                is_idempotent,
                max_body_bytes,
            ),
        )
        return method_of_door

    return mark


class Door:
    """All operations of a vendor's API; subclasses also define its conventions."""

    tag: str
    """The OpenAPI tag of its operations."""

    schemes: Sequence[Scheme] = ()
    """How callers authenticate."""

    ignores_case = False
    """Whether paths match in any case, as on the vendor's server."""

    answers_below: Sequence[str] = ()
    """Path prefixes with the door's problem form where no operation matches."""

    sends_null = False
    """Whether null members are sent instead of left out."""

    problem_model: type[BaseModel] = ProblemDocument
    problem_content_type = CONTENT_TYPE

    json_as: frozenset[str] = frozenset()
    """Non-JSON content types under which its clients send JSON."""

    middlewares: Sequence[Middleware] = ()
    """For its operations; they get the requests of all doors."""

    def also_at(self, path: str) -> Sequence[str]:
        """Return the other paths that serve the operation documented at `path`."""
        return ()

    async def close(self) -> None:
        """End work in progress, before the process exits."""

    def problem(self, problem: Problem) -> web.Response:
        """Answer a problem, in the vendor's form or else RFC 9457's."""
        return problem_document(problem)

    def operations(self) -> "list[Operation]":
        """Return its operations, in the order of their definition."""
        methods = [getattr(self, name) for cls in type(self).__mro__[::-1] for name in vars(cls)]
        return [Operation(self, method) for method in methods if hasattr(method, _SPEC)]


@dataclass
class Operation:
    """An operation bound to its door, for calls and for the OpenAPI document."""

    door: Door
    method: Callable[..., Awaitable[Any]]
    spec: Spec = field(init=False)
    takes: Mapping[str, Any] = field(init=False)
    """Parameters by name, with the models of `path`, `query` and `body`."""

    def __post_init__(self) -> None:
        self.spec = getattr(self.method, _SPEC)
        hints = get_type_hints(self.method)
        self.takes = {name: hints[name] for name in inspect.signature(self.method).parameters}

    async def __call__(
        self, request: web.Request, limit: RateLimit, once: Once, bodies: Bodies
    ) -> web.StreamResponse:
        """
        Carry out the operation.

        Raises:
            Problem: The request was refused.
        """
        given: dict[str, Any] = {}
        sender = None
        if "caller" in self.takes:  # first: nothing of an unauthenticated request is read
            caller = given["caller"] = await authenticate(request, self.door.schemes)
            await limit.admit(caller)
            client_is_known(request)
            sender = Sender(None if caller.account is None else caller.account.id)
        max_bytes = self.spec.max_body_bytes or (SMALL_BYTES if sender is None else MAX_BYTES)
        async with Body(request, bodies, max_bytes, sender):
            return await self._carry_out(request, given, once)

    async def _carry_out(
        self, request: web.Request, given: dict[str, Any], once: Once
    ) -> web.StreamResponse:
        if "path" in self.takes:
            given["path"] = read_text(self.takes["path"], "path", dict(request.match_info))
        if "query" in self.takes:
            given["query"] = read_text(
                self.takes["query"], "query", _query(self.takes["query"], request)
            )
        if "body" in self.takes:
            given["body"] = await _json_body(self.takes["body"], request, self.door.json_as)
        if "request" in self.takes:
            given["request"] = request

        async def do() -> web.StreamResponse:
            return self._answer(await self.method(**given))

        if self.spec.is_idempotent:
            return await once.answer(request, given["caller"], self.operation_id, do)
        return await do()

    @property
    def operation_id(self) -> str:
        """The operation's id in the OpenAPI document."""
        return f"{self.door.tag}.{self.method.__name__}".replace(" ", "")

    @property
    def needs_caller(self) -> bool:
        """Whether the operation needs an authenticated caller."""
        return "caller" in self.takes

    def _answer(self, result: Any) -> web.StreamResponse:
        if isinstance(result, web.StreamResponse):
            return result
        if not isinstance(result, Reply):
            result = Reply(result, next(iter(self.spec.answers)))
        body, status, headers = result
        if body is None:
            return web.Response(status=status, headers=headers)
        return web.Response(
            text=body.model_dump_json(by_alias=True, exclude_none=not self.door.sends_null),
            status=status,
            content_type="application/json",
            headers=headers,
        )


def media_type(request: web.Request) -> str | None:
    """Return a request's content type without parameters; `None` if it has none."""
    return request.content_type if hdrs.CONTENT_TYPE in request.headers else None


def check_not_encoded(request: web.Request) -> None:
    """
    Refuse a compressed body.

    Raises:
        Problem: 415.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise Problem(415, "a body with a Content-Encoding; send it as it is")


def _query(model: type[BaseModel], request: web.Request) -> dict[str, str | tuple[str, ...]]:
    values: dict[str, str | tuple[str, ...]] = {}
    for name in request.query:
        found = request.query.getall(name)
        if name in model.model_fields and isinstance(model.model_fields[name].default, tuple):
            values[name] = tuple(found)  # a list, as a parameter per entry
        elif len(found) > 1:
            raise Problem(400, "a query parameter stands there twice")
        else:
            values[name] = found[0]
    return values


async def _json_body(model: type[Model], request: web.Request, json_as: frozenset[str]) -> Model:
    # Many clients omit the content type of JSON; another is refused.
    named = media_type(request)
    is_json = named is None or named in {"application/json", *json_as} or named.endswith("+json")
    if not is_json:
        raise Problem(415, "the body must be application/json")
    check_not_encoded(request)
    return read_json(model, await body_of(request))
