"""The ASGI application: the hot path, and FastAPI for all other requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from hitcounter import __version__
from hitcounter.errors import HitcounterError
from hitcounter.logs import bind_caller, bind_traceparent
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from hitcounter_api.access import ROUTE_SCOPES, Access, find_authorization, take_url_keys
from hitcounter_api.hot_path import PATH, HotPath
from hitcounter_api.intake import Intakes
from hitcounter_api.listeners import Observer
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.openapi import add_schemas
from hitcounter_api.problems import Kind, Problem, count_problem, problem_of, show
from hitcounter_api.queue_watch import QueueWatch
from hitcounter_api.reads import Reads
from hitcounter_api.requests import ClientGone, read_traceparent
from hitcounter_api.routes import counts, history, liveness, page, reference, status, track

_DESCRIPTION = """Track hits, and read how many an id had in the last 5 minutes, hour, day, 2 days and 3 days.

HEAD works wherever GET does, and OPTIONS lists the allowed methods.

Every error response is a problem (RFC 9457) with the field, the value and the limit."""


def read_clock_ms() -> int:
    """Return the current time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


URL_KEYS: Final = "hitcounter.url_keys"
"""The part of the ASGI scope with the keys of the URL, which are removed from its query."""


class Api(FastAPI):
    """A FastAPI application that calls the hot path before its own layers, which would cost a third of its speed."""

    def __init__(self, hot_path: HotPath, **options: Any) -> None:
        super().__init__(**options)
        self.hot_path = hot_path

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request. Not `async` itself: one coroutine less for every hit."""
        query, url_keys = take_url_keys(scope["query_string"])
        if url_keys:
            scope = {**scope, "query_string": query, URL_KEYS: url_keys}
        if scope.get("path") == PATH and scope.get("method") == "POST":
            return self.hot_path(scope, receive, send, url_keys)
        if scope["method"] == "OPTIONS" and (allowed := self.allowed_methods(scope)):
            return Response(status_code=204, headers={"allow": allowed})(scope, receive, send)
        if scope["method"] == "HEAD":  # RFC 9110, 9.3.2: as GET. uvicorn keeps the scope, and leaves out the body
            scope = {**scope, "method": "GET"}
        bind_traceparent(read_traceparent(scope["headers"]))  # its task is this request's alone
        return super().__call__(scope, receive, send)

    def allowed_methods(self, scope: Scope) -> str:
        """Return the methods of this path, or of the whole server (RFC 9110, 9.3.7), in the format of `Allow`."""
        methods: set[str] = set()
        for route in self.routes:  # a router itself reports only those of the first match
            if scope["path"] == "*" or route.matches(scope)[0] is not Match.NONE:
                methods |= getattr(route, "methods", None) or set()
        if methods:
            methods.add("OPTIONS")
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted(methods))

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            add_schemas(super().openapi())
        return super().openapi()


def create_app(
    *,
    intakes: Intakes,
    reads: Reads,
    watch: QueueWatch,
    metrics: ApiMetrics,
    max_batch_requests: int = 32,
    has_page: bool = False,
    clock_ms: Callable[[], int] = read_clock_ms,
    observer: Observer | None = None,
    access: Access | None = None,
) -> FastAPI:
    """Return the application. It opens and closes nothing: the caller owns the objects passed in."""
    app = Api(
        HotPath(intakes, metrics, clock_ms, observer, access),
        dependencies=[] if access is None else [_build_admission(access)],
        title="hitcounter",
        version=__version__,
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        redirect_slashes=False,  # a slash at the end is a part of the id
        docs_url=None,  # FastAPI's page would load a script from another host: see routes/reference.py
        redoc_url=None,
    )
    track.add_routes(app, intakes, clock_ms, max_batch_requests=max_batch_requests)
    counts.add_routes(app, reads, clock_ms)
    history.add_routes(app, reads, clock_ms)
    status.add_routes(app, watch)
    liveness.add_routes(app)
    reference.add_routes(app)
    if has_page:
        page.add_routes(app)
    _answer_with_problems(app, metrics)
    return app


def _build_admission(access: Access) -> Any:
    """Return the dependency of all routes that admits a request. It runs before the body is read."""

    async def admit(request: Request) -> None:
        needed = ROUTE_SCOPES[request.method, request.scope["route"].path]
        if needed is not None:
            authorization = find_authorization(request.scope["headers"])
            caller = access.admit(needed, authorization, request.scope.get(URL_KEYS, ()))
            request.state.caller = caller
            bind_caller(caller.name)

    return Depends(admit)


def _answer_with_problems(app: FastAPI, metrics: ApiMetrics) -> None:
    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, ClientGone):
            return Response(status_code=400)  # nobody receives it
        if isinstance(error, HTTPException):
            problem = _problem_of_routing(request, error)
        elif isinstance(error, RequestValidationError):
            problem = _problem_of_parameter(error)
        else:
            problem = problem_of(error, is_write=False)  # routes with hits raise a Problem
        count_problem(metrics, problem)
        headers, body = problem.render()
        return Response(body, problem.kind.status, headers=dict(headers))

    app.add_exception_handler(Exception, answer)
    for kind in (HTTPException, RequestValidationError, ClientGone, HitcounterError):
        app.add_exception_handler(kind, answer)


def _problem_of_parameter(error: RequestValidationError) -> Problem:
    """Return the problem of the first parameter that FastAPI refused. None of our routes lets it read a body."""
    fault = error.errors()[0]
    field = str(fault["loc"][-1])
    members = {"field": field, "value": show(fault["input"])}
    if expected := fault.get("ctx", {}).get("expected"):
        members["limit"] = expected.replace("'", "")
        return Problem(Kind.INVALID_QUERY, f"the {field} must be {members['limit']}", members)
    return Problem(Kind.INVALID_QUERY, f"{field}: {fault['msg']}", members)


def _problem_of_routing(request: Request, error: HTTPException) -> Problem:
    path = request.scope["path"]
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = request.app.allowed_methods(request.scope)
        detail = f"{request.method} is not allowed for {path[:100]}; allowed: {allowed}"
        return Problem(Kind.METHOD_NOT_ALLOWED, detail, {"value": request.method[:100]}, headers=[("allow", allowed)])
    return Problem(Kind.NOT_FOUND, f"{path[:100]} does not exist; /docs lists all paths")
