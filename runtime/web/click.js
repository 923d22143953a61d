"use strict";
// Pixel coordinates are OpenCV's: the centre of the first pixel is (0, 0), so x ranges from -0.5 to width - 0.5.

const KINDS = ["infrared", "visible"];
const LENS_PX = 156, ZOOM = 6; // size of the magnifier in CSS pixels, and CSS pixels per image pixel
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const $ = (id) => document.getElementById(id);
const colour = (i) => `hsl(${(i * 137.5 + 190) % 360} 90% 68%)`;
const token = new URLSearchParams(location.search).get("token");
if (token) history.replaceState(null, "", location.pathname); // from now on the cookie carries it

let pairs = []; // {infrared: [x, y] or undefined, visible: the same}; only the last may lack one
let past = []; // the state before each change, as JSON
let sizes = {}, minimum = 2, fitted = {}, fitting = 0, over = false;

const isWhole = (pair) => pair.infrared && pair.visible;
const whole = () => pairs.filter(isWhole).map((pair) => [...pair.infrared, ...pair.visible]);
const last = () => pairs[pairs.length - 1];
const remember = () => past.push(JSON.stringify(pairs));

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function inside(kind, [x, y]) {
  const clamp = (value, size) => Math.round(Math.min(Math.max(value, -0.5), size - 0.5) * 100) / 100;
  return [clamp(x, sizes[kind][0]), clamp(y, sizes[kind][1])];
}

function pointAt(kind, event) {
  const box = $(kind).getBoundingClientRect(), [width, height] = sizes[kind];
  return inside(kind, [(event.clientX - box.left) / box.width * width - 0.5, (event.clientY - box.top) / box.height * height - 0.5]);
}

// The magnifier: what is under the point, enlarged, beside the finger.
function look(kind, point, i) {
  const lens = $(kind).lens, context = lens.getContext("2d"), box = $(kind).getBoundingClientRect();
  const [width, height] = sizes[kind], ratio = window.devicePixelRatio || 1, half = LENS_PX / 2;
  const x = (point[0] + 0.5) / width * box.width, y = (point[1] + 0.5) / height * box.height;
  lens.hidden = false;
  lens.style.left = Math.min(Math.max(x - half, 0), box.width - LENS_PX) + "px";
  lens.style.top = (y > LENS_PX + 30 ? y - LENS_PX - 30 : y + 40) + "px";
  lens.width = lens.height = Math.round(LENS_PX * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage($(kind).querySelector("img"), half - (point[0] + 0.5) * ZOOM, half - (point[1] + 0.5) * ZOOM, width * ZOOM, height * ZOOM);
  context.strokeStyle = colour(i);
  context.lineWidth = 1.5;
  context.beginPath();
  for (const [dx, dy] of Object.values(ARROWS)) {
    context.moveTo(half + dx * 6, half + dy * 6);
    context.lineTo(half + dx * 30, half + dy * 30);
  }
  context.stroke();
  $(kind + "-at").textContent = point.map((value) => value.toFixed(1)).join(", ");
}

function hide(kind) {
  $(kind).lens.hidden = true;
  $(kind + "-at").textContent = sizes[kind].join("\u00d7");
}

function press(kind, down) {
  if (over || down.button) return;
  const view = $(kind), marker = down.target.closest(".marker"), i = marker ? Number(marker.dataset.i) : nextIndex();
  const start = pointAt(kind, down), held = marker ? pairs[i][kind] : start; // a marker is rarely grabbed at its centre
  const at = (event) => inside(kind, pointAt(kind, event).map((value, axis) => value - start[axis] + held[axis]));
  const move = (event) => {
    look(kind, at(event), i);
    if (marker) put(marker, kind, at(event));
  };
  const end = (event) => {
    view.removeEventListener("pointermove", move);
    view.removeEventListener("pointerup", end);
    view.removeEventListener("pointercancel", end);
    hide(kind);
    if (event.type === "pointercancel") return show();
    remember();
    if (i === pairs.length) pairs.push({});
    pairs[i][kind] = at(event);
    change([kind, i]);
  };
  down.preventDefault();
  view.setPointerCapture(down.pointerId);
  view.addEventListener("pointermove", move);
  view.addEventListener("pointerup", end);
  view.addEventListener("pointercancel", end);
  look(kind, held, i);
}

const nextIndex = () => (pairs.length && !isWhole(last()) ? pairs.length - 1 : pairs.length);

function key(kind, i, event) {
  if (over) return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = event.shiftKey ? 0.1 : 1;
    remember();
    pairs[i][kind] = inside(kind, pairs[i][kind].map((value, axis) => value + arrow[axis] * step));
    change([kind, i]);
    look(kind, pairs[i][kind], i);
  } else if (event.key === "Delete" || event.key === "Backspace") remove(i);
  else return;
  event.preventDefault();
}

function remove(i) {
  remember();
  pairs.splice(i, 1);
  change();
}

function change(focus) {
  fitted = {};
  show();
  if (focus) document.querySelector(`#${focus[0]} .marker[data-i="${focus[1]}"]`).focus({ preventScroll: true });
  fit();
}

