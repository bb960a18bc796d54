"""The names of the C library libvalkeycluster, and of libvalkey where it has renamed them.

docs/coming-from-libvalkeycluster.md must have each of them.  Sources: the README and the headers ``valkeycluster.h``
and ``valkeycluster_ssl.h`` of libvalkeycluster (June 2024), its adapters and build files; ``cluster.h`` of libvalkey
0.5.
"""

_PREFIXED = {
    # Synchronous functions.
    "valkeyCluster": """
        Connect ConnectWithTimeout Connect2 ContextInit Free SetMaxRedirect SetConnectCallback SetEventCallback Command
        CommandToNode CommandArgv FormattedCommand AppendCommand AppendCommandToNode AppendCommandArgv
        AppendFormattedCommand GetReply Reset UpdateSlotmap Context Node NodeIterator CallbackFn InitNodeIterator
        NodeNext GetSlotByKey GetNodeByKey Options ConnectWithOptions GetValkeyContext GetValkeyAsyncContext
    """,
    "valkeyClusterv": "Command AppendCommand AsyncCommand CommandToNode AppendCommandToNode",
    "valkeyClusterSetOption": """
        AddNode AddNodes ConnectBlock ConnectNonBlock Username Password ParseSlaves ParseOpenSlots RouteUseSlots
        ConnectTimeout Timeout MaxRetry EnableSSL
    """,
    "valkeyClusterAsync": """
        Context ContextInit Free SetConnectCallback SetConnectCallbackNC SetDisconnectCallback SetDisonnectCallback
        Connect Connect2 Disconnect Command CommandToNode CommandArgv CommandArgvToNode FormattedCommand
        FormattedCommandToNode ConnectWithOptions
    """,
    # Adapters.
    "valkeyClusterLib": "eventAttach evAttach uvAttach",
    "valkeyClusterAe": "Attach",
    "valkeyClusterGlib": "Attach Adapter",
    "valkeyClusterOptionsUse": "Ae Glib Ivykis Libev Libevent Libhv Libsdevent Libuv MacOS Poll",
    # Flags, events and constants.
    "VALKEYCLUSTER_FLAG_": "NULL ADD_SLAVE ADD_OPENSLOT ROUTE_USE_SLOTS",
    "VALKEYCLUSTER_EVENT_": "SLOTMAP_UPDATED READY FREE_CONTEXT",
    "VALKEYCLUSTER_": "SLOTS",
    "VALKEY_ROLE_": "NULL MASTER SLAVE UNKNOWN PRIMARY REPLICA",
    "VALKEY_OPT_": """
        USE_CLUSTER_NODES USE_REPLICAS BLOCKING_INITIAL_UPDATE REUSEADDR PREFER_IPV4 PREFER_IPV6 PREFER_IP_UNSPEC MPTCP
    """,
    "VALKEY_": "OK ERR REPLY_ERROR",
    "VALKEY_ERR_": "IO EOF PROTOCOL OOM TIMEOUT OTHER CLUSTER_TOO_MANY_RETRIES",
    "LIBVALKEYCLUSTER_": "MAJOR MINOR PATCH SONAME",
    # What the README and the headers take from libvalkey.
    "valkey": """
        Reply AllocFuncs SetAllocators ResetAllocators ConnectCallback ConnectCallbackNC DisconnectCallback
        CreateSSLContext InitOpenSSL FreeSSLContext SSLContext CreateTLSContext TLSContext Context AsyncContext
    """,
    # Types, fields, internal functions and arguments.
    "": """
        err errstr privdata route_version failure_count lastConnectionAttempt retry_count need_update_route requests
        lastSlotmapUpdateAttempt connect_timeout command_timeout max_retry_count cluster_slot copen_slot adapterAttachFn
        sslInitFn ctx_get_by_node actx_get_by_node parse_cluster_nodes parse_cluster_slots freeReplyObject UNUSED
        initial_nodes username password max_retry select_db event_callback event_privdata connect_callback
        async_connect_callback async_disconnect_callback attach_fn attach_data tls tls_init_fn random() srandom()
    """,
    # Build options, files and programs.
    "ENABLE_": "SSL IPV6_TESTS COVERAGE TLS THREADS EXAMPLES CARES RDMA DLOPEN_RDMA",
    "USE_": "SSL SANITIZER TLS THREADS WERROR CARES RDMA DLOPEN_RDMA",
    "examples/using_": "cmake_separate/build.sh cmake_externalproject/build.sh make/build.sh",
    "lib": "valkeycluster.so valkeycluster_ssl.so",
}
_OTHERS = ["DISABLE_TESTS", "DOWNLOAD_HIREDIS", "CMAKE_PREFIX_PATH", "CFLAGS", "LDFLAGS", "gencommands.py", "cmddef.h"]
_TARGETS = ["make start", "make test", "make stop", "make coverage", "make install"]

#: Names that the page has in backticks.
NAMES = [prefix + name for prefix, names in _PREFIXED.items() for name in names.split()] + _OTHERS + _TARGETS

#: Texts of errors, which the page has in quotation marks.
ERRORS = [
    "too many cluster retries",
    "slotmap not available",
    "slot not served by any node",
    "No keys in command(must have keys for valkey cluster mode)",
    "Unknown command",
    "Failed to find keys of command",
    "invalid slot",
    "Failed to parse redirect",
    "Invalid address in redirect",
    "Invalid port in redirect",
    "No slot information",
    "Unexpected reply type",
    "Invalid slot range",
    "Invalid node address",
    "Invalid port",
    "Mandatory fields missing",
    "Unknown role",
    "Duplicate addresses in cluster nodes response",
    "Different node holds same slot",
    "Slot region for node is invalid",
    "node host or port is error",
    "server address is incorrect, port separator missing.",
    "server port is incorrect",
    "disconnecting",
    "client closing",
    "Timeout",
    "Server closed the connection",
    "No event library configured",
]
