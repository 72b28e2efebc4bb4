// Recorded pictures beside predicted ones: a scrubber for one moment, and a film of several.

const FILM = 8;

function drawPictures() {
  const { pictures } = data;
  if (!pictures) return;
  const sheets = new Map();
  const scrubber = document.getElementById("scrubber");
  const moment = document.getElementById("moment");
  const cells = [];
  let index = 0;

  /** Return a canvas that shows one moment of one sheet. */
  const cell = (strip, uri, name, words, fixed = null) => {
    const canvas = element("canvas", { width: strip.width, height: strip.height, role: "img" });
    const paint = () => {
      const k = fixed ?? index;
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, strip.width, strip.height);
      const there = words(k);
      canvas.setAttribute("aria-label", `${strip.name} ${name} at ${clock(pictures.seconds[k])}${there ? "" : ": nothing"}`);
      if (!there) return;
      const [x, y] = [(k % pictures.columns) * strip.width, Math.floor(k / pictures.columns) * strip.height];
      context.drawImage(sheets.get(uri), x, y, strip.width, strip.height, 0, 0, strip.width, strip.height);
    };
    cells.push(paint);
    return canvas;
  };
  const load = (uri) => {
    if (!sheets.has(uri)) sheets.set(uri, Object.assign(new Image(), { src: uri }));
    return uri;
  };

  for (const strip of pictures.strips) {
    for (const uri of [strip.seen, ...Object.values(strip.predicted), ...Object.values(strip.uncertainty)]) load(uri);
    const seen = (k) => strip.recorded[k];
    const row = element("div", { class: "compare", style: `--n:${pictures.shown.length + 1}` });
    row.append(element("figure", {}, element("figcaption", {}, `${strip.name} recorded`), cell(strip, strip.seen, "recorded", seen)));
    for (const { key, title, used } of pictures.shown) {
      const predicted = (k) => used[k] !== "";
      const from = element("small");
      cells.push(() => (from.textContent = used[index].replaceAll("+", " + ") || "nothing was left"));
      const both = [cell(strip, strip.predicted[key], title, predicted), cell(strip, strip.uncertainty[key], `uncertainty ${title}`, predicted)];
      row.append(element("figure", {}, element("figcaption", {}, title, from), ...both));
    }
    document.getElementById(`compare-${strip.name}`).append(row);
    document.getElementById(`film-${strip.name}`).append(film(strip, cell));
  }

  const moveScrubber = () => {
    scrubber.value = index;
    const words = `${clock(pictures.seconds[index])} (${index + 1} of ${pictures.seconds.length})`;
    scrubber.setAttribute("aria-valuetext", words);
    moment.textContent = words;
    for (const paint of cells) paint();
    for (const button of document.querySelectorAll(".film button")) button.setAttribute("aria-pressed", Number(button.dataset.moment) === index);
  };
  const nearest = () => {
    index = pictures.seconds.reduce((best, s, i) => (Math.abs(s - view.at) < Math.abs(pictures.seconds[best] - view.at) ? i : best), 0);
    moveScrubber();
  };
  const step = (by) => moveTo(pictures.seconds[Math.max(0, Math.min(pictures.seconds.length - 1, index + by))]);

  scrubber.max = pictures.seconds.length - 1;
  scrubber.addEventListener("input", () => moveTo(pictures.seconds[Number(scrubber.value)]));
  document.getElementById("before").addEventListener("click", () => step(-1));
  document.getElementById("after").addEventListener("click", () => step(1));
  document.getElementById("pictures-body").addEventListener("click", (event) => {
    const button = event.target.closest("[data-moment]");
    if (button) moveTo(pictures.seconds[Number(button.dataset.moment)]);
  });
  return Promise.all([...sheets.values()].map((image) => image.decode())).then(() => {
    onMoment(nearest);
    moveTo(pictures.seconds[Math.floor(pictures.seconds.length / 2)]);
    document.documentElement.dataset.pictures = "shown";
  });
}

/** Return several moments side by side: recorded, and below them predicted. */
function film(strip, cell) {
  const { seconds, shown } = data.pictures;
  const count = Math.min(FILM, seconds.length);
  const chosen = [...new Set(Array.from({ length: count }, (_, i) => Math.round((i * (seconds.length - 1)) / Math.max(1, count - 1))))];
  const grid = element("div", { class: "film", style: `--n:${chosen.length}` });
  const row = (title, uri, there) => {
    grid.append(element("span", { class: "row" }, title));
    for (const k of chosen) {
      const words = `${strip.name} ${title} at ${clock(seconds[k])}`;
      grid.append(element("button", { type: "button", "data-moment": k, "aria-pressed": "false", "aria-label": words }, cell(strip, uri, title, there, k)));
    }
  };
  grid.append(element("span"), ...chosen.map((k) => element("span", { class: "when" }, clock(seconds[k]))));
  row(`${strip.name} recorded`, strip.seen, (k) => strip.recorded[k]);
  for (const { key, title, used } of shown) row(title, strip.predicted[key], (k) => used[k] !== "");
  return grid;
}