async function fit() {
  const points = whole(), mine = ++fitting;
  let found = { problem: "" };
  if (points.length >= minimum)
    try { found = await post("fit", { points }); } catch (error) { return say(error.message); }
  if (mine !== fitting) return; // the points have changed meanwhile
  fitted = found;
  $("fit").textContent = found.problem !== undefined ? found.problem
    : found.rms_px === null ? `${found.model}: error unknown, since the fit needs all pairs; add more`
    : `${found.model}: error ${found.rms_px.toFixed(2)} px RMS`;
  list();
}

function put(marker, kind, [x, y]) {
  marker.style.left = (x + 0.5) / sizes[kind][0] * 100 + "%";
  marker.style.top = (y + 0.5) / sizes[kind][1] * 100 + "%";
}

function show() {
  for (const kind of KINDS) {
    for (const old of $(kind).querySelectorAll(".marker")) old.remove();
    pairs.forEach((pair, i) => {
      if (!pair[kind]) return;
      const marker = document.createElement("button");
      marker.type = "button";
      marker.className = "marker";
      marker.dataset.i = i;
      marker.setAttribute("aria-label", `${kind} point of pair ${i + 1}`);
      marker.innerHTML = `<svg viewBox="-15 -15 30 30" fill="none"><g stroke="#000" stroke-width="4">${CROSS}</g>
        <g stroke="${colour(i)}" stroke-width="2">${CROSS}</g><text x="9" y="-8">${i + 1}</text></svg>`;
      marker.addEventListener("keydown", (event) => key(kind, i, event));
      marker.addEventListener("blur", () => hide(kind));
      put(marker, kind, pair[kind]);
      $(kind).append(marker);
    });
  }
  list();
}

const CROSS = '<circle r="7"/><path d="M-13 0H-4M4 0H13M0 -13V-4M0 4V13"/>';

function list() {
  const format = (point) => (point ? point.map((value) => value.toFixed(1)).join(", ") : "\u2013");
  $("rows").replaceChildren(...pairs.map((pair, i) => {
    const row = document.createElement("tr"), swatch = document.createElement("span"), button = document.createElement("button");
    swatch.className = "swatch";
    swatch.style.background = colour(i);
    button.type = "button";
    button.textContent = "\u00d7";
    button.setAttribute("aria-label", `delete pair ${i + 1}`);
    button.addEventListener("click", () => remove(i));
    const known = fitted.errors_px && i < fitted.errors_px.length;
    const error = known ? fitted.errors_px[i].toFixed(2) + " px" : "\u2013";
    for (const parts of [[swatch, i + 1], [format(pair.infrared)], [format(pair.visible)], [error], [button]]) {
      const cell = document.createElement("td");
      cell.append(...parts);
      if (known && !fitted.used[i]) cell.className = "bad"; // this pair contradicts the others
      row.append(cell);
    }
    return row;
  }));
  const count = whole().length, open = pairs.length && !isWhole(last()) ? last() : null;
  const wanted = open ? (open.infrared ? "visible" : "infrared") : null;
  for (const kind of KINDS) $(kind + "-figure").classList.toggle("next", kind === wanted);
  if (wanted) say(`pair ${pairs.length}: now the same point in the ${wanted} image`);
  else say(`pair ${pairs.length + 1}: click a point in either image`);
  $("save").disabled = over || count < minimum || Boolean(open);
  $("undo").disabled = over || !past.length;
}

function say(text) {
  if (!over && $("hint").textContent !== text) $("hint").textContent = text;
}

async function end(path, body, text) {
  try { await post(path, body); } catch (error) { return say(error.message); }
  say(text);
  over = true;
  for (const button of document.querySelectorAll("button")) button.disabled = true;
}

$("undo").addEventListener("click", () => { pairs = JSON.parse(past.pop()); change(); });
$("save").addEventListener("click", () => end("save", { points: whole() }, `saved ${whole().length} pairs; you can close this page`));
$("cancel").addEventListener("click", () => end("cancel", {}, "cancelled; you can close this page"));

for (const kind of KINDS) {
  const view = $(kind);
  view.lens = Object.assign(document.createElement("canvas"), { className: "lens", hidden: true });
  view.lens.setAttribute("aria-hidden", "true");
  view.append(view.lens);
  view.addEventListener("pointerdown", (event) => press(kind, event));
  view.addEventListener("pointermove", (event) => {
    if (!over && event.pointerType === "mouse" && !event.buttons && sizes[kind])
      look(kind, pointAt(kind, event), event.target.closest(".marker") ? Number(event.target.closest(".marker").dataset.i) : nextIndex());
  });
  view.addEventListener("pointerleave", (event) => { if (!event.buttons && sizes[kind]) hide(kind); });
}

fetch("start").then((response) => response.json()).then((start) => {
  minimum = start.minimum;
  KINDS.forEach((kind, i) => { sizes[kind] = start.sizes[i]; hide(kind); });
  pairs = start.points.map(([a, b, c, d]) => ({ infrared: [a, b], visible: [c, d] }));
  change();
}).catch(() => say("no connection; reload the page"));
