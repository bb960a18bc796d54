"""The synchronous example program of libvalkeycluster, written with this library.

It connects within 1.5 seconds, sets a key, and gets it.  docs/coming-from-libvalkeycluster.md has a table of all
functions.
"""

from __future__ import annotations

import os
import sys

from txvalkeycluster import ValkeyError, blocking


def main() -> None:
    """Run the example."""
    url = os.environ.get("VALKEY_URL", "valkey://127.0.0.1:7000")
    try:
        with blocking.connect(url, encoding="utf-8", connect_timeout=1.5) as client:
            print("SET:", client.set("key", "value"))
            print("GET:", client.get("key"))
    except ValkeyError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
