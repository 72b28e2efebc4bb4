// Draw everything on the page.

function drawWaits() {
  const { bins, width_ms: wide, counts, deadline_ms: deadline } = data.waits;
  const holder = document.getElementById("wait-chart");
  const [width, height] = [720, 150];
  const most = Math.max(...counts);
  const end = bins * wide;
  const x = (ms) => LEFT + (ms / end) * (width - LEFT - RIGHT);
  const svg = shape("svg", { role: "img", "aria-label": "How long sets waited", viewBox: `0 0 ${width} ${height + 34}` });
  counts.forEach((count, i) => {
    const tall = (count / most) * (height - 6);
    const at = { x: x(i * wide) + 0.5, y: height - tall, width: Math.max(1, x(wide) - x(0) - 1), height: tall };
    const words = `${figure(i * wide)} to ${figure((i + 1) * wide)} ms: ${count} sets`;
    svg.append(shape("rect", { class: "bar c1", ...at }, shape("title", {}, words)));
  });
  svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: height, y2: height }));
  for (const ms of ticks(0, end, 8, [1, 2, 2.5, 5])) svg.append(shape("text", { x: x(ms), y: height + 15, "text-anchor": "middle" }, `${+ms.toPrecision(3)}`));
  svg.append(shape("text", { x: (LEFT + width) / 2, y: height + 30, "text-anchor": "middle" }, "ms from the reference's arrival until the set went out"));
  svg.append(shape("text", { x: LEFT - 6, y: 10, "text-anchor": "end" }, `${most}`));
  svg.append(shape("text", { x: LEFT - 6, y: 23, "text-anchor": "end" }, "sets"));
  if (deadline < end) {
    svg.append(shape("line", { class: "rule", x1: x(deadline), x2: x(deadline), y1: 0, y2: height }));
    svg.append(shape("text", { x: x(deadline) - 4, y: 10, "text-anchor": "end" }, "longest wait allowed"));
  }
  holder.append(svg);
}

function rangeControls() {
  const from = document.getElementById("from");
  const to = document.getElementById("to");
  const digits = data.end - data.begin < 100 ? 2 : 1;
  onView(() => {
    from.value = view.from.toFixed(digits);
    to.value = view.to.toFixed(digits);
  });
  const apply = () => {
    if (from.value !== "" && to.value !== "") show(Number(from.value), Number(to.value));
  };
  from.addEventListener("change", apply);
  to.addEventListener("change", apply);
  document.getElementById("range").addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  document.getElementById("whole").addEventListener("click", () => show(data.begin, data.end));
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    show(view.from, view.to);
  });
}

rangeControls();
drawAvailability();
drawErrors();
drawVectors();
drawLatent();
drawAttention();
drawTrust();
drawWaits();
await drawPictures();
document.documentElement.dataset.ready = "true";
