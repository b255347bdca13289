"""Who asks too often is told how long to wait, and waiting helps."""

from __future__ import annotations

from tests.conformance.deployments import Deployment
from tests.conformance.test_verbs import refused
from voicemeet_edge.backend.verbs import Role


async def test_a_device_that_asks_too_often(narrow: Deployment) -> None:
    busy, calm = await narrow.party(), await narrow.party()
    for _ in range(4):
        await busy.waits(Role.CALLER, "lab")
    error = await refused(busy.ask(Role.CALLER, "lab"))
    assert (error.status, error.code) == (429, "too_fast")
    assert error.retry_after_s is not None
    assert 5 < error.retry_after_s <= 11
    body = f'{{"ticket": "{busy.ticket}"}}'.encode()
    answer = await narrow.post("leave", body, token=busy.token.reveal())
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 5
    # Nobody else pays for it.
    await calm.waits(Role.CALLER, "lab")
