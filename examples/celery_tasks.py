"""Tasks of Celery that use a cluster: each order is counted once, even if Celery runs its task twice.

Run a worker with ``celery --app celery_tasks worker``.  Celery's own broker is configured by ``CELERY_BROKER_URL``.
"""

from __future__ import annotations

import os

from celery import Celery

from txvalkeycluster import ConnectionLost, blocking

app = Celery("celery_tasks", broker=os.environ.get("CELERY_BROKER_URL", "memory://"))
# Each process of a prefork worker makes connections of its own at its first command.
client = blocking.BlockingClient(os.environ["VALKEY_URL"], encoding="utf-8")


@app.task(autoretry_for=(ConnectionLost,), retry_backoff=True, max_retries=5)
def count_order(order: str, amount: int) -> int:
    """Add an order to the total of its shop, unless that was done before; return the total."""
    shop = order.partition("-")[0]
    added, total = f"{{{shop}}}:orders", f"{{{shop}}}:total"
    return client.optimistically(lambda session: _add(session, added, total, order, amount), added)


def _add(session: blocking.BlockingWatchSession[str], added: str, total: str, order: str, amount: int) -> int:
    if session.sismember(added, order):
        return int(session.get(total) or 0)
    _, new_total = session.transaction().sadd(added, order).incrby(total, amount).execute()
    return int(new_total)
