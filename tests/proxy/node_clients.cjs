// A program that uses ioredis or node-redis as on a single server, with numbers that it checks.
//
// node node_clients.cjs FOLDER LIBRARY PORT TAG OTHER OTHER
//
// FOLDER holds node_modules; LIBRARY is "ioredis" or "redis". TAG and the others are hash tags of slots at three nodes.
// It writes lines of JSON: {"rounds": {...}}, {"error": "..."}, {"wrong": "..."}, and {"end": {...}} when its standard
// input has ended and everything was checked. Errors may say that a command was perhaps executed.
"use strict";
const { createRequire } = require("node:module");
const { once } = require("node:events");

const [folder, library, port, tag, ...others] = process.argv.slice(2);
const load = createRequire(`${folder}/`);
const HOST = "127.0.0.1";
const PACE = 10;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

// The same functions for both libraries. A subscriber calls `message` and, whenever it is subscribed anew, `gap`.
const libraries = {
  async ioredis() {
    const Redis = load("ioredis");
    const connect = () => new Redis({ host: HOST, port: Number(port) }).on("error", () => {});
    const failed = ([error, value]) => {
      if (error) throw error;
      return value;
    };
    const client = connect();
    return {
      client,
      connect: async () => connect(),
      set: (c, key, value) => c.set(key, value),
      get: (c, key) => c.get(key),
      rpush: (c, key, value) => c.rpush(key, value),
      publish: (c, channel, value) => c.publish(channel, value),
      spublish: (c, channel, value) => c.spublish(channel, value),
      blpop: async (c, keys) => (await c.blpop(...keys, 1))?.[1],
      xadd: (c, key, value) => c.xadd(key, "*", "n", value),
      xread: async (c, key, last) => {
        const found = await c.xread("COUNT", 1, "BLOCK", 1000, "STREAMS", key, last);
        return found && { id: found[0][1][0][0], value: found[0][1][0][1][1] };
      },
      pipeline: async (c, keys) => {
        const commands = c.pipeline();
        for (const key of keys) commands.incr(key).get(key);
        return (await commands.exec()).map(failed);
      },
      multi: async (c, keys) => {
        const commands = c.multi();
        for (const key of keys) commands.incr(key);
        return (await commands.exec()).map(failed);
      },
      // Whether the transaction was executed.
      compareAndSet: async (c, key, change) => {
        await c.watch(key);
        const value = change(await c.get(key));
        return (await c.multi().set(key, value).exec()) !== null;
      },
      subscribe: async (channel, pattern, shard, message, gap) => {
        const subscriber = connect();
        let first = true;
        subscriber.on("message", message);
        subscriber.on("pmessage", (_, name, text) => message(name, text));
        subscriber.on("smessage", message);
        subscriber.on("ready", () => first || gap());
        subscriber.on("close", () => first || gap());
        await subscriber.subscribe(channel);
        await subscriber.psubscribe(pattern);
        await subscriber.ssubscribe(shard);
        first = false;
        gap();
        return () => subscriber.disconnect();
      },
      close: (c) => c.disconnect(),
    };
  },

  async redis() {
    const { createClient, WatchError } = load("redis");
    const connect = async () => {
      const made = createClient({ socket: { host: HOST, port: Number(port) } });
      made.on("error", () => {});
      return made.connect();
    };
    const client = await connect();
    return {
      client,
      connect,
      set: (c, key, value) => c.set(key, String(value)),
      get: (c, key) => c.get(key),
      rpush: (c, key, value) => c.rPush(key, String(value)),
      publish: (c, channel, value) => c.publish(channel, String(value)),
      spublish: (c, channel, value) => c.sPublish(channel, String(value)),
      blpop: async (c, keys) => (await c.blPop(keys, 1))?.element,
      xadd: (c, key, value) => c.xAdd(key, "*", { n: String(value) }),
      xread: async (c, key, last) => {
        const found = await c.xRead([{ key, id: last }], { COUNT: 1, BLOCK: 1000 });
        return found && { id: found[0].messages[0].id, value: found[0].messages[0].message.n };
      },
      pipeline: async (c, keys) => {
        const commands = c.multi();
        for (const key of keys) commands.incr(key).get(key);
        return commands.execAsPipeline();
      },
      multi: async (c, keys) => {
        const commands = c.multi();
        for (const key of keys) commands.incr(key);
        return commands.exec();
      },
      compareAndSet: async (c, key, change) => {
        await c.watch(key);
        const value = change(await c.get(key));
        try {
          await c.multi().set(key, String(value)).exec();
          return true;
        } catch (error) {
          if (error instanceof WatchError) return false;
          throw error;
        }
      },
      subscribe: async (channel, pattern, shard, message, gap) => {
        const subscriber = createClient({ socket: { host: HOST, port: Number(port) } });
        let first = true;
        subscriber.on("error", () => first || gap());
        subscriber.on("ready", () => first || gap());
        await subscriber.connect();
        await subscriber.subscribe(channel, (text, name) => message(name, text));
        await subscriber.pSubscribe(pattern, (text, name) => message(name, text));
        await subscriber.sSubscribe(shard, (text, name) => message(name, text));
        first = false;
        gap();
        return () => subscriber.destroy();
      },
      close: (c) => c.destroy(),
    };
  },
};

