"use strict";
// Draws the charts: lines over steps, a linear or logarithmic axis, and the values under the pointer or the arrow keys.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 230, LEFT = 56, RIGHT = 14, TOP = 14, BOTTOM = 28;
const MOST_DOTS = 40; // a line of more points is drawn without a dot at each

function element(parent, name, attributes = {}, text = "") {
  const made = parent.namespaceURI === SVG || name === "svg"
    ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return parent.appendChild(made);
}

function show(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9 || size >= 1000 && size < 1e9) return Math.round(value).toLocaleString("en");
  return size >= 1e-4 && size < 1e9 ? String(Number(value.toPrecision(4))) : value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
}

// Numbers of the form 1, 2 or 5 times a power of ten, between two values.
function linearTicks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(each => each * power >= rough) * power;
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({length: last - first + 1}, (_, place) => Number(((first + place) * step).toPrecision(12)));
}

function logTicks(low, high) {
  const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high)), every = Math.ceil((to - from) / 5);
  const factors = to - from > 3 ? [1] : to - from > 1 ? [1, 3] : [1, 2, 3, 5, 7];
  const ticks = [];
  for (let power = from; power <= to; power += every) for (const factor of factors) ticks.push(Number((factor * 10 ** power).toPrecision(3)));
  const inside = ticks.filter(tick => tick >= low && tick <= high);
  return inside.length > 1 ? inside : linearTicks(low, high, 3);
}

class Chart {
  constructor(figure, {title, about, lines}) {
    this.about = about;
    this.lines = lines.map(({label, x, y}) => ({label, x, y: y.map(Number)}));
    this.steps = [...new Set(this.lines.flatMap(line => line.x))].sort((a, b) => a - b);
    const values = this.lines.flatMap(line => line.y).filter(Number.isFinite);
    this.button = element(figure.querySelector("figcaption"), "button", {type: "button", "aria-pressed": "false", "aria-label": `Logarithmic axis for ${title}`}, "log");
    this.button.disabled = !values.some(value => value > 0);
    this.button.addEventListener("click", () => this.toggle());
    this.plot = figure.querySelector(".plot");
    this.legend = document.createElement("div");
    this.legend.className = "legend";
    this.plot.before(this.legend);
    this.log = false;
    this.read(null);
    new ResizeObserver(() => this.draw()).observe(this.plot);
    this.draw();
  }

  toggle() {
    this.log = !this.log;
    this.button.setAttribute("aria-pressed", this.log);
    this.width = 0;
    this.draw();
  }

  shows(value) { return Number.isFinite(value) && (!this.log || value > 0); }

  scale() {
    const values = this.lines.flatMap(line => line.y).filter(value => this.shows(value)).map(value => this.log ? Math.log10(value) : value);
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    if (low > high) [low, high] = [0, 1];
    const room = high > low ? (high - low) * 0.06 : this.log ? 1 : Math.abs(high) * 0.1 || 1;
    const [least, most] = this.log ? [-307, 308] : [low >= 0 ? 0 : -8e307, 8e307]; // what is beyond is infinite
    [low, high] = [Math.max(least, low - room), Math.min(most, high + room)];
    const [start, end] = [this.steps[0], this.steps.at(-1)], span = end - start || 1;
    const inner = this.width - LEFT - RIGHT, tall = HEIGHT - TOP - BOTTOM;
    this.x = step => LEFT + (end > start ? (step - start) / span : 0.5) * inner;
    this.y = value => TOP + (1 - ((this.log ? Math.log10(value) : value) - low) / (high - low)) * tall;
    this.ticks = this.log ? logTicks(10 ** low, 10 ** high) : linearTicks(low, high, 5);
    this.stepTicks = end > start ? linearTicks(start, end, Math.max(2, Math.min(8, inner / 70))).filter(Number.isInteger) : [start];
  }

