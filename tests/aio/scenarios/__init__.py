"""What programs of asyncio do with a client.  Each coroutine function in these modules is a test of its own.

`test_scenarios` calls each of them with the URL of a cluster that is empty.
"""
