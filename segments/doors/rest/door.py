"""
What a REST door is made of: operations, each a method that says what it takes.

    class Greetings(Door):
        tag = "Greetings"

        @operation("POST", "/greetings/{name}", answers={201: Greeting}, problems=(404,))
        async def greet(self, *, caller: Caller, path: Whom, body: Words) -> Reply:
            "Greet someone."
            ...

The names of the parameters say where they come from: `path`, `query` and `body`
are pydantic models, `caller` is whoever the door's schemes say was authenticated
(its presence is what makes an operation need one), `request` is aiohttp's own for what must be
streamed. The same signature makes the call and the OpenAPI document, so the
document can't promise what the code does not do.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, get_type_hints

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel

from segments.doors.rest.auth import Scheme, authenticate
from segments.doors.rest.idempotency import Once
from segments.doors.rest.problem import CONTENT_TYPE, Problem, ProblemDocument, problem_document
from segments.doors.rest.rate_limit import RateLimit
from segments.doors.rest.read_form import read_json, read_text

T = TypeVar("T", bound=Callable[..., Any])
Model = TypeVar("Model", bound=BaseModel)

_SPEC = "__operation__"


class Reply(NamedTuple):
    """An answer whose status or headers are not the usual ones."""

    body: BaseModel | None
    status: int
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Spec:
    """What the decorator says of an operation."""

    method: str
    path: str
    answers: Mapping[int, type[BaseModel] | None]
    problems: tuple[int, ...]
    consumes: Mapping[str, Mapping[str, Any]]
    expects_itself: bool
    is_idempotent: bool


def operation(
    method: str,
    path: str,
    *,
    answers: Mapping[int, type[BaseModel] | None],
    problems: Sequence[int] = (),
    consumes: Mapping[str, Mapping[str, Any]] | None = None,
    expects_itself: bool = False,
    is_idempotent: bool = False,
) -> Callable[[T], T]:
    """
    Make a door's method an operation; its docstring is what OpenAPI says of it.

    Args:
        method: Of HTTP.
        path: With `{names}` of the `path` model's members.
        answers: Status to body, the usual one first; `None` for an empty body.
        problems: Statuses of its problems, besides those that the signature implies.
        consumes: Content type to schema of a body that it reads from `request`.
        expects_itself: It answers `Expect: 100-continue` when it wants the body.
        is_idempotent: An `Idempotency-Key` makes it safe to repeat.
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
            ),
        )
        return method_of_door

    return mark


class Door:
    """All operations of one vendor's system. Subclasses say how it answers."""

    tag: str
    """Under which OpenAPI lists its operations."""

    schemes: Sequence[Scheme] = ()
    """How its callers say who they are."""

    ignores_case = False
    """Its paths are served in any case, as the vendor's server does."""

    answers_below: Sequence[str] = ()
    """Where what meets no operation is answered as this door does: the beginnings of paths."""

    sends_null = False
    """Members that are null are sent as null, and not left out."""

    problem_model: type[BaseModel] = ProblemDocument
    problem_content_type = CONTENT_TYPE

    json_as: frozenset[str] = frozenset()
    """Content types, besides those of JSON, as which its clients send JSON."""

    middlewares: Sequence[Middleware] = ()
    """What its requests go through before their operation, and their answers behind it."""

    def also_at(self, path: str) -> Sequence[str]:
        """Return the other paths under which what is documented at `path` is served."""
        return ()

    async def close(self) -> None:
        """Let go of whatever it has under way; the process is about to end."""

    def problem(self, problem: Problem) -> web.Response:
        """Answer a problem; RFC 9457 where the vendor has no form of its own."""
        return problem_document(problem)

    def operations(self) -> "list[Operation]":
        """Return what can be asked of it, in the order in which its class says it."""
        methods = [getattr(self, name) for cls in type(self).__mro__[::-1] for name in vars(cls)]
        return [Operation(self, method) for method in methods if hasattr(method, _SPEC)]


@dataclass
class Operation:
    """One operation, ready to be called and to be described."""

    door: Door
    method: Callable[..., Awaitable[Any]]
    spec: Spec = field(init=False)
    takes: Mapping[str, Any] = field(init=False)
    """Its parameters: `path`, `query` and `body` with their models."""

    def __post_init__(self) -> None:
        self.spec = getattr(self.method, _SPEC)
        hints = get_type_hints(self.method)
        self.takes = {name: hints[name] for name in inspect.signature(self.method).parameters}

    async def __call__(
        self, request: web.Request, limit: RateLimit, once: Once
    ) -> web.StreamResponse:
        """
        Carry it out.

        Args:
            request: As it came.
            limit: Admits its caller.
            once: Carries it out, if it is to be repeatable.

        Raises:
            Problem: It can't be.
        """
        given: dict[str, Any] = {}
        if "caller" in self.takes:  # first: what strangers ask is not even read
            given["caller"] = await authenticate(request, self.door.schemes)
            limit.admit(given["caller"])
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
        """What OpenAPI calls it."""
        return f"{self.door.tag}.{self.method.__name__}".replace(" ", "")

    @property
    def needs_caller(self) -> bool:
        """Whether it must know who asks."""
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
    """Return the content type that a request names, without its parameters; `None` if none."""
    return request.content_type if hdrs.CONTENT_TYPE in request.headers else None


def check_not_encoded(request: web.Request) -> None:
    """
    Refuse a compressed body where a plain one is meant.

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
            values[name] = tuple(found)  # a list, which is told by one parameter an entry
        elif len(found) > 1:
            raise Problem(400, "a query parameter stands there twice")
        else:
            values[name] = found[0]
    return values


async def _json_body(model: type[Model], request: web.Request, json_as: frozenset[str]) -> Model:
    # Many clients forget to say that it is JSON; what says that it is not, is not.
    named = media_type(request)
    is_json = named is None or named in {"application/json", *json_as} or named.endswith("+json")
    if not is_json:
        raise Problem(415, "the body must be application/json")
    check_not_encoded(request)
    return read_json(model, await request.read())
