"""Programs that use redis-py, redis.asyncio and txredisapi as on a single server, with numbers that can be checked.

Each program has several workers.  A worker does one thing again and again, and writes down the errors that it got and
everything that was wrong.  Workers are coroutines, so that those of redis-py and of redis.asyncio are the same text.
"""
