// Charts over time: lines with bands, bars of availability, stacked shares. Drag to zoom, click to move the line.

const LEFT = 46;
const RIGHT = 8;
const BOTTOM = 20;

/**
 * Draw a chart over time.
 *
 * @param {HTMLElement} holder figure that the chart fills.
 * @param {string} label accessible name.
 * @param {number} height
 * @param {(plot: object) => void} draw gets {svg, x, width, height}: a place to draw, seconds to pixels, the plot's size.
 */
function timeChart(holder, label, height, draw) {
  const svg = shape("svg", { role: "img", "aria-label": label });
  holder.append(svg);
  const cursor = shape("line", { class: "cursor", y1: 0, y2: height });
  let place = () => 0;
  let width = 0;

  const redraw = () => {
    width = Math.max(280, holder.clientWidth || 900);
    const inner = width - LEFT - RIGHT;
    place = (seconds) => LEFT + ((seconds - view.from) / (view.to - view.from)) * inner;
    svg.setAttribute("viewBox", `0 0 ${width} ${height + BOTTOM}`);
    const clip = `clip-${holder.id}`;
    const body = shape("g", { "clip-path": `url(#${clip})` });
    svg.replaceChildren(
      shape("clipPath", { id: clip }, shape("rect", { x: LEFT, y: 0, width: inner, height })),
      shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: height, y2: height }),
    );
    for (const seconds of ticks(view.from, view.to, Math.max(2, Math.floor(inner / 90)))) {
      const x = place(seconds);
      svg.append(
        shape("line", { class: "grid", x1: x, x2: x, y1: height, y2: height + 4 }),
        shape("text", { x, y: height + 15, "text-anchor": x > width - 30 ? "end" : "middle" }, timeLabel(seconds)),
      );
    }
    draw({ svg, body, x: place, left: LEFT, right: width - RIGHT, pixels: inner, height });
    svg.append(body);
    for (const jump of data.jumps) body.append(shape("line", { class: "jump", x1: place(jump), x2: place(jump), y1: 0, y2: height }));
    body.append(cursor);
    moveCursor();
  };
  const moveCursor = () => {
    cursor.setAttribute("x1", place(view.at));
    cursor.setAttribute("x2", place(view.at));
  };
  onView(redraw);
  onMoment(moveCursor);
  zoomable(svg, () => width, height);
}

function zoomable(svg, width, height) {
  const secondsAt = (event) => {
    const box = svg.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * width() - LEFT) / (width() - LEFT - RIGHT);
    return view.from + Math.max(0, Math.min(1, share)) * (view.to - view.from);
  };
  const brush = shape("rect", { class: "brush", y: 0, height });
  let start = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType === "touch") return;
    start = { x: event.clientX, seconds: secondsAt(event) };
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!start || Math.abs(event.clientX - start.x) < 4) return;
    const across = (seconds) => LEFT + ((seconds - view.from) / (view.to - view.from)) * (width() - LEFT - RIGHT);
    const [a, b] = [start.seconds, secondsAt(event)].map(across).sort((p, q) => p - q);
    brush.setAttribute("x", a);
    brush.setAttribute("width", b - a);
    svg.append(brush);
  });
  svg.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [from, to] = [start.seconds, secondsAt(event)].sort((a, b) => a - b);
    const dragged = Math.abs(event.clientX - start.x) >= 4;
    start = null;
    brush.remove();
    if (dragged) show(from, to);
    else moveTo(to);
  });
  svg.addEventListener("pointercancel", () => {
    start = null;
    brush.remove();
  });
  svg.addEventListener("click", (event) => {
    if (event.pointerType === "touch") moveTo(secondsAt(event));
  });
}

/** Return round numbers between two values, at most `most` steps apart. */
function ticks(from, to, most, steps = [1, 2, 5]) {
  const rough = (to - from) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = steps.map((s) => s * power).find((s) => s >= rough) ?? 10 * power;
  if (steps.length === 3 && step >= 20 && most < 40 && to - from > 120) step = [15, 30, 60, 120, 300, 600, 900, 1800, 3600].find((s) => s >= rough) ?? 7200;
  const found = [];
  for (let value = Math.ceil(from / step - 1e-9) * step; value <= to + step * 1e-9; value += step) found.push(value);
  return found;
}

function timeLabel(seconds) {
  if (view.to - view.from < 4) return `${seconds.toFixed(2)} s`;
  if (view.to < 120) return `${+seconds.toFixed(1)} s`;
  return clock(seconds).replace(/\.0$/, "");
}

/** Draw lines and bands; `y` maps values to pixels. Each of `lines` is {series, classes, factor}. */
function drawLines(plot, lines, y) {
  for (const { series, classes, factor = 1 } of lines) {
    const found = columns(series, plot.x, plot.pixels);
    if (found.some((c) => c.most > c.least)) {
      for (const run of runs(found)) {
        const top = run.map((c) => `${c.x.toFixed(1)} ${y(c.most * factor).toFixed(1)}`);
        const low = run.map((c) => `${c.x.toFixed(1)} ${y(c.least * factor).toFixed(1)}`).reverse();
        plot.body.append(shape("path", { class: `band ${classes}`, d: `M${[...top, ...low].join("L")}Z` }));
      }
    }
    const paths = runs(found).map((run) => {
      const points = run.map((c) => `${c.x.toFixed(1)} ${y(c.mean * factor).toFixed(1)}`);
      return points.length > 1 ? `M${points.join("L")}` : `M${points[0]}h1`;
    });
    plot.body.append(shape("path", { class: `line ${classes}`, d: paths.join("") }));
  }
}

/** Split entries into stretches without NaN. */
function runs(found) {
  const all = [];
  let run = [];
  for (const entry of found) {
    if (Number.isNaN(entry.mean)) {
      if (run.length) all.push(run);
      run = [];
    } else run.push(entry);
  }
  if (run.length) all.push(run);
  return all;
}

function yAxis(plot, values, y, format = figure) {
  for (const value of values) {
    const at = y(value);
    plot.svg.append(
      shape("line", { class: "grid", x1: plot.left, x2: plot.right, y1: at, y2: at }),
      shape("text", { x: plot.left - 6, y: at + 4, "text-anchor": "end" }, format(value)),
    );
  }
}

/** Shade the times at which a modality was not in the set. */
function shadeAbsence(plot, name) {
  const found = columns(available[name], plot.x, plot.pixels);
  let start = null;
  for (let i = 0; i <= found.length; i++) {
    const out = i < found.length && found[i].mean < 0.5;
    if (out && start === null) start = found[i].x;
    if (out || start === null) continue;
    const end = i < found.length ? found[i].x : plot.right;
    plot.body.append(shape("rect", { class: "shade", x: start, y: 0, width: Math.max(0.7, end - start), height: plot.height }));
    start = null;
  }
}

const available = Object.fromEntries(data.modalities.map(({ name, present }) => [name, unpack(present)]));
const colourOf = Object.fromEntries(data.modalities.map(({ name }, i) => [name, `c${i % 7}`]));
