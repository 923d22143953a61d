"use strict";
// One WebSocket. Binary messages: uint32 length, JSON header {index, number, sizes}, then three JPEGs. Text messages:
// JSON {status, latencies}. The page answers each picture with "drawn", which requests the next.

const KINDS = ["infrared", "visible", "fused"];
const SHOWN = 300; // latencies in the chart at most
const FEWEST = 60; // that it has room for at least
const STALE_MS = 1000;
const COUNTERS = [ // label, how to read it from the status, unit; "bad" if any value above 0 is bad
  ["loop", (s) => fixed(s.fps, 1), "fps"],
  ["this page", () => fixed(drawn.length > 1 ? (drawn.length - 1) * 1000 / (drawn[drawn.length - 1] - drawn[0]) : null, 1), "fps"],
  ["skew", (s) => fixed(s.skew_ms, 1), "ms"],
  ["median", (s) => fixed(s.latency_p50_ms, 1), "ms"],
  ["90 %", (s) => fixed(s.latency_p90_ms, 1), "ms"],
  ["99 %", (s) => fixed(s.latency_p99_ms, 1), "ms"],
  ["worst", (s) => fixed(s.latency_max_ms, 1), "ms"],
  ["missed deadlines", (s) => s.missed_deadlines, "", "bad"],
  ["fused", (s) => s.fused, ""],
  ["replaced", (s) => s.skipped, ""],
  ["late", (s) => s.late, ""],
  ["dropped ir / vis", (s) => (known(s.dropped_infrared) ? `${s.dropped_infrared} / ${s.dropped_visible}` : null), ""],
  ["bad frames", (s) => sum((s.infrared || {}).bad, (s.visible || {}).bad), "", "bad"],
  ["reconnections", (s) => sum((s.infrared || {}).reconnects, (s.visible || {}).reconnects), ""],
];

const $ = (id) => document.getElementById(id);
const fixed = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : null);
const known = (value) => value !== null && value !== undefined;
const sum = (a, b) => (Number.isFinite(a) || Number.isFinite(b) ? (a || 0) + (b || 0) : null);
const token = new URLSearchParams(location.search).get("token");
if (token) history.replaceState(null, "", location.pathname); // from now on the cookie carries it

let socket = null, connected = false, refusal = "", paused = false;
let latencies = [], status = {}, drawn = [], drawnAt = -Infinity;
const bitmaps = {};

function connect() {
  socket = new WebSocket(new URL("watch", location.href).href.replace(/^http/, "ws"));
  socket.binaryType = "arraybuffer";
  let owed = 0; // answers due to pictures that came while paused
  const mine = socket;
  const answer = () => { if (mine.readyState === WebSocket.OPEN) mine.send("drawn"); };
  socket.resume = () => { for (; owed > 0; owed--) answer(); };
  socket.onopen = () => { connected = true; refusal = ""; latencies = []; };
  socket.onmessage = async (event) => {
    if (typeof event.data === "string") return report(JSON.parse(event.data));
    await draw(event.data);
    if (paused) owed++; else answer();
  };
  socket.onclose = (event) => {
    connected = false;
    refusal = event.code === 1013 ? event.reason : "";
    tell();
    setTimeout(connect, refusal ? 5000 : 1000);
  };
}

async function draw(data) {
  const length = new DataView(data).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let start = 4 + length;
  const decoding = header.sizes.map((size) => {
    const jpeg = new Blob([new Uint8Array(data, start, size)], { type: "image/jpeg" });
    start += size;
    return createImageBitmap(jpeg);
  });
  const pictures = await Promise.all(decoding);
  await new Promise(requestAnimationFrame); // never resolves while the tab is hidden: the robot then encodes nothing for it
  KINDS.forEach((kind, i) => {
    if (bitmaps[kind]) bitmaps[kind].close();
    bitmaps[kind] = pictures[i];
    fit($(kind), pictures[i]).drawImage(pictures[i], 0, 0);
    $(kind).dataset.index = header.index;
  });
  blend();
  drawnAt = performance.now();
  drawn.push(drawnAt);
  drawn = drawn.filter((time) => time > drawnAt - 5000);
  $("snapshot").href = "snapshot.png?number=" + header.number;
  $("snapshot").removeAttribute("aria-disabled");
  tell();
}

function fit(canvas, picture) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  return canvas.getContext("2d");
}

