"""The gate: every call passes it known, entitled and within its limits, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from time import monotonic
from typing import Any

import grpc
from structlog.contextvars import bind_contextvars

from calib.errors import Forbidden
from calib.service.protection.allowances import Allowances
from calib.service.protection.audit import Audit
from calib.service.protection.callers import Callers
from calib.service.protection.identity import ANONYMOUS, CALLER, Identity
from calib.service.protection.passage import Passage, reading, telling
from calib.service.protection.rules import RULES, Rule
from calib.service.refusals import Context, Overloaded, Unauthenticated, answering
from calib.service.rpc_meters import RpcMeters

_WITHDRAWN = "withdrawn"


class Gate(grpc.aio.ServerInterceptor):
    """Stands before every handler, those of health checks and reflection included."""

    def __init__(self, callers: Callers, meters: RpcMeters) -> None:
        self._callers = callers
        self._allowances = Allowances()
        self._meters = meters
        self._audit = Audit(meters)
        self._version = callers.version
        self._streams: dict[asyncio.Task[Any], Callable[[], object]] = {}
        """Open streams, and what raises Unauthenticated once their callers are not known."""

    def look(self) -> None:
        """End the streams whose tokens were withdrawn; to be called now and then."""
        version, self._version = self._version, self._callers.version
        if version == self._version:
            return
        for task, known in self._streams.items():
            try:
                known()
            except Unauthenticated:
                task.cancel(_WITHDRAWN)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of a call, behind the gate; None where there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        sent = dict(handler_call_details.invocation_metadata or ())
        return self._guarded(handler, handler_call_details.method, sent.get("authorization"))

    def _guarded(self, handler: Any, method: str, authorization: str | bytes | None) -> Any:
        behaviour, kind = _parts(handler)
        stream = handler.request_streaming or handler.response_streaming
        if self._callers.refuses(authorization) and not _open(method):
            # gRPC reads the message of a stream only when it is asked for: nothing is parsed.
            kind = grpc.stream_stream_rpc_method_handler

        def passed(call: Passage, given: Any) -> Any:
            return call.messages(given) if handler.request_streaming else call.admit(given)

        # A handler of many answers is a generator, or a coroutine that writes them; so its guard.
        if isasyncgenfunction(behaviour):

            async def generate(given: Any, context: Context) -> AsyncIterator[Any]:
                async with (
                    self._passing(method, authorization, context, stream=stream) as call,
                    aclosing(behaviour(passed(call, given), context)) as responses,
                ):
                    async for response in responses:
                        yield response

            guard: Any = generate
        else:

            async def answer(given: Any, context: Context) -> Any:
                async with self._passing(method, authorization, context, stream=stream) as call:
                    request = passed(call, given)
                    if not iscoroutinefunction(behaviour):  # generated, where a servicer has none
                        await context.abort(
                            grpc.StatusCode.UNIMPLEMENTED, "there is no such method"
                        )
                    return await behaviour(request, context)

            guard = answer
        return kind(
            guard, reading(handler.request_deserializer), telling(handler.response_serializer)
        )

    @asynccontextmanager
    async def _passing(
        self, method: str, authorization: str | bytes | None, context: Context, *, stream: bool
    ) -> AsyncIterator[Passage]:
        """A call on its way: known when it begins, counted when it ends."""
        started, code = monotonic(), grpc.StatusCode.OK
        client = f"{ANONYMOUS}@{host_of(context.peer())}"
        self._meters.began(method, stream=stream)
        try:
            async with answering(context, method):
                with ExitStack() as stack:
                    try:
                        rule, caller = self._entry(method, authorization, context)
                        if caller.name != ANONYMOUS:
                            client = caller.name
                        bind_contextvars(client=client)
                        CALLER.set(caller.name)
                        allowance = self._allowances.of(client, caller)
                        if stream and allowance is not None:
                            stack.enter_context(allowance.stream(client))
                    except (Forbidden, Overloaded) as error:
                        self._audit.refused(method, client, context.peer(), error)
                        raise
                    call = Passage(
                        method, rule, caller, client, context.peer(), allowance, self._audit
                    )
                    if stream:
                        stack.enter_context(self._looked_after(call, authorization, context))
                    yield call
        except BaseException as error:
            code = _code(context, error)
            raise
        finally:
            self._meters.ended(method, code.name, monotonic() - started, stream=stream)

    @contextmanager
    def _looked_after(
        self, call: Passage, authorization: str | bytes | None, context: Context
    ) -> Iterator[None]:
        """A stream that ends when its caller is not known any more."""
        task = asyncio.current_task()
        assert task is not None
        self._streams[task] = partial(self._entry, call.method, authorization, context)
        try:
            yield
        except asyncio.CancelledError as error:
            if error.args != (_WITHDRAWN,):
                raise
            task.uncancel()
            withdrawn = Unauthenticated("this token was withdrawn")
            self._audit.refused(call.method, call.client, call.peer, withdrawn)
            raise withdrawn from None
        finally:
            del self._streams[task]

    def _entry(
        self, method: str, authorization: str | bytes | None, context: Context
    ) -> tuple[Rule, Identity]:
        rule = RULES.get(method)
        if rule is None:
            raise Forbidden(f"no rule lets anybody call {method}")
        try:
            return rule, self._callers.caller(authorization, context.peer_identities() or ())
        except Unauthenticated:
            if not rule.open:
                raise
            return rule, self._callers.stranger


def _open(method: str) -> bool:
    return method in RULES and RULES[method].open


def _parts(handler: Any) -> tuple[Any, Callable[..., Any]]:
    """The function of a handler, and what makes a handler of such a function."""
    match (handler.request_streaming, handler.response_streaming):
        case (False, False):
            return handler.unary_unary, grpc.unary_unary_rpc_method_handler
        case (False, True):
            return handler.unary_stream, grpc.unary_stream_rpc_method_handler
        case (True, False):
            return handler.stream_unary, grpc.stream_unary_rpc_method_handler
        case _:
            return handler.stream_stream, grpc.stream_stream_rpc_method_handler


def _code(context: Context, error: BaseException) -> grpc.StatusCode:
    """What a call ends with that raised this."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return grpc.StatusCode.CANCELLED
    code: grpc.StatusCode | None = context.code()
    return code or grpc.StatusCode.UNKNOWN


def host_of(peer: str) -> str:
    """The host of a peer like ipv4:127.0.0.1:1234, so that its connections count together."""
    return peer.partition(":")[2].rpartition(":")[0]