const rounds = {};
let longest = 0;
let stopping = false;
const wrong = (text) => tell({ wrong: text });
const expect = (holds, ...text) => holds || wrong(text.join(" "));

async function round(name, turn, number) {
  const begun = performance.now();
  try {
    await turn(number);
  } catch (error) {
    tell({ error: `${error.constructor.name}: ${error.message}` });
  }
  rounds[name] = (rounds[name] ?? 0) + 1;
  longest = Math.max(longest, performance.now() - begun);
}

async function work(name, turn) {
  for (let number = 1; !stopping; number++) {
    await round(name, turn, number);
    await pause(PACE);
  }
}

async function main() {
  const lib = await libraries[library]();
  const { client } = lib;
  const key = (name) => `{${tag}}:${library}:${name}`;
  const blocked = await Promise.all([0, 1, 2, 3].map(() => lib.connect()));
  const watching = await Promise.all([0, 1].map(() => lib.connect()));

  // Values in many slots. After an error, either value is possible.
  const possible = {};
  async function values(number) {
    const name = `${library}:${number % 30}`;
    possible[name] = (possible[name] ?? new Set([null])).add(String(number));
    await lib.set(client, name, number);
    possible[name] = new Set([String(number)]);
    const value = await lib.get(client, name);
    expect(possible[name].has(value), name, "is", value);
  }

  // Pipelines of increments in many slots.
  const least = {};
  const most = {};
  async function pipeline(number) {
    const keys = [0, 1, 2, 3, 4].map((index) => `${library}:count:${(number + index) % 30}`);
    for (const each of keys) most[each] = (most[each] ?? 0) + 1;
    const found = await lib.pipeline(client, keys);
    keys.forEach((each, index) => {
      const [value, same] = [Number(found[2 * index]), Number(found[2 * index + 1])];
      expect(value === same && value > (least[each] ?? 0) && value <= most[each], each, value, same, most[each]);
      least[each] = most[each] = value;
    });
  }

  // Transactions of one slot: all or nothing, and never twice.
  const multis = { sure: 0, maybe: 0 };
  async function multi() {
    let found;
    try {
      found = await lib.multi(client, [key("x"), key("y")]);
    } catch (error) {
      multis.maybe++;
      throw error;
    }
    multis.sure++;
    const [x, y] = found.map(Number);
    expect(x === y && multis.sure <= x && x <= multis.sure + multis.maybe, "x, y", x, y, JSON.stringify(multis));
  }

  // Two connections set the same key with WATCH: no number is written twice.
  const written = new Set();
  const watch = (connection) => async () => {
    for (;;) {
      let number;
      const change = (old) => (number = Number(old ?? 0) + 1);
      if (await lib.compareAndSet(connection, key("watched"), change)) {
        expect(!written.has(number), number, "was written twice");
        written.add(number);
        return;
      }
    }
  };

  // Elements of lists are popped once; those of a stream are read once.
  const lists = { list: [key("list")], many: [tag, ...others].map((each) => `{${each}}:${library}:many:${tag}`) };
  const sent = { list: new Set(), many: new Set(), stream: new Set() };
  const taken = { list: new Set(), many: new Set(), stream: new Set() };
  const maybeSent = { list: new Set(), many: new Set(), stream: new Set() };
  const maybeTaken = { list: 0, many: 0, stream: 0 };
  let producing = true;
  let last = "0";
  async function produce(number) {
    const kind = ["list", "many", "stream"][number % 3];
    sent[kind].add(number);
    try {
      if (kind === "stream") await lib.xadd(client, key(kind), number);
      else await lib.rpush(client, lists[kind][Math.floor(number / 3) % lists[kind].length], number);
    } catch (error) {
      maybeSent[kind].add(number);
      throw error;
    }
  }
  async function take(kind, connection) {
    let found;
    try {
      if (kind === "stream") {
        const entry = await lib.xread(connection, key(kind), last);
        last = entry?.id ?? last;
        found = entry?.value;
      } else found = await lib.blpop(connection, lists[kind]);
    } catch (error) {
      maybeTaken[kind]++;
      throw error;
    }
    if (found === undefined || found === null) return;
    const number = Number(found);
    expect(sent[kind].has(number) && !taken[kind].has(number), kind, number, "was not sent, or came twice");
    taken[kind].add(number);
  }
  async function consume(kind, connection) {
    await work(kind, () => take(kind, connection));
    for (let before = -1; producing || before !== taken[kind].size; ) {
      before = taken[kind].size;
      await round(kind, () => take(kind, connection), 0);
    }
  }

  // Messages: a missing one must be where the subscriber was subscribed anew.
  const channels = [key("news"), key("p:1"), key("shard")];
  const seen = Object.fromEntries(channels.map((channel) => [channel, []]));
  const published = Object.fromEntries(channels.map((channel) => [channel, []]));
  let gaps = -1;
  const message = (channel, text) => seen[channel].push(Number(text));
  const gap = () => {
    gaps++;
    for (const channel of channels) seen[channel].push(null);
  };
  const unsubscribe = await lib.subscribe(channels[0], key("p:*"), channels[2], message, gap);
  async function publish(number) {
    const channel = channels[number % 3];
    await (number % 3 === 2 ? lib.spublish : lib.publish)(client, channel, number);
    published[channel].push(number);
  }
  function checkMessages() {
    for (const channel of channels) {
      const came = seen[channel].filter((number) => number !== null);
      came.forEach((number, index) => expect(index === 0 || came[index - 1] < number, channel, came[index - 1], number));
      const inGaps = (number) =>
        seen[channel].some((each, index) => {
          if (each !== null) return false;
          const before = seen[channel].slice(0, index).filter((other) => other !== null);
          const after = seen[channel].slice(index).filter((other) => other !== null);
          return (before.at(-1) ?? 0) < number && number < (after[0] ?? Infinity);
        });
      const missing = published[channel].filter((number) => !came.includes(number));
      const lost = missing.filter((number) => !inGaps(number));
      expect(lost.length === 0, channel, "lost without a gap:", lost, "gaps:", gaps);
    }
  }

  process.stdin.resume();
  once(process.stdin, "end").then(() => (stopping = true));
  // The longest round since it was told last.
  const report = () => {
    tell({ rounds, longest });
    longest = 0;
  };
  const telling = setInterval(report, 50);
  const consumers = ["list", "many", "stream"].map((kind, index) => consume(kind, blocked[index]));
  await Promise.all([
    work("values", values),
    work("pipeline", pipeline),
    work("multi", multi),
    work("watch", watch(watching[0])),
    work("watch too", watch(watching[1])),
    work("produce", produce),
    work("publish", publish),
  ]);
  producing = false;
  await Promise.all(consumers);
  await pause(500);
  checkMessages();
  for (const kind of Object.keys(sent)) {
    const missing = [...sent[kind]].filter((number) => !taken[kind].has(number) && !maybeSent[kind].has(number));
    const allowed = kind === "stream" ? 0 : maybeTaken[kind];
    expect(missing.length <= allowed, kind, "lost:", missing, "with", allowed, "errors");
  }
  clearInterval(telling);
  unsubscribe();
  for (const each of [client, ...blocked, ...watching]) lib.close(each);
  const counts = Object.fromEntries(Object.keys(sent).map((kind) => [kind, taken[kind].size]));
  report();
  tell({ end: { taken: counts, messages: channels.map((channel) => seen[channel].length), gaps } });
}

main().catch((error) => {
  wrong(error.stack);
  process.exitCode = 1;
});
