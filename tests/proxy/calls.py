"""Calls for the comparison of a proxy with a single server, as inline commands.

A test checks that every command of the table which the proxy does not refuse is here.
"""

from __future__ import annotations

from txvalkeycluster.proxy.inline import split_inline

#: Calls with keys of one slot.  Each is made with keys of every type.
KEYED = """
SET {t}k v
SET {t}k v EX 100 NX GET
SET {t}k v XX KEEPTTL
SET {t}k v IFEQ hello
SET {t}k v EX 0
SET {t}k v FOO
GET {t}k
GETEX {t}k PERSIST
GETEX {t}k EX x
GETDEL {t}k
GETSET {t}k v
GETRANGE {t}k 0 -2
GETRANGE {t}k a b
SUBSTR {t}k 1 2
SETRANGE {t}k 2 zz
SETRANGE {t}k -1 z
APPEND {t}k w
STRLEN {t}k
SETNX {t}k v
SETEX {t}k 100 v
SETEX {t}k -1 v
PSETEX {t}k 100000 v
DELIFEQ {t}k hello
INCR {t}k
INCRBY {t}k 5
INCRBY {t}k 9223372036854775807
INCRBYFLOAT {t}k 0.5
INCRBYFLOAT {t}k x
DECR {t}k
DECRBY {t}k 5
DECRBY {t}k x
MGET {t}k {t}none {t}j
MSET {t}k 1 {t}j 2
MSET {t}k 1 {t}j
MSETNX {t}k 1 {t}j 2
MSETEX 2 {t}k 1 {t}j 2 EX 100 NX
MSETEX 2 {t}k 1 {t}j
LCS {t}k {t}j
LCS {t}k {t}j IDX MINMATCHLEN 2 WITHMATCHLEN
LCS {t}k {t}j LEN
DEL {t}k {t}j {t}none
UNLINK {t}k {t}j
EXISTS {t}k {t}k {t}none
TOUCH {t}k {t}j
TYPE {t}k
EXPIRE {t}k 100 NX
EXPIRE {t}k x
EXPIREAT {t}k 4000000000
PEXPIRE {t}k 100000 GT
PEXPIREAT {t}k 4000000000000
EXPIRETIME {t}k
PEXPIRETIME {t}k
TTL {t}k
PTTL {t}k
PERSIST {t}k
RENAME {t}k {t}j
RENAME {t}none {t}j
RENAMENX {t}k {t}none
COPY {t}k {t}none
COPY {t}k {t}j REPLACE
COPY {t}k {t}none DB 0
DUMP {t}none
RESTORE {t}none 0 payload
RESTORE {t}k 0 payload REPLACE
SORT {t}k
SORT {t}k ALPHA DESC LIMIT 0 2
SORT {t}k BY nosort ALPHA STORE {t}j
SORT {t}k BY {t}w_* GET # ALPHA
SORT_RO {t}k ALPHA
OBJECT ENCODING {t}k
OBJECT FREQ {t}k
OBJECT IDLETIME {t}k
OBJECT REFCOUNT {t}k
OBJECT FOO {t}k
MEMORY USAGE {t}none
MEMORY USAGE {t}k SAMPLES x
SETBIT {t}k 7 1
SETBIT {t}k x 1
GETBIT {t}k 7
BITCOUNT {t}k
BITCOUNT {t}k 0 1 BIT
BITPOS {t}k 1
BITPOS {t}k 2
BITOP AND {t}d {t}k {t}j
BITOP NOT {t}d {t}k
BITOP FOO {t}d {t}k
BITFIELD {t}k SET u8 0 5 GET u8 0 OVERFLOW FAIL INCRBY u2 100 7
BITFIELD {t}k GET x8 0
BITFIELD_RO {t}k GET u8 0
BITFIELD_RO {t}k SET u8 0 1
PFADD {t}k a b
PFCOUNT {t}k {t}none
PFMERGE {t}d {t}k
HSET {t}k f v g 2
HSET {t}k f
HMSET {t}k f v
HSETNX {t}k f w
HGET {t}k f
HMGET {t}k f none
HGETALL {t}k
HKEYS {t}k
HVALS {t}k
HLEN {t}k
HEXISTS {t}k f
HSTRLEN {t}k f
HINCRBY {t}k a 2
HINCRBY {t}k f 2
HINCRBYFLOAT {t}k a 1.5
HDEL {t}k f none
HRANDFIELD {t}k
HRANDFIELD {t}k 9 WITHVALUES
HRANDFIELD {t}k 0
HSCAN {t}k 0
HSCAN {t}k 0 MATCH f* COUNT 5 NOVALUES
HSCAN {t}k x
HEXPIRE {t}k 100 FIELDS 1 f
HEXPIRE {t}k 100 FIELDS 2 f
HEXPIREAT {t}k 4000000000 FIELDS 2 f none
HPEXPIRE {t}k 100000 NX FIELDS 1 f
HPEXPIREAT {t}k 4000000000000 FIELDS 1 f
HEXPIRETIME {t}k FIELDS 1 f
HPEXPIRETIME {t}k FIELDS 1 f
HPERSIST {t}k FIELDS 1 f
HTTL {t}k FIELDS 1 f
HPTTL {t}k FIELDS 1 f
HSETEX {t}k EX 100 FIELDS 1 f v
HGETEX {t}k PERSIST FIELDS 1 f
HGETDEL {t}k FIELDS 2 f g
RPUSH {t}k a b
LPUSH {t}k z
LPUSHX {t}k y
RPUSHX {t}k d
LLEN {t}k
LRANGE {t}k 0 -1
LRANGE {t}k x 1
LINDEX {t}k 0
LINSERT {t}k BEFORE b x
LINSERT {t}k FOO b x
LSET {t}k 0 y
LSET {t}k 99 y
LPOS {t}k b COUNT 0
LREM {t}k 1 a
LTRIM {t}k 0 1
LMOVE {t}k {t}j LEFT RIGHT
LMOVE {t}k {t}j LEFT FOO
RPOPLPUSH {t}k {t}j
LPOP {t}k
LPOP {t}k 2
LPOP {t}k 0
LPOP {t}k -1
RPOP {t}k 2
LMPOP 2 {t}none {t}k LEFT COUNT 2
LMPOP 1 {t}k FOO
SADD {t}k x y
SREM {t}k a none
SCARD {t}k
SMEMBERS {t}k
SISMEMBER {t}k a
SMISMEMBER {t}k a none
SINTER {t}k {t}j
SINTERCARD 2 {t}k {t}j LIMIT 1
SINTERCARD 0 {t}k
SINTERSTORE {t}d {t}k {t}j
SUNION {t}k {t}none
SUNIONSTORE {t}d {t}k {t}none
SDIFF {t}k {t}none
SDIFFSTORE {t}d {t}k {t}none
SMOVE {t}k {t}j a
SPOP {t}k
SPOP {t}k 2
SPOP {t}k -1
SRANDMEMBER {t}k
SRANDMEMBER {t}k -5
SSCAN {t}k 0
SSCAN {t}k 0 NOVALUES
ZADD {t}k 1 a 2.5 b inf c
ZADD {t}k NX XX 1 a
ZADD {t}k INCR 5 a
ZADD {t}k x a
ZCARD {t}k
ZCOUNT {t}k -inf +inf
ZCOUNT {t}k a b
ZSCORE {t}k a
ZMSCORE {t}k a none
ZINCRBY {t}k 1.5 a
ZRANK {t}k b WITHSCORE
ZRANK {t}k none
ZREVRANK {t}k b
ZRANGE {t}k 0 -1 WITHSCORES
ZRANGE {t}k -inf +inf BYSCORE LIMIT 0 2
ZRANGE {t}k [a + BYLEX REV
ZRANGESTORE {t}d {t}k 0 1
ZREVRANGE {t}k 0 -1
ZRANGEBYSCORE {t}k 1 (3 WITHSCORES LIMIT 0 1
ZREVRANGEBYSCORE {t}k +inf 0
ZRANGEBYLEX {t}k - +
ZRANGEBYLEX {t}k a b
ZREVRANGEBYLEX {t}k + -
ZLEXCOUNT {t}k - +
ZREM {t}k a none
ZREMRANGEBYRANK {t}k 0 0
ZREMRANGEBYSCORE {t}k -inf 1
ZREMRANGEBYLEX {t}k - [a
ZPOPMIN {t}k
ZPOPMAX {t}k 2
ZMPOP 2 {t}none {t}k MIN COUNT 2
ZMPOP 1 {t}k FOO
ZRANDMEMBER {t}k
ZRANDMEMBER {t}k 9 WITHSCORES
ZSCAN {t}k 0
ZDIFF 2 {t}k {t}none WITHSCORES
ZDIFFSTORE {t}d 2 {t}k {t}none
ZINTER 2 {t}k {t}j WEIGHTS 1 2 AGGREGATE MAX WITHSCORES
ZINTERCARD 2 {t}k {t}j
ZINTERSTORE {t}d 2 {t}k {t}j
ZUNION 2 {t}k {t}none
ZUNIONSTORE {t}d 2 {t}k {t}none WEIGHTS 1 x
GEOADD {t}k 13.5 38.5 a
GEOADD {t}k 300 38.5 a
GEODIST {t}k Palermo Catania km
GEOHASH {t}k Palermo none
GEOPOS {t}k Palermo none
GEORADIUS {t}k 15 37 200 km WITHDIST WITHCOORD COUNT 1 ASC
GEORADIUS {t}k 15 37 200 km STORE {t}d
GEORADIUS_RO {t}k 15 37 200 km
GEORADIUS_RO {t}k 15 37 200 km STORE {t}d
GEORADIUSBYMEMBER {t}k Palermo 200 km STOREDIST {t}d
GEORADIUSBYMEMBER_RO {t}k Palermo 200 km WITHHASH
GEOSEARCH {t}k FROMLONLAT 15 37 BYBOX 400 400 km DESC
GEOSEARCH {t}k FROMMEMBER none BYRADIUS 1 km
GEOSEARCHSTORE {t}d {t}k FROMLONLAT 15 37 BYRADIUS 200 km
XADD {t}k 9-1 a 1
XADD {t}k * a 1
XADD {t}k 0-1 a 1
XADD {t}k NOMKSTREAM MAXLEN 1 9-2 a 1
XLEN {t}k
XRANGE {t}k - + COUNT 1
XREVRANGE {t}k + -
XDEL {t}k 1-1 7-7
XTRIM {t}k MAXLEN 1
XSETID {t}k 99-1
XREAD COUNT 1 STREAMS {t}k 0
XREAD STREAMS {t}k $
XREAD STREAMS {t}k {t}j 0
XREADGROUP GROUP g c COUNT 1 STREAMS {t}k >
XREAD COUNT 1 BLOCK 10 STREAMS {t}k 0
XREAD BLOCK 10 STREAMS {t}k $
XREAD BLOCK x STREAMS {t}k $
XREADGROUP GROUP g c COUNT 1 BLOCK 10 STREAMS {t}k >
BLPOP {t}k 0.01
BRPOP {t}none {t}k 0.01
BLPOP {t}k x
BLPOP {t}k -1
BLMOVE {t}k {t}j LEFT RIGHT 0.01
BRPOPLPUSH {t}k {t}j 0.01
BLMPOP 0.01 2 {t}none {t}k LEFT COUNT 2
BLMPOP 0.01 0 LEFT
BZPOPMIN {t}none {t}k 0.01
BZPOPMAX {t}k 0.01
BZMPOP 0.01 1 {t}k MIN COUNT 2
BZMPOP 0.01 1 {t}k FOO
XREADGROUP GROUP g c STREAMS {t}k 0
XREADGROUP GROUP none c STREAMS {t}k >
XACK {t}k g 1-1 7-7
XCLAIM {t}k g d 0 1-1 JUSTID
XAUTOCLAIM {t}k g d 0 0 COUNT 1
XPENDING {t}k g
XPENDING {t}k g - + 10
XGROUP CREATE {t}k h 0
XGROUP CREATE {t}k h 0 MKSTREAM
XGROUP CREATECONSUMER {t}k g e
XGROUP DELCONSUMER {t}k g c
XGROUP DESTROY {t}k g
XGROUP SETID {t}k g 0
XGROUP FOO {t}k
XINFO STREAM {t}k
XINFO STREAM {t}k FULL
XINFO GROUPS {t}k
XINFO CONSUMERS {t}k g
EVAL "return redis.call('TYPE', KEYS[1])" 1 {t}k
EVAL "return redis.call('LLEN', KEYS[1])" 1 {t}k
EVAL "return {1, 'two', {ok='three'}, false, {err='four'}}" 1 {t}k
EVAL "redis.setresp(3); return {double=3.5, map={map={a=1}}, set={set={b=true}}}" 1 {t}k
EVAL "return redis.call('GET', KEYS[1], 'x')" 1 {t}k
EVAL_RO "return redis.call('SET', KEYS[1], 'x')" 1 {t}k
EVALSHA 0000000000000000000000000000000000000000 1 {t}k
EVALSHA_RO 0000000000000000000000000000000000000000 1 {t}k
FCALL none 1 {t}k
FCALL_RO none 1 {t}k
SPUBLISH {t}k message
"""

