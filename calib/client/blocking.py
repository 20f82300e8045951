"""The client for programs without an event loop: the same calls, which wait.

Each class here is a twin of one in the async client, and each of its methods is made from the
method of that name: signature and documentation are the original's.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, suppress
from functools import wraps
from inspect import signature
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from calib.client.client import Client, connect
from calib.client.loop_thread import LoopThread
from calib.client.publisher import Lag, Posted, Publisher
from calib.errors import Unavailable

_Inner = TypeVar("_Inner")
_Other = TypeVar("_Other")
_P = ParamSpec("_P")
_Value = TypeVar("_Value")


class Twin(Generic[_Inner]):
    """Something of the async client, and the thread that its coroutines run in."""

    def __init__(self, inner: _Inner, thread: LoopThread) -> None:
        self._inner = inner
        self._thread = thread


def _call(
    method: Callable[Concatenate[_Inner, _P], Coroutine[Any, Any, _Value]],
) -> Callable[Concatenate[Twin[_Inner], _P], _Value]:
    """A method that waits for what the coroutine returns."""

    @wraps(method)
    def waiting(self: Twin[_Inner], /, *args: _P.args, **kwargs: _P.kwargs) -> _Value:
        return self._thread.run(method(self._inner, *args, **kwargs))

    return waiting


def _twin_of(
    method: Callable[Concatenate[_Inner, _P], Coroutine[Any, Any, _Other]],
    twin: Callable[[_Other, LoopThread], _Value],
) -> Callable[Concatenate[Twin[_Inner], _P], _Value]:
    """A method that waits for what the coroutine returns, and gives the twin of that."""

    @wraps(method)
    def waiting(self: Twin[_Inner], /, *args: _P.args, **kwargs: _P.kwargs) -> _Value:
        return twin(self._thread.run(method(self._inner, *args, **kwargs)), self._thread)

    return waiting


def _values(
    method: Callable[Concatenate[_Inner, _P], AsyncIterator[_Value]],
) -> Callable[Concatenate[Twin[_Inner], _P], Generator[_Value, None, None]]:
    """A method that gives an iterator, each step of which waits."""

    @wraps(method)
    def iterating(
        self: Twin[_Inner], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Generator[_Value, None, None]:
        self._thread.check_open()
        return _stepwise(self._thread, method(self._inner, *args, **kwargs))

    return iterating


def _stepwise(thread: LoopThread, values: AsyncIterator[_Value]) -> Generator[_Value, None, None]:
    try:
        while True:
            try:
                value = thread.run(_next(values))
            except StopAsyncIteration:
                return
            yield value
    finally:
        # Not waited for: the garbage collector may end a generator in any thread, also in that one.
        if isinstance(values, AsyncGenerator):
            with suppress(Unavailable):
                thread.submit(_end(values))


async def _next(values: AsyncIterator[_Value]) -> _Value:
    return await anext(values)


async def _end(values: AsyncGenerator[Any, None]) -> None:
    await values.aclose()


def _block(
    method: Callable[Concatenate[_Inner, _P], AbstractAsyncContextManager[_Other]],
    twin: Callable[[_Other, LoopThread], _Value],
) -> Callable[Concatenate[Twin[_Inner], _P], AbstractContextManager[_Value]]:
    """A method that gives a ``with`` block, in which there is the twin of what the other gives."""

    @wraps(method)
    @contextmanager
    def inside(self: Twin[_Inner], /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_Value]:
        self._thread.check_open()
        manager = method(self._inner, *args, **kwargs)
        inner = self._thread.run(manager.__aenter__())
        try:
            yield twin(inner, self._thread)
        except BaseException as error:
            if not self._thread.run(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._thread.run(manager.__aexit__(None, None, None))

    return inside


def _arguments_of(
    other: Callable[_P, Any],
) -> Callable[[Callable[..., _Value]], Callable[_P, _Value]]:
    """Gives a function the arguments of another, for type checkers and for `help`."""

    def given(function: Callable[..., _Value]) -> Callable[_P, _Value]:
        own = signature(function).return_annotation
        function.__signature__ = signature(other).replace(return_annotation=own)  # type: ignore[attr-defined]
        return function

    return given


class BlockingPosted(Twin[Posted]):
    """Rows that were sent, whose acknowledgements are still to come."""

    acknowledged = _call(Posted.acknowledged)

    @property
    def done(self) -> bool:
        """Whether all of it is acknowledged, or the stream has ended."""
        return self._inner.done


class BlockingPublisher(Twin[Publisher]):
    """An open stream of quotes; made by :meth:`BlockingClient.publisher`."""

    send = _call(Publisher.send)
    post = _twin_of(Publisher.post, BlockingPosted)
    send_levels = _call(Publisher.send_levels)
    send_heartbeat = _call(Publisher.send_heartbeat)

    @property
    def lag(self) -> Lag:
        """How far the server is behind."""
        return self._thread.run(_lag_of(self._inner))


async def _lag_of(publisher: Publisher) -> Lag:
    return publisher.lag


class BlockingClient(Twin[Client]):
    """What :class:`calib.client.Client` is, for threads: any number of them may use one client.

    Its iterators end a watch when they are left or closed. `close` may come from any thread; what
    other threads wait for raises Unavailable then.
    """

    wait_until_serving = _call(Client.wait_until_serving)
    get = _call(Client.get)
    watch = _values(Client.watch)
    watch_quotes = _values(Client.watch_quotes)
    history = _values(Client.history)
    publish = _call(Client.publish)
    publish_levels = _call(Client.publish_levels)
    publisher = _block(Client.publisher, BlockingPublisher)
    calibrate = _call(Client.calibrate)

    def __enter__(self) -> Self:
        self._thread.start()
        self._thread.run(self._inner.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs and the client's thread; again does nothing."""
        self._thread.close(self._inner.__aexit__(None, None, None))

    @property
    def target(self) -> str:
        """The address of the server that is in use."""
        return self._inner.target


@_arguments_of(connect)
def connect_blocking(*args: Any, **kwargs: Any) -> BlockingClient:
    """A client for programs without an event loop, to be used in ``with``.

    The arguments, and what its methods do, are those of `calib.connect`; they wait where the
    others are awaited. One thread in the background talks to the servers.
    """
    return BlockingClient(connect(*args, **kwargs), LoopThread())
