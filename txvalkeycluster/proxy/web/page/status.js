// The status page: fetches status.json every second, and shows it.  All that comes from there is set as text.
"use strict";

const PAUSE = 1000; // Milliseconds between two requests.
const WINDOW = 5; // Rates and percentiles are those of so many seconds.
const CHART = 120; // The charts show so many samples.
const SLOTS = 16384;
const WIDTH = 256; // The dots in a row of the picture of the slots.
const TOTALS = {
  requests: "Requests",
  received_bytes: "Bytes from clients",
  sent_bytes: "Bytes to clients",
  moved: "MOVED redirects followed",
  asked: "ASK redirects followed",
  commands_repeated: "Commands sent again after a lost connection",
  commands_put_off: "Commands that waited for a node",
  commands_timed_out: "Commands whose deadline passed",
  elements_lost: "Elements taken for clients that were gone",
  requests_slow: "Slow requests",
  clients_accepted: "Clients accepted",
  clients_refused: "Clients refused",
  clients_cut: "Clients disconnected by the proxy",
  logins_refused: "Logins refused",
  logins: "Logins to the cluster in use",
  node_connections: "Connections to nodes",
  scans: "Scans under way",
};

const byId = (id) => document.getElementById(id);
const samples = []; // The last answers, the newest last.
const charts = { rate: [], p99: [] };
let shown = ""; // The slot map that is in the picture.
let owners = []; // The number of the shard of each slot; -1: none.
let addresses = []; // The address of the primary of each shard.
let lastEvent = null;

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A whole number with separators.
const count = (number) => Math.round(number).toLocaleString("en");

// A number with a unit and about three digits.
function scaled(number, step, units) {
  let unit = 0;
  while (number >= step && unit < units.length - 1) {
    number /= step;
    unit += 1;
  }
  const digits = unit === 0 ? (number >= 10 || number === 0 ? 0 : 1) : number >= 100 ? 0 : 1;
  return number.toFixed(digits) + (units[unit] ? " " + units[unit] : "");
}

const rate = (number) => scaled(number, 1000, ["", "k", "M"]);
const bytes = (number) => scaled(number, 1024, ["B", "KB", "MB", "GB", "TB", "PB"]);

function time(seconds) {
  if (seconds === null) return "–";
  if (seconds === Infinity) return "> 10 s";
  if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  return seconds < 1 ? (seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0) + " ms" : seconds.toFixed(1) + " s";
}

function duration(seconds) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = Math.max(0, parts.findIndex(([, size]) => seconds >= size));
  let rest = Math.floor(seconds);
  return parts.slice(first, first + 2).map(([unit, size]) => {
    const number = Math.floor(rest / size);
    rest -= number * size;
    return number + " " + unit;
  }).join(" ") || "0 s";
}

// The time below which a part of the requests is.  Within a bucket, the times are taken as evenly spread.
function percentile(bounds, times, part) {
  const total = times.reduce((sum, each) => sum + each, 0);
  if (total === 0) return null;
  let left = part * total;
  for (let place = 0; place < bounds.length; place += 1) {
    if (left <= times[place]) {
      const low = place === 0 ? 0 : bounds[place - 1];
      return low + (bounds[place] - low) * (left / times[place]);
    }
    left -= times[place];
  }
  return Infinity;
}

// A colour for each shard.  The golden angle keeps the hues of shards with similar numbers apart.
const colour = (shard) => `oklch(0.67 0.115 ${((262 + shard * 137.508) % 360).toFixed(1)})`;

// Show rows of cells.  A cell is a text, or a text with its classes and perhaps a colour.
function setRows(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, number) => {
    const row = body.rows[number] || body.insertRow();
    cells.forEach((cell, place) => {
      const [text, classes, shade] = Array.isArray(cell) ? cell : [cell, ""];
      const element = row.cells[place] || row.insertCell();
      setText(element, text);
      if (element.className !== classes) element.className = classes;
      if (shade) element.style.setProperty("--shard", shade);
    });
  });
}