#: The commands that make a key of each type, and the type.
TYPES = {
    "nothing": [],
    "string": ["SET {} hello"],
    "integer": ["SET {} 10"],
    "expiring": ["SET {} hello PXAT 4000000000000"],
    "list": ["RPUSH {} a b c 1"],
    "set": ["SADD {} a b c"],
    "integers": ["SADD {} 1 2 3"],
    "zset": ["ZADD {} 1 a 2 b 3.25 c"],
    "hash": ["HSET {} f v a 1 b 2"],
    "stream": [
        "XADD {} 1-1 a 1",
        "XADD {} 2-1 b 2",
        "XGROUP CREATE {} g 0",
        "XREADGROUP GROUP g c COUNT 1 STREAMS {} >",
    ],
    "places": ["GEOADD {} 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"],
    "hyperloglog": ["PFADD {} a b c"],
}

#: Other calls, in an order in which each finds its data.
OTHERS = """
PING
PING message
PING a b
ECHO message
SELECT 0
SELECT 16
SELECT -1
SELECT x
SELECT 1.0
SELECT " 0"
SELECT 00
SELECT 2147483648
SELECT 9223372036854775808
AUTH secret
AUTH default anything
AUTH default ""
AUTH nobody secret
AUTH a b c
HELLO 1
HELLO 4
HELLO x
HELLO ""
HELLO 02
HELLO -3
HELLO 99999999999
HELLO 99999999999999999999
HELLO 2 FOO
HELLO 2 AUTH
HELLO 2 AUTH a
HELLO 2 AUTH nobody b
HELLO 3 AUTH nobody b
HELLO 2 AUTH nobody b FOO
HELLO 2 AUTH nobody b SETNAME "a b"
HELLO 2 SETNAME
HELLO 2 SETNAME "a b"
HELLO 2 SETNAME "a b" FOO
HELLO 2 FOO SETNAME "a b"
CLIENT GETNAME
CLIENT SETNAME name
CLIENT GETNAME
CLIENT SETNAME "a b"
CLIENT SETNAME "a\\x7f"
CLIENT SETNAME ""
CLIENT GETNAME
CLIENT SETINFO LIB-NAME library
CLIENT SETINFO lib-ver 1.0
CLIENT SETINFO LIB-VER ""
CLIENT SETINFO LIB-NAME "a b"
CLIENT SETINFO lib-ver "a\\n"
CLIENT SETINFO FOO x
CLIENT NO-EVICT ON
CLIENT NO-EVICT OFF
CLIENT NO-EVICT FOO
CLIENT NO-TOUCH on
CLIENT NO-TOUCH off
CLIENT NO-TOUCH FOO
CLIENT CAPA redirect foo
CLIENT REPLY ON
CLIENT REPLY FOO
CLIENT REPLY a b
CLIENT UNBLOCK 999999
CLIENT UNBLOCK 999999 ERROR
CLIENT UNBLOCK 999999 TIMEOUT
CLIENT UNBLOCK 999999 FOO
CLIENT UNBLOCK x
CLIENT UNBLOCK -5
CLIENT UNBLOCK 99999999999999999999
CLIENT UNPAUSE
CLIENT TRACKING OFF
CLIENT TRACKING FOO
CLIENT CACHING YES
CLIENT CACHING FOO
CLIENT GETREDIR
CLIENT TRACKINGINFO
CLIENT KILL ID
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID 0
CLIENT KILL ID -1
CLIENT KILL ID x
CLIENT KILL ID 999999
CLIENT KILL ID 999998 999999 TYPE normal
CLIENT KILL ID 999999 x
CLIENT KILL ID 999999 SKIPME
CLIENT KILL ADDR x
CLIENT KILL LADDR x
CLIENT KILL IP 1.2.3.4
CLIENT KILL x ADDR
CLIENT KILL TYPE pubsub
CLIENT KILL TYPE replica
CLIENT KILL TYPE master
CLIENT KILL TYPE FOO
CLIENT KILL TYPE pubsub SKIPME FOO
CLIENT KILL TYPE pubsub SKIPME no
CLIENT KILL USER nobody
CLIENT KILL USER default ADDR x
CLIENT KILL MAXAGE 0
CLIENT KILL MAXAGE x
CLIENT KILL MAXAGE 1000
CLIENT KILL IDLE 0
CLIENT KILL IDLE x
CLIENT KILL IDLE 1000
CLIENT KILL NAME nobody
CLIENT KILL NAME ""
CLIENT KILL LIB-NAME nothing
CLIENT KILL LIB-VER nothing
CLIENT KILL FLAGS P
CLIENT KILL FLAGS ?
CLIENT KILL NOT-FLAGS N
CLIENT KILL NOT-FLAGS ?
CLIENT KILL NOT-FLAGS ""
CLIENT KILL CAPA foo
CLIENT KILL CAPA r
CLIENT KILL NOT-CAPA foo
CLIENT KILL NOT-CAPA ""
CLIENT KILL DB x
CLIENT KILL DB 99
CLIENT KILL DB 1
CLIENT KILL NOT-DB 0
CLIENT KILL NOT-TYPE normal
CLIENT KILL NOT-USER default
CLIENT KILL NOT-USER nobody
CLIENT KILL NOT-ID x
CLIENT KILL NOT-IP 127.0.0.1
CLIENT KILL NOT-SKIPME yes
CLIENT KILL NOT-MAXAGE 1
CLIENT LIST FOO
CLIENT LIST TYPE
CLIENT LIST TYPE FOO
CLIENT LIST TYPE replica
CLIENT LIST ID
CLIENT LIST ID x
CLIENT LIST ID 0
CLIENT LIST ID 999999
CLIENT LIST ID 999999 x
CLIENT LIST SKIPME yes TYPE pubsub
CLIENT LIST USER nobody
CLIENT HELP
READONLY
READWRITE
ROLE
CLUSTER INFO
CLUSTER SLOTS
CLUSTER SHARDS
CLUSTER MYID
CLUSTER NODES
CLUSTER KEYSLOT key
CLUSTER HELP
CLUSTER FOO
ASKING
CLUSTERSCAN 0
SLOWLOG RESET
SLOWLOG LEN
SLOWLOG GET
SLOWLOG GET -1
SLOWLOG GET -2
SLOWLOG GET x
SLOWLOG GET 2147483648
SLOWLOG GET 99999999999999999999
SLOWLOG GET 1 2
SLOWLOG HELP
CONFIG GET maxmemory
CONFIG GET maxmemory-policy hz
CONFIG GET MAXMEMORY
CONFIG GET cluster-enabled
CONFIG GET none
CONFIG GET appendonly*
CONFIG HELP
INFO foo
INFO cluster
INFO foo bar
COMMAND COUNT
COMMAND INFO GET none
COMMAND INFO CLIENT|LIST
COMMAND DOCS GET
COMMAND GETKEYS SET k v
COMMAND GETKEYS PING
COMMAND GETKEYS
COMMAND GETKEYSANDFLAGS SET k v
COMMAND LIST FILTERBY PATTERN SETE*
COMMAND LIST FILTERBY FOO x
COMMAND HELP
COMMAND FOO
LOLWUT VERSION 5 1 1 1
MEMORY HELP
MEMORY FOO
OBJECT HELP
XGROUP HELP
XINFO HELP
ACL FOO
LATENCY FOO
MODULE FOO
FLUSHALL
FLUSHALL SYNC
FLUSHALL FOO
FLUSHALL SYNC FOO
DBSIZE
RANDOMKEY
KEYS *
SCAN 0
SCAN 0 TYPE string
SCAN 0 TYPE FOO
SCAN 0 TYPE ""
SCAN 0 COUNT 0
SCAN 0 COUNT -1
SCAN 0 COUNT x
SCAN 0 COUNT 9223372036854775807
SCAN 0 COUNT 9223372036854775808
SCAN 0 COUNT
SCAN 0 MATCH a COUNT
SCAN 0 FOO
SCAN 0 FOO x
SCAN 0 NOVALUES
SCAN 0 COUNT 0 FOO
SCAN x
SCAN ""
SCAN -1
SCAN 1a
SCAN "1 "
SCAN " 0"
SCAN "+0"
SCAN 00
SCAN 18446744073709551616
SCAN 99999999999999999999999
SET key value
DBSIZE
RANDOMKEY
KEYS *
KEYS k??
KEYS none
SCAN 0
SCAN 0 MATCH none
SCAN 0 MATCH k* COUNT 100 TYPE string
SCAN 0 TYPE list
FLUSHDB ASYNC
FLUSHDB FOO
SET OK value
RANDOMKEY
KEYS *
FLUSHDB
PUBLISH channel message
PUBSUB CHANNELS
PUBSUB CHANNELS a b
PUBSUB NUMSUB
PUBSUB NUMSUB a b a
PUBSUB NUMPAT
PUBSUB SHARDCHANNELS
PUBSUB SHARDCHANNELS a*
PUBSUB SHARDNUMSUB
PUBSUB SHARDNUMSUB a b
PUBSUB HELP
PUBSUB FOO
WAIT 0 0
WAIT 0 10
WAIT x 0
WAIT 0 x
WAIT 0 -1
WAIT -1 0
WAITAOF 0 0 0
WAITAOF 0 0 10
WAITAOF 1 0 0
WAITAOF 2 0 0
WAITAOF x 0 0
WAITAOF 0 0 -1
SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x
SCRIPT LOAD "return 1"
SCRIPT LOAD "return ("
SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x
SCRIPT SHOW e0e1f9fabfc9d4800c877a703b823ac0578ff8db
SCRIPT SHOW x
EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 key
EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
SCRIPT KILL
SCRIPT FLUSH ASYNC
SCRIPT FLUSH FOO
SCRIPT FLUSH
EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
SCRIPT HELP
SCRIPT FOO
EVAL "return ARGV" 0 a b
EVAL "return 1" -1
EVAL "return 1" x
EVAL "return 1" 5 a
EVAL "return nothing" 0
EVAL "error('wrong')" 0
EVAL "return redis.error_reply('MY error')" 0
EVAL "#!lua flags=no-writes\\nreturn 1" 0
EVAL "#!lua name=x\\nreturn 1" 0
EVAL_RO "return KEYS" 2 {t}a {t}b
FUNCTION LIST
FUNCTION LOAD FOO
FUNCTION LOAD "#!lua name=OK\\nserver.register_function('f', function(k, a) return {k, a} end)"
FUNCTION LOAD "#!lua name=OK\\nserver.register_function('f', function(k, a) return {k, a} end)"
FUNCTION LOAD REPLACE "#!lua name=OK\\nserver.register_function{callback=function(k, a) return {k, a} end, \
function_name='f', flags={'no-writes'}}"
FUNCTION LIST
FUNCTION LIST WITHCODE LIBRARYNAME O*
FUNCTION LIST FOO
FUNCTION STATS
FCALL f 0 a
FCALL f 1 key a b
FCALL_RO f 2 {t}a {t}b c
FCALL f x
FCALL none 0
FUNCTION DUMP
FUNCTION RESTORE FOO
FUNCTION RESTORE FOO BAR
FUNCTION KILL
FUNCTION DELETE none
FUNCTION DELETE OK
FUNCTION FLUSH SYNC
FUNCTION FLUSH FOO
FUNCTION LIST
FUNCTION STATS
FUNCTION HELP
FUNCTION FOO
FOO
foo a b
FOO "\\x00\\xff\\n" "a\\r\\nb"
MULTI a
SUBSCRIBE
BLPOP
"""

