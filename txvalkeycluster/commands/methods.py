"""Every command as a method.  Written by gencmd; do not edit."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Literal

from twisted.internet.defer import Deferred

from . import converters
from .method_support import (
    MISSING,
    AnyKey,
    AnyValue,
    Bound,
    Key,
    Runner,
    Text,
    Value,
    columns,
    each,
    exclusive,
    flat,
    flat_reversed,
    leaderless,
    needed,
    stream_entry,
)

_ACL_GETUSER = converters.mapping(fields={"selectors": converters.list_of(converters.plain_mapping)})
_ACL_LOG = converters.list_of(converters.mapping(fields={"age-seconds": converters.number}))
_CLUSTER_GETSLOTMIGRATIONS = converters.list_of(converters.plain_mapping)
_CLUSTER_LINKS = converters.list_of(converters.plain_mapping)
_CLUSTER_SHARDS = converters.list_of(converters.mapping(fields={"nodes": converters.list_of(converters.plain_mapping)}))
_CLUSTER_SLOT_STATS = converters.list_of(converters.row(None, converters.plain_mapping))
_CLUSTER_SLOTS = converters.list_of(
    converters.row(None, None, converters.row(None, None, None, converters.plain_mapping), rest=converters.row(None,
    None, None, converters.plain_mapping))
)
_FUNCTION_LIST = converters.list_of(
    converters.mapping(fields={"functions": converters.list_of(converters.plain_mapping)})
)
_FUNCTION_STATS = converters.by_node(converters.function_stats)
_GEOPOS = converters.list_of(converters.coordinates)
_GEORADIUS = converters.list_of(converters.located)
_GEORADIUSBYMEMBER = converters.list_of(converters.located)
_GEORADIUSBYMEMBER_RO = converters.list_of(converters.located)
_GEORADIUS_RO = converters.list_of(converters.located)
_GEOSEARCH = converters.list_of(converters.located)
_LATENCY_HISTOGRAM = converters.by_node(
    converters.mapping(converters.mapping(fields={"histogram_usec": converters.plain_mapping}))
)
_MEMORY_STATS = converters.by_node(converters.nested_mapping)
_MODULE_LIST = converters.list_of(converters.plain_mapping)
_XINFO_CONSUMERS = converters.list_of(converters.plain_mapping)
_XINFO_GROUPS = converters.list_of(converters.plain_mapping)
_XINFO_STREAM = converters.mapping(fields={"groups": converters.stream_groups})
_ZMSCORE = converters.list_of(converters.number)


class Commands(Runner, Generic[Text]):
    """One method per command; ``Text`` is what replies hold."""

    def acl_cat(self, category: Value | None = None) -> Deferred[list[Text]]:
        """ACL CAT [category]

        O(1).  Since 6.0.0.  https://valkey.io/commands/acl-cat/
        """
        words: list[Any] = ["ACL", "CAT"]
        if category is not None:
            words += (category,)
        return self._run(words)

    def acl_deluser(self, *usernames: Value) -> Deferred[int]:
        """ACL DELUSER username [username ...]

        O(1).  Since 6.0.0.  https://valkey.io/commands/acl-deluser/
        """
        return self._run(("ACL", "DELUSER", *usernames))

    def acl_dryrun(self, username: Value, command: Value, *args: Value) -> Deferred[Text]:
        """ACL DRYRUN username command [arg [arg ...]]

        O(1).  Since 7.0.0.  https://valkey.io/commands/acl-dryrun/
        """
        return self._run(("ACL", "DRYRUN", username, command, *args))

    def acl_genpass(self, bits: int | None = None) -> Deferred[Text]:
        """ACL GENPASS [bits]

        O(1).  Since 6.0.0.  https://valkey.io/commands/acl-genpass/
        """
        words: list[Any] = ["ACL", "GENPASS"]
        if bits is not None:
            words += (bits,)
        return self._run(words)

    def acl_getuser(self, username: Value) -> Deferred[dict[Text, Any] | None]:
        """ACL GETUSER username

        O(N).  Since 6.0.0.  https://valkey.io/commands/acl-getuser/
        """
        return self._run(("ACL", "GETUSER", username), _ACL_GETUSER)

    def acl_help(self) -> Deferred[list[Text]]:
        """ACL HELP

        O(1).  Since 6.0.0.  https://valkey.io/commands/acl-help/
        """
        return self._run(("ACL", "HELP"))

    def acl_list(self) -> Deferred[list[Text]]:
        """ACL LIST

        O(N).  Since 6.0.0.  https://valkey.io/commands/acl-list/
        """
        return self._run(("ACL", "LIST"))

    def acl_load(self) -> Deferred[Text]:
        """ACL LOAD

        O(N).  Since 6.0.0.  https://valkey.io/commands/acl-load/
        """
        return self._run(("ACL", "LOAD"))

    def acl_log(self, count: int | None = None, *, reset: bool = False) -> Deferred[list[dict[Text, Any]] | Text]:
        """ACL LOG [count | RESET]

        O(N).  Since 6.0.0.  https://valkey.io/commands/acl-log/
        """
        if (count is not None) + reset > 1:
            exclusive("ACL LOG", count=count, reset=reset)
        words: list[Any] = ["ACL", "LOG"]
        if count is not None:
            words += (count,)
        if reset:
            words += ("RESET",)
        return self._run(words, _ACL_LOG)

    def acl_save(self) -> Deferred[Text]:
        """ACL SAVE

        O(N).  Since 6.0.0.  https://valkey.io/commands/acl-save/
        """
        return self._run(("ACL", "SAVE"))

    def acl_setuser(self, username: Value, *rules: Value) -> Deferred[Text]:
        """ACL SETUSER username [rule [rule ...]]

        O(N).  Since 6.0.0.  https://valkey.io/commands/acl-setuser/
        """
        return self._run(("ACL", "SETUSER", username, *rules))

    def acl_users(self) -> Deferred[list[Text]]:
        """ACL USERS

        O(N).  Since 6.0.0.  https://valkey.io/commands/acl-users/
        """
        return self._run(("ACL", "USERS"))

    def acl_whoami(self) -> Deferred[Text]:
        """ACL WHOAMI

        O(1).  Since 6.0.0.  https://valkey.io/commands/acl-whoami/
        """
        return self._run(("ACL", "WHOAMI"))

    def append(self, key: Key, value: Value) -> Deferred[int]:
        """APPEND key value

        O(1).  Since 2.0.0.  https://valkey.io/commands/append/
        """
        return self._run(("APPEND", key, value))

    def bgrewriteaof(self) -> Deferred[Text]:
        """BGREWRITEAOF

        O(1).  Since 1.0.0.  https://valkey.io/commands/bgrewriteaof/
        """
        return self._run(("BGREWRITEAOF",))

    def bgsave(self, *, schedule: bool = False, cancel: bool = False) -> Deferred[Text]:
        """BGSAVE [SCHEDULE | CANCEL]

        O(1).  Since 1.0.0.  https://valkey.io/commands/bgsave/
        """
        if schedule + cancel > 1:
            exclusive("BGSAVE", schedule=schedule, cancel=cancel)
        words: list[Any] = ["BGSAVE"]
        if schedule:
            words += ("SCHEDULE",)
        if cancel:
            words += ("CANCEL",)
        return self._run(words)

    def bitcount(
        self, key: Key, *, start: int | None = None, end: int | None = None, byte: bool = False, bit: bool = False
    ) -> Deferred[int]:
        """BITCOUNT key [start [end [BYTE | BIT]]]

        O(N).  Since 2.6.0.  https://valkey.io/commands/bitcount/
        """
        if byte + bit > 1:
            exclusive("BITCOUNT", byte=byte, bit=bit)
        words: list[Any] = ["BITCOUNT", key]
        if start is not None:
            words += (start,)
            if end is not None:
                words += (end,)
                if byte:
                    words += ("BYTE",)
                if bit:
                    words += ("BIT",)
            elif byte or bit:
                raise leaderless("BITCOUNT", "end", "byte, bit")
        elif end is not None or byte or bit:
            raise leaderless("BITCOUNT", "start", "end, byte, bit")
        return self._run(words)

    def bitfield(self, key: Key, *operation: Sequence[Value]) -> Deferred[list[int | None]]:
        """BITFIELD key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY
            encoding offset increment> ...]

        O(1).  Since 3.2.0.  https://valkey.io/commands/bitfield/
        """
        return self._run(("BITFIELD", key, *flat(operation)))

    def bitfield_ro(
        self, key: Key, *, get: Mapping[AnyValue, int] | Iterable[tuple[Value, int]] = ()
    ) -> Deferred[list[int]]:
        """BITFIELD_RO key [GET encoding offset [GET encoding offset ...]]

        O(1).  Since 6.0.0.  https://valkey.io/commands/bitfield_ro/
        """
        words: list[Any] = ["BITFIELD_RO", key]
        for row in get.items() if isinstance(get, Mapping) else get:
            words += ("GET", *row)
        return self._run(words)

    def bitop(self, operation: Literal["AND", "OR", "XOR", "NOT"], destkey: Key, *keys: Key) -> Deferred[int]:
        """BITOP <AND | OR | XOR | NOT> destkey key [key ...]

        O(N).  Since 2.6.0.  https://valkey.io/commands/bitop/
        """
        return self._run(("BITOP", operation, destkey, *keys))

    def bitpos(
        self,
        key: Key,
        bit: int,
        *,
        start: int | None = None,
        end: int | None = None,
        unit: Literal["BYTE", "BIT"] | None = None,
    ) -> Deferred[int]:
        """BITPOS key bit [start [end [BYTE | BIT]]]

        O(N).  Since 2.8.7.  https://valkey.io/commands/bitpos/
        """
        words: list[Any] = ["BITPOS", key, bit]
        if start is not None:
            words += (start,)
            if end is not None:
                words += (end,)
                if unit is not None:
                    words += (unit,)
            elif unit is not None:
                raise leaderless("BITPOS", "end", "unit")
        elif end is not None or unit is not None:
            raise leaderless("BITPOS", "start", "end, unit")
        return self._run(words)

    def blmove(
        self,
        source: Key,
        destination: Key,
        wherefrom: Literal["LEFT", "RIGHT"],
        whereto: Literal["LEFT", "RIGHT"],
        timeout: float,
    ) -> Deferred[Text | None]:
        """BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout

        O(1).  Since 6.2.0.  https://valkey.io/commands/blmove/
        """
        return self._run(("BLMOVE", source, destination, wherefrom, whereto, timeout))

    def blmpop(
        self,
        timeout: float,
        keys: Key | Iterable[Key],
        where: Literal["LEFT", "RIGHT"],
        *,
        count: int | None = None,
    ) -> Deferred[tuple[Text, list[Text]] | None]:
        """BLMPOP timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]

        O(N+M).  Since 7.0.0.  https://valkey.io/commands/blmpop/
        """
        words: list[Any] = ["BLMPOP", timeout]
        listed = each(keys)
        words += (len(listed), *listed, where)
        if count is not None:
            words += ("COUNT", count)
        return self._run(words, converters.as_tuple)

    def blpop(self, keys: Key | Iterable[Key], timeout: float) -> Deferred[tuple[Text, Text] | None]:
        """BLPOP key [key ...] timeout

        O(N).  Since 2.0.0.  https://valkey.io/commands/blpop/
        """
        return self._run(("BLPOP", *each(keys), timeout), converters.as_tuple)

    def brpop(self, keys: Key | Iterable[Key], timeout: float) -> Deferred[tuple[Text, Text] | None]:
        """BRPOP key [key ...] timeout

        O(N).  Since 2.0.0.  https://valkey.io/commands/brpop/
        """
        return self._run(("BRPOP", *each(keys), timeout), converters.as_tuple)

    def brpoplpush(self, source: Key, destination: Key, timeout: float) -> Deferred[Text | None]:
        """BRPOPLPUSH source destination timeout

        O(1).  Since 2.2.0.  https://valkey.io/commands/brpoplpush/
        """
        return self._run(("BRPOPLPUSH", source, destination, timeout))

    def bzmpop(
        self, timeout: float, keys: Key | Iterable[Key], where: Literal["MIN", "MAX"], *, count: int | None = None
    ) -> Deferred[tuple[Text, list[tuple[Text, float]]] | None]:
        """BZMPOP timeout numkeys key [key ...] <MIN | MAX> [COUNT count]

        O(K), O(M*log(N)).  Since 7.0.0.  https://valkey.io/commands/bzmpop/
        """
        words: list[Any] = ["BZMPOP", timeout]
        listed = each(keys)
        words += (len(listed), *listed, where)
        if count is not None:
            words += ("COUNT", count)
        return self._run(words, converters.scored_of_key)

    def bzpopmax(self, keys: Key | Iterable[Key], timeout: float) -> Deferred[tuple[Text, Text, float] | None]:
        """BZPOPMAX key [key ...] timeout

        O(log(N)).  Since 5.0.0.  https://valkey.io/commands/bzpopmax/
        """
        return self._run(("BZPOPMAX", *each(keys), timeout), converters.popped_keyed)

    def bzpopmin(self, keys: Key | Iterable[Key], timeout: float) -> Deferred[tuple[Text, Text, float] | None]:
        """BZPOPMIN key [key ...] timeout

        O(log(N)).  Since 5.0.0.  https://valkey.io/commands/bzpopmin/
        """
        return self._run(("BZPOPMIN", *each(keys), timeout), converters.popped_keyed)

    def client_getname(self) -> Deferred[Text | None]:
        """CLIENT GETNAME

        O(1).  Since 2.6.9.  https://valkey.io/commands/client-getname/
        """
        return self._run(("CLIENT", "GETNAME"))

    def client_getredir(self) -> Deferred[int]:
        """CLIENT GETREDIR

        O(1).  Since 6.0.0.  https://valkey.io/commands/client-getredir/
        """
        return self._run(("CLIENT", "GETREDIR"))

    def client_help(self) -> Deferred[list[Text]]:
        """CLIENT HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/client-help/
        """
        return self._run(("CLIENT", "HELP"))

    def client_id(self) -> Deferred[int]:
        """CLIENT ID

        O(1).  Since 5.0.0.  https://valkey.io/commands/client-id/
        """
        return self._run(("CLIENT", "ID"))

    def client_info(self) -> Deferred[Text]:
        """CLIENT INFO

        O(1).  Since 6.2.0.  https://valkey.io/commands/client-info/
        """
        return self._run(("CLIENT", "INFO"))

    def client_kill(
        self,
        old_format: Value | None = None,
        *,
        id: int | Iterable[int] = (),
        type: Literal["normal", "master", "primary", "slave", "replica", "pubsub"] | None = None,
        user: Value | None = None,
        addr: Value | None = None,
        laddr: Value | None = None,
        skipme: Literal["YES", "NO"] | None = None,
        maxage: int | None = None,
        name: Value | None = None,
        idle: int | None = None,
        flags: Value | None = None,
        lib_name: Value | None = None,
        lib_ver: Value | None = None,
        db: int | None = None,
        capa: Value | None = None,
        ip: Value | None = None,
        not_type: Literal["normal", "master", "primary", "slave", "replica", "pubsub"] | None = None,
        not_id: int | Iterable[int] = (),
        not_user: Value | None = None,
        not_addr: Value | None = None,
        not_laddr: Value | None = None,
        not_name: Value | None = None,
        not_flags: Value | None = None,
        not_lib_name: Value | None = None,
        not_lib_ver: Value | None = None,
        not_db: int | None = None,
        not_capa: Value | None = None,
        not_ip: Value | None = None,
    ) -> Deferred[Text | int]:
        """CLIENT KILL <old-format | <[ID client-id [client-id ...]] | [TYPE <normal | master | primary | slave |
            replica | pubsub>] | [USER username] | [ADDR addr] | [LADDR laddr] | [SKIPME <YES | NO>] | [MAXAGE
            maxage] | [NAME name] | [IDLE idle] | [FLAGS flags] | [LIB-NAME lib-name] | [LIB-VER lib-ver] | [DB db]
            | [CAPA capa] | [IP ip] | [NOT-TYPE <normal | master | primary | slave | replica | pubsub>] | [NOT-ID
            not-client-id [not-client-id ...]] | [NOT-USER not-username] | [NOT-ADDR not-addr] | [NOT-LADDR
            not-laddr] | [NOT-NAME not-name] | [NOT-FLAGS not-flags] | [NOT-LIB-NAME not-lib-name] | [NOT-LIB-VER
            not-lib-ver] | [NOT-DB not-db] | [NOT-CAPA not-capa] | [NOT-IP not-ip]> ...>

        O(N).  Since 2.4.0.  https://valkey.io/commands/client-kill/
        """
        words: list[Any] = ["CLIENT", "KILL"]
        if old_format is not None:
            words += (old_format,)
        if listed := each(id):
            words += ("ID", *listed)
        if type is not None:
            words += ("TYPE", type)
        if user is not None:
            words += ("USER", user)
        if addr is not None:
            words += ("ADDR", addr)
        if laddr is not None:
            words += ("LADDR", laddr)
        if skipme is not None:
            words += ("SKIPME", skipme)
        if maxage is not None:
            words += ("MAXAGE", maxage)
        if name is not None:
            words += ("NAME", name)
        if idle is not None:
            words += ("IDLE", idle)
        if flags is not None:
            words += ("FLAGS", flags)
        if lib_name is not None:
            words += ("LIB-NAME", lib_name)
        if lib_ver is not None:
            words += ("LIB-VER", lib_ver)
        if db is not None:
            words += ("DB", db)
        if capa is not None:
            words += ("CAPA", capa)
        if ip is not None:
            words += ("IP", ip)
        if not_type is not None:
            words += ("NOT-TYPE", not_type)
        if listed := each(not_id):
            words += ("NOT-ID", *listed)
        if not_user is not None:
            words += ("NOT-USER", not_user)
        if not_addr is not None:
            words += ("NOT-ADDR", not_addr)
        if not_laddr is not None:
            words += ("NOT-LADDR", not_laddr)
        if not_name is not None:
            words += ("NOT-NAME", not_name)
        if not_flags is not None:
            words += ("NOT-FLAGS", not_flags)
        if not_lib_name is not None:
            words += ("NOT-LIB-NAME", not_lib_name)
        if not_lib_ver is not None:
            words += ("NOT-LIB-VER", not_lib_ver)
        if not_db is not None:
            words += ("NOT-DB", not_db)
        if not_capa is not None:
            words += ("NOT-CAPA", not_capa)
        if not_ip is not None:
            words += ("NOT-IP", not_ip)
        return self._run(words)

    def client_list(
        self,
        *,
        type: Literal["normal", "master", "replica", "pubsub"] | None = None,
        id: int | Iterable[int] = (),
        user: Value | None = None,
        addr: Value | None = None,
        laddr: Value | None = None,
        skipme: Literal["YES", "NO"] | None = None,
        maxage: int | None = None,
        name: Value | None = None,
        idle: int | None = None,
        flags: Value | None = None,
        lib_name: Value | None = None,
        lib_ver: Value | None = None,
        db: int | None = None,
        capa: Value | None = None,
        ip: Value | None = None,
        not_type: Literal["normal", "master", "replica", "pubsub"] | None = None,
        not_id: int | Iterable[int] = (),
        not_user: Value | None = None,
        not_addr: Value | None = None,
        not_laddr: Value | None = None,
        not_name: Value | None = None,
        not_flags: Value | None = None,
        not_lib_name: Value | None = None,
        not_lib_ver: Value | None = None,
        not_db: int | None = None,
        not_capa: Value | None = None,
        not_ip: Value | None = None,
    ) -> Deferred[Text]:
        """CLIENT LIST [TYPE <normal | master | replica | pubsub>] [ID client-id [client-id ...]] [USER username]
            [ADDR addr] [LADDR laddr] [SKIPME <YES | NO>] [MAXAGE maxage] [NAME name] [IDLE idle] [FLAGS flags]
            [LIB-NAME lib-name] [LIB-VER lib-ver] [DB db] [CAPA capa] [IP ip] [NOT-TYPE <normal | master | replica |
            pubsub>] [NOT-ID not-client-id [not-client-id ...]] [NOT-USER not-username] [NOT-ADDR not-addr]
            [NOT-LADDR not-laddr] [NOT-NAME not-name] [NOT-FLAGS not-flags] [NOT-LIB-NAME not-lib-name] [NOT-LIB-VER
            not-lib-ver] [NOT-DB not-db] [NOT-CAPA not-capa] [NOT-IP not-ip]

        O(N).  Since 2.4.0.  https://valkey.io/commands/client-list/
        """
        words: list[Any] = ["CLIENT", "LIST"]
        if type is not None:
            words += ("TYPE", type)
        if listed := each(id):
            words += ("ID", *listed)
        if user is not None:
            words += ("USER", user)
        if addr is not None:
            words += ("ADDR", addr)
        if laddr is not None:
            words += ("LADDR", laddr)
        if skipme is not None:
            words += ("SKIPME", skipme)
        if maxage is not None:
            words += ("MAXAGE", maxage)
        if name is not None:
            words += ("NAME", name)
        if idle is not None:
            words += ("IDLE", idle)
        if flags is not None:
            words += ("FLAGS", flags)
        if lib_name is not None:
            words += ("LIB-NAME", lib_name)
        if lib_ver is not None:
            words += ("LIB-VER", lib_ver)
        if db is not None:
            words += ("DB", db)
        if capa is not None:
            words += ("CAPA", capa)
        if ip is not None:
            words += ("IP", ip)
        if not_type is not None:
            words += ("NOT-TYPE", not_type)
        if listed := each(not_id):
            words += ("NOT-ID", *listed)
        if not_user is not None:
            words += ("NOT-USER", not_user)
        if not_addr is not None:
            words += ("NOT-ADDR", not_addr)
        if not_laddr is not None:
            words += ("NOT-LADDR", not_laddr)
        if not_name is not None:
            words += ("NOT-NAME", not_name)
        if not_flags is not None:
            words += ("NOT-FLAGS", not_flags)
        if not_lib_name is not None:
            words += ("NOT-LIB-NAME", not_lib_name)
        if not_lib_ver is not None:
            words += ("NOT-LIB-VER", not_lib_ver)
        if not_db is not None:
            words += ("NOT-DB", not_db)
        if not_capa is not None:
            words += ("NOT-CAPA", not_capa)
        if not_ip is not None:
            words += ("NOT-IP", not_ip)
        return self._run(words)

    def client_pause(self, timeout: int, *, write: bool = False, all: bool = False) -> Deferred[Text]:
        """CLIENT PAUSE timeout [WRITE | ALL]

        O(1).  Since 3.0.0.  https://valkey.io/commands/client-pause/
        """
        if write + all > 1:
            exclusive("CLIENT PAUSE", write=write, all=all)
        words: list[Any] = ["CLIENT", "PAUSE", timeout]
        if write:
            words += ("WRITE",)
        if all:
            words += ("ALL",)
        return self._run(words)

    def client_setinfo(self, *, lib_name: Value | None = None, lib_ver: Value | None = None) -> Deferred[Text]:
        """CLIENT SETINFO <LIB-NAME libname | LIB-VER libver>

        O(1).  Since 7.2.0.  https://valkey.io/commands/client-setinfo/
        """
        if (lib_name is not None) + (lib_ver is not None) != 1:
            exclusive("CLIENT SETINFO", needed=True, lib_name=lib_name, lib_ver=lib_ver)
        words: list[Any] = ["CLIENT", "SETINFO"]
        if lib_name is not None:
            words += ("LIB-NAME", lib_name)
        if lib_ver is not None:
            words += ("LIB-VER", lib_ver)
        return self._run(words)

    def client_setname(self, connection_name: Value) -> Deferred[Text]:
        """CLIENT SETNAME connection-name

        O(1).  Since 2.6.9.  https://valkey.io/commands/client-setname/
        """
        return self._run(("CLIENT", "SETNAME", connection_name))

    def client_trackinginfo(self) -> Deferred[dict[Text, Any]]:
        """CLIENT TRACKINGINFO

        O(1).  Since 6.2.0.  https://valkey.io/commands/client-trackinginfo/
        """
        return self._run(("CLIENT", "TRACKINGINFO"), converters.plain_mapping)

    def client_unblock(self, client_id: int, *, timeout: bool = False, error: bool = False) -> Deferred[int]:
        """CLIENT UNBLOCK client-id [TIMEOUT | ERROR]

        O(log N).  Since 5.0.0.  https://valkey.io/commands/client-unblock/
        """
        if timeout + error > 1:
            exclusive("CLIENT UNBLOCK", timeout=timeout, error=error)
        words: list[Any] = ["CLIENT", "UNBLOCK", client_id]
        if timeout:
            words += ("TIMEOUT",)
        if error:
            words += ("ERROR",)
        return self._run(words)

    def client_unpause(self) -> Deferred[Text]:
        """CLIENT UNPAUSE

        O(N).  Since 6.2.0.  https://valkey.io/commands/client-unpause/
        """
        return self._run(("CLIENT", "UNPAUSE"))

    def cluster_addslots(self, *slots: int) -> Deferred[Text]:
        """CLUSTER ADDSLOTS slot [slot ...]

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-addslots/
        """
        return self._run(("CLUSTER", "ADDSLOTS", *slots))

    def cluster_addslotsrange(self, range: Mapping[AnyValue, int] | Iterable[tuple[int, int]]) -> Deferred[Text]:
        """CLUSTER ADDSLOTSRANGE start-slot end-slot [start-slot end-slot ...]

        O(N).  Since 7.0.0.  https://valkey.io/commands/cluster-addslotsrange/
        """
        return self._run(("CLUSTER", "ADDSLOTSRANGE", *flat(range)))

    def cluster_bumpepoch(self) -> Deferred[Text]:
        """CLUSTER BUMPEPOCH

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-bumpepoch/
        """
        return self._run(("CLUSTER", "BUMPEPOCH"))

    def cluster_cancelslotmigrations(self) -> Deferred[Text]:
        """CLUSTER CANCELSLOTMIGRATIONS

        O(N).  Since 9.0.0.  https://valkey.io/commands/cluster-cancelslotmigrations/
        """
        return self._run(("CLUSTER", "CANCELSLOTMIGRATIONS"))

    def cluster_count_failure_reports(self, node_id: Value) -> Deferred[int]:
        """CLUSTER COUNT-FAILURE-REPORTS node-id

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-count-failure-reports/
        """
        return self._run(("CLUSTER", "COUNT-FAILURE-REPORTS", node_id))

    def cluster_countkeysinslot(self, slot: int) -> Deferred[int]:
        """CLUSTER COUNTKEYSINSLOT slot

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-countkeysinslot/
        """
        return self._run(("CLUSTER", "COUNTKEYSINSLOT", slot))

    def cluster_delslots(self, *slots: int) -> Deferred[Text]:
        """CLUSTER DELSLOTS slot [slot ...]

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-delslots/
        """
        return self._run(("CLUSTER", "DELSLOTS", *slots))

    def cluster_delslotsrange(self, range: Mapping[AnyValue, int] | Iterable[tuple[int, int]]) -> Deferred[Text]:
        """CLUSTER DELSLOTSRANGE start-slot end-slot [start-slot end-slot ...]

        O(N).  Since 7.0.0.  https://valkey.io/commands/cluster-delslotsrange/
        """
        return self._run(("CLUSTER", "DELSLOTSRANGE", *flat(range)))

    def cluster_failover(self, *, force: bool = False, takeover: bool = False) -> Deferred[Text]:
        """CLUSTER FAILOVER [FORCE | TAKEOVER]

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-failover/
        """
        if force + takeover > 1:
            exclusive("CLUSTER FAILOVER", force=force, takeover=takeover)
        words: list[Any] = ["CLUSTER", "FAILOVER"]
        if force:
            words += ("FORCE",)
        if takeover:
            words += ("TAKEOVER",)
        return self._run(words)

    def cluster_flushslot(self, slot: int, *, async_: bool = False, sync: bool = False) -> Deferred[Text]:
        """CLUSTER FLUSHSLOT slot [ASYNC | SYNC]

        O(N).  Since 9.0.0.  https://valkey.io/commands/cluster-flushslot/
        """
        if async_ + sync > 1:
            exclusive("CLUSTER FLUSHSLOT", async_=async_, sync=sync)
        words: list[Any] = ["CLUSTER", "FLUSHSLOT", slot]
        if async_:
            words += ("ASYNC",)
        if sync:
            words += ("SYNC",)
        return self._run(words)

    def cluster_flushslots(self) -> Deferred[Text]:
        """CLUSTER FLUSHSLOTS

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-flushslots/
        """
        return self._run(("CLUSTER", "FLUSHSLOTS"))

    def cluster_forget(self, node_id: Value) -> Deferred[Text]:
        """CLUSTER FORGET node-id

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-forget/
        """
        return self._run(("CLUSTER", "FORGET", node_id))

    def cluster_getkeysinslot(self, slot: int, count: int) -> Deferred[list[Text]]:
        """CLUSTER GETKEYSINSLOT slot count

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-getkeysinslot/
        """
        return self._run(("CLUSTER", "GETKEYSINSLOT", slot, count))

    def cluster_getslotmigrations(self) -> Deferred[list[dict[Text, Any]]]:
        """CLUSTER GETSLOTMIGRATIONS

        O(N).  Since 9.0.0.  https://valkey.io/commands/cluster-getslotmigrations/
        """
        return self._run(("CLUSTER", "GETSLOTMIGRATIONS"), _CLUSTER_GETSLOTMIGRATIONS)

    def cluster_help(self) -> Deferred[list[Text]]:
        """CLUSTER HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/cluster-help/
        """
        return self._run(("CLUSTER", "HELP"))

    def cluster_info(self) -> Deferred[Text]:
        """CLUSTER INFO

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-info/
        """
        return self._run(("CLUSTER", "INFO"))

    def cluster_keyslot(self, key: Value) -> Deferred[int]:
        """CLUSTER KEYSLOT key

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-keyslot/
        """
        return self._run(("CLUSTER", "KEYSLOT", key))

    def cluster_links(self) -> Deferred[list[dict[Text, Any]]]:
        """CLUSTER LINKS

        O(N).  Since 7.0.0.  https://valkey.io/commands/cluster-links/
        """
        return self._run(("CLUSTER", "LINKS"), _CLUSTER_LINKS)

    def cluster_meet(self, ip: Value, port: int, cluster_bus_port: int | None = None) -> Deferred[Text]:
        """CLUSTER MEET ip port [cluster-bus-port]

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-meet/
        """
        words: list[Any] = ["CLUSTER", "MEET", ip, port]
        if cluster_bus_port is not None:
            words += (cluster_bus_port,)
        return self._run(words)

    def cluster_migrateslots(self, *migration_group: Sequence[Value]) -> Deferred[Text]:
        """CLUSTER MIGRATESLOTS SLOTSRANGE start-slot end-slot [start-slot end-slot ...] NODE node-id ...

        O(N).  Since 9.0.0.  https://valkey.io/commands/cluster-migrateslots/
        """
        return self._run(("CLUSTER", "MIGRATESLOTS", *flat(migration_group)))

    def cluster_myid(self) -> Deferred[Text]:
        """CLUSTER MYID

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-myid/
        """
        return self._run(("CLUSTER", "MYID"))

    def cluster_myshardid(self) -> Deferred[Text]:
        """CLUSTER MYSHARDID

        O(1).  Since 7.2.0.  https://valkey.io/commands/cluster-myshardid/
        """
        return self._run(("CLUSTER", "MYSHARDID"))

    def cluster_nodes(self) -> Deferred[Text]:
        """CLUSTER NODES

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-nodes/
        """
        return self._run(("CLUSTER", "NODES"))

    def cluster_replicas(self, node_id: Value) -> Deferred[list[Text]]:
        """CLUSTER REPLICAS node-id

        O(N).  Since 5.0.0.  https://valkey.io/commands/cluster-replicas/
        """
        return self._run(("CLUSTER", "REPLICAS", node_id))

    def cluster_replicate(self, *args: Value) -> Deferred[Text]:
        """CLUSTER REPLICATE <node-id | NO ONE>

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-replicate/
        """
        return self._run(("CLUSTER", "REPLICATE", *args))

    def cluster_reset(self, *, hard: bool = False, soft: bool = False) -> Deferred[Text]:
        """CLUSTER RESET [HARD | SOFT]

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-reset/
        """
        if hard + soft > 1:
            exclusive("CLUSTER RESET", hard=hard, soft=soft)
        words: list[Any] = ["CLUSTER", "RESET"]
        if hard:
            words += ("HARD",)
        if soft:
            words += ("SOFT",)
        return self._run(words)

    def cluster_saveconfig(self) -> Deferred[Text]:
        """CLUSTER SAVECONFIG

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-saveconfig/
        """
        return self._run(("CLUSTER", "SAVECONFIG"))

    def cluster_set_config_epoch(self, config_epoch: int) -> Deferred[Text]:
        """CLUSTER SET-CONFIG-EPOCH config-epoch

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-set-config-epoch/
        """
        return self._run(("CLUSTER", "SET-CONFIG-EPOCH", config_epoch))

    def cluster_setslot(
        self,
        slot: int,
        *,
        importing: Value | None = None,
        migrating: Value | None = None,
        node: Value | None = None,
        stable: bool = False,
        timeout: int | None = None,
    ) -> Deferred[Text]:
        """CLUSTER SETSLOT slot <IMPORTING importing | MIGRATING migrating | NODE node | STABLE> [TIMEOUT timeout]

        O(1).  Since 3.0.0.  https://valkey.io/commands/cluster-setslot/
        """
        if (importing is not None) + (migrating is not None) + (node is not None) + stable != 1:
            exclusive(
                "CLUSTER SETSLOT", needed=True, importing=importing, migrating=migrating, node=node, stable=stable
            )
        words: list[Any] = ["CLUSTER", "SETSLOT", slot]
        if importing is not None:
            words += ("IMPORTING", importing)
        if migrating is not None:
            words += ("MIGRATING", migrating)
        if node is not None:
            words += ("NODE", node)
        if stable:
            words += ("STABLE",)
        if timeout is not None:
            words += ("TIMEOUT", timeout)
        return self._run(words)

    def cluster_shards(self) -> Deferred[list[dict[Text, Any]]]:
        """CLUSTER SHARDS

        O(N).  Since 7.0.0.  https://valkey.io/commands/cluster-shards/
        """
        return self._run(("CLUSTER", "SHARDS"), _CLUSTER_SHARDS)

    def cluster_slaves(self, node_id: Value) -> Deferred[list[Text]]:
        """CLUSTER SLAVES node-id

        O(N).  Since 3.0.0.  Deprecated since 5.0.0.  https://valkey.io/commands/cluster-slaves/
        """
        return self._run(("CLUSTER", "SLAVES", node_id))

    def cluster_slot_stats(
        self,
        *,
        slotsrange: tuple[int, int] | None = None,
        orderby: Value | None = None,
        limit: int | None = None,
        asc: bool = False,
        desc: bool = False,
    ) -> Deferred[list[list[int | dict[Text, int]]]]:
        """CLUSTER SLOT-STATS <SLOTSRANGE start-slot end-slot | ORDERBY metric [LIMIT limit] [ASC | DESC]>

        O(N), O(N*log(N)).  Since 8.0.0.  https://valkey.io/commands/cluster-slot-stats/
        """
        if asc + desc > 1:
            exclusive("CLUSTER SLOT-STATS", asc=asc, desc=desc)
        if (slotsrange is not None) + (orderby is not None or limit is not None or asc or desc) != 1:
            exclusive("CLUSTER SLOT-STATS", needed=True, slotsrange=slotsrange, orderby=orderby)
        words: list[Any] = ["CLUSTER", "SLOT-STATS"]
        if slotsrange is not None:
            words += ("SLOTSRANGE", *slotsrange)
        if orderby is not None:
            words += ("ORDERBY", orderby)
            if limit is not None:
                words += ("LIMIT", limit)
            if asc:
                words += ("ASC",)
            if desc:
                words += ("DESC",)
        elif limit is not None or asc or desc:
            raise leaderless("CLUSTER SLOT-STATS", "orderby", "limit, asc, desc")
        return self._run(words, _CLUSTER_SLOT_STATS)

    def cluster_slots(self) -> Deferred[list[list[int | list[Text | int | dict[Text, Text] | None]]]]:
        """CLUSTER SLOTS

        O(N).  Since 3.0.0.  https://valkey.io/commands/cluster-slots/
        """
        return self._run(("CLUSTER", "SLOTS"), _CLUSTER_SLOTS)

    def clusterscan(
        self,
        cursor: Value,
        *,
        match: Key | None = None,
        count: int | None = None,
        type: Value | None = None,
        slot: int | None = None,
    ) -> Deferred[tuple[Text, list[Text]]]:
        """CLUSTERSCAN cursor [MATCH match-pattern] [COUNT count] [TYPE type] [SLOT slot]

        O(N).  Since 9.1.0.  https://valkey.io/commands/clusterscan/
        """
        words: list[Any] = ["CLUSTERSCAN", cursor]
        if match is not None:
            words += ("MATCH", match)
        if count is not None:
            words += ("COUNT", count)
        if type is not None:
            words += ("TYPE", type)
        if slot is not None:
            words += ("SLOT", slot)
        return self._run(words, converters.scanned)

    def command(self) -> Deferred[list[Any]]:
        """COMMAND

        O(N).  Since 2.8.13.  https://valkey.io/commands/command/
        """
        return self._run(("COMMAND",), converters.command_info)

    def command_count(self) -> Deferred[int]:
        """COMMAND COUNT

        O(1).  Since 2.8.13.  https://valkey.io/commands/command-count/
        """
        return self._run(("COMMAND", "COUNT"))

    def command_docs(self, *command_names: Value) -> Deferred[dict[Text, Any]]:
        """COMMAND DOCS [command-name [command-name ...]]

        O(N).  Since 7.0.0.  https://valkey.io/commands/command-docs/
        """
        return self._run(("COMMAND", "DOCS", *command_names), converters.command_docs)

    def command_getkeys(self, command: Value, *args: Value) -> Deferred[list[Text]]:
        """COMMAND GETKEYS command [arg [arg ...]]

        O(N).  Since 2.8.13.  https://valkey.io/commands/command-getkeys/
        """
        return self._run(("COMMAND", "GETKEYS", command, *args))

    def command_getkeysandflags(self, command: Value, *args: Value) -> Deferred[list[list[Text | list[Text]]]]:
        """COMMAND GETKEYSANDFLAGS command [arg [arg ...]]

        O(N).  Since 7.0.0.  https://valkey.io/commands/command-getkeysandflags/
        """
        return self._run(("COMMAND", "GETKEYSANDFLAGS", command, *args))

    def command_help(self) -> Deferred[list[Text]]:
        """COMMAND HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/command-help/
        """
        return self._run(("COMMAND", "HELP"))

    def command_info(self, *command_names: Value) -> Deferred[list[Any]]:
        """COMMAND INFO [command-name [command-name ...]]

        O(N).  Since 2.8.13.  https://valkey.io/commands/command-info/
        """
        return self._run(("COMMAND", "INFO", *command_names), converters.command_info)

    def command_list(
        self, *, module: Value | None = None, aclcat: Value | None = None, pattern: Key | None = None
    ) -> Deferred[list[Text]]:
        """COMMAND LIST [FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]

        O(N).  Since 7.0.0.  https://valkey.io/commands/command-list/
        """
        if (module is not None) + (aclcat is not None) + (pattern is not None) > 1:
            exclusive("COMMAND LIST", module=module, aclcat=aclcat, pattern=pattern)
        words: list[Any] = ["COMMAND", "LIST"]
        if module is not None or aclcat is not None or pattern is not None:
            words += ("FILTERBY",)
        if module is not None:
            words += ("MODULE", module)
        if aclcat is not None:
            words += ("ACLCAT", aclcat)
        if pattern is not None:
            words += ("PATTERN", pattern)
        return self._run(words)

    def commandlog_get(
        self, count: int, type: Literal["slow", "large-request", "large-reply"]
    ) -> Deferred[list[list[int | list[Text] | Text]]]:
        """COMMANDLOG GET count <slow | large-request | large-reply>

        O(N).  Since 8.1.0.  https://valkey.io/commands/commandlog-get/
        """
        return self._run(("COMMANDLOG", "GET", count, type))

    def commandlog_help(self) -> Deferred[list[Text]]:
        """COMMANDLOG HELP

        O(1).  Since 8.1.0.  https://valkey.io/commands/commandlog-help/
        """
        return self._run(("COMMANDLOG", "HELP"))

    def commandlog_len(self, type: Literal["slow", "large-request", "large-reply"]) -> Deferred[int]:
        """COMMANDLOG LEN <slow | large-request | large-reply>

        O(1).  Since 8.1.0.  https://valkey.io/commands/commandlog-len/
        """
        return self._run(("COMMANDLOG", "LEN", type))

    def commandlog_reset(self, type: Literal["slow", "large-request", "large-reply"]) -> Deferred[Text]:
        """COMMANDLOG RESET <slow | large-request | large-reply>

        O(N).  Since 8.1.0.  https://valkey.io/commands/commandlog-reset/
        """
        return self._run(("COMMANDLOG", "RESET", type))

    def config_get(self, *parameters: Value) -> Deferred[dict[Text, Text]]:
        """CONFIG GET parameter [parameter ...]

        O(N).  Since 2.0.0.  https://valkey.io/commands/config-get/
        """
        return self._run(("CONFIG", "GET", *parameters), converters.plain_mapping)

    def config_help(self) -> Deferred[list[Text]]:
        """CONFIG HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/config-help/
        """
        return self._run(("CONFIG", "HELP"))

    def config_resetstat(self) -> Deferred[Text]:
        """CONFIG RESETSTAT

        O(1).  Since 2.0.0.  https://valkey.io/commands/config-resetstat/
        """
        return self._run(("CONFIG", "RESETSTAT"))

    def config_rewrite(self) -> Deferred[Text]:
        """CONFIG REWRITE

        O(1).  Since 2.8.0.  https://valkey.io/commands/config-rewrite/
        """
        return self._run(("CONFIG", "REWRITE"))

    def config_set(self, data: Mapping[AnyValue, Value] | Iterable[tuple[Value, Value]]) -> Deferred[Text]:
        """CONFIG SET parameter value [parameter value ...]

        O(N).  Since 2.0.0.  https://valkey.io/commands/config-set/
        """
        return self._run(("CONFIG", "SET", *flat(data)))

    def copy(self, source: Key, destination: Key, *, db: int | None = None, replace: bool = False) -> Deferred[int]:
        """COPY source destination [DB destination-db] [REPLACE]

        O(N), O(1).  Since 6.2.0.  https://valkey.io/commands/copy/
        """
        words: list[Any] = ["COPY", source, destination]
        if db is not None:
            words += ("DB", db)
        if replace:
            words += ("REPLACE",)
        return self._run(words)

    def dbsize(self) -> Deferred[int]:
        """DBSIZE

        O(1).  Since 1.0.0.  https://valkey.io/commands/dbsize/
        """
        return self._run(("DBSIZE",))

    def debug(self, *args: Value) -> Deferred[Any]:
        """DEBUG

        Since 1.0.0.  https://valkey.io/commands/debug/
        """
        return self._run(("DEBUG", *args))

    def decr(self, key: Key) -> Deferred[int]:
        """DECR key

        O(1).  Since 1.0.0.  https://valkey.io/commands/decr/
        """
        return self._run(("DECR", key))

    def decrby(self, key: Key, decrement: int) -> Deferred[int]:
        """DECRBY key decrement

        O(1).  Since 1.0.0.  https://valkey.io/commands/decrby/
        """
        return self._run(("DECRBY", key, decrement))

    def del_(self, *keys: Key) -> Deferred[int]:
        """DEL key [key ...]

        O(N), O(M), O(1).  Since 1.0.0.  https://valkey.io/commands/del/
        """
        return self._run(("DEL", *keys))

    def delifeq(self, key: Key, value: Value) -> Deferred[int]:
        """DELIFEQ key value

        O(1).  Since 9.0.0.  https://valkey.io/commands/delifeq/
        """
        return self._run(("DELIFEQ", key, value))

    def dump(self, key: Key) -> Deferred[Text | None]:
        """DUMP key

        O(1), O(N*M), O(1*M).  Since 2.6.0.  https://valkey.io/commands/dump/
        """
        return self._run(("DUMP", key))

    def echo(self, message: Value) -> Deferred[Text]:
        """ECHO message

        O(1).  Since 1.0.0.  https://valkey.io/commands/echo/
        """
        return self._run(("ECHO", message))

    def eval(
        self, script: Value, keys: Key | Iterable[Key] = (), args: Value | Iterable[Value] = ()
    ) -> Deferred[Any]:
        """EVAL script numkeys [key [key ...]] [arg [arg ...]]

        Since 2.6.0.  https://valkey.io/commands/eval/
        """
        words: list[Any] = ["EVAL", script]
        listed = each(keys)
        words += (len(listed), *listed, *each(args))
        return self._run(words)

    def evalsha(
        self, sha1: Value, keys: Key | Iterable[Key] = (), args: Value | Iterable[Value] = ()
    ) -> Deferred[Any]:
        """EVALSHA sha1 numkeys [key [key ...]] [arg [arg ...]]

        Since 2.6.0.  https://valkey.io/commands/evalsha/
        """
        words: list[Any] = ["EVALSHA", sha1]
        listed = each(keys)
        words += (len(listed), *listed, *each(args))
        return self._run(words)

    def evalsha_ro(
        self, sha1: Value, keys: Key | Iterable[Key] = (), args: Value | Iterable[Value] = ()
    ) -> Deferred[Any]:
        """EVALSHA_RO sha1 numkeys [key [key ...]] [arg [arg ...]]

        Since 7.0.0.  https://valkey.io/commands/evalsha_ro/
        """
        words: list[Any] = ["EVALSHA_RO", sha1]
        listed = each(keys)
        words += (len(listed), *listed, *each(args))
        return self._run(words)

    def eval_ro(
        self, script: Value, keys: Key | Iterable[Key] = (), args: Value | Iterable[Value] = ()
    ) -> Deferred[Any]:
        """EVAL_RO script numkeys [key [key ...]] [arg [arg ...]]

        Since 7.0.0.  https://valkey.io/commands/eval_ro/
        """
        words: list[Any] = ["EVAL_RO", script]
        listed = each(keys)
        words += (len(listed), *listed, *each(args))
        return self._run(words)

    def exists(self, *keys: Key) -> Deferred[int]:
        """EXISTS key [key ...]

        O(N).  Since 1.0.0.  https://valkey.io/commands/exists/
        """
        return self._run(("EXISTS", *keys))

    def expire(
        self, key: Key, seconds: int, *, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False
    ) -> Deferred[int]:
        """EXPIRE key seconds [NX | XX | GT | LT]

        O(1).  Since 1.0.0.  https://valkey.io/commands/expire/
        """
        if nx + xx + gt + lt > 1:
            exclusive("EXPIRE", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["EXPIRE", key, seconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        return self._run(words)

    def expireat(
        self,
        key: Key,
        unix_time_seconds: int,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Deferred[int]:
        """EXPIREAT key unix-time-seconds [NX | XX | GT | LT]

        O(1).  Since 1.2.0.  https://valkey.io/commands/expireat/
        """
        if nx + xx + gt + lt > 1:
            exclusive("EXPIREAT", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["EXPIREAT", key, unix_time_seconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        return self._run(words)

    def expiretime(self, key: Key) -> Deferred[int]:
        """EXPIRETIME key

        O(1).  Since 7.0.0.  https://valkey.io/commands/expiretime/
        """
        return self._run(("EXPIRETIME", key))

    def failover(
        self,
        *,
        to: Value | None = None,
        port: int | None = None,
        force: bool = False,
        abort: bool = False,
        timeout: int | None = None,
    ) -> Deferred[Text]:
        """FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]

        O(1).  Since 6.2.0.  https://valkey.io/commands/failover/
        """
        if not (to is not None or port is not None or force or abort or timeout is not None):
            return self._run(("FAILOVER",))
        words: list[Any] = ["FAILOVER"]
        if to is not None:
            words += ("TO", to, needed("FAILOVER", port=port))
            if force:
                words += ("FORCE",)
        elif port is not None or force:
            raise leaderless("FAILOVER", "to", "port, force")
        if abort:
            words += ("ABORT",)
        if timeout is not None:
            words += ("TIMEOUT", timeout)
        return self._run(words)

    def fcall(
        self, function: Value, keys: Key | Iterable[Key] = (), args: Value | Iterable[Value] = ()
    ) -> Deferred[Any]:
        """FCALL function numkeys [key [key ...]] [arg [arg ...]]

        Since 7.0.0.  https://valkey.io/commands/fcall/
        """
        words: list[Any] = ["FCALL", function]
        listed = each(keys)
        words += (len(listed), *listed, *each(args))
        return self._run(words)

    def fcall_ro(
        self, function: Value, keys: Key | Iterable[Key] = (), args: Value | Iterable[Value] = ()
    ) -> Deferred[Any]:
        """FCALL_RO function numkeys [key [key ...]] [arg [arg ...]]

        Since 7.0.0.  https://valkey.io/commands/fcall_ro/
        """
        words: list[Any] = ["FCALL_RO", function]
        listed = each(keys)
        words += (len(listed), *listed, *each(args))
        return self._run(words)

    def flushall(self, *, async_: bool = False, sync: bool = False) -> Deferred[Text]:
        """FLUSHALL [ASYNC | SYNC]

        O(N).  Since 1.0.0.  https://valkey.io/commands/flushall/
        """
        if async_ + sync > 1:
            exclusive("FLUSHALL", async_=async_, sync=sync)
        words: list[Any] = ["FLUSHALL"]
        if async_:
            words += ("ASYNC",)
        if sync:
            words += ("SYNC",)
        return self._run(words)

    def flushdb(self, *, async_: bool = False, sync: bool = False) -> Deferred[Text]:
        """FLUSHDB [ASYNC | SYNC]

        O(N).  Since 1.0.0.  https://valkey.io/commands/flushdb/
        """
        if async_ + sync > 1:
            exclusive("FLUSHDB", async_=async_, sync=sync)
        words: list[Any] = ["FLUSHDB"]
        if async_:
            words += ("ASYNC",)
        if sync:
            words += ("SYNC",)
        return self._run(words)

    def function_delete(self, library_name: Value) -> Deferred[Text]:
        """FUNCTION DELETE library-name

        O(1).  Since 7.0.0.  https://valkey.io/commands/function-delete/
        """
        return self._run(("FUNCTION", "DELETE", library_name))

    def function_dump(self) -> Deferred[Text]:
        """FUNCTION DUMP

        O(N).  Since 7.0.0.  https://valkey.io/commands/function-dump/
        """
        return self._run(("FUNCTION", "DUMP"))

    def function_flush(self, *, async_: bool = False, sync: bool = False) -> Deferred[Text]:
        """FUNCTION FLUSH [ASYNC | SYNC]

        O(N).  Since 7.0.0.  https://valkey.io/commands/function-flush/
        """
        if async_ + sync > 1:
            exclusive("FUNCTION FLUSH", async_=async_, sync=sync)
        words: list[Any] = ["FUNCTION", "FLUSH"]
        if async_:
            words += ("ASYNC",)
        if sync:
            words += ("SYNC",)
        return self._run(words)

    def function_help(self) -> Deferred[list[Text]]:
        """FUNCTION HELP

        O(1).  Since 7.0.0.  https://valkey.io/commands/function-help/
        """
        return self._run(("FUNCTION", "HELP"))

    def function_kill(self) -> Deferred[Text]:
        """FUNCTION KILL

        O(1).  Since 7.0.0.  https://valkey.io/commands/function-kill/
        """
        return self._run(("FUNCTION", "KILL"))

    def function_list(
        self, *, libraryname: Value | None = None, withcode: bool = False
    ) -> Deferred[list[dict[Text, Any]]]:
        """FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]

        O(N).  Since 7.0.0.  https://valkey.io/commands/function-list/
        """
        words: list[Any] = ["FUNCTION", "LIST"]
        if libraryname is not None:
            words += ("LIBRARYNAME", libraryname)
        if withcode:
            words += ("WITHCODE",)
        return self._run(words, _FUNCTION_LIST)

    def function_load(self, function_code: Value, *, replace: bool = False) -> Deferred[Text]:
        """FUNCTION LOAD [REPLACE] function-code

        O(1).  Since 7.0.0.  https://valkey.io/commands/function-load/
        """
        words: list[Any] = ["FUNCTION", "LOAD"]
        if replace:
            words += ("REPLACE",)
        words += (function_code,)
        return self._run(words)

    def function_restore(
        self, serialized_value: Value, *, flush: bool = False, append: bool = False, replace: bool = False
    ) -> Deferred[Text]:
        """FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]

        O(N).  Since 7.0.0.  https://valkey.io/commands/function-restore/
        """
        if flush + append + replace > 1:
            exclusive("FUNCTION RESTORE", flush=flush, append=append, replace=replace)
        words: list[Any] = ["FUNCTION", "RESTORE", serialized_value]
        if flush:
            words += ("FLUSH",)
        if append:
            words += ("APPEND",)
        if replace:
            words += ("REPLACE",)
        return self._run(words)

    def function_stats(self) -> Deferred[dict[str, dict[Text, Any]]]:
        """FUNCTION STATS

        O(1).  Since 7.0.0.  https://valkey.io/commands/function-stats/
        """
        return self._run(("FUNCTION", "STATS"), _FUNCTION_STATS)

    def geoadd(
        self,
        key: Key,
        data: Iterable[tuple[float, float, Value]],
        *,
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
    ) -> Deferred[int]:
        """GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]

        O(log(N)).  Since 3.2.0.  https://valkey.io/commands/geoadd/
        """
        if nx + xx > 1:
            exclusive("GEOADD", nx=nx, xx=xx)
        words: list[Any] = ["GEOADD", key]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if ch:
            words += ("CH",)
        words += (*flat(data),)
        return self._run(words)

    def geodist(
        self,
        key: Key,
        member1: Value,
        member2: Value,
        *,
        m: bool = False,
        km: bool = False,
        ft: bool = False,
        mi: bool = False,
    ) -> Deferred[Text | None]:
        """GEODIST key member1 member2 [m | km | ft | mi]

        O(1).  Since 3.2.0.  https://valkey.io/commands/geodist/
        """
        if m + km + ft + mi > 1:
            exclusive("GEODIST", m=m, km=km, ft=ft, mi=mi)
        words: list[Any] = ["GEODIST", key, member1, member2]
        if m:
            words += ("m",)
        if km:
            words += ("km",)
        if ft:
            words += ("ft",)
        if mi:
            words += ("mi",)
        return self._run(words)

    def geohash(self, key: Key, *members: Value) -> Deferred[list[Text | None]]:
        """GEOHASH key [member [member ...]]

        O(1).  Since 3.2.0.  https://valkey.io/commands/geohash/
        """
        return self._run(("GEOHASH", key, *members))

    def geopos(self, key: Key, *members: Value) -> Deferred[list[tuple[float, float] | None]]:
        """GEOPOS key [member [member ...]]

        O(1).  Since 3.2.0.  https://valkey.io/commands/geopos/
        """
        return self._run(("GEOPOS", key, *members), _GEOPOS)

    def georadius(
        self,
        key: Key,
        longitude: float,
        latitude: float,
        radius: float,
        unit: Literal["m", "km", "ft", "mi"],
        *,
        withcoord: bool = False,
        withdist: bool = False,
        withhash: bool = False,
        count: int | None = None,
        any: bool = False,
        asc: bool = False,
        desc: bool = False,
        store: Key | None = None,
        storedist: Key | None = None,
    ) -> Deferred[list[Any] | int]:
        """GEORADIUS key longitude latitude radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT
            count [ANY]] [ASC | DESC] [STORE storekey | STOREDIST storedistkey]

        O(N+log(M)).  Since 3.2.0.  https://valkey.io/commands/georadius/
        """
        if not (
            withcoord or withdist or withhash or count is not None or any or asc or desc or store is not None or
            storedist is not None
        ):
            return self._run(("GEORADIUS", key, longitude, latitude, radius, unit), _GEORADIUS)
        if asc + desc > 1:
            exclusive("GEORADIUS", asc=asc, desc=desc)
        if (store is not None) + (storedist is not None) > 1:
            exclusive("GEORADIUS", store=store, storedist=storedist)
        words: list[Any] = ["GEORADIUS", key, longitude, latitude, radius, unit]
        if withcoord:
            words += ("WITHCOORD",)
        if withdist:
            words += ("WITHDIST",)
        if withhash:
            words += ("WITHHASH",)
        if count is not None:
            words += ("COUNT", count)
            if any:
                words += ("ANY",)
        elif any:
            raise leaderless("GEORADIUS", "count", "any")
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        if store is not None:
            words += ("STORE", store)
        if storedist is not None:
            words += ("STOREDIST", storedist)
        return self._run(words, _GEORADIUS)

    def georadiusbymember(
        self,
        key: Key,
        member: Value,
        radius: float,
        unit: Literal["m", "km", "ft", "mi"],
        *,
        withcoord: bool = False,
        withdist: bool = False,
        withhash: bool = False,
        count: int | None = None,
        any: bool = False,
        asc: bool = False,
        desc: bool = False,
        store: Key | None = None,
        storedist: Key | None = None,
    ) -> Deferred[list[Any] | int]:
        """GEORADIUSBYMEMBER key member radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count
            [ANY]] [ASC | DESC] [STORE storekey | STOREDIST storedistkey]

        O(N+log(M)).  Since 3.2.0.  https://valkey.io/commands/georadiusbymember/
        """
        if not (
            withcoord or withdist or withhash or count is not None or any or asc or desc or store is not None or
            storedist is not None
        ):
            return self._run(("GEORADIUSBYMEMBER", key, member, radius, unit), _GEORADIUSBYMEMBER)
        if asc + desc > 1:
            exclusive("GEORADIUSBYMEMBER", asc=asc, desc=desc)
        if (store is not None) + (storedist is not None) > 1:
            exclusive("GEORADIUSBYMEMBER", store=store, storedist=storedist)
        words: list[Any] = ["GEORADIUSBYMEMBER", key, member, radius, unit]
        if withcoord:
            words += ("WITHCOORD",)
        if withdist:
            words += ("WITHDIST",)
        if withhash:
            words += ("WITHHASH",)
        if count is not None:
            words += ("COUNT", count)
            if any:
                words += ("ANY",)
        elif any:
            raise leaderless("GEORADIUSBYMEMBER", "count", "any")
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        if store is not None:
            words += ("STORE", store)
        if storedist is not None:
            words += ("STOREDIST", storedist)
        return self._run(words, _GEORADIUSBYMEMBER)

    def georadiusbymember_ro(
        self,
        key: Key,
        member: Value,
        radius: float,
        unit: Literal["m", "km", "ft", "mi"],
        *,
        withcoord: bool = False,
        withdist: bool = False,
        withhash: bool = False,
        count: int | None = None,
        any: bool = False,
        asc: bool = False,
        desc: bool = False,
    ) -> Deferred[list[Any]]:
        """GEORADIUSBYMEMBER_RO key member radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count
            [ANY]] [ASC | DESC]

        O(N+log(M)).  Since 3.2.10.  https://valkey.io/commands/georadiusbymember_ro/
        """
        if not (withcoord or withdist or withhash or count is not None or any or asc or desc):
            return self._run(("GEORADIUSBYMEMBER_RO", key, member, radius, unit), _GEORADIUSBYMEMBER_RO)
        if asc + desc > 1:
            exclusive("GEORADIUSBYMEMBER_RO", asc=asc, desc=desc)
        words: list[Any] = ["GEORADIUSBYMEMBER_RO", key, member, radius, unit]
        if withcoord:
            words += ("WITHCOORD",)
        if withdist:
            words += ("WITHDIST",)
        if withhash:
            words += ("WITHHASH",)
        if count is not None:
            words += ("COUNT", count)
            if any:
                words += ("ANY",)
        elif any:
            raise leaderless("GEORADIUSBYMEMBER_RO", "count", "any")
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        return self._run(words, _GEORADIUSBYMEMBER_RO)

    def georadius_ro(
        self,
        key: Key,
        longitude: float,
        latitude: float,
        radius: float,
        unit: Literal["m", "km", "ft", "mi"],
        *,
        withcoord: bool = False,
        withdist: bool = False,
        withhash: bool = False,
        count: int | None = None,
        any: bool = False,
        asc: bool = False,
        desc: bool = False,
    ) -> Deferred[list[Any]]:
        """GEORADIUS_RO key longitude latitude radius <m | km | ft | mi> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT
            count [ANY]] [ASC | DESC]

        O(N+log(M)).  Since 3.2.10.  https://valkey.io/commands/georadius_ro/
        """
        if not (withcoord or withdist or withhash or count is not None or any or asc or desc):
            return self._run(("GEORADIUS_RO", key, longitude, latitude, radius, unit), _GEORADIUS_RO)
        if asc + desc > 1:
            exclusive("GEORADIUS_RO", asc=asc, desc=desc)
        words: list[Any] = ["GEORADIUS_RO", key, longitude, latitude, radius, unit]
        if withcoord:
            words += ("WITHCOORD",)
        if withdist:
            words += ("WITHDIST",)
        if withhash:
            words += ("WITHHASH",)
        if count is not None:
            words += ("COUNT", count)
            if any:
                words += ("ANY",)
        elif any:
            raise leaderless("GEORADIUS_RO", "count", "any")
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        return self._run(words, _GEORADIUS_RO)

    def geosearch(
        self,
        key: Key,
        *,
        frommember: Value | None = None,
        fromlonlat: tuple[float, float] | None = None,
        byradius: tuple[float, Literal["m", "km", "ft", "mi"]] | None = None,
        bybox: tuple[float, float, Literal["m", "km", "ft", "mi"]] | None = None,
        bypolygon: Iterable[tuple[float, float]] = (),
        asc: bool = False,
        desc: bool = False,
        count: int | None = None,
        any: bool = False,
        withcoord: bool = False,
        withdist: bool = False,
        withhash: bool = False,
    ) -> Deferred[list[Any]]:
        """GEOSEARCH key [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius <m | km | ft | mi> |
            BYBOX width height <m | km | ft | mi> | BYPOLYGON num-vertices longitude latitude [longitude latitude
            ...]> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]

        O(N+log(M)).  Since 6.2.0.  https://valkey.io/commands/geosearch/
        """
        if (frommember is not None) + (fromlonlat is not None) > 1:
            exclusive("GEOSEARCH", frommember=frommember, fromlonlat=fromlonlat)
        if (byradius is not None) + (bybox is not None) + bool(bypolygon) != 1:
            exclusive("GEOSEARCH", needed=True, byradius=byradius, bybox=bybox, bypolygon=bypolygon)
        if asc + desc > 1:
            exclusive("GEOSEARCH", asc=asc, desc=desc)
        words: list[Any] = ["GEOSEARCH", key]
        if frommember is not None:
            words += ("FROMMEMBER", frommember)
        if fromlonlat is not None:
            words += ("FROMLONLAT", *fromlonlat)
        if byradius is not None:
            words += ("BYRADIUS", *byradius)
        if bybox is not None:
            words += ("BYBOX", *bybox)
        if bypolygon:
            rows = list(bypolygon)
            words += ("BYPOLYGON", len(rows), *flat(rows))
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        if count is not None:
            words += ("COUNT", count)
            if any:
                words += ("ANY",)
        elif any:
            raise leaderless("GEOSEARCH", "count", "any")
        if withcoord:
            words += ("WITHCOORD",)
        if withdist:
            words += ("WITHDIST",)
        if withhash:
            words += ("WITHHASH",)
        return self._run(words, _GEOSEARCH)

    def geosearchstore(
        self,
        destination: Key,
        source: Key,
        *,
        frommember: Value | None = None,
        fromlonlat: tuple[float, float] | None = None,
        byradius: tuple[float, Literal["m", "km", "ft", "mi"]] | None = None,
        bybox: tuple[float, float, Literal["m", "km", "ft", "mi"]] | None = None,
        bypolygon: Iterable[tuple[float, float]] = (),
        asc: bool = False,
        desc: bool = False,
        count: int | None = None,
        any: bool = False,
        storedist: bool = False,
    ) -> Deferred[int]:
        """GEOSEARCHSTORE destination source [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius
            <m | km | ft | mi> | BYBOX width height <m | km | ft | mi> | BYPOLYGON num-vertices longitude latitude
            [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]

        O(N+log(M)).  Since 6.2.0.  https://valkey.io/commands/geosearchstore/
        """
        if (frommember is not None) + (fromlonlat is not None) > 1:
            exclusive("GEOSEARCHSTORE", frommember=frommember, fromlonlat=fromlonlat)
        if (byradius is not None) + (bybox is not None) + bool(bypolygon) != 1:
            exclusive("GEOSEARCHSTORE", needed=True, byradius=byradius, bybox=bybox, bypolygon=bypolygon)
        if asc + desc > 1:
            exclusive("GEOSEARCHSTORE", asc=asc, desc=desc)
        words: list[Any] = ["GEOSEARCHSTORE", destination, source]
        if frommember is not None:
            words += ("FROMMEMBER", frommember)
        if fromlonlat is not None:
            words += ("FROMLONLAT", *fromlonlat)
        if byradius is not None:
            words += ("BYRADIUS", *byradius)
        if bybox is not None:
            words += ("BYBOX", *bybox)
        if bypolygon:
            rows = list(bypolygon)
            words += ("BYPOLYGON", len(rows), *flat(rows))
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        if count is not None:
            words += ("COUNT", count)
            if any:
                words += ("ANY",)
        elif any:
            raise leaderless("GEOSEARCHSTORE", "count", "any")
        if storedist:
            words += ("STOREDIST",)
        return self._run(words)

    def get(self, key: Key) -> Deferred[Text | None]:
        """GET key

        O(1).  Since 1.0.0.  https://valkey.io/commands/get/
        """
        return self._run(("GET", key))

    def getbit(self, key: Key, offset: int) -> Deferred[int]:
        """GETBIT key offset

        O(1).  Since 2.2.0.  https://valkey.io/commands/getbit/
        """
        return self._run(("GETBIT", key, offset))

    def getdel(self, key: Key) -> Deferred[Text | None]:
        """GETDEL key

        O(1).  Since 6.2.0.  https://valkey.io/commands/getdel/
        """
        return self._run(("GETDEL", key))

    def getex(
        self,
        key: Key,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        persist: bool = False,
    ) -> Deferred[Text | None]:
        """GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds |
            PERSIST]

        O(1).  Since 6.2.0.  https://valkey.io/commands/getex/
        """
        if not (ex is not None or px is not None or exat is not None or pxat is not None or persist):
            return self._run(("GETEX", key))
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + persist > 1:
            exclusive("GETEX", ex=ex, px=px, exat=exat, pxat=pxat, persist=persist)
        words: list[Any] = ["GETEX", key]
        if ex is not None:
            words += ("EX", ex)
        if px is not None:
            words += ("PX", px)
        if exat is not None:
            words += ("EXAT", exat)
        if pxat is not None:
            words += ("PXAT", pxat)
        if persist:
            words += ("PERSIST",)
        return self._run(words)

    def getrange(self, key: Key, start: int, end: int) -> Deferred[Text]:
        """GETRANGE key start end

        O(N), O(1).  Since 2.4.0.  https://valkey.io/commands/getrange/
        """
        return self._run(("GETRANGE", key, start, end))

    def getset(self, key: Key, value: Value) -> Deferred[Text | None]:
        """GETSET key value

        O(1).  Since 1.0.0.  https://valkey.io/commands/getset/
        """
        return self._run(("GETSET", key, value))

    def hdel(self, key: Key, *fields: Value) -> Deferred[int]:
        """HDEL key field [field ...]

        O(N).  Since 2.0.0.  https://valkey.io/commands/hdel/
        """
        return self._run(("HDEL", key, *fields))

    def hexists(self, key: Key, field: Value) -> Deferred[int]:
        """HEXISTS key field

        O(1).  Since 2.0.0.  https://valkey.io/commands/hexists/
        """
        return self._run(("HEXISTS", key, field))

    def hexpire(
        self,
        key: Key,
        seconds: int,
        *fields: Value,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Deferred[list[int]]:
        """HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hexpire/
        """
        if nx + xx + gt + lt > 1:
            exclusive("HEXPIRE", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["HEXPIRE", key, seconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        words += ("FIELDS", len(fields), *fields)
        return self._run(words)

    def hexpireat(
        self,
        key: Key,
        unix_time_seconds: int,
        *fields: Value,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Deferred[list[int]]:
        """HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hexpireat/
        """
        if nx + xx + gt + lt > 1:
            exclusive("HEXPIREAT", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["HEXPIREAT", key, unix_time_seconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        words += ("FIELDS", len(fields), *fields)
        return self._run(words)

    def hexpiretime(self, key: Key, *fields: Value) -> Deferred[list[int]]:
        """HEXPIRETIME key FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hexpiretime/
        """
        return self._run(("HEXPIRETIME", key, "FIELDS", len(fields), *fields))

    def hget(self, key: Key, field: Value) -> Deferred[Text | None]:
        """HGET key field

        O(1).  Since 2.0.0.  https://valkey.io/commands/hget/
        """
        return self._run(("HGET", key, field))

    def hgetall(self, key: Key) -> Deferred[dict[Text, Text]]:
        """HGETALL key

        O(N).  Since 2.0.0.  https://valkey.io/commands/hgetall/
        """
        return self._run(("HGETALL", key), converters.plain_mapping)

    def hgetdel(self, key: Key, *fields: Value) -> Deferred[list[Text | None]]:
        """HGETDEL key FIELDS numfields field [field ...]

        O(N).  Since 9.1.0.  https://valkey.io/commands/hgetdel/
        """
        return self._run(("HGETDEL", key, "FIELDS", len(fields), *fields))

    def hgetex(
        self,
        key: Key,
        *fields: Value,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        persist: bool = False,
    ) -> Deferred[list[Text | None]]:
        """HGETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds |
            PERSIST] FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hgetex/
        """
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + persist > 1:
            exclusive("HGETEX", ex=ex, px=px, exat=exat, pxat=pxat, persist=persist)
        words: list[Any] = ["HGETEX", key]
        if ex is not None:
            words += ("EX", ex)
        if px is not None:
            words += ("PX", px)
        if exat is not None:
            words += ("EXAT", exat)
        if pxat is not None:
            words += ("PXAT", pxat)
        if persist:
            words += ("PERSIST",)
        words += ("FIELDS", len(fields), *fields)
        return self._run(words)

    def hincrby(self, key: Key, field: Value, increment: int) -> Deferred[int]:
        """HINCRBY key field increment

        O(1).  Since 2.0.0.  https://valkey.io/commands/hincrby/
        """
        return self._run(("HINCRBY", key, field, increment))

    def hincrbyfloat(self, key: Key, field: Value, increment: float) -> Deferred[Text]:
        """HINCRBYFLOAT key field increment

        O(1).  Since 2.6.0.  https://valkey.io/commands/hincrbyfloat/
        """
        return self._run(("HINCRBYFLOAT", key, field, increment))

    def hkeys(self, key: Key) -> Deferred[list[Text]]:
        """HKEYS key

        O(N).  Since 2.0.0.  https://valkey.io/commands/hkeys/
        """
        return self._run(("HKEYS", key))

    def hlen(self, key: Key) -> Deferred[int]:
        """HLEN key

        O(1).  Since 2.0.0.  https://valkey.io/commands/hlen/
        """
        return self._run(("HLEN", key))

    def hmget(self, key: Key, *fields: Value) -> Deferred[list[Text | None]]:
        """HMGET key field [field ...]

        O(N).  Since 2.0.0.  https://valkey.io/commands/hmget/
        """
        return self._run(("HMGET", key, *fields))

    def hmset(self, key: Key, data: Mapping[AnyValue, Value] | Iterable[tuple[Value, Value]]) -> Deferred[Text]:
        """HMSET key field value [field value ...]

        O(N).  Since 2.0.0.  https://valkey.io/commands/hmset/
        """
        return self._run(("HMSET", key, *flat(data)))

    def hpersist(self, key: Key, *fields: Value) -> Deferred[list[int]]:
        """HPERSIST key FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hpersist/
        """
        return self._run(("HPERSIST", key, "FIELDS", len(fields), *fields))

    def hpexpire(
        self,
        key: Key,
        milliseconds: int,
        *fields: Value,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Deferred[list[int]]:
        """HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hpexpire/
        """
        if nx + xx + gt + lt > 1:
            exclusive("HPEXPIRE", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["HPEXPIRE", key, milliseconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        words += ("FIELDS", len(fields), *fields)
        return self._run(words)

    def hpexpireat(
        self,
        key: Key,
        unix_time_milliseconds: int,
        *fields: Value,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Deferred[list[int]]:
        """HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hpexpireat/
        """
        if nx + xx + gt + lt > 1:
            exclusive("HPEXPIREAT", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["HPEXPIREAT", key, unix_time_milliseconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        words += ("FIELDS", len(fields), *fields)
        return self._run(words)

    def hpexpiretime(self, key: Key, *fields: Value) -> Deferred[list[int]]:
        """HPEXPIRETIME key FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hpexpiretime/
        """
        return self._run(("HPEXPIRETIME", key, "FIELDS", len(fields), *fields))

    def hpttl(self, key: Key, *fields: Value) -> Deferred[list[int]]:
        """HPTTL key FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hpttl/
        """
        return self._run(("HPTTL", key, "FIELDS", len(fields), *fields))

    def hrandfield(
        self, key: Key, *, count: int | None = None, withvalues: bool = False
    ) -> Deferred[Text | list[Text] | list[tuple[Text, Text]] | None]:
        """HRANDFIELD key [count [WITHVALUES]]

        O(N).  Since 6.2.0.  https://valkey.io/commands/hrandfield/
        """
        words: list[Any] = ["HRANDFIELD", key]
        if count is not None:
            words += (count,)
            if withvalues:
                words += ("WITHVALUES",)
        elif withvalues:
            raise leaderless("HRANDFIELD", "count", "withvalues")
        return self._run(words, converters.flat_pairs if withvalues else None)

    def hscan(
        self, key: Key, cursor: Value, *, match: Key | None = None, count: int | None = None, novalues: bool = False
    ) -> Deferred[tuple[Text, list[tuple[Text, Text]] | list[Text]]]:
        """HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]

        O(1), O(N).  Since 2.8.0.  https://valkey.io/commands/hscan/
        """
        words: list[Any] = ["HSCAN", key, cursor]
        if match is not None:
            words += ("MATCH", match)
        if count is not None:
            words += ("COUNT", count)
        if novalues:
            words += ("NOVALUES",)
        return self._run(words, converters.scanned if novalues else converters.scanned_pairs)

    def hset(self, key: Key, data: Mapping[AnyValue, Value] | Iterable[tuple[Value, Value]]) -> Deferred[int]:
        """HSET key field value [field value ...]

        O(1), O(N).  Since 2.0.0.  https://valkey.io/commands/hset/
        """
        return self._run(("HSET", key, *flat(data)))

    def hsetex(
        self,
        key: Key,
        data: Mapping[AnyValue, Value] | Iterable[tuple[Value, Value]],
        *,
        nx: bool = False,
        xx: bool = False,
        fnx: bool = False,
        fxx: bool = False,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        keepttl: bool = False,
    ) -> Deferred[int]:
        """HSETEX key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT
            unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/hsetex/
        """
        if nx + xx > 1:
            exclusive("HSETEX", nx=nx, xx=xx)
        if fnx + fxx > 1:
            exclusive("HSETEX", fnx=fnx, fxx=fxx)
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + keepttl > 1:
            exclusive("HSETEX", ex=ex, px=px, exat=exat, pxat=pxat, keepttl=keepttl)
        words: list[Any] = ["HSETEX", key]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if fnx:
            words += ("FNX",)
        if fxx:
            words += ("FXX",)
        if ex is not None:
            words += ("EX", ex)
        if px is not None:
            words += ("PX", px)
        if exat is not None:
            words += ("EXAT", exat)
        if pxat is not None:
            words += ("PXAT", pxat)
        if keepttl:
            words += ("KEEPTTL",)
        words += ("FIELDS",)
        listed = flat(data)
        words += (len(listed) // 2, *listed)
        return self._run(words)

    def hsetnx(self, key: Key, field: Value, value: Value) -> Deferred[int]:
        """HSETNX key field value

        O(1).  Since 2.0.0.  https://valkey.io/commands/hsetnx/
        """
        return self._run(("HSETNX", key, field, value))

    def hstrlen(self, key: Key, field: Value) -> Deferred[int]:
        """HSTRLEN key field

        O(1).  Since 3.2.0.  https://valkey.io/commands/hstrlen/
        """
        return self._run(("HSTRLEN", key, field))

    def httl(self, key: Key, *fields: Value) -> Deferred[list[int]]:
        """HTTL key FIELDS numfields field [field ...]

        O(N).  Since 9.0.0.  https://valkey.io/commands/httl/
        """
        return self._run(("HTTL", key, "FIELDS", len(fields), *fields))

    def hvals(self, key: Key) -> Deferred[list[Text]]:
        """HVALS key

        O(N).  Since 2.0.0.  https://valkey.io/commands/hvals/
        """
        return self._run(("HVALS", key))

    def incr(self, key: Key) -> Deferred[int]:
        """INCR key

        O(1).  Since 1.0.0.  https://valkey.io/commands/incr/
        """
        return self._run(("INCR", key))

    def incrby(self, key: Key, increment: int) -> Deferred[int]:
        """INCRBY key increment

        O(1).  Since 1.0.0.  https://valkey.io/commands/incrby/
        """
        return self._run(("INCRBY", key, increment))

    def incrbyfloat(self, key: Key, increment: float) -> Deferred[Text]:
        """INCRBYFLOAT key increment

        O(1).  Since 2.6.0.  https://valkey.io/commands/incrbyfloat/
        """
        return self._run(("INCRBYFLOAT", key, increment))

    def info(self, *sections: Value) -> Deferred[dict[str, Text]]:
        """INFO [section [section ...]]

        O(1).  Since 1.0.0.  https://valkey.io/commands/info/
        """
        return self._run(("INFO", *sections))

    def keys(self, pattern: Key) -> Deferred[list[Text]]:
        """KEYS pattern

        O(N).  Since 1.0.0.  https://valkey.io/commands/keys/
        """
        return self._run(("KEYS", pattern))

    def lastsave(self) -> Deferred[int]:
        """LASTSAVE

        O(1).  Since 1.0.0.  https://valkey.io/commands/lastsave/
        """
        return self._run(("LASTSAVE",))

    def latency_doctor(self) -> Deferred[dict[str, Text]]:
        """LATENCY DOCTOR

        O(1).  Since 2.8.13.  https://valkey.io/commands/latency-doctor/
        """
        return self._run(("LATENCY", "DOCTOR"))

    def latency_graph(self, event: Value) -> Deferred[dict[str, Text]]:
        """LATENCY GRAPH event

        O(1).  Since 2.8.13.  https://valkey.io/commands/latency-graph/
        """
        return self._run(("LATENCY", "GRAPH", event))

    def latency_help(self) -> Deferred[list[Text]]:
        """LATENCY HELP

        O(1).  Since 2.8.13.  https://valkey.io/commands/latency-help/
        """
        return self._run(("LATENCY", "HELP"))

    def latency_histogram(self, *commands: Value) -> Deferred[dict[str, dict[Text, dict[Text, Any]]]]:
        """LATENCY HISTOGRAM [command [command ...]]

        O(N).  Since 7.0.0.  https://valkey.io/commands/latency-histogram/
        """
        return self._run(("LATENCY", "HISTOGRAM", *commands), _LATENCY_HISTOGRAM)

    def latency_history(self, event: Value) -> Deferred[dict[str, list[list[int]]]]:
        """LATENCY HISTORY event

        O(1).  Since 2.8.13.  https://valkey.io/commands/latency-history/
        """
        return self._run(("LATENCY", "HISTORY", event))

    def latency_latest(self) -> Deferred[dict[str, list[list[Text | int]]]]:
        """LATENCY LATEST

        O(1).  Since 2.8.13.  https://valkey.io/commands/latency-latest/
        """
        return self._run(("LATENCY", "LATEST"))

    def latency_reset(self, *events: Value) -> Deferred[int]:
        """LATENCY RESET [event [event ...]]

        O(1).  Since 2.8.13.  https://valkey.io/commands/latency-reset/
        """
        return self._run(("LATENCY", "RESET", *events))

    def lcs(
        self,
        key1: Key,
        key2: Key,
        *,
        len: bool = False,
        idx: bool = False,
        minmatchlen: int | None = None,
        withmatchlen: bool = False,
    ) -> Deferred[Text | int | dict[Text, Any]]:
        """LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]

        O(N*M).  Since 7.0.0.  https://valkey.io/commands/lcs/
        """
        words: list[Any] = ["LCS", key1, key2]
        if len:
            words += ("LEN",)
        if idx:
            words += ("IDX",)
        if minmatchlen is not None:
            words += ("MINMATCHLEN", minmatchlen)
        if withmatchlen:
            words += ("WITHMATCHLEN",)
        return self._run(words, converters.plain_mapping if idx else None)

    def lindex(self, key: Key, index: int) -> Deferred[Text | None]:
        """LINDEX key index

        O(N), O(1).  Since 1.0.0.  https://valkey.io/commands/lindex/
        """
        return self._run(("LINDEX", key, index))

    def linsert(self, key: Key, where: Literal["BEFORE", "AFTER"], pivot: Value, element: Value) -> Deferred[int]:
        """LINSERT key <BEFORE | AFTER> pivot element

        O(N), O(1).  Since 2.2.0.  https://valkey.io/commands/linsert/
        """
        return self._run(("LINSERT", key, where, pivot, element))

    def llen(self, key: Key) -> Deferred[int]:
        """LLEN key

        O(1).  Since 1.0.0.  https://valkey.io/commands/llen/
        """
        return self._run(("LLEN", key))

    def lmove(
        self, source: Key, destination: Key, wherefrom: Literal["LEFT", "RIGHT"], whereto: Literal["LEFT", "RIGHT"]
    ) -> Deferred[Text | None]:
        """LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>

        O(1).  Since 6.2.0.  https://valkey.io/commands/lmove/
        """
        return self._run(("LMOVE", source, destination, wherefrom, whereto))

    def lmpop(
        self, keys: Key | Iterable[Key], where: Literal["LEFT", "RIGHT"], *, count: int | None = None
    ) -> Deferred[tuple[Text, list[Text]] | None]:
        """LMPOP numkeys key [key ...] <LEFT | RIGHT> [COUNT count]

        O(N+M).  Since 7.0.0.  https://valkey.io/commands/lmpop/
        """
        words: list[Any] = ["LMPOP"]
        listed = each(keys)
        words += (len(listed), *listed, where)
        if count is not None:
            words += ("COUNT", count)
        return self._run(words, converters.as_tuple)

    def lolwut(self, *, version: int | None = None) -> Deferred[Text]:
        """LOLWUT [VERSION version]

        Since 5.0.0.  https://valkey.io/commands/lolwut/
        """
        words: list[Any] = ["LOLWUT"]
        if version is not None:
            words += ("VERSION", version)
        return self._run(words)

    def lpop(self, key: Key, count: int | None = None) -> Deferred[Text | list[Text] | None]:
        """LPOP key [count]

        O(N).  Since 1.0.0.  https://valkey.io/commands/lpop/
        """
        words: list[Any] = ["LPOP", key]
        if count is not None:
            words += (count,)
        return self._run(words)

    def lpos(
        self,
        key: Key,
        element: Value,
        *,
        rank: int | None = None,
        count: int | None = None,
        maxlen: int | None = None,
    ) -> Deferred[int | list[int] | None]:
        """LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]

        O(N).  Since 6.0.6.  https://valkey.io/commands/lpos/
        """
        words: list[Any] = ["LPOS", key, element]
        if rank is not None:
            words += ("RANK", rank)
        if count is not None:
            words += ("COUNT", count)
        if maxlen is not None:
            words += ("MAXLEN", maxlen)
        return self._run(words)

    def lpush(self, key: Key, *elements: Value) -> Deferred[int]:
        """LPUSH key element [element ...]

        O(1), O(N).  Since 1.0.0.  https://valkey.io/commands/lpush/
        """
        return self._run(("LPUSH", key, *elements))

    def lpushx(self, key: Key, *elements: Value) -> Deferred[int]:
        """LPUSHX key element [element ...]

        O(1), O(N).  Since 2.2.0.  https://valkey.io/commands/lpushx/
        """
        return self._run(("LPUSHX", key, *elements))

    def lrange(self, key: Key, start: int, stop: int) -> Deferred[list[Text]]:
        """LRANGE key start stop

        O(S+N).  Since 1.0.0.  https://valkey.io/commands/lrange/
        """
        return self._run(("LRANGE", key, start, stop))

    def lrem(self, key: Key, count: int, element: Value) -> Deferred[int]:
        """LREM key count element

        O(N+M).  Since 1.0.0.  https://valkey.io/commands/lrem/
        """
        return self._run(("LREM", key, count, element))

    def lset(self, key: Key, index: int, element: Value) -> Deferred[Text]:
        """LSET key index element

        O(N), O(1).  Since 1.0.0.  https://valkey.io/commands/lset/
        """
        return self._run(("LSET", key, index, element))

    def ltrim(self, key: Key, start: int, stop: int) -> Deferred[Text]:
        """LTRIM key start stop

        O(N).  Since 1.0.0.  https://valkey.io/commands/ltrim/
        """
        return self._run(("LTRIM", key, start, stop))

    def memory_doctor(self) -> Deferred[dict[str, Text]]:
        """MEMORY DOCTOR

        O(1).  Since 4.0.0.  https://valkey.io/commands/memory-doctor/
        """
        return self._run(("MEMORY", "DOCTOR"))

    def memory_help(self) -> Deferred[list[Text]]:
        """MEMORY HELP

        O(1).  Since 4.0.0.  https://valkey.io/commands/memory-help/
        """
        return self._run(("MEMORY", "HELP"))

    def memory_malloc_stats(self) -> Deferred[dict[str, Text]]:
        """MEMORY MALLOC-STATS

        Since 4.0.0.  https://valkey.io/commands/memory-malloc-stats/
        """
        return self._run(("MEMORY", "MALLOC-STATS"))

    def memory_purge(self) -> Deferred[Text]:
        """MEMORY PURGE

        Since 4.0.0.  https://valkey.io/commands/memory-purge/
        """
        return self._run(("MEMORY", "PURGE"))

    def memory_stats(self) -> Deferred[dict[str, dict[Text, Any]]]:
        """MEMORY STATS

        O(1).  Since 4.0.0.  https://valkey.io/commands/memory-stats/
        """
        return self._run(("MEMORY", "STATS"), _MEMORY_STATS)

    def memory_usage(self, key: Key, *, samples: int | None = None) -> Deferred[int | None]:
        """MEMORY USAGE key [SAMPLES count]

        O(N).  Since 4.0.0.  https://valkey.io/commands/memory-usage/
        """
        words: list[Any] = ["MEMORY", "USAGE", key]
        if samples is not None:
            words += ("SAMPLES", samples)
        return self._run(words)

    def mget(self, *keys: Key) -> Deferred[list[Text | None]]:
        """MGET key [key ...]

        O(N).  Since 1.0.0.  https://valkey.io/commands/mget/
        """
        return self._run(("MGET", *keys))

    def migrate(
        self,
        host: Value,
        port: int,
        key: Key,
        destination_db: int,
        timeout: int,
        *,
        copy: bool = False,
        replace: bool = False,
        auth: Value | None = None,
        auth2: tuple[Value, Value] | None = None,
        keys: Key | Iterable[Key] = (),
    ) -> Deferred[Text]:
        """MIGRATE host port <key | empty-string> destination-db timeout [COPY] [REPLACE] [AUTH auth | AUTH2
            username password] [KEYS keys [keys ...]]

        O(N).  Since 2.6.0.  https://valkey.io/commands/migrate/
        """
        if (auth is not None) + (auth2 is not None) > 1:
            exclusive("MIGRATE", auth=auth, auth2=auth2)
        words: list[Any] = ["MIGRATE", host, port, key, destination_db, timeout]
        if copy:
            words += ("COPY",)
        if replace:
            words += ("REPLACE",)
        if auth is not None:
            words += ("AUTH", auth)
        if auth2 is not None:
            words += ("AUTH2", *auth2)
        if listed := each(keys):
            words += ("KEYS", *listed)
        return self._run(words)

    def module_help(self) -> Deferred[list[Text]]:
        """MODULE HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/module-help/
        """
        return self._run(("MODULE", "HELP"))

    def module_list(self) -> Deferred[list[dict[Text, Any]]]:
        """MODULE LIST

        O(N).  Since 4.0.0.  https://valkey.io/commands/module-list/
        """
        return self._run(("MODULE", "LIST"), _MODULE_LIST)

    def module_load(self, path: Value, *args: Value) -> Deferred[Text]:
        """MODULE LOAD path [arg [arg ...]]

        O(1).  Since 4.0.0.  https://valkey.io/commands/module-load/
        """
        return self._run(("MODULE", "LOAD", path, *args))

    def module_loadex(
        self,
        path: Value,
        *,
        config: Mapping[AnyValue, Value] | Iterable[tuple[Value, Value]] = (),
        args: Value | Iterable[Value] = (),
    ) -> Deferred[Text]:
        """MODULE LOADEX path [CONFIG name value [CONFIG name value ...]] [ARGS args [args ...]]

        O(1).  Since 7.0.0.  https://valkey.io/commands/module-loadex/
        """
        words: list[Any] = ["MODULE", "LOADEX", path]
        for row in config.items() if isinstance(config, Mapping) else config:
            words += ("CONFIG", *row)
        if listed := each(args):
            words += ("ARGS", *listed)
        return self._run(words)

    def module_unload(self, name: Value) -> Deferred[Text]:
        """MODULE UNLOAD name

        O(1).  Since 4.0.0.  https://valkey.io/commands/module-unload/
        """
        return self._run(("MODULE", "UNLOAD", name))

    def move(self, key: Key, db: int) -> Deferred[int]:
        """MOVE key db

        O(1).  Since 1.0.0.  https://valkey.io/commands/move/
        """
        return self._run(("MOVE", key, db))

    def mset(self, data: Mapping[AnyKey, Value] | Iterable[tuple[Key, Value]]) -> Deferred[Text]:
        """MSET key value [key value ...]

        O(N).  Since 1.0.1.  https://valkey.io/commands/mset/

        Over several slots it is not atomic: others may see some keys set and others not yet, and a failure may
        leave it so.
        """
        return self._run(("MSET", *flat(data)))

    def msetex(
        self,
        data: Mapping[AnyKey, Value] | Iterable[tuple[Key, Value]],
        *,
        nx: bool = False,
        xx: bool = False,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        keepttl: bool = False,
    ) -> Deferred[int]:
        """MSETEX numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT
            unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]

        O(N).  Since 9.1.0.  https://valkey.io/commands/msetex/
        """
        if nx + xx > 1:
            exclusive("MSETEX", nx=nx, xx=xx)
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + keepttl > 1:
            exclusive("MSETEX", ex=ex, px=px, exat=exat, pxat=pxat, keepttl=keepttl)
        words: list[Any] = ["MSETEX"]
        listed = flat(data)
        words += (len(listed) // 2, *listed)
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if ex is not None:
            words += ("EX", ex)
        if px is not None:
            words += ("PX", px)
        if exat is not None:
            words += ("EXAT", exat)
        if pxat is not None:
            words += ("PXAT", pxat)
        if keepttl:
            words += ("KEEPTTL",)
        return self._run(words)

    def msetnx(self, data: Mapping[AnyKey, Value] | Iterable[tuple[Key, Value]]) -> Deferred[int]:
        """MSETNX key value [key value ...]

        O(N).  Since 1.0.1.  https://valkey.io/commands/msetnx/
        """
        return self._run(("MSETNX", *flat(data)))

    def object_encoding(self, key: Key) -> Deferred[Text | None]:
        """OBJECT ENCODING key

        O(1).  Since 2.2.3.  https://valkey.io/commands/object-encoding/
        """
        return self._run(("OBJECT", "ENCODING", key))

    def object_freq(self, key: Key) -> Deferred[int | None]:
        """OBJECT FREQ key

        O(1).  Since 4.0.0.  https://valkey.io/commands/object-freq/
        """
        return self._run(("OBJECT", "FREQ", key))

    def object_help(self) -> Deferred[list[Text]]:
        """OBJECT HELP

        O(1).  Since 6.2.0.  https://valkey.io/commands/object-help/
        """
        return self._run(("OBJECT", "HELP"))

    def object_idletime(self, key: Key) -> Deferred[int | None]:
        """OBJECT IDLETIME key

        O(1).  Since 2.2.3.  https://valkey.io/commands/object-idletime/
        """
        return self._run(("OBJECT", "IDLETIME", key))

    def object_refcount(self, key: Key) -> Deferred[int | None]:
        """OBJECT REFCOUNT key

        O(1).  Since 2.2.3.  https://valkey.io/commands/object-refcount/
        """
        return self._run(("OBJECT", "REFCOUNT", key))

    def persist(self, key: Key) -> Deferred[int]:
        """PERSIST key

        O(1).  Since 2.2.0.  https://valkey.io/commands/persist/
        """
        return self._run(("PERSIST", key))

    def pexpire(
        self, key: Key, milliseconds: int, *, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False
    ) -> Deferred[int]:
        """PEXPIRE key milliseconds [NX | XX | GT | LT]

        O(1).  Since 2.6.0.  https://valkey.io/commands/pexpire/
        """
        if nx + xx + gt + lt > 1:
            exclusive("PEXPIRE", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["PEXPIRE", key, milliseconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        return self._run(words)

    def pexpireat(
        self,
        key: Key,
        unix_time_milliseconds: int,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Deferred[int]:
        """PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]

        O(1).  Since 2.6.0.  https://valkey.io/commands/pexpireat/
        """
        if nx + xx + gt + lt > 1:
            exclusive("PEXPIREAT", nx=nx, xx=xx, gt=gt, lt=lt)
        words: list[Any] = ["PEXPIREAT", key, unix_time_milliseconds]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        return self._run(words)

    def pexpiretime(self, key: Key) -> Deferred[int]:
        """PEXPIRETIME key

        O(1).  Since 7.0.0.  https://valkey.io/commands/pexpiretime/
        """
        return self._run(("PEXPIRETIME", key))

    def pfadd(self, key: Key, *elements: Value) -> Deferred[int]:
        """PFADD key [element [element ...]]

        O(1).  Since 2.8.9.  https://valkey.io/commands/pfadd/
        """
        return self._run(("PFADD", key, *elements))

    def pfcount(self, *keys: Key) -> Deferred[int]:
        """PFCOUNT key [key ...]

        O(1), O(N).  Since 2.8.9.  https://valkey.io/commands/pfcount/
        """
        return self._run(("PFCOUNT", *keys))

    def pfdebug(self, subcommand: Value, key: Key) -> Deferred[Any]:
        """PFDEBUG subcommand key

        Since 2.8.9.  https://valkey.io/commands/pfdebug/
        """
        return self._run(("PFDEBUG", subcommand, key))

    def pfmerge(self, destkey: Key, *sourcekeys: Key) -> Deferred[Text]:
        """PFMERGE destkey [sourcekey [sourcekey ...]]

        O(N).  Since 2.8.9.  https://valkey.io/commands/pfmerge/
        """
        return self._run(("PFMERGE", destkey, *sourcekeys))

    def pfselftest(self) -> Deferred[Text]:
        """PFSELFTEST

        Since 2.8.9.  https://valkey.io/commands/pfselftest/
        """
        return self._run(("PFSELFTEST",))

    def ping(self, message: Value | None = None) -> Deferred[Text]:
        """PING [message]

        O(1).  Since 1.0.0.  https://valkey.io/commands/ping/
        """
        words: list[Any] = ["PING"]
        if message is not None:
            words += (message,)
        return self._run(words)

    def psetex(self, key: Key, milliseconds: int, value: Value) -> Deferred[Text]:
        """PSETEX key milliseconds value

        O(1).  Since 2.6.0.  https://valkey.io/commands/psetex/
        """
        return self._run(("PSETEX", key, milliseconds, value))

    def pttl(self, key: Key) -> Deferred[int]:
        """PTTL key

        O(1).  Since 2.6.0.  https://valkey.io/commands/pttl/
        """
        return self._run(("PTTL", key))

    def publish(self, channel: Value, message: Value) -> Deferred[int]:
        """PUBLISH channel message

        O(N+M).  Since 2.0.0.  https://valkey.io/commands/publish/
        """
        return self._run(("PUBLISH", channel, message))

    def pubsub_channels(self, pattern: Key | None = None) -> Deferred[list[Text]]:
        """PUBSUB CHANNELS [pattern]

        O(N).  Since 2.8.0.  https://valkey.io/commands/pubsub-channels/
        """
        words: list[Any] = ["PUBSUB", "CHANNELS"]
        if pattern is not None:
            words += (pattern,)
        return self._run(words)

    def pubsub_help(self) -> Deferred[list[Text]]:
        """PUBSUB HELP

        O(1).  Since 6.2.0.  https://valkey.io/commands/pubsub-help/
        """
        return self._run(("PUBSUB", "HELP"))

    def pubsub_numpat(self) -> Deferred[int]:
        """PUBSUB NUMPAT

        O(1).  Since 2.8.0.  https://valkey.io/commands/pubsub-numpat/
        """
        return self._run(("PUBSUB", "NUMPAT"))

    def pubsub_numsub(self, *channels: Value) -> Deferred[dict[Text, int]]:
        """PUBSUB NUMSUB [channel [channel ...]]

        O(N).  Since 2.8.0.  https://valkey.io/commands/pubsub-numsub/
        """
        return self._run(("PUBSUB", "NUMSUB", *channels), converters.plain_mapping)

    def pubsub_shardchannels(self, pattern: Key | None = None) -> Deferred[list[Text]]:
        """PUBSUB SHARDCHANNELS [pattern]

        O(N).  Since 7.0.0.  https://valkey.io/commands/pubsub-shardchannels/
        """
        words: list[Any] = ["PUBSUB", "SHARDCHANNELS"]
        if pattern is not None:
            words += (pattern,)
        return self._run(words)

    def pubsub_shardnumsub(self, *shardchannels: Value) -> Deferred[dict[Text, int]]:
        """PUBSUB SHARDNUMSUB [shardchannel [shardchannel ...]]

        O(N).  Since 7.0.0.  https://valkey.io/commands/pubsub-shardnumsub/
        """
        return self._run(("PUBSUB", "SHARDNUMSUB", *shardchannels), converters.plain_mapping)

    def randomkey(self) -> Deferred[Text | None]:
        """RANDOMKEY

        O(1).  Since 1.0.0.  https://valkey.io/commands/randomkey/
        """
        return self._run(("RANDOMKEY",))

    def rename(self, key: Key, newkey: Key) -> Deferred[Text]:
        """RENAME key newkey

        O(1).  Since 1.0.0.  https://valkey.io/commands/rename/
        """
        return self._run(("RENAME", key, newkey))

    def renamenx(self, key: Key, newkey: Key) -> Deferred[int]:
        """RENAMENX key newkey

        O(1).  Since 1.0.0.  https://valkey.io/commands/renamenx/
        """
        return self._run(("RENAMENX", key, newkey))

    def replicaof(self, *args: Value) -> Deferred[Text]:
        """REPLICAOF <host port | NO ONE>

        O(1).  Since 5.0.0.  https://valkey.io/commands/replicaof/
        """
        return self._run(("REPLICAOF", *args))

    def restore(
        self,
        key: Key,
        ttl: int,
        serialized_value: Value,
        *,
        replace: bool = False,
        absttl: bool = False,
        idletime: int | None = None,
        freq: int | None = None,
    ) -> Deferred[Text]:
        """RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]

        O(1), O(N*M), O(1*M), O(N*M*log(N)), O(log(N)).  Since 2.6.0.  https://valkey.io/commands/restore/
        """
        words: list[Any] = ["RESTORE", key, ttl, serialized_value]
        if replace:
            words += ("REPLACE",)
        if absttl:
            words += ("ABSTTL",)
        if idletime is not None:
            words += ("IDLETIME", idletime)
        if freq is not None:
            words += ("FREQ", freq)
        return self._run(words)

    def restore_asking(
        self,
        key: Key,
        ttl: int,
        serialized_value: Value,
        *,
        replace: bool = False,
        absttl: bool = False,
        idletime: int | None = None,
        freq: int | None = None,
    ) -> Deferred[Text]:
        """RESTORE-ASKING key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]

        O(1), O(N*M), O(1*M), O(N*M*log(N)), O(log(N)).  Since 3.0.0.  https://valkey.io/commands/restore-asking/
        """
        words: list[Any] = ["RESTORE-ASKING", key, ttl, serialized_value]
        if replace:
            words += ("REPLACE",)
        if absttl:
            words += ("ABSTTL",)
        if idletime is not None:
            words += ("IDLETIME", idletime)
        if freq is not None:
            words += ("FREQ", freq)
        return self._run(words)

    def role(self) -> Deferred[list[Text | int | list[list[Text]]] | list[Text | int] | list[Text | list[Text]]]:
        """ROLE

        O(1).  Since 2.8.12.  https://valkey.io/commands/role/
        """
        return self._run(("ROLE",))

    def rpop(self, key: Key, count: int | None = None) -> Deferred[Text | list[Text] | None]:
        """RPOP key [count]

        O(N).  Since 1.0.0.  https://valkey.io/commands/rpop/
        """
        words: list[Any] = ["RPOP", key]
        if count is not None:
            words += (count,)
        return self._run(words)

    def rpoplpush(self, source: Key, destination: Key) -> Deferred[Text | None]:
        """RPOPLPUSH source destination

        O(1).  Since 1.2.0.  https://valkey.io/commands/rpoplpush/
        """
        return self._run(("RPOPLPUSH", source, destination))

    def rpush(self, key: Key, *elements: Value) -> Deferred[int]:
        """RPUSH key element [element ...]

        O(1), O(N).  Since 1.0.0.  https://valkey.io/commands/rpush/
        """
        return self._run(("RPUSH", key, *elements))

    def rpushx(self, key: Key, *elements: Value) -> Deferred[int]:
        """RPUSHX key element [element ...]

        O(1), O(N).  Since 2.2.0.  https://valkey.io/commands/rpushx/
        """
        return self._run(("RPUSHX", key, *elements))

    def sadd(self, key: Key, *members: Value) -> Deferred[int]:
        """SADD key member [member ...]

        O(1), O(N).  Since 1.0.0.  https://valkey.io/commands/sadd/
        """
        return self._run(("SADD", key, *members))

    def save(self) -> Deferred[Text]:
        """SAVE

        O(N).  Since 1.0.0.  https://valkey.io/commands/save/
        """
        return self._run(("SAVE",))

    def scan(
        self, cursor: Value, *, match: Key | None = None, count: int | None = None, type: Value | None = None
    ) -> Deferred[tuple[Text, list[Text]]]:
        """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]

        O(1), O(N).  Since 2.8.0.  https://valkey.io/commands/scan/

        Of one node: give it to one with execute_on, or use scan_iter for all of them.
        """
        words: list[Any] = ["SCAN", cursor]
        if match is not None:
            words += ("MATCH", match)
        if count is not None:
            words += ("COUNT", count)
        if type is not None:
            words += ("TYPE", type)
        return self._run(words, converters.scanned)

    def scard(self, key: Key) -> Deferred[int]:
        """SCARD key

        O(1).  Since 1.0.0.  https://valkey.io/commands/scard/
        """
        return self._run(("SCARD", key))

    def script_exists(self, *sha1s: Value) -> Deferred[list[int]]:
        """SCRIPT EXISTS sha1 [sha1 ...]

        O(N), O(1).  Since 2.6.0.  https://valkey.io/commands/script-exists/
        """
        return self._run(("SCRIPT", "EXISTS", *sha1s))

    def script_flush(self, *, async_: bool = False, sync: bool = False) -> Deferred[Text]:
        """SCRIPT FLUSH [ASYNC | SYNC]

        O(N).  Since 2.6.0.  https://valkey.io/commands/script-flush/
        """
        if async_ + sync > 1:
            exclusive("SCRIPT FLUSH", async_=async_, sync=sync)
        words: list[Any] = ["SCRIPT", "FLUSH"]
        if async_:
            words += ("ASYNC",)
        if sync:
            words += ("SYNC",)
        return self._run(words)

    def script_help(self) -> Deferred[list[Text]]:
        """SCRIPT HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/script-help/
        """
        return self._run(("SCRIPT", "HELP"))

    def script_kill(self) -> Deferred[Text]:
        """SCRIPT KILL

        O(1).  Since 2.6.0.  https://valkey.io/commands/script-kill/
        """
        return self._run(("SCRIPT", "KILL"))

    def script_load(self, script: Value) -> Deferred[Text]:
        """SCRIPT LOAD script

        O(N).  Since 2.6.0.  https://valkey.io/commands/script-load/
        """
        return self._run(("SCRIPT", "LOAD", script))

    def script_show(self, sha1: Value) -> Deferred[Text]:
        """SCRIPT SHOW sha1

        O(1).  Since 8.0.0.  https://valkey.io/commands/script-show/
        """
        return self._run(("SCRIPT", "SHOW", sha1))

    def sdiff(self, *keys: Key) -> Deferred[builtins.set[Text]]:
        """SDIFF key [key ...]

        O(N).  Since 1.0.0.  https://valkey.io/commands/sdiff/
        """
        return self._run(("SDIFF", *keys), converters.as_set)

    def sdiffstore(self, destination: Key, *keys: Key) -> Deferred[int]:
        """SDIFFSTORE destination key [key ...]

        O(N).  Since 1.0.0.  https://valkey.io/commands/sdiffstore/
        """
        return self._run(("SDIFFSTORE", destination, *keys))

    def set(
        self,
        key: Key,
        value: Value,
        *,
        nx: bool = False,
        xx: bool = False,
        ifeq: Value | None = None,
        get: bool = False,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        keepttl: bool = False,
    ) -> Deferred[Text | None]:
        """SET key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | EXAT
            unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]

        O(1).  Since 1.0.0.  https://valkey.io/commands/set/
        """
        if not (
            nx or xx or ifeq is not None or get or ex is not None or px is not None or exat is not None or
            pxat is not None or keepttl
        ):
            return self._run(("SET", key, value))
        if nx + xx + (ifeq is not None) > 1:
            exclusive("SET", nx=nx, xx=xx, ifeq=ifeq)
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + keepttl > 1:
            exclusive("SET", ex=ex, px=px, exat=exat, pxat=pxat, keepttl=keepttl)
        words: list[Any] = ["SET", key, value]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if ifeq is not None:
            words += ("IFEQ", ifeq)
        if get:
            words += ("GET",)
        if ex is not None:
            words += ("EX", ex)
        if px is not None:
            words += ("PX", px)
        if exat is not None:
            words += ("EXAT", exat)
        if pxat is not None:
            words += ("PXAT", pxat)
        if keepttl:
            words += ("KEEPTTL",)
        return self._run(words)

    def setbit(self, key: Key, offset: int, value: int) -> Deferred[int]:
        """SETBIT key offset value

        O(1).  Since 2.2.0.  https://valkey.io/commands/setbit/
        """
        return self._run(("SETBIT", key, offset, value))

    def setex(self, key: Key, seconds: int, value: Value) -> Deferred[Text]:
        """SETEX key seconds value

        O(1).  Since 2.0.0.  https://valkey.io/commands/setex/
        """
        return self._run(("SETEX", key, seconds, value))

    def setnx(self, key: Key, value: Value) -> Deferred[int]:
        """SETNX key value

        O(1).  Since 1.0.0.  https://valkey.io/commands/setnx/
        """
        return self._run(("SETNX", key, value))

    def setrange(self, key: Key, offset: int, value: Value) -> Deferred[int]:
        """SETRANGE key offset value

        O(1), O(M).  Since 2.2.0.  https://valkey.io/commands/setrange/
        """
        return self._run(("SETRANGE", key, offset, value))

    def shutdown(
        self,
        *,
        nosave: bool = False,
        save: bool = False,
        now: bool = False,
        force: bool = False,
        safe: bool = False,
        failover: bool = False,
        abort: bool = False,
    ) -> Deferred[Text]:
        """SHUTDOWN [[NOSAVE | SAVE] [NOW] [FORCE] [SAFE] [FAILOVER] | ABORT]

        O(N), O(1).  Since 1.0.0.  https://valkey.io/commands/shutdown/
        """
        if not (nosave or save or now or force or safe or failover or abort):
            return self._run(("SHUTDOWN",))
        if nosave + save > 1:
            exclusive("SHUTDOWN", nosave=nosave, save=save)
        if (nosave or save or now or force or safe or failover) + abort > 1:
            exclusive(
                "SHUTDOWN", nosave=nosave, save=save, now=now, force=force, safe=safe, failover=failover, abort=abort
            )
        words: list[Any] = ["SHUTDOWN"]
        if nosave:
            words += ("NOSAVE",)
        if save:
            words += ("SAVE",)
        if now:
            words += ("NOW",)
        if force:
            words += ("FORCE",)
        if safe:
            words += ("SAFE",)
        if failover:
            words += ("FAILOVER",)
        if abort:
            words += ("ABORT",)
        return self._run(words)

    def sinter(self, *keys: Key) -> Deferred[builtins.set[Text]]:
        """SINTER key [key ...]

        O(N*M).  Since 1.0.0.  https://valkey.io/commands/sinter/
        """
        return self._run(("SINTER", *keys), converters.as_set)

    def sintercard(self, keys: Key | Iterable[Key], *, limit: int | None = None) -> Deferred[int]:
        """SINTERCARD numkeys key [key ...] [LIMIT limit]

        O(N*M).  Since 7.0.0.  https://valkey.io/commands/sintercard/
        """
        words: list[Any] = ["SINTERCARD"]
        listed = each(keys)
        words += (len(listed), *listed)
        if limit is not None:
            words += ("LIMIT", limit)
        return self._run(words)

    def sinterstore(self, destination: Key, *keys: Key) -> Deferred[int]:
        """SINTERSTORE destination key [key ...]

        O(N*M).  Since 1.0.0.  https://valkey.io/commands/sinterstore/
        """
        return self._run(("SINTERSTORE", destination, *keys))

    def sismember(self, key: Key, member: Value) -> Deferred[int]:
        """SISMEMBER key member

        O(1).  Since 1.0.0.  https://valkey.io/commands/sismember/
        """
        return self._run(("SISMEMBER", key, member))

    def slaveof(self, *args: Value) -> Deferred[Text]:
        """SLAVEOF <host port | NO ONE>

        O(1).  Since 1.0.0.  Deprecated since 5.0.0.  https://valkey.io/commands/slaveof/
        """
        return self._run(("SLAVEOF", *args))

    def slowlog_get(self, count: int | None = None) -> Deferred[list[list[int | list[Text] | Text]]]:
        """SLOWLOG GET [count]

        O(N).  Since 2.2.12.  https://valkey.io/commands/slowlog-get/
        """
        words: list[Any] = ["SLOWLOG", "GET"]
        if count is not None:
            words += (count,)
        return self._run(words)

    def slowlog_help(self) -> Deferred[list[Text]]:
        """SLOWLOG HELP

        O(1).  Since 6.2.0.  https://valkey.io/commands/slowlog-help/
        """
        return self._run(("SLOWLOG", "HELP"))

    def slowlog_len(self) -> Deferred[int]:
        """SLOWLOG LEN

        O(1).  Since 2.2.12.  https://valkey.io/commands/slowlog-len/
        """
        return self._run(("SLOWLOG", "LEN"))

    def slowlog_reset(self) -> Deferred[Text]:
        """SLOWLOG RESET

        O(N).  Since 2.2.12.  https://valkey.io/commands/slowlog-reset/
        """
        return self._run(("SLOWLOG", "RESET"))

    def smembers(self, key: Key) -> Deferred[builtins.set[Text]]:
        """SMEMBERS key

        O(N).  Since 1.0.0.  https://valkey.io/commands/smembers/
        """
        return self._run(("SMEMBERS", key), converters.as_set)

    def smismember(self, key: Key, *members: Value) -> Deferred[list[int]]:
        """SMISMEMBER key member [member ...]

        O(N).  Since 6.2.0.  https://valkey.io/commands/smismember/
        """
        return self._run(("SMISMEMBER", key, *members))

    def smove(self, source: Key, destination: Key, member: Value) -> Deferred[int]:
        """SMOVE source destination member

        O(1).  Since 1.0.0.  https://valkey.io/commands/smove/
        """
        return self._run(("SMOVE", source, destination, member))

    def sort(
        self,
        key: Key,
        *,
        by: Key | None = None,
        limit: tuple[int, int] | None = None,
        get: Key | Iterable[Key] = (),
        asc: bool = False,
        desc: bool = False,
        alpha: bool = False,
        store: Key | None = None,
    ) -> Deferred[int | list[Text | None]]:
        """SORT key [BY by-pattern] [LIMIT offset count] [GET get-pattern [GET get-pattern ...]] [ASC | DESC]
            [ALPHA] [STORE destination]

        O(N+M*log(M)), O(N).  Since 1.0.0.  https://valkey.io/commands/sort/
        """
        if asc + desc > 1:
            exclusive("SORT", asc=asc, desc=desc)
        words: list[Any] = ["SORT", key]
        if by is not None:
            words += ("BY", by)
        if limit is not None:
            words += ("LIMIT", *limit)
        for item in each(get):
            words += ("GET", item)
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        if alpha:
            words += ("ALPHA",)
        if store is not None:
            words += ("STORE", store)
        return self._run(words)

    def sort_ro(
        self,
        key: Key,
        *,
        by: Key | None = None,
        limit: tuple[int, int] | None = None,
        get: Key | Iterable[Key] = (),
        asc: bool = False,
        desc: bool = False,
        alpha: bool = False,
    ) -> Deferred[list[Text | None]]:
        """SORT_RO key [BY by-pattern] [LIMIT offset count] [GET get-pattern [GET get-pattern ...]] [ASC | DESC]
            [ALPHA]

        O(N+M*log(M)), O(N).  Since 7.0.0.  https://valkey.io/commands/sort_ro/
        """
        if asc + desc > 1:
            exclusive("SORT_RO", asc=asc, desc=desc)
        words: list[Any] = ["SORT_RO", key]
        if by is not None:
            words += ("BY", by)
        if limit is not None:
            words += ("LIMIT", *limit)
        for item in each(get):
            words += ("GET", item)
        if asc:
            words += ("ASC",)
        if desc:
            words += ("DESC",)
        if alpha:
            words += ("ALPHA",)
        return self._run(words)

    def spop(self, key: Key, count: int | None = None) -> Deferred[Text | builtins.set[Text] | None]:
        """SPOP key [count]

        O(1), O(N).  Since 1.0.0.  https://valkey.io/commands/spop/
        """
        words: list[Any] = ["SPOP", key]
        if count is not None:
            words += (count,)
        return self._run(words, converters.as_set)

    def spublish(self, shardchannel: Value, message: Value) -> Deferred[int]:
        """SPUBLISH shardchannel message

        O(N).  Since 7.0.0.  https://valkey.io/commands/spublish/
        """
        return self._run(("SPUBLISH", shardchannel, message))

    def srandmember(self, key: Key, count: int | None = None) -> Deferred[Text | list[Text] | list[Any] | None]:
        """SRANDMEMBER key [count]

        O(1), O(N).  Since 1.0.0.  https://valkey.io/commands/srandmember/
        """
        words: list[Any] = ["SRANDMEMBER", key]
        if count is not None:
            words += (count,)
        return self._run(words)

    def srem(self, key: Key, *members: Value) -> Deferred[int]:
        """SREM key member [member ...]

        O(N).  Since 1.0.0.  https://valkey.io/commands/srem/
        """
        return self._run(("SREM", key, *members))

    def sscan(
        self, key: Key, cursor: Value, *, match: Key | None = None, count: int | None = None
    ) -> Deferred[tuple[Text, list[Text]]]:
        """SSCAN key cursor [MATCH pattern] [COUNT count]

        O(1), O(N).  Since 2.8.0.  https://valkey.io/commands/sscan/
        """
        words: list[Any] = ["SSCAN", key, cursor]
        if match is not None:
            words += ("MATCH", match)
        if count is not None:
            words += ("COUNT", count)
        return self._run(words, converters.scanned)

    def strlen(self, key: Key) -> Deferred[int]:
        """STRLEN key

        O(1).  Since 2.2.0.  https://valkey.io/commands/strlen/
        """
        return self._run(("STRLEN", key))

    def substr(self, key: Key, start: int, end: int) -> Deferred[Text]:
        """SUBSTR key start end

        O(N), O(1).  Since 1.0.0.  https://valkey.io/commands/substr/
        """
        return self._run(("SUBSTR", key, start, end))

    def sunion(self, *keys: Key) -> Deferred[builtins.set[Text]]:
        """SUNION key [key ...]

        O(N).  Since 1.0.0.  https://valkey.io/commands/sunion/
        """
        return self._run(("SUNION", *keys), converters.as_set)

    def sunionstore(self, destination: Key, *keys: Key) -> Deferred[int]:
        """SUNIONSTORE destination key [key ...]

        O(N).  Since 1.0.0.  https://valkey.io/commands/sunionstore/
        """
        return self._run(("SUNIONSTORE", destination, *keys))

    def swapdb(self, index1: int, index2: int) -> Deferred[Text]:
        """SWAPDB index1 index2

        O(N).  Since 4.0.0.  https://valkey.io/commands/swapdb/
        """
        return self._run(("SWAPDB", index1, index2))

    def time(self) -> Deferred[tuple[Text, Text]]:
        """TIME

        O(1).  Since 2.6.0.  https://valkey.io/commands/time/
        """
        return self._run(("TIME",), converters.as_tuple)

    def touch(self, *keys: Key) -> Deferred[int]:
        """TOUCH key [key ...]

        O(N).  Since 3.2.1.  https://valkey.io/commands/touch/
        """
        return self._run(("TOUCH", *keys))

    def ttl(self, key: Key) -> Deferred[int]:
        """TTL key

        O(1).  Since 1.0.0.  https://valkey.io/commands/ttl/
        """
        return self._run(("TTL", key))

    def type(self, key: Key) -> Deferred[Text | None]:
        """TYPE key

        O(1).  Since 1.0.0.  https://valkey.io/commands/type/
        """
        return self._run(("TYPE", key))

    def unlink(self, *keys: Key) -> Deferred[int]:
        """UNLINK key [key ...]

        O(1), O(N).  Since 4.0.0.  https://valkey.io/commands/unlink/
        """
        return self._run(("UNLINK", *keys))

    def wait(self, numreplicas: int, timeout: int) -> Deferred[int]:
        """WAIT numreplicas timeout

        O(1).  Since 3.0.0.  https://valkey.io/commands/wait/

        On a cluster the least of what every shard's primary says.
        """
        return self._run(("WAIT", numreplicas, timeout))

    def waitaof(self, numlocal: int, numreplicas: int, timeout: int) -> Deferred[tuple[int, int]]:
        """WAITAOF numlocal numreplicas timeout

        O(1).  Since 7.2.0.  https://valkey.io/commands/waitaof/
        """
        return self._run(("WAITAOF", numlocal, numreplicas, timeout), converters.as_tuple)

    def xack(self, key: Key, group: Value, *ids: Value) -> Deferred[int]:
        """XACK key group id [id ...]

        O(1).  Since 5.0.0.  https://valkey.io/commands/xack/
        """
        return self._run(("XACK", key, group, *ids))

    def xadd(
        self,
        key: Key,
        id: Value,
        data: Mapping[AnyValue, Value] | Iterable[tuple[Value, Value]] = MISSING,
        *,
        nomkstream: bool = False,
        strategy: Literal["MAXLEN", "MINID"] | None = None,
        operator: Literal["=", "~"] | None = None,
        threshold: Value | None = None,
        limit: int | None = None,
    ) -> Deferred[Text | None]:
        """XADD key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field
            value ...]

        O(1), O(N).  Since 5.0.0.  https://valkey.io/commands/xadd/
        """
        id, data = stream_entry(id, data)
        words: list[Any] = ["XADD", key]
        if nomkstream:
            words += ("NOMKSTREAM",)
        if strategy is not None:
            words += (strategy,)
            if operator is not None:
                words += (operator,)
            words += (needed("XADD", threshold=threshold),)
            if limit is not None:
                words += ("LIMIT", limit)
        elif operator is not None or threshold is not None or limit is not None:
            raise leaderless("XADD", "strategy", "operator, threshold, limit")
        words += (id, *flat(data))
        return self._run(words)

    def xautoclaim(
        self,
        key: Key,
        group: Value,
        consumer: Value,
        min_idle_time: Value,
        start: Value,
        *,
        count: int | None = None,
        justid: bool = False,
    ) -> Deferred[tuple[Text, list[tuple[Text, dict[Text, Text]]] | list[Text], list[Text]]]:
        """XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]

        O(1).  Since 6.2.0.  https://valkey.io/commands/xautoclaim/
        """
        words: list[Any] = ["XAUTOCLAIM", key, group, consumer, min_idle_time, start]
        if count is not None:
            words += ("COUNT", count)
        if justid:
            words += ("JUSTID",)
        return self._run(words, converters.autoclaimed)

    def xclaim(
        self,
        key: Key,
        group: Value,
        consumer: Value,
        min_idle_time: Value,
        ids: Value | Iterable[Value],
        *,
        idle: int | None = None,
        time: int | None = None,
        retrycount: int | None = None,
        force: bool = False,
        justid: bool = False,
        lastid: Value | None = None,
    ) -> Deferred[list[tuple[Text, dict[Text, Text]]] | list[Text]]:
        """XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT
            count] [FORCE] [JUSTID] [LASTID lastid]

        O(log N).  Since 5.0.0.  https://valkey.io/commands/xclaim/
        """
        if not (
            idle is not None or time is not None or retrycount is not None or force or justid or lastid is not None
        ):
            return self._run(("XCLAIM", key, group, consumer, min_idle_time, *each(ids)), converters.entries)
        words: list[Any] = ["XCLAIM", key, group, consumer, min_idle_time, *each(ids)]
        if idle is not None:
            words += ("IDLE", idle)
        if time is not None:
            words += ("TIME", time)
        if retrycount is not None:
            words += ("RETRYCOUNT", retrycount)
        if force:
            words += ("FORCE",)
        if justid:
            words += ("JUSTID",)
        if lastid is not None:
            words += ("LASTID", lastid)
        return self._run(words, converters.entries)

    def xdel(self, key: Key, *ids: Value) -> Deferred[int]:
        """XDEL key id [id ...]

        O(1).  Since 5.0.0.  https://valkey.io/commands/xdel/
        """
        return self._run(("XDEL", key, *ids))

    def xgroup_create(
        self, key: Key, group: Value, id: Value, *, mkstream: bool = False, entriesread: int | None = None
    ) -> Deferred[Text]:
        """XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entriesread]

        O(1).  Since 5.0.0.  https://valkey.io/commands/xgroup-create/
        """
        words: list[Any] = ["XGROUP", "CREATE", key, group, id]
        if mkstream:
            words += ("MKSTREAM",)
        if entriesread is not None:
            words += ("ENTRIESREAD", entriesread)
        return self._run(words)

    def xgroup_createconsumer(self, key: Key, group: Value, consumer: Value) -> Deferred[int]:
        """XGROUP CREATECONSUMER key group consumer

        O(1).  Since 6.2.0.  https://valkey.io/commands/xgroup-createconsumer/
        """
        return self._run(("XGROUP", "CREATECONSUMER", key, group, consumer))

    def xgroup_delconsumer(self, key: Key, group: Value, consumer: Value) -> Deferred[int]:
        """XGROUP DELCONSUMER key group consumer

        O(1).  Since 5.0.0.  https://valkey.io/commands/xgroup-delconsumer/
        """
        return self._run(("XGROUP", "DELCONSUMER", key, group, consumer))

    def xgroup_destroy(self, key: Key, group: Value) -> Deferred[int]:
        """XGROUP DESTROY key group

        O(N).  Since 5.0.0.  https://valkey.io/commands/xgroup-destroy/
        """
        return self._run(("XGROUP", "DESTROY", key, group))

    def xgroup_help(self) -> Deferred[list[Text]]:
        """XGROUP HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/xgroup-help/
        """
        return self._run(("XGROUP", "HELP"))

    def xgroup_setid(self, key: Key, group: Value, id: Value, *, entriesread: int | None = None) -> Deferred[Text]:
        """XGROUP SETID key group <id | $> [ENTRIESREAD entriesread]

        O(1).  Since 5.0.0.  https://valkey.io/commands/xgroup-setid/
        """
        words: list[Any] = ["XGROUP", "SETID", key, group, id]
        if entriesread is not None:
            words += ("ENTRIESREAD", entriesread)
        return self._run(words)

    def xinfo_consumers(self, key: Key, group: Value) -> Deferred[list[dict[Text, Any]]]:
        """XINFO CONSUMERS key group

        O(1).  Since 5.0.0.  https://valkey.io/commands/xinfo-consumers/
        """
        return self._run(("XINFO", "CONSUMERS", key, group), _XINFO_CONSUMERS)

    def xinfo_groups(self, key: Key) -> Deferred[list[dict[Text, Any]]]:
        """XINFO GROUPS key

        O(1).  Since 5.0.0.  https://valkey.io/commands/xinfo-groups/
        """
        return self._run(("XINFO", "GROUPS", key), _XINFO_GROUPS)

    def xinfo_help(self) -> Deferred[list[Text]]:
        """XINFO HELP

        O(1).  Since 5.0.0.  https://valkey.io/commands/xinfo-help/
        """
        return self._run(("XINFO", "HELP"))

    def xinfo_stream(self, key: Key, *, full: bool = False, count: int | None = None) -> Deferred[dict[Text, Any]]:
        """XINFO STREAM key [FULL [COUNT count]]

        O(1).  Since 5.0.0.  https://valkey.io/commands/xinfo-stream/
        """
        words: list[Any] = ["XINFO", "STREAM", key]
        if full:
            words += ("FULL",)
            if count is not None:
                words += ("COUNT", count)
        elif count is not None:
            raise leaderless("XINFO STREAM", "full", "count")
        return self._run(words, _XINFO_STREAM)

    def xlen(self, key: Key) -> Deferred[int]:
        """XLEN key

        O(1).  Since 5.0.0.  https://valkey.io/commands/xlen/
        """
        return self._run(("XLEN", key))

    def xpending(
        self,
        key: Key,
        group: Value,
        *,
        start: Value | None = None,
        idle: int | None = None,
        end: Value | None = None,
        count: int | None = None,
        consumer: Value | None = None,
    ) -> Deferred[list[list[Text | int]] | list[int | Text | list[list[Text]]]]:
        """XPENDING key group [[IDLE min-idle-time] start end count [consumer]]

        O(N), O(1), O(M).  Since 5.0.0.  https://valkey.io/commands/xpending/
        """
        words: list[Any] = ["XPENDING", key, group]
        if start is not None:
            if idle is not None:
                words += ("IDLE", idle)
            words += (start, needed("XPENDING", end=end), needed("XPENDING", count=count))
            if consumer is not None:
                words += (consumer,)
        elif idle is not None or end is not None or count is not None or consumer is not None:
            raise leaderless("XPENDING", "start", "idle, end, count, consumer")
        return self._run(words)

    def xrange(
        self, key: Key, start: Value, end: Value, *, count: int | None = None
    ) -> Deferred[list[tuple[Text, dict[Text, Text]]]]:
        """XRANGE key start end [COUNT count]

        O(N), O(1).  Since 5.0.0.  https://valkey.io/commands/xrange/
        """
        words: list[Any] = ["XRANGE", key, start, end]
        if count is not None:
            words += ("COUNT", count)
        return self._run(words, converters.entries)

    def xread(
        self, streams: Mapping[AnyKey, Value], *, count: int | None = None, block: int | None = None
    ) -> Deferred[dict[Text, list[tuple[Text, dict[Text, Text]]]]]:
        """XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]

        Since 5.0.0.  https://valkey.io/commands/xread/
        """
        words: list[Any] = ["XREAD"]
        if count is not None:
            words += ("COUNT", count)
        if block is not None:
            words += ("BLOCK", block)
        words += ("STREAMS", *columns(streams))
        return self._run(words, converters.streams)

    def xreadgroup(
        self,
        group: Value,
        consumer: Value,
        streams: Mapping[AnyKey, Value],
        *,
        count: int | None = None,
        block: int | None = None,
        noack: bool = False,
    ) -> Deferred[dict[Text, list[tuple[Text, dict[Text, Text] | None]]]]:
        """XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id
            ...]

        O(M), O(1), O(N).  Since 5.0.0.  https://valkey.io/commands/xreadgroup/
        """
        words: list[Any] = ["XREADGROUP", "GROUP", group, consumer]
        if count is not None:
            words += ("COUNT", count)
        if block is not None:
            words += ("BLOCK", block)
        if noack:
            words += ("NOACK",)
        words += ("STREAMS", *columns(streams))
        return self._run(words, converters.streams)

    def xrevrange(
        self, key: Key, end: Value, start: Value, *, count: int | None = None
    ) -> Deferred[list[tuple[Text, dict[Text, Text]]]]:
        """XREVRANGE key end start [COUNT count]

        O(N), O(1).  Since 5.0.0.  https://valkey.io/commands/xrevrange/
        """
        words: list[Any] = ["XREVRANGE", key, end, start]
        if count is not None:
            words += ("COUNT", count)
        return self._run(words, converters.entries)

    def xsetid(
        self, key: Key, last_id: Value, *, entriesadded: int | None = None, maxdeletedid: Value | None = None
    ) -> Deferred[Text]:
        """XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]

        O(1).  Since 5.0.0.  https://valkey.io/commands/xsetid/
        """
        words: list[Any] = ["XSETID", key, last_id]
        if entriesadded is not None:
            words += ("ENTRIESADDED", entriesadded)
        if maxdeletedid is not None:
            words += ("MAXDELETEDID", maxdeletedid)
        return self._run(words)

    def xtrim(
        self,
        key: Key,
        strategy: Literal["MAXLEN", "MINID"],
        threshold: Value,
        *,
        operator: Literal["=", "~"] | None = None,
        limit: int | None = None,
    ) -> Deferred[int]:
        """XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]

        O(N).  Since 5.0.0.  https://valkey.io/commands/xtrim/
        """
        words: list[Any] = ["XTRIM", key, strategy]
        if operator is not None:
            words += (operator,)
        words += (threshold,)
        if limit is not None:
            words += ("LIMIT", limit)
        return self._run(words)

    def zadd(
        self,
        key: Key,
        data: Mapping[AnyValue, float] | Iterable[tuple[float, Value]],
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
        ch: bool = False,
        incr: bool = False,
    ) -> Deferred[int | float | None]:
        """ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]

        O(log(N)).  Since 1.2.0.  https://valkey.io/commands/zadd/
        """
        if nx + xx > 1:
            exclusive("ZADD", nx=nx, xx=xx)
        if gt + lt > 1:
            exclusive("ZADD", gt=gt, lt=lt)
        words: list[Any] = ["ZADD", key]
        if nx:
            words += ("NX",)
        if xx:
            words += ("XX",)
        if gt:
            words += ("GT",)
        if lt:
            words += ("LT",)
        if ch:
            words += ("CH",)
        if incr:
            words += ("INCR",)
        words += (*flat_reversed(data),)
        return self._run(words, converters.number)

    def zcard(self, key: Key) -> Deferred[int]:
        """ZCARD key

        O(1).  Since 1.2.0.  https://valkey.io/commands/zcard/
        """
        return self._run(("ZCARD", key))

    def zcount(self, key: Key, min: Bound, max: Bound) -> Deferred[int]:
        """ZCOUNT key min max

        O(log(N)).  Since 2.0.0.  https://valkey.io/commands/zcount/
        """
        return self._run(("ZCOUNT", key, min, max))

    def zdiff(
        self, keys: Key | Iterable[Key], *, withscores: bool = False
    ) -> Deferred[list[Text] | list[tuple[Text, float]]]:
        """ZDIFF numkeys key [key ...] [WITHSCORES]

        O(L + (N-K)log(N)).  Since 6.2.0.  https://valkey.io/commands/zdiff/
        """
        words: list[Any] = ["ZDIFF"]
        listed = each(keys)
        words += (len(listed), *listed)
        if withscores:
            words += ("WITHSCORES",)
        return self._run(words, converters.scored if withscores else None)

    def zdiffstore(self, destination: Key, *keys: Key) -> Deferred[int]:
        """ZDIFFSTORE destination numkeys key [key ...]

        O(L + (N-K)log(N)).  Since 6.2.0.  https://valkey.io/commands/zdiffstore/
        """
        return self._run(("ZDIFFSTORE", destination, len(keys), *keys))

    def zincrby(self, key: Key, increment: float, member: Value) -> Deferred[float]:
        """ZINCRBY key increment member

        O(log(N)).  Since 1.2.0.  https://valkey.io/commands/zincrby/
        """
        return self._run(("ZINCRBY", key, increment, member), converters.number)

    def zinter(
        self,
        keys: Key | Iterable[Key],
        *,
        weights: float | Iterable[float] = (),
        aggregate: Literal["SUM", "MIN", "MAX"] | None = None,
        withscores: bool = False,
    ) -> Deferred[list[Text] | list[tuple[Text, float]]]:
        """ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]

        O(N*K), O(M*log(M)).  Since 6.2.0.  https://valkey.io/commands/zinter/
        """
        words: list[Any] = ["ZINTER"]
        listed = each(keys)
        words += (len(listed), *listed)
        if listed := each(weights):
            words += ("WEIGHTS", *listed)
        if aggregate is not None:
            words += ("AGGREGATE", aggregate)
        if withscores:
            words += ("WITHSCORES",)
        return self._run(words, converters.scored if withscores else None)

    def zintercard(self, keys: Key | Iterable[Key], *, limit: int | None = None) -> Deferred[int]:
        """ZINTERCARD numkeys key [key ...] [LIMIT limit]

        O(N*K).  Since 7.0.0.  https://valkey.io/commands/zintercard/
        """
        words: list[Any] = ["ZINTERCARD"]
        listed = each(keys)
        words += (len(listed), *listed)
        if limit is not None:
            words += ("LIMIT", limit)
        return self._run(words)

    def zinterstore(
        self,
        destination: Key,
        keys: Key | Iterable[Key],
        *,
        weights: float | Iterable[float] = (),
        aggregate: Literal["SUM", "MIN", "MAX"] | None = None,
    ) -> Deferred[int]:
        """ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN |
            MAX>]

        O(N*K), O(M*log(M)).  Since 2.0.0.  https://valkey.io/commands/zinterstore/
        """
        words: list[Any] = ["ZINTERSTORE", destination]
        listed = each(keys)
        words += (len(listed), *listed)
        if listed := each(weights):
            words += ("WEIGHTS", *listed)
        if aggregate is not None:
            words += ("AGGREGATE", aggregate)
        return self._run(words)

    def zlexcount(self, key: Key, min: Value, max: Value) -> Deferred[int]:
        """ZLEXCOUNT key min max

        O(log(N)).  Since 2.8.9.  https://valkey.io/commands/zlexcount/
        """
        return self._run(("ZLEXCOUNT", key, min, max))

    def zmpop(
        self, keys: Key | Iterable[Key], where: Literal["MIN", "MAX"], *, count: int | None = None
    ) -> Deferred[tuple[Text, list[tuple[Text, float]]] | None]:
        """ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count]

        O(K), O(M*log(N)).  Since 7.0.0.  https://valkey.io/commands/zmpop/
        """
        words: list[Any] = ["ZMPOP"]
        listed = each(keys)
        words += (len(listed), *listed, where)
        if count is not None:
            words += ("COUNT", count)
        return self._run(words, converters.scored_of_key)

    def zmscore(self, key: Key, *members: Value) -> Deferred[list[float | None]]:
        """ZMSCORE key member [member ...]

        O(N).  Since 6.2.0.  https://valkey.io/commands/zmscore/
        """
        return self._run(("ZMSCORE", key, *members), _ZMSCORE)

    def zpopmax(
        self, key: Key, count: int | None = None
    ) -> Deferred[tuple[Text, float] | list[tuple[Text, float]] | None]:
        """ZPOPMAX key [count]

        O(log(N)*M).  Since 5.0.0.  https://valkey.io/commands/zpopmax/
        """
        words: list[Any] = ["ZPOPMAX", key]
        if count is not None:
            words += (count,)
        return self._run(words, converters.popped if count is None else converters.scored)

    def zpopmin(
        self, key: Key, count: int | None = None
    ) -> Deferred[tuple[Text, float] | list[tuple[Text, float]] | None]:
        """ZPOPMIN key [count]

        O(log(N)*M).  Since 5.0.0.  https://valkey.io/commands/zpopmin/
        """
        words: list[Any] = ["ZPOPMIN", key]
        if count is not None:
            words += (count,)
        return self._run(words, converters.popped if count is None else converters.scored)

    def zrandmember(
        self, key: Key, *, count: int | None = None, withscores: bool = False
    ) -> Deferred[Text | list[Text] | list[tuple[Text, float]] | None]:
        """ZRANDMEMBER key [count [WITHSCORES]]

        O(N).  Since 6.2.0.  https://valkey.io/commands/zrandmember/
        """
        words: list[Any] = ["ZRANDMEMBER", key]
        if count is not None:
            words += (count,)
            if withscores:
                words += ("WITHSCORES",)
        elif withscores:
            raise leaderless("ZRANDMEMBER", "count", "withscores")
        return self._run(words, converters.scored if withscores else None)

    def zrange(
        self,
        key: Key,
        start: Value,
        stop: Value,
        *,
        byscore: bool = False,
        bylex: bool = False,
        rev: bool = False,
        limit: tuple[int, int] | None = None,
        withscores: bool = False,
    ) -> Deferred[list[Text] | list[tuple[Text, float]]]:
        """ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]

        O(log(N)+M).  Since 1.2.0.  https://valkey.io/commands/zrange/
        """
        if byscore + bylex > 1:
            exclusive("ZRANGE", byscore=byscore, bylex=bylex)
        words: list[Any] = ["ZRANGE", key, start, stop]
        if byscore:
            words += ("BYSCORE",)
        if bylex:
            words += ("BYLEX",)
        if rev:
            words += ("REV",)
        if limit is not None:
            words += ("LIMIT", *limit)
        if withscores:
            words += ("WITHSCORES",)
        return self._run(words, converters.scored if withscores else None)

    def zrangebylex(
        self, key: Key, min: Value, max: Value, *, limit: tuple[int, int] | None = None
    ) -> Deferred[list[Text]]:
        """ZRANGEBYLEX key min max [LIMIT offset count]

        O(log(N)+M), O(log(N)).  Since 2.8.9.  https://valkey.io/commands/zrangebylex/
        """
        words: list[Any] = ["ZRANGEBYLEX", key, min, max]
        if limit is not None:
            words += ("LIMIT", *limit)
        return self._run(words)

    def zrangebyscore(
        self, key: Key, min: Bound, max: Bound, *, withscores: bool = False, limit: tuple[int, int] | None = None
    ) -> Deferred[list[Text] | list[tuple[Text, float]]]:
        """ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]

        O(log(N)+M), O(log(N)).  Since 1.0.5.  https://valkey.io/commands/zrangebyscore/
        """
        words: list[Any] = ["ZRANGEBYSCORE", key, min, max]
        if withscores:
            words += ("WITHSCORES",)
        if limit is not None:
            words += ("LIMIT", *limit)
        return self._run(words, converters.scored if withscores else None)

    def zrangestore(
        self,
        dst: Key,
        src: Key,
        min: Value,
        max: Value,
        *,
        byscore: bool = False,
        bylex: bool = False,
        rev: bool = False,
        limit: tuple[int, int] | None = None,
    ) -> Deferred[int]:
        """ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]

        O(log(N)+M).  Since 6.2.0.  https://valkey.io/commands/zrangestore/
        """
        if byscore + bylex > 1:
            exclusive("ZRANGESTORE", byscore=byscore, bylex=bylex)
        words: list[Any] = ["ZRANGESTORE", dst, src, min, max]
        if byscore:
            words += ("BYSCORE",)
        if bylex:
            words += ("BYLEX",)
        if rev:
            words += ("REV",)
        if limit is not None:
            words += ("LIMIT", *limit)
        return self._run(words)

    def zrank(
        self, key: Key, member: Value, *, withscore: bool = False
    ) -> Deferred[int | tuple[int, float] | None]:
        """ZRANK key member [WITHSCORE]

        O(log(N)).  Since 2.0.0.  https://valkey.io/commands/zrank/
        """
        words: list[Any] = ["ZRANK", key, member]
        if withscore:
            words += ("WITHSCORE",)
        return self._run(words, converters.scored_pair)

    def zrem(self, key: Key, *members: Value) -> Deferred[int]:
        """ZREM key member [member ...]

        O(M*log(N)).  Since 1.2.0.  https://valkey.io/commands/zrem/
        """
        return self._run(("ZREM", key, *members))

    def zremrangebylex(self, key: Key, min: Value, max: Value) -> Deferred[int]:
        """ZREMRANGEBYLEX key min max

        O(log(N)+M).  Since 2.8.9.  https://valkey.io/commands/zremrangebylex/
        """
        return self._run(("ZREMRANGEBYLEX", key, min, max))

    def zremrangebyrank(self, key: Key, start: int, stop: int) -> Deferred[int]:
        """ZREMRANGEBYRANK key start stop

        O(log(N)+M).  Since 2.0.0.  https://valkey.io/commands/zremrangebyrank/
        """
        return self._run(("ZREMRANGEBYRANK", key, start, stop))

    def zremrangebyscore(self, key: Key, min: Bound, max: Bound) -> Deferred[int]:
        """ZREMRANGEBYSCORE key min max

        O(log(N)+M).  Since 1.2.0.  https://valkey.io/commands/zremrangebyscore/
        """
        return self._run(("ZREMRANGEBYSCORE", key, min, max))

    def zrevrange(
        self, key: Key, start: int, stop: int, *, withscores: bool = False
    ) -> Deferred[list[Text] | list[tuple[Text, float]]]:
        """ZREVRANGE key start stop [WITHSCORES]

        O(log(N)+M).  Since 1.2.0.  https://valkey.io/commands/zrevrange/
        """
        words: list[Any] = ["ZREVRANGE", key, start, stop]
        if withscores:
            words += ("WITHSCORES",)
        return self._run(words, converters.scored if withscores else None)

    def zrevrangebylex(
        self, key: Key, max: Value, min: Value, *, limit: tuple[int, int] | None = None
    ) -> Deferred[list[Text]]:
        """ZREVRANGEBYLEX key max min [LIMIT offset count]

        O(log(N)+M), O(log(N)).  Since 2.8.9.  https://valkey.io/commands/zrevrangebylex/
        """
        words: list[Any] = ["ZREVRANGEBYLEX", key, max, min]
        if limit is not None:
            words += ("LIMIT", *limit)
        return self._run(words)

    def zrevrangebyscore(
        self, key: Key, max: Bound, min: Bound, *, withscores: bool = False, limit: tuple[int, int] | None = None
    ) -> Deferred[list[Text] | list[tuple[Text, float]]]:
        """ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]

        O(log(N)+M), O(log(N)).  Since 2.2.0.  https://valkey.io/commands/zrevrangebyscore/
        """
        words: list[Any] = ["ZREVRANGEBYSCORE", key, max, min]
        if withscores:
            words += ("WITHSCORES",)
        if limit is not None:
            words += ("LIMIT", *limit)
        return self._run(words, converters.scored if withscores else None)

    def zrevrank(
        self, key: Key, member: Value, *, withscore: bool = False
    ) -> Deferred[int | tuple[int, float] | None]:
        """ZREVRANK key member [WITHSCORE]

        O(log(N)).  Since 2.0.0.  https://valkey.io/commands/zrevrank/
        """
        words: list[Any] = ["ZREVRANK", key, member]
        if withscore:
            words += ("WITHSCORE",)
        return self._run(words, converters.scored_pair)

    def zscan(
        self, key: Key, cursor: Value, *, match: Key | None = None, count: int | None = None, noscores: bool = False
    ) -> Deferred[tuple[Text, list[tuple[Text, float]] | list[Text]]]:
        """ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES]

        O(1), O(N).  Since 2.8.0.  https://valkey.io/commands/zscan/
        """
        words: list[Any] = ["ZSCAN", key, cursor]
        if match is not None:
            words += ("MATCH", match)
        if count is not None:
            words += ("COUNT", count)
        if noscores:
            words += ("NOSCORES",)
        return self._run(words, converters.scanned if noscores else converters.scanned_scores)

    def zscore(self, key: Key, member: Value) -> Deferred[float | None]:
        """ZSCORE key member

        O(1).  Since 1.2.0.  https://valkey.io/commands/zscore/
        """
        return self._run(("ZSCORE", key, member), converters.number)

    def zunion(
        self,
        keys: Key | Iterable[Key],
        *,
        weights: float | Iterable[float] = (),
        aggregate: Literal["SUM", "MIN", "MAX"] | None = None,
        withscores: bool = False,
    ) -> Deferred[list[Text] | list[tuple[Text, float]]]:
        """ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]

        O(N), O(M*log(M)).  Since 6.2.0.  https://valkey.io/commands/zunion/
        """
        words: list[Any] = ["ZUNION"]
        listed = each(keys)
        words += (len(listed), *listed)
        if listed := each(weights):
            words += ("WEIGHTS", *listed)
        if aggregate is not None:
            words += ("AGGREGATE", aggregate)
        if withscores:
            words += ("WITHSCORES",)
        return self._run(words, converters.scored if withscores else None)

    def zunionstore(
        self,
        destination: Key,
        keys: Key | Iterable[Key],
        *,
        weights: float | Iterable[float] = (),
        aggregate: Literal["SUM", "MIN", "MAX"] | None = None,
    ) -> Deferred[int]:
        """ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN |
            MAX>]

        O(N), O(M log(M)).  Since 2.0.0.  https://valkey.io/commands/zunionstore/
        """
        words: list[Any] = ["ZUNIONSTORE", destination]
        listed = each(keys)
        words += (len(listed), *listed)
        if listed := each(weights):
            words += ("WEIGHTS", *listed)
        if aggregate is not None:
            words += ("AGGREGATE", aggregate)
        return self._run(words)

    delete = del_