  draw() {
    const width = Math.max(240, Math.round(this.plot.clientWidth));
    if (!this.plot.clientWidth || width === this.width) return;
    this.width = width;
    this.scale();
    this.plot.replaceChildren();
    this.svg = element(this.plot, "svg", {viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: 0, "aria-label": this.about});
    for (const tick of this.ticks) {
      const y = this.y(tick).toFixed(1);
      element(this.svg, "line", {class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y});
      element(this.svg, "text", {class: "tick", x: LEFT - 8, y: Number(y) + 4, "text-anchor": "end"}, Math.abs(tick) >= 1e6 ? tick.toExponential().replace("e+", "e") : show(tick));
    }
    for (const tick of this.stepTicks)
      element(this.svg, "text", {class: "tick", x: this.x(tick).toFixed(1), y: HEIGHT - 8, "text-anchor": tick === this.steps.at(-1) && this.steps.length > 1 ? "end" : "middle"}, show(tick));
    this.lines.forEach((line, place) => this.drawLine(line, place));
    this.cursor = element(this.svg, "g");
    this.svg.addEventListener("pointermove", event => this.point(event));
    this.svg.addEventListener("pointerdown", event => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.read(null));
    this.svg.addEventListener("blur", () => this.read(null));
    this.svg.addEventListener("keydown", event => this.press(event));
  }

  // A line is cut where a value is no number; a piece of one point is a dot.
  drawLine({x, y}, place) {
    const color = `line${place % 4}`;
    let path = "", dots = [], crosses = "";
    y.forEach((value, at) => {
      const across = this.x(x[at]).toFixed(1);
      if (this.shows(value)) {
        const joined = at && this.shows(y[at - 1]);
        path += `${joined ? "L" : "M"}${across} ${this.y(value).toFixed(1)}`;
        if (y.length <= MOST_DOTS || !joined && !this.shows(y[at + 1])) dots.push([across, this.y(value).toFixed(1)]);
      } else if (!Number.isFinite(value)) {
        const down = value === -Infinity ? HEIGHT - BOTTOM : TOP;
        crosses += `M${across - 4} ${down - 4}l8 8m0 -8l-8 8`;
      }
    });
    element(this.svg, "path", {class: `curve ${color}`, d: path});
    for (const [cx, cy] of dots) element(this.svg, "circle", {class: color, cx, cy, r: 2.5});
    if (crosses) element(this.svg, "path", {class: `cross ${color}`, d: crosses});
  }

  point(event) {
    const box = this.svg.getBoundingClientRect(), across = (event.clientX - box.left) / box.width * this.width;
    const distance = step => Math.abs(this.x(step) - across);
    this.read(this.steps.reduce((best, step, place) => distance(step) < distance(this.steps[best]) ? place : best, 0));
  }

  press(event) {
    const last = this.steps.length - 1, at = this.at ?? last;
    const to = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.read(Math.max(0, Math.min(last, to)));
  }

  // Write the values at a step, or nearest to it, beside the names of the lines; the last ones where none is pointed at.
  read(place) {
    this.at = place;
    const step = this.steps[place ?? this.steps.length - 1];
    const nearest = this.lines.map(line => line.x.reduce((best, each, at) => Math.abs(each - step) < Math.abs(line.x[best] - step) ? at : best, 0));
    this.legend.replaceChildren();
    element(this.legend, "span", {}, `step ${show(step)} `);
    this.lines.forEach((line, order) => {
      const at = nearest[order], part = element(this.legend, "span");
      element(part, "span", {class: `key line${order % 4}`});
      part.append(`${line.label} `);
      element(part, "b", {}, show(line.y[at]));
      part.append(line.x[at] === step ? " " : ` at ${show(line.x[at])} `);
    });
    this.legend.setAttribute("aria-live", place === null ? "off" : "polite");
    if (this.cursor) this.mark(place === null ? null : step, nearest);
  }

  mark(step, nearest) {
    this.cursor.replaceChildren();
    if (step === null) return;
    const x = this.x(step).toFixed(1);
    element(this.cursor, "line", {class: "cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM});
    this.lines.forEach((line, order) => {
      const value = line.y[nearest[order]];
      if (this.shows(value)) element(this.cursor, "circle", {class: `line${order % 4}`, cx: this.x(line.x[nearest[order]]), cy: this.y(value), r: 4});
    });
  }
}

const charts = JSON.parse(document.getElementById("data").textContent);
document.querySelectorAll("figure.chart").forEach((figure, place) => new Chart(figure, charts[place]));