#: Calls with keys in several slots.
SEVERAL_SLOTS = """
MSET a 1 b 2 c 3
MGET a b c none a
MGET a a
MGET b none
MSET a 1 b 2 a 3
MGET a
MSET a 1 b
MSET a 1 b 2 c
EXISTS a b c none a
TOUCH a b none a
RPUSH list x
MGET a list b
DEL a none
UNLINK b c list
DEL a b c none
MSETEX 2 a 1 b 2
MSETEX 2 a 1 b 2 EX 100
MSETEX 2 a 1 b 2 EX 0
MSETEX 2 a 1 b 2 FOO
MSETEX 2 a 1 b
MSETEX 3 a 1 b 2
MGET a b
SMOVE a b
SMOVE a b c d
RENAME a b c
LMOVE a b LEFT
SINTERSTORE a
MSETNX a 1 b
BITOP AND a
XREADGROUP GROUP g c STREAMS
DEL a b
BLPOP a b 0.01
BRPOP a b x
BLPOP a b -1
BLPOP a b -0.5
BLPOP a b 1e400
BLPOP a b nan
BLPOP a b inf
BLPOP a b " 1"
BLPOP a b ""
BLPOP a b 1_0
BLPOP a b 0x1
RPUSH list 1 2 3
BLPOP a list 0
BRPOP a list b 0
BLMPOP 0 3 a b list LEFT COUNT 5
BLMPOP 0.01 2 a list RIGHT
BLMPOP 0.01 2 a list FOO
BLMPOP 0.01 2 a list LEFT COUNT 0
BLMPOP x 2 a list LEFT
SET b 1
BLPOP a b list 0
BZPOPMIN a b list 0
DEL b
ZADD z 1.5 a 2 b 3e30 c
ZADD y inf d
BZPOPMIN a z 0
BZPOPMAX a z 0
BZPOPMIN a y 0
BZMPOP 0 2 a z MAX COUNT 3
BZMPOP 0.01 2 a z MIN
BZPOPMIN a z 0.01
BZPOPMIN a z x
XREAD BLOCK 10 STREAMS s1 s2 0 0
XREAD BLOCK 10 STREAMS s1 s2 $ $
XADD s1 1-1 a 1
XADD s2 1-1 b 2
XREAD BLOCK 10 STREAMS s1 s2 0 0
XREAD BLOCK 10 STREAMS s2 s1 0 0
XREAD COUNT 1 BLOCK 0 STREAMS s1 s3 s2 0 0 $
XREAD BLOCK 10 STREAMS s1 s2 $ $
XREAD BLOCK 10 STREAMS s1 s2 x 0
XREAD BLOCK x STREAMS s1 s2 0 0
XREAD BLOCK -1 STREAMS s1 s2 0 0
XREAD BLOCK 1.5 STREAMS s1 s2 0 0
XGROUP CREATE s1 g 0
XREADGROUP GROUP g c BLOCK 10 STREAMS s1 s2 > >
XGROUP CREATE s2 g 0
XREADGROUP GROUP g c BLOCK 0 STREAMS s2 s1 > >
XREADGROUP GROUP g c BLOCK 10 STREAMS s2 s1 > >
XREADGROUP GROUP g c BLOCK 10 STREAMS s2 s1 0 0
XREADGROUP GROUP g c BLOCK 10 STREAMS s2 s1 0 $
XREADGROUP GROUP g c STREAMS s2 s1 0 x
BLPOP list nan
BLPOP none list nan
DEL s1 s2 a b
"""

