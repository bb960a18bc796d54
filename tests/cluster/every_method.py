"""Calls of every generated method, in an order in which each call finds its data.  All keys are in one slot."""

from __future__ import annotations

LIBRARY = """#!lua name=lib
server.register_function{function_name='f', callback=function(k, a) return a[1] end, flags={'no-writes'}}
"""

#: Each call is written without ``client.``, and succeeds.
CALLS = """
set("{t}k", "v") set("{t}k", "w", get=True) set("{t}k", "x", nx=True) set("{t}k", "v", ex=100) get("{t}k")
get("{t}none") set("{t}k", "v", ifeq="w") append("{t}k", "w") strlen("{t}k") getrange("{t}k", 0, 0)
substr("{t}k", 0, 0) setrange("{t}k", 0, "z") getset("{t}k", "v") getex("{t}k", persist=True) setnx("{t}k", "v")
setex("{t}e", 100, "v") psetex("{t}e", 100000, "v") getdel("{t}e") delifeq("{t}k", "no")
mset({"{t}a": 1, "{t}b": 2.5}) msetnx({"{t}a": 1}) mget("{t}a", "{t}none", "{t}b") msetex({"{t}a": 1}, ex=100)
lcs("{t}a", "{t}k") lcs("{t}a", "{t}a", len=True) lcs("{t}a", "{t}a", idx=True)
lcs("{t}a", "{t}a", idx=True, withmatchlen=True) set("{t}n", 5) incr("{t}n") incrby("{t}n", 2) decr("{t}n")
decrby("{t}n", 2) incrbyfloat("{t}n", 0.5) del_("{t}n") exists("{t}k", "{t}k", "{t}none") touch("{t}k")
unlink("{t}none") type("{t}k") type("{t}none") expire("{t}k", 100, nx=True) expireat("{t}k", 4000000000)
pexpire("{t}k", 100000) pexpireat("{t}k", 4000000000000) expiretime("{t}k") pexpiretime("{t}k") persist("{t}k")
ttl("{t}k") pttl("{t}none") rename("{t}b", "{t}c") renamenx("{t}c", "{t}b") copy("{t}b", "{t}c", replace=True)
move("{t}c", 1) object_encoding("{t}k") object_freq("{t}none") object_idletime("{t}k") object_refcount("{t}k")
object_help() memory_usage("{t}k") memory_usage("{t}none") setbit("{t}bits", 7, 1) getbit("{t}bits", 7)
bitcount("{t}bits") bitcount("{t}bits", start=0, end=-1, bit=True) bitpos("{t}bits", 1)
bitop("NOT", "{t}bits2", "{t}bits")
bitfield("{t}bits", ("SET", "u8", 0, 5), ("GET", "u8", 0), ("OVERFLOW", "FAIL", "INCRBY", "u2", 100, 7))
bitfield_ro("{t}bits", get=[("u8", 0)]) hset("{t}h", {"f": "v", "g": 2}) hget("{t}h", "f") hmset("{t}h", {"i": 1})
hmget("{t}h", "f", "none") hgetall("{t}h") hgetall("{t}none") hkeys("{t}h") hvals("{t}h") hlen("{t}h")
hexists("{t}h", "f") hstrlen("{t}h", "f") hsetnx("{t}h", "f", 1) hincrby("{t}h", "i", 2)
hincrbyfloat("{t}h", "i", 0.5) hdel("{t}h", "i") hrandfield("{t}one") hrandfield("{t}h", count=9)
hrandfield("{t}h", count=9, withvalues=True) hscan("{t}h", 0) hscan("{t}h", 0, novalues=True)
hexpire("{t}h", 100, "f", "none") hexpireat("{t}h", 4000000000, "f") hpexpire("{t}h", 100000, "f")
hpexpireat("{t}h", 4000000000000, "f") hexpiretime("{t}h", "f") hpexpiretime("{t}h", "f") hpersist("{t}h", "f")
httl("{t}h", "f") hpttl("{t}h", "f") hsetex("{t}h", {"f": "v"}, ex=100) hgetex("{t}h", "f", persist=True)
hgetdel("{t}h", "g") rpush("{t}l", "a", "b", "c") lpush("{t}l", "z") lpushx("{t}l", "y") rpushx("{t}l", "d")
llen("{t}l") lrange("{t}l", 0, -1) lindex("{t}l", 0) lindex("{t}l", 99) linsert("{t}l", "BEFORE", "a", "0")
lset("{t}l", 0, "y") lpos("{t}l", "a") lpos("{t}l", "none") lpos("{t}l", "a", count=0) lrem("{t}l", 1, "0")
ltrim("{t}l", 0, 10) lmove("{t}l", "{t}l2", "LEFT", "RIGHT") rpoplpush("{t}l", "{t}l2") lpop("{t}l") lpop("{t}none")
lpop("{t}l", 2) rpop("{t}l2", 1) lmpop(["{t}none", "{t}l2"], "LEFT", count=2) lmpop("{t}none", "LEFT")
sadd("{t}s", "a", "b", "c") sadd("{t}s2", "b", "c", "d") scard("{t}s") sismember("{t}s", "a")
smismember("{t}s", "a", "none") smembers("{t}s") sinter("{t}s", "{t}s2") sunion("{t}s", "{t}s2")
sdiff("{t}s", "{t}s2") sinterstore("{t}s3", "{t}s", "{t}s2") sunionstore("{t}s3", "{t}s", "{t}s2")
sdiffstore("{t}s3", "{t}s", "{t}s2") sintercard(["{t}s", "{t}s2"], limit=1) smove("{t}s", "{t}s2", "a")
srandmember("{t}none") srandmember("{t}s3", 5) sscan("{t}s3", 0) spop("{t}none") spop("{t}s3", 5) srem("{t}s", "b")
zadd("{t}z", {"a": 1, "b": 2.5, "c": "inf"}) zadd("{t}z", [(3, "d")], ch=True) zadd("{t}z", {"a": 1}, incr=True)
zadd("{t}z", {"a": 1}, incr=True, nx=True) zcard("{t}z") zcount("{t}z", "-inf", 2.5) zscore("{t}z", "b")
zscore("{t}z", "none") zmscore("{t}z", "b", "none") zincrby("{t}z", 2, "a") zrank("{t}z", "a") zrank("{t}z", "none")
zrank("{t}z", "a", withscore=True) zrevrank("{t}z", "a", withscore=True) zrange("{t}z", 0, -1)
zrange("{t}z", 0, -1, withscores=True) zrange("{t}z", "-inf", "+inf", byscore=True, limit=(0, 2), withscores=True)
zrevrange("{t}z", 0, -1, withscores=True) zrangebyscore("{t}z", "(1", "+inf", withscores=True)
zrevrangebyscore("{t}z", "+inf", 0, withscores=True, limit=(0, 1)) zrangebylex("{t}z", "-", "+")
zrevrangebylex("{t}z", "+", "-") zlexcount("{t}z", "-", "+") zrangestore("{t}z2", "{t}z", 0, 1) zrandmember("{t}none")
zrandmember("{t}z", count=9) zrandmember("{t}z", count=9, withscores=True) zscan("{t}z", 0)
zscan("{t}z", 0, noscores=True) zdiff(["{t}z", "{t}z2"], withscores=True) zdiff(["{t}z", "{t}z2"])
zinter(["{t}z", "{t}z2"], weights=[1, 2.5], aggregate="MAX", withscores=True) zinter("{t}z")
zunion(["{t}z", "{t}z2"], withscores=True) zunion("{t}z") zdiffstore("{t}z3", "{t}z", "{t}z2")
zinterstore("{t}z3", ["{t}z", "{t}z2"]) zunionstore("{t}z3", ["{t}z", "{t}z2"], weights=(1, 2))
zintercard(["{t}z", "{t}z2"]) zmpop(["{t}none", "{t}z3"], "MIN", count=1) zmpop("{t}none", "MIN") zpopmin("{t}z3")
zpopmin("{t}none") zpopmax("{t}z3", 2) zpopmax("{t}none", 2) zremrangebyrank("{t}z2", 0, 0)
zremrangebyscore("{t}z2", "(100", "+inf") zremrangebylex("{t}z2", "[x", "+") zrem("{t}z", "d")
geoadd("{t}geo", [(13.361389, 38.115556, "p"), (15.087269, 37.502669, "c")], nx=True) geodist("{t}geo", "p", "c")
geodist("{t}geo", "p", "c", m=True) geohash("{t}geo", "p", "none") geopos("{t}geo", "p", "none")
geosearch("{t}geo", fromlonlat=(15, 37), byradius=(200, "km"), withcoord=True, withdist=True, withhash=True)
geosearch("{t}geo", frommember="p", bybox=(400, 400, "km"), asc=True, count=1, any=True)
geosearch("{t}geo", bypolygon=[(10, 30), (20, 30), (20, 50), (10, 50)])
geosearchstore("{t}geo2", "{t}geo", fromlonlat=(15, 37), byradius=(200, "km"), storedist=True)
georadius("{t}geo", 15, 37, 200, "km", withcoord=True) georadius("{t}geo", 15, 37, 200, "km", store="{t}geo2")
georadius_ro("{t}geo", 15, 37, 200, "km", withdist=True, desc=True) georadiusbymember("{t}geo", "p", 200, "km")
georadiusbymember_ro("{t}geo", "p", 200, "km", withhash=True) pfadd("{t}pf", "a", "b") pfcount("{t}pf")
pfmerge("{t}pf2", "{t}pf") pfdebug("ENCODING", "{t}pf") pfselftest() xadd("{t}x", "1-1", {"f": "v", "g": "w"})
xadd("{t}x", "2-1", [("f", "v")], strategy="MAXLEN", operator="~", threshold=9) xadd("{t}x", "3-1", {"f": "v"})
xlen("{t}x") xrange("{t}x", "-", "+") xrange("{t}x", "-", "+", count=1) xrevrange("{t}x", "+", "-")
xread({"{t}x": "0"}, count=1) xread({"{t}x": "9-9"}) xgroup_create("{t}x", "g", "0")
xgroup_createconsumer("{t}x", "g", "c2") xreadgroup("g", "c", {"{t}x": ">"}, count=2)
xreadgroup("g", "c", {"{t}x": "0"}) xreadgroup("g", "c", {"{t}x": ">"}, noack=True) xpending("{t}x", "g")
xpending("{t}x", "g", start="-", end="+", count=9, consumer="c", idle=0) xclaim("{t}x", "g", "c2", 0, "1-1")
xclaim("{t}x", "g", "c", 0, "1-1", justid=True) xautoclaim("{t}x", "g", "c2", 0, "0") xdel("{t}x", "2-1")
xautoclaim("{t}x", "g", "c", 0, "0", justid=True, count=9) xreadgroup("g", "c", {"{t}x": "0"})
xack("{t}x", "g", "1-1") xinfo_stream("{t}x") xinfo_stream("{t}x", full=True) xinfo_groups("{t}x")
xinfo_consumers("{t}x", "g") xinfo_help() xgroup_setid("{t}x", "g", "0") xgroup_delconsumer("{t}x", "g", "c")
xgroup_destroy("{t}x", "g") xgroup_help() xsetid("{t}x", "9-9", entriesadded=9, maxdeletedid="2-1")
xtrim("{t}x", "MINID", "2", operator="=") rpush("{t}sort", 3, 1, 2) sort("{t}sort", desc=True)
sort("{t}sort", store="{t}sorted", limit=(0, 2), alpha=True) sort_ro("{t}sort", by="nosort", get=["#", "{t}none*"])
sort_ro("{t}sort") dump("{t}k") restore("{t}r", 0, DUMPED, replace=True)
restore_asking("{t}r", 0, DUMPED, replace=True, absttl=True) eval("return {KEYS[1], ARGV[1]}", "{t}k", ["x"])
eval("return 1") eval_ro("return redis.call('get', KEYS[1])", ["{t}k"]) script_load("return 'loaded'") evalsha(SHA)
evalsha_ro(SHA, "{t}k") script_exists(SHA, "0" * 40) script_show(SHA) script_flush(sync=True) script_help()
function_load(LIBRARY) function_list() function_list(withcode=True) fcall("f", "{t}k", "x") fcall_ro("f", (), ["x"])
function_stats() function_dump() function_flush() function_restore(FUNCTIONS, flush=True) function_delete("lib")
function_help() publish("c", "m") spublish("c", "m") pubsub_channels() pubsub_channels("*") pubsub_numsub("c")
pubsub_numpat() pubsub_shardchannels() pubsub_shardnumsub("c") pubsub_help() acl_cat() acl_cat("string")
acl_dryrun("default", "get", "k") acl_genpass() acl_genpass(8) acl_getuser("default") acl_getuser("none") acl_list()
acl_log() acl_log(reset=True) acl_setuser("u", "on", "+get") acl_deluser("u") acl_users() acl_whoami() acl_help()
client_getname() client_getredir() client_id() client_info() client_list(type="normal", id=[1, 2]) client_list()
client_kill(laddr="1.2.3.4:5")   client_pause(1) client_unpause()
client_setinfo(lib_name="txvalkeycluster") client_setname("me") client_setname("") client_trackinginfo()
client_unblock(999)   client_help() cluster_bumpepoch()
cluster_count_failure_reports(NODE) cluster_countkeysinslot(1) cluster_getkeysinslot(1, 5) cluster_getslotmigrations()
cluster_info() cluster_keyslot("k") cluster_links() cluster_myid() cluster_myshardid() cluster_nodes()
cluster_replicas(NODE) cluster_slaves(NODE) cluster_saveconfig() cluster_shards()
cluster_slot_stats(slotsrange=(0, 2)) cluster_slot_stats(orderby="key-count", limit=1, desc=True) cluster_slots()
cluster_help() cluster_flushslot(1, sync=True) command() command_count() command_docs("get", "xadd", "client")
command_getkeys("get", "k") command_getkeysandflags("set", "k", "v") command_info("get", "none")
command_list(pattern="ge*") command_help() commandlog_get(1, "slow") commandlog_len("large-reply")
commandlog_reset("large-request") commandlog_help() config_get("maxmemory", "port") config_set({"maxmemory": 0})
config_resetstat() config_rewrite() config_help() slowlog_get() slowlog_get(1) slowlog_len() slowlog_reset()
slowlog_help() info() info("server", "clients") lastsave() latency_doctor() latency_histogram("get")
latency_history("command") latency_latest() latency_reset() latency_help() lolwut(version=5) memory_doctor()
memory_malloc_stats() memory_purge() memory_stats() memory_help() module_list() module_help() role() time() dbsize()
keys("*") randomkey() ping() ping("x") echo("x") debug("SLEEP", 0) bgrewriteaof() flushdb(sync=True)
flushall(async_=True) randomkey()
"""

