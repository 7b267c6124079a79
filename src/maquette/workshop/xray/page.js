"use strict";
// Draws an area for each module (squarified: Bruls et al. 2000), zooms into them, and finds them by name.

const root = JSON.parse(document.getElementById("data").textContent);
const map = document.getElementById("map"), about = document.getElementById("about"), trail = document.getElementById("trail");
const measure = document.getElementById("measure"), search = document.getElementById("search"), found = document.getElementById("found");
const MEASURES = {parameters: "parameters", active: "active parameters", flops: "work (FLOP)", kept: "memory kept for the backward pass", moved: "bytes read and written"};
const LEVELS = 7, HEAD = 19, GAP = 2;
let shown = root;

function element(parent, name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return parent.appendChild(made);
}

function scaled(value, base, units) {
  let place = 0;
  while (Math.abs(value) >= base && place < units.length - 1) { value /= base; place += 1; }
  return `${place ? value.toPrecision(Math.abs(value) >= 1000 ? 4 : 3) : Math.round(value)} ${units[place]}`.trim();
}
const count = value => scaled(value, 1000, ["", "k", "M", "G", "T", "P", "E"]);
const bytes = value => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
const shape = shapes => shapes.map(each => each.join(" × ") || "one number").join(", ");

function prepare(node, parent, hue) {
  node.parent = parent;
  node.hue = hue;
  node.parts.forEach((part, place) => prepare(part, node, parent ? hue + (place - (node.parts.length - 1) / 2) * 31 : 205 + place * 67));
}

// Lays areas out in rows whose tiles are as square as they can be.
function squarify(items, x, y, width, height) {
  const whole = items.reduce((sum, item) => sum + item.size, 0), placed = [];
  if (!whole || width <= 0 || height <= 0) return placed;
  const scale = width * height / whole, waiting = items.map(item => ({...item, area: item.size * scale})).sort((a, b) => b.area - a.area);
  const worst = (row, side) => {
    const sum = row.reduce((total, each) => total + each.area, 0);
    return Math.max(...row.map(each => Math.max(side * side * each.area / (sum * sum), sum * sum / (side * side * each.area))));
  };
  while (waiting.length) {
    const side = Math.min(width, height), row = [waiting.shift()];
    while (waiting.length && worst([...row, waiting[0]], side) <= worst(row, side)) row.push(waiting.shift());
    const sum = row.reduce((total, each) => total + each.area, 0), thick = sum / side;
    let along = 0;
    for (const each of row) {
      const long = each.area / thick;
      placed.push(width >= height ? {...each, x, y: y + along, width: thick, height: long} : {...each, x: x + along, y, width: long, height: thick});
      along += long;
    }
    if (width >= height) { x += thick; width -= thick; } else { y += thick; height -= thick; }
  }
  return placed;
}

function label(node) {
  return node.alike > 1 ? `${node.name} (${node.alike} alike)` : node.name;
}

function draw() {
  map.replaceChildren();
  place(shown, 0, 0, map.clientWidth, map.clientHeight, 0);
  trail.replaceChildren();
  const way = [];
  for (let node = shown; node; node = node.parent) way.unshift(node);
  way.forEach((node, number) => {
    if (number) trail.append(" › ");
    const button = element(trail, "button", {type: "button"}, label(node));
    button.disabled = node === shown;
    button.addEventListener("click", () => zoom(node));
  });
  tell(shown);
  mark();
}

function place(node, x, y, width, height, level) {
  if (width < 3 || height < 3) return;
  const isLeaf = !node.parts.length || level === LEVELS;
  const tile = element(map, "button", {type: "button", class: `tile${node.parts.length ? "" : " leaf"}`, "data-path": node.path, "aria-label": `${label(node)}, ${node.kind}`});
  tile.node = node;
  Object.assign(tile.style, {left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px`, background: `hsl(${node.hue} ${level ? 45 : 12}% calc(var(--light) - ${level * 2}%))`});
  if (width > 34 && height > 14) {
    tile.style.lineHeight = `${HEAD - 3}px`;
    tile.style.verticalAlign = "top";
    tile.textContent = label(node);
    if (width > 150) element(tile, "small", {}, `${node.kind} · ${describe(node)}`);
  }
  tile.style.display = "flex";
  tile.style.alignItems = "flex-start";
  tile.addEventListener("mouseenter", () => tell(node));
  tile.addEventListener("focus", () => tell(node));
  tile.addEventListener("click", () => node.parts.length && node !== shown ? zoom(node) : tell(node));
  if (isLeaf) return;
  const inside = node.parts.map(part => ({node: part, size: part[measure.value]})).filter(item => item.size > 0);
  const top = height > HEAD + 12 ? HEAD : 2;
  for (const each of squarify(inside, x + GAP, y + top, width - 2 * GAP, height - top - GAP)) place(each.node, each.x, each.y, each.width - 1, each.height - 1, level + 1);
}

function describe(node) {
  const value = node[measure.value];
  return measure.value === "kept" || measure.value === "moved" ? bytes(value) : count(value);
}

function tell(node) {
  about.replaceChildren();
  const title = element(about, "div");
  element(title, "b", {}, node.path || node.name);
  title.append(` ${node.kind}${node.alike > 1 ? `, ${node.alike} alike, told together` : ""}${node.note ? `: ${node.note}` : ""}`);
  const active = node.active === node.parameters ? "" : `, ${count(node.active)} active`;
  const tied = node.tied ? `, ${count(node.tied)} tied to others` : "";
  element(about, "div", {}, `${count(node.parameters)} parameters${active}${tied} · ${count(node.flops)} FLOP (${(100 * node.flops / (root.flops || 1)).toFixed(1)} %) · keeps ${bytes(node.kept)} · moves ${bytes(node.moved)}`);
  if (node.takes.length || node.gives.length) element(about, "div", {class: "shape"}, `${shape(node.takes)} → ${shape(node.gives)}`);
  for (const weight of node.weights.slice(0, 8)) element(about, "div", {class: "shape"}, `${weight.name}: ${weight.shape.join(" × ") || "one number"} ${weight.dtype}${weight.tied_to ? `, which is ${weight.tied_to}` : ""}${weight.kind === "buffer" ? ", a buffer" : ""}`);
}

function zoom(node) {
  shown = node;
  draw();
}

// Marks the tiles whose name or class has what is searched; those that only hold some stay visible.
function mark() {
  const wanted = search.value.trim().toLowerCase();
  const matches = node => `${node.path} ${node.kind}`.toLowerCase().includes(wanted);
  const holds = node => matches(node) || node.parts.some(holds);
  map.classList.toggle("searching", wanted !== "");
  for (const tile of map.children) {
    tile.classList.toggle("hit", wanted !== "" && matches(tile.node) && (tile.node.name + tile.node.kind).toLowerCase().includes(wanted.split(".").at(-1)));
    tile.classList.toggle("holds", wanted !== "" && holds(tile.node));
  }
  let total = 0;
  const walk = node => { total += matches(node); node.parts.forEach(walk); };
  walk(root);
  found.textContent = wanted ? `${total} in the tree` : "";
}

prepare(root, null, 210);
for (const [name, text] of Object.entries(MEASURES)) if (root[name] > 0) element(measure, "option", {value: name}, text);
measure.addEventListener("change", draw);
search.addEventListener("input", mark);
document.addEventListener("keydown", event => { if (event.key === "Escape" && shown.parent) zoom(shown.parent); });
new ResizeObserver(draw).observe(map);