#: Calls whose replies differ: the reason, and what the reply of the proxy looks like in RESP2.
DIFFERENT = {
    "SELECT 1": ("a cluster has one database", rb"-ERR DB index is out of range"),
    "COPY {t}k {t}none DB 1": ("a cluster has one database", rb"-ERR DB index is out of range"),
    "SORT {t}list BY w_* GET #": ("a cluster refuses patterns of keys", rb"-ERR BY option of SORT denied"),
    "SORT {t}list GET w_*": ("a cluster refuses patterns of keys", rb"-ERR GET option of SORT denied"),
    "EVAL \"return redis.call('SET', 'a', 'b')\" 0": ("the keys of a script must be named", rb"-ERR .* non local key"),
    "EVAL 'return 1' 2 a b": ("the keys are in several slots", rb"-CROSSSLOT Keys in request don't hash"),
    "MSETEX 2 a 1 b 2 NX": ("all or none can be set only in one slot", rb"-CROSSSLOT "),
    "MSETNX a 1 b 2": ("all or none can be set only in one slot", rb"-CROSSSLOT "),
    "RENAME a b": ("the keys are in several slots", rb"-CROSSSLOT "),
    "SUNION a b": ("the keys are in several slots", rb"-CROSSSLOT "),
    "CONFIG GET requirepass": ("the cluster's passwords are secret", rb"\*2\r\n\$11\r\nrequirepass\r\n\$0\r\n\r\n"),
    "CONFIG SET maxmemory 0": ("it is for one server", rb"-ERR CONFIG is for one server"),
    "CONFIG RESETSTAT": ("it is for one server", rb"-ERR CONFIG is for one server"),
    "CONFIG REWRITE": ("it is for one server", rb"-ERR CONFIG is for one server"),
    "SCRIPT DEBUG FOO": ("it is for one connection to one server", rb"-ERR SCRIPT DEBUG is not sent"),
    "CLIENT TRACKING ON": ("invalidations do not pass the proxy", rb"-ERR CLIENT TRACKING is not available"),
    "CLIENT PAUSE 0": ("a client does not stop the others", rb"-ERR CLIENT PAUSE is not available"),
    "CLIENT IMPORT-SOURCE ON": ("it is for one server", rb"-ERR CLIENT IMPORT-SOURCE is not available"),
    "HELLO": ("other numbers, and nothing about modules", rb"\*14\r\n\$6\r\nserver\r\n\$6\r\nvalkey\r\n"),
    "TIME": ("the time passes", rb"\*2\r\n\$10\r\n\d{10}\r\n\$[1-6]\r\n\d+\r\n"),
    "LOLWUT": ("it is random", rb"\$\d{3,}\r\n"),
    "CLIENT ID": ("other numbers", rb":\d+\r\n"),
    "CLIENT INFO": ("addresses, numbers and sizes", rb"\$\d+\r\nid="),
    "CLIENT LIST": ("addresses, numbers and sizes", rb"\$\d+\r\nid="),
    "INFO": ("the totals of the cluster, and a section about the proxy", rb"\$\d+\r\n# Server"),
    "COMMAND": ("the order is random", rb"\*\d{3}\r\n"),
    "COMMAND LIST": ("the order is random", rb"\*\d{3}\r\n"),
    "RESET": ("it ends a comparison; sequences with it are compared", rb"\+RESET\r\n"),
    "QUIT": ("it ends a comparison; sequences with it are compared", rb"\+OK\r\n"),
}  # fmt: skip