function showChart(name, value) {
  const points = charts[name];
  points.push(value === null || value === Infinity ? 0 : value);
  if (points.length > CHART) points.shift();
  const top = Math.max(...points) || 1;
  const first = CHART - points.length;
  const line = points.map((each, place) => `${first + place},${(30 - (28 * each) / top).toFixed(2)}`).join(" L");
  const [area, path] = byId(name + "-chart").querySelectorAll("path");
  path.setAttribute("d", "M" + line);
  area.setAttribute("d", `M${first},32 L${line} L${CHART - 1},32 Z`);
}

function showRates(now, before) {
  const numbers = now.numbers;
  const seconds = before ? now.now - before.now : 0;
  const per = (name) => Math.max(0, numbers[name] - before.numbers[name]) / seconds;
  const errors = (each) => Object.values(each.numbers.errors).reduce((sum, number) => sum + number, 0);
  if (seconds > 0) {
    const times = numbers.times.map((each, place) => Math.max(0, each - before.numbers.times[place]));
    const [p50, p95, p99] = [0.5, 0.95, 0.99].map((part) => percentile(now.buckets, times, part));
    setText(byId("rate"), rate(per("requests")));
    setText(byId("p50"), time(p50));
    setText(byId("p95"), time(p95));
    setText(byId("p99"), time(p99));
    setText(byId("received"), bytes(per("received_bytes")));
    setText(byId("sent"), bytes(per("sent_bytes")));
    setText(byId("error-rate"), rate(Math.max(0, errors(now) - errors(before)) / seconds));
    showChart("rate", per("requests"));
    showChart("p99", p99);
  }
  setText(byId("clients"), count(numbers.clients));
  setText(byId("clients-most"), "of " + count(now.max_clients));
  byId("clients-meter").style.width = Math.min(100, (100 * numbers.clients) / now.max_clients) + "%";
  setText(byId("pending"), count(numbers.pending_commands));
  setText(byId("request-bytes"), bytes(numbers.request_bytes));
}

function showSlots(shards) {
  addresses = shards.map((shard) => (shard.primary ? shard.primary.address : "no primary"));
  const map = JSON.stringify(shards.map((shard) => [shard.slots, shard.primary !== null]));
  if (map === shown) return;
  shown = map;
  owners = new Array(SLOTS).fill(-1);
  shards.forEach((shard, number) => {
    if (!shard.primary) return;
    for (const range of shard.slots.split(" ").filter(Boolean)) {
      const [first, last] = range.split("-").map(Number);
      owners.fill(number, first, last + 1);
    }
  });
  const context = byId("slots").getContext("2d");
  context.clearRect(0, 0, WIDTH, SLOTS / WIDTH);
  owners.forEach((owner, slot) => {
    if (owner < 0) return;
    context.fillStyle = colour(owner);
    context.fillRect(slot % WIDTH, Math.floor(slot / WIDTH), 1, 1);
  });
  const served = owners.filter((owner) => owner >= 0).length;
  setText(byId("slots-text"), `${count(served)} of ${count(SLOTS)} have a primary`);
  byId("slots").setAttribute("aria-label", `${served} of ${SLOTS} slots, in ${shards.length} shards`);
}

function showSlot(event) {
  const box = byId("slots").getBoundingClientRect();
  const place = (offset, size, most) => Math.min(most - 1, Math.max(0, Math.floor((offset / size) * most)));
  const x = place(event.clientX - box.left, box.width, WIDTH);
  const y = place(event.clientY - box.top, box.height, SLOTS / WIDTH);
  const slot = y * WIDTH + x;
  const owner = owners[slot];
  setText(byId("slot"), `Slot ${slot}: ` + (owner >= 0 ? addresses[owner] : "no primary"));
}