#: The methods that are not called here, each with the reason.
NOT_CALLED = {
    **dict.fromkeys(
        ["blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin", "wait", "waitaof"],
        "they block: see test_blocking",
    ),
    **dict.fromkeys(["scan", "clusterscan"], "they scan one node after the other: see test_scans"),
    **dict.fromkeys(["shutdown", "failover", "replicaof", "slaveof", "swapdb", "save", "bgsave"], "they end the test"),
    **dict.fromkeys(["module_load", "module_loadex", "module_unload"], "there is no module to load"),
    **dict.fromkeys(["acl_load", "acl_save"], "there is no ACL file"),
    **dict.fromkeys(["function_kill", "script_kill", "migrate"], "they fail when there is nothing to do"),
    **dict.fromkeys(["cluster_cancelslotmigrations", "latency_graph"], "they fail when there is nothing to do"),
    **dict.fromkeys(
        [
            "cluster_addslots", "cluster_addslotsrange", "cluster_delslots", "cluster_delslotsrange",
            "cluster_failover", "cluster_flushslots", "cluster_forget", "cluster_meet", "cluster_migrateslots",
            "cluster_replicate", "cluster_reset", "cluster_set_config_epoch", "cluster_setslot",
        ],
        "they change the cluster",
    ),
}  # fmt: skip