#: Requests that change the connection.  Each sequence is sent on a connection of its own, as one write.  (After QUIT
#: without a reply, a server forgets to close; that is not compared.)
SEQUENCES = """
HELLO 3 | GET none | HELLO 2 | GET none | CONFIG GET none | HELLO 3 | CONFIG GET none
HELLO 3 | SINTER none | HGETALL none | CLIENT TRACKINGINFO | PUBSUB NUMSUB a | FUNCTION STATS | CLIENT LIST TYPE pubsub
HELLO 3 | CLIENT SETNAME x | CLIENT REPLY OFF | PING | RESET | PING | CLIENT GETNAME | GET none
HELLO 3 SETNAME x AUTH default y | CLIENT GETNAME | RESET | CLIENT GETNAME | GET none
CLIENT REPLY SKIP | PING | PING a
CLIENT REPLY SKIP | CLIENT REPLY SKIP | PING | PING a | PING b
CLIENT REPLY OFF | PING | CLIENT REPLY SKIP | PING a | PING b | CLIENT REPLY ON | PING c
CLIENT REPLY OFF | SET {t}k v | GET {t}k | CLIENT REPLY ON | GET {t}k
CLIENT REPLY OFF | DBSIZE | FOO | MGET a b | MSET a 1 b 2 | CLIENT REPLY ON | MGET a b | DEL a b
CLIENT REPLY SKIP | MGET a b | MGET a b c
CLIENT REPLY SKIP | DBSIZE | PING
CLIENT REPLY SKIP | FOO | PING
CLIENT REPLY OFF | CLIENT REPLY FOO | CLIENT REPLY ON
PING | QUIT | PING
SET {t}k v | GET {t}k | QUIT
RESET | PING | RESET
SELECT 0 | RESET | SELECT 0 | PING
CLIENT KILL SKIPME no TYPE pubsub | PING
CLIENT SETNAME me | CLIENT KILL NAME me SKIPME yes | PING
CLIENT SETNAME self | CLIENT KILL NAME self SKIPME no | PING
HELLO 2 SETNAME other | HELLO 2 | CLIENT GETNAME
HELLO 3 AUTH nobody x | GET none
HELLO 3 SETNAME "a b" | GET none | CLIENT GETNAME
MULTI | SET {t}k v | GET {t}k | LPUSH {t}k x | EXEC | GET {t}k
MULTI | EXEC | EXEC | DISCARD
MULTI | SET {t}k w | DISCARD | GET {t}k | EXEC
MULTI | MULTI | SET {t}k w | EXEC | GET {t}k
MULTI | WATCH a | EXEC | WATCH | UNWATCH x | UNWATCH | EXEC x | DISCARD x | MULTI x
MULTI | FOO a b | SET {t}k w | EXEC | GET {t}k | FOO
MULTI | FOO aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb c
MULTI | SET {t}k | EXEC | SET {t}k
MULTI | SET {t}k | DISCARD | EXEC
MULTI | EXEC x | GET {t}k | EXEC | EXEC
MULTI | DISCARD x | GET {t}k | EXEC | EXEC
MULTI | MULTI x | EXEC | EXEC
MULTI | PING | PING a | ECHO b | UNWATCH | EXEC
MULTI | EVAL "return {1,2,redis.call('GET', KEYS[1])}" 1 {t}k | EVAL "return ARGV[1]" 0 a | EXEC
MULTI | RPUSH {t}new a b | BLPOP {t}new 0 | LMOVE {t}new {t}new LEFT RIGHT | EXEC | DEL {t}new
MULTI | SADD {t}set a b c | SMEMBERS {t}set | ZADD {t}z 1.5 a | ZSCORE {t}z a | HSET {t}h f v | HGETALL {t}h | EXEC
HELLO 3 | MULTI | ZSCORE {t}z a | HGETALL {t}h | SMEMBERS {t}none | GET {t}none | EXEC | MULTI | EXEC
HELLO 3 | WATCH {t}k | SET {t}k x | MULTI | GET {t}k | EXEC | GET {t}k
WATCH {t}k | SET {t}k y | MULTI | SET {t}k z | EXEC | GET {t}k | MULTI | GET {t}k | EXEC
WATCH {t}k | MULTI | SET {t}k z | EXEC | GET {t}k
WATCH {t}k {t}j | WATCH {t}l | SET {t}l 1 | MULTI | EXEC | MULTI | EXEC
WATCH {t}k | SET {t}k y | UNWATCH | MULTI | GET {t}k | EXEC
WATCH {t}k | SET {t}k y | MULTI | DISCARD | MULTI | GET {t}k | EXEC
WATCH {t}k | SET {t}k y | MULTI | FOO | EXEC | MULTI | EXEC
WATCH {t}k | SET {t}k y | RESET | MULTI | EXEC | EXEC
MULTI | SET {t}k q | RESET | EXEC | GET {t}k
MULTI | SET {t}k q | QUIT
CLIENT REPLY SKIP | MULTI | SET {t}k r | EXEC | GET {t}k
CLIENT REPLY OFF | MULTI | SET {t}k s | GET {t}k | EXEC | CLIENT REPLY ON | GET {t}k
MULTI | SAVE | EXEC
SUBSCRIBE a b a | UNSUBSCRIBE b c | UNSUBSCRIBE
PSUBSCRIBE a* | SUBSCRIBE abc | PUBLISH abc x | PING | PING x | GET a | FOO | SSUBSCRIBE s
PSUBSCRIBE a* | SUBSCRIBE abc | SSUBSCRIBE s | UNSUBSCRIBE | PUNSUBSCRIBE | SUNSUBSCRIBE | PUBLISH abc x
HELLO 3 | SUBSCRIBE a | GET none | PING | UNSUBSCRIBE a | PUBLISH a x
HELLO 3 | PSUBSCRIBE a* b* | SUBSCRIBE ab | PUNSUBSCRIBE | UNSUBSCRIBE | PUBLISH ab z
HELLO 3 | SSUBSCRIBE {t}a {t}b | SUNSUBSCRIBE {t}b | SUNSUBSCRIBE
UNSUBSCRIBE | UNSUBSCRIBE a b | PUNSUBSCRIBE | PUNSUBSCRIBE a | SUNSUBSCRIBE | SUNSUBSCRIBE a
HELLO 3 | UNSUBSCRIBE | PUNSUBSCRIBE a
SUBSCRIBE a | RESET | GET none | UNSUBSCRIBE
SUBSCRIBE a | HELLO 3 | CLIENT ID | GET
SUBSCRIBE a | CLIENT FOO | FOO a | UNSUBSCRIBE | GET none
SUBSCRIBE a | QUIT | PING
HELLO 3 | SUBSCRIBE a | CLIENT TRACKINGINFO | HELLO 2 | GET none | UNSUBSCRIBE | GET none
HELLO 3 | SUBSCRIBE a | MULTI | GET {t}k | EXEC
MULTI | CLIENT REPLY OFF | GET {t}k | EXEC | PING
"""


def words_of(line: str) -> list[bytes]:
    """Return the words of a call."""
    return split_inline(line.encode())


def lines(calls: str) -> list[str]:
    """Return the calls of a text."""
    return [line for line in calls.splitlines() if line]