function blend() {
  const value = Number($("blend").value), side = value < 0 ? "infrared" : "visible";
  const part = Math.abs(value);
  $("blend").setAttribute("aria-valuetext", part === 0 ? "fused" : part === 100 ? side : `${part} % ${side}, ${100 - part} % fused`);
  for (const button of document.querySelectorAll("[data-blend]"))
    button.setAttribute("aria-pressed", String(Number(button.dataset.blend) === value));
  if (!bitmaps.fused) return;
  const context = fit($("blended"), bitmaps.fused);
  context.globalAlpha = 1;
  context.drawImage(bitmaps.fused, 0, 0);
  context.globalAlpha = part / 100;
  if (part) context.drawImage(bitmaps[side], 0, 0);
}

function report(message) {
  status = message.status;
  latencies = latencies.concat(message.latencies).slice(-SHOWN);
  tell();
  if (!paused) numbers();
}

function numbers() {
  const last = latencies.length ? latencies[latencies.length - 1] : null;
  $("latency").textContent = fixed(last, 1) || "\u2013";
  $("deadline").textContent = Number.isFinite(status.deadline_ms) ? `deadline ${fixed(status.deadline_ms, 0)} ms` : "";
  for (const { value, read, bad } of rows) {
    const found = read(status);
    value.firstChild.data = known(found) ? found : "\u2013";
    value.className = bad && found > 0 ? "bad" : "";
  }
  for (const kind of ["infrared", "visible"])
    $(kind + "-rate").textContent = fixed((status[kind] || {}).fps, 1) ? fixed(status[kind].fps, 1) + " fps" : "";
  $("fused-rate").textContent = fixed(status.fps, 1) ? fixed(status.fps, 1) + " fps" : "";
  chart();
}

// Text is set only when it changes: a screen reader would otherwise read it out again and again.
function say(id, text, mood) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
  element.className = "state " + mood;
}

function tell() {
  const age = performance.now() - drawnAt, stale = !(age < STALE_MS);
  $("main").classList.toggle("stale", !paused && (stale || !connected));
  if (refusal) say("connection", refusal + "; trying again", "bad");
  else if (!connected) say("connection", "no connection; trying again", "bad");
  else if (paused) say("connection", "paused", "warn");
  else if (stale) say("connection", "no frames", "bad");
  else say("connection", "live", "good");
  for (const kind of ["infrared", "visible"]) {
    const state = connected && (status[kind] || {}).state;
    const mood = state === "streaming" ? "good" : state === "reconnecting" ? "warn" : state ? "bad" : "";
    say(kind + "-state", `${kind} ${state || "unknown"}`, mood);
  }
}

function chart() {
  const canvas = $("chart"), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d"), deadline = status.deadline_ms;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const top = Math.max(1, ...latencies.filter(Number.isFinite), Number.isFinite(deadline) ? deadline * 1.3 : 0) * 1.08;
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((s) => top / s <= 4) || 10000;
  const left = 38, y = (value) => height - 4 - (height - 12) * value / top;
  context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let value = 0; value < top; value += step) {
    context.fillStyle = "#252d3a";
    context.fillRect(left, Math.round(y(value)), width - left, 1);
    context.fillStyle = "#97a3b4";
    context.fillText(value, left - 8, Math.min(y(value), height - 7));
  }
  const slots = Math.max(FEWEST, latencies.length), slot = (width - left) / slots, first = slots - latencies.length;
  latencies.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    context.fillStyle = value > deadline ? "#ff6b6b" : "#4cc9f0";
    context.fillRect(left + (first + i) * slot, y(value), Math.max(slot * 0.8, 1), y(0) - y(value));
  });
  if (Number.isFinite(deadline)) {
    context.strokeStyle = "#f7b955";
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(left, y(deadline));
    context.lineTo(width, y(deadline));
    context.stroke();
    context.setLineDash([]);
  }
}

const rows = COUNTERS.map(([label, read, unit, bad]) => {
  const box = document.createElement("div"), name = document.createElement("dt"), value = document.createElement("dd");
  name.textContent = label;
  value.append("\u2013", Object.assign(document.createElement("small"), { className: "quiet", textContent: unit && " " + unit }));
  box.append(name, value);
  $("counters").append(box);
  return { value, read, bad };
});

$("blend").addEventListener("input", blend);
for (const button of document.querySelectorAll("[data-blend]"))
  button.addEventListener("click", () => { $("blend").value = button.dataset.blend; blend(); });
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  if (!paused && socket.resume) socket.resume();
  tell();
});
window.addEventListener("resize", chart);
setInterval(tell, 250);
blend();
connect();
