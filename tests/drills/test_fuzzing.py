"""A million broken messages and byte streams; the server is as it was before them."""

from __future__ import annotations

import pytest

from tests.service.fuzzing_run import fuzzed

pytestmark = pytest.mark.drill


async def test_a_million_broken_messages_and_streams_leave_no_trace() -> None:
    report = await fuzzed(messages=900_000, streams=100_000, seed=6)
    print(report)
    assert report.improper == []
    assert report.serving
    assert report.after.files <= report.before.files + 8
    assert report.after.megabytes < report.before.megabytes + 64.0