function showNodes(now, before) {
  const seconds = before ? now.now - before.now : 0;
  const none = { open: 0, pending: 0, commands: 0, errors: 0 };
  const rows = [];
  const row = (node, role, slots, shade) => {
    const numbers = now.nodes[node.address] || none;
    const earlier = (before && before.nodes[node.address]) || numbers;
    let state = ["no connection", "quiet"];
    if (node.health !== "online") state = [node.health, "bad"];
    else if (numbers.open) state = ["connected", "good"];
    else if (now.failed[node.address] !== undefined) state = ["unreachable: " + now.failed[node.address], "bad"];
    rows.push([
      [node.address, "dot " + role, shade],
      [role, role === "primary" ? "strong" : "quiet"],
      state,
      [slots === null ? "" : count(slots), "number slots"],
      [seconds > 0 ? rate(Math.max(0, numbers.commands - earlier.commands) / seconds) : "–", "number speed"],
      [count(numbers.pending), "number less"],
      [count(numbers.open), "number less"],
      [count(numbers.errors), "number less"],
    ]);
  };
  now.shards.forEach((shard, number) => {
    const shade = colour(number);
    if (shard.primary) row(shard.primary, "primary", shard.slot_count, shade);
    else rows.push([["no primary", "dot", shade], "", ["fail", "bad"], [count(shard.slot_count), "number slots"]]);
    shard.replicas.forEach((each) => row(each, "replica", null, shade));
  });
  setRows(byId("nodes"), rows);
  const replicas = now.shards.reduce((sum, shard) => sum + shard.replicas.length, 0);
  setText(byId("nodes-text"), `${now.shards.length} shards, ${replicas} replicas`);
}

function showEvents(events) {
  byId("no-events").hidden = events.length > 0;
  const list = byId("events");
  const newest = events.length ? events[events.length - 1].number : 0;
  if (lastEvent !== null && newest === lastEvent) return;
  // A proxy that was started again counts from the beginning.
  if (lastEvent === null || newest < lastEvent) list.replaceChildren();
  for (const each of events) {
    if (lastEvent !== null && newest >= lastEvent && each.number <= lastEvent) continue;
    const item = document.createElement("li");
    const moment = document.createElement("time");
    const text = document.createElement("span");
    const date = new Date(each.time * 1000);
    moment.dateTime = date.toISOString();
    moment.title = date.toLocaleString();
    moment.textContent = date.toLocaleTimeString([], { hour12: false });
    text.textContent = each.text;
    item.className = each.level === "warn" || each.level === "error" ? each.level : "";
    if (lastEvent !== null) item.classList.add("new");
    item.append(moment, text);
    list.prepend(item);
  }
  while (list.children.length > 100) list.lastElementChild.remove();
  lastEvent = newest;
}

function show(now, before) {
  document.title = (now.ready ? "" : "Not ready: ") + "Valkey proxy on " + now.host;
  setText(byId("about"), `${now.host}, process ${now.process}, version ${now.version}, for ${duration(now.uptime)}`);
  setState(now.ready ? "ready" : "not ready", now.ready);
  const missing = now.shards.length && now.shards.some((shard) => !shard.primary);
  byId("why").hidden = now.ready && !missing && !now.text.includes("no primary");
  byId("why").className = now.ready ? "notice" : "notice bad";
  setText(byId("why"), now.text);
  showRates(now, before);
  showSlots(now.shards);
  showNodes(now, before);
  showEvents(now.events);
  byId("workers-card").hidden = now.workers.length === 0;
  setRows(byId("workers"), now.workers.map((each) => [
    String(each.number),
    [each.state, each.state === "running" ? "good" : "bad"],
    [count(each.clients), "number"],
    [count(each.requests), "number"],
  ]));
  const errors = Object.entries(now.numbers.errors).sort((one, other) => other[1] - one[1]);
  byId("no-errors").hidden = errors.length > 0;
  setRows(byId("errors"), errors.map(([code, number]) => [code, [count(number), "number"]]));
  setRows(byId("totals"), Object.entries(TOTALS).map(([name, text]) => {
    const number = now.numbers[name];
    return [text, [name.endsWith("_bytes") ? bytes(number) : count(number), "number"]];
  }));
}

function setState(text, good) {
  setText(byId("state"), text);
  byId("state").className = "badge " + (good ? "good" : "bad");
}

async function update() {
  try {
    const response = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!response.ok) throw new Error("status " + response.status);
    const now = await response.json();
    // Another process: its numbers cannot be compared.
    if (samples.length && samples[0].process !== now.process) samples.length = 0;
    samples.push(now);
    while (samples.length > 2 && now.now - samples[1].now >= WINDOW) samples.shift();
    show(now, samples.length > 1 ? samples[0] : null);
    document.body.classList.remove("stale");
  } catch (error) {
    setState("no answer", false);
    document.body.classList.add("stale");
    console.warn(error);
  }
  setTimeout(update, PAUSE);
}

byId("slots").addEventListener("pointermove", showSlot);
byId("slots").addEventListener("pointerdown", showSlot);
update();
