// State that all charts use: the data, the time shown, and the moment of the line and the pictures.

const data = JSON.parse(document.getElementById("data").textContent);
const view = { from: data.begin, to: data.end, at: data.begin };
const drawers = [];
const movers = [];

/** Call `draw` now, and again when the time shown or the width changes. */
function onView(draw) {
  drawers.push(draw);
  draw();
}

/** Call `move` when the moment changes. */
function onMoment(move) {
  movers.push(move);
}

function show(from, to) {
  const least = (data.end - data.begin) / 5000;
  view.from = Math.max(data.begin, Math.min(from, to - least));
  view.to = Math.min(data.end, Math.max(to, view.from + least));
  for (const draw of drawers) draw();
}

function moveTo(seconds) {
  view.at = Math.max(data.begin, Math.min(data.end, seconds));
  for (const move of movers) move();
}

/** Decode base64 of little-endian numbers into a typed array, which copies them so that they are aligned. */
function numbers(text, Type) {
  return new Type(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

/** Decode a series of series.py: least, mean and most of each span, NaN where there is nothing. */
function unpack(packed) {
  const scale = (packed.high - packed.low) / 65534;
  const read = (text) => Float64Array.from(numbers(text, Uint16Array), (n) => (n === 65535 ? NaN : packed.low + n * scale));
  const mean = read(packed.mean);
  return { mean, least: packed.least ? read(packed.least) : mean, most: packed.most ? read(packed.most) : mean };
}

const spans = numbers(data.spans, Float32Array);

/** Return the numbers of the spans that a time range touches: [first, after). */
function spansOf(from, to) {
  const after = (seconds) => {
    let low = 0;
    let high = spans.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (spans[middle] <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return [Math.max(0, after(from) - 1), Math.min(spans.length, after(to) + 1)];
}

/**
 * Merge a series over the time shown so that each column of pixels has one entry: {x, mean, least, most}. A time without
 * any set has two entries without values, at its ends.
 */
function columns(series, x, pixels) {
  const [first, after] = spansOf(view.from, view.to);
  const step = Math.max(1, Math.ceil((after - first) / pixels));
  const found = [];
  let gap = data.gaps.findIndex((one) => middle(one) >= spans[first]);
  for (let i = first; i < after; i += step) {
    let sum = 0;
    let count = 0;
    let least = Infinity;
    let most = -Infinity;
    const end = Math.min(i + step, after);
    for (let j = i; j < end; j++) {
      if (Number.isNaN(series.mean[j])) continue;
      sum += series.mean[j];
      count += 1;
      if (series.least[j] < least) least = series.least[j];
      if (series.most[j] > most) most = series.most[j];
    }
    const mean = count ? sum / count : NaN;
    found.push({ x: x(spans[i]), mean, least: count ? least : NaN, most: count ? most : NaN });
    // Gaps are compared by their middles, because the times of spans are rounded.
    for (; gap >= 0 && gap < data.gaps.length && end < spans.length && middle(data.gaps[gap]) < spans[end]; gap++) {
      for (const edge of data.gaps[gap]) found.push({ x: x(edge), mean: NaN, least: NaN, most: NaN });
    }
  }
  return found;
}

function middle([from, to]) {
  return (from + to) / 2;
}

function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${((tenths - minutes * 600) / 10).toFixed(1).padStart(4, "0")}`;
}

function figure(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 0.1 || size === 0 ? value.toFixed(2) : value.toPrecision(2);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Return an entry of a legend: a stroke or a block of the colour, and its words. */
function legendEntry(classes, words, block = false) {
  const mark = block
    ? shape("rect", { class: "bar", x: 2, y: 1, width: 18, height: 10, rx: 2 })
    : shape("path", { class: `line ${classes}`, d: "M1 6H21" });
  return element("span", {}, shape("svg", { class: classes, viewBox: "0 0 22 12", "aria-hidden": "true" }, mark), words);
}
