// The points of the latent, coloured as chosen.

function drawLatent() {
  const { latent } = data;
  const holder = document.getElementById("latent-chart");
  const legend = document.getElementById("latent-legend");
  const controls = document.getElementById("latent-controls");
  const threshold = document.getElementById("threshold");
  const SIZE = { width: 720, height: 460 };
  const svg = shape("svg", { role: "img", viewBox: `0 0 ${SIZE.width} ${SIZE.height}` });
  const points = latent.seconds.map((seconds, i) => {
    const point = shape("circle", { r: 3 });
    point.append(shape("title", {}, `${clock(seconds)}, ${latent.subsets[latent.subset[i]] || "nothing"}`));
    point.addEventListener("click", () => moveTo(seconds));
    return point;
  });
  const current = shape("circle", { class: "now", r: 7 });
  svg.append(...points, current);
  holder.append(svg);
  const known = latent.newtons.some((value) => value !== null);
  threshold.value = latent.contact_newtons;
  controls.querySelector("[value=contact]").disabled = !known;
  controls.querySelector("[value=tsne]").disabled = !latent.tsne;
  if (known) controls.querySelector("[value=contact]").checked = true;
  const chosen = (name) => controls.querySelector(`[name=${name}]:checked`).value;
  let places = [];

  const arrange = () => {
    const { x, y } = latent[chosen("projection")];
    const fit = (values, size) => {
      const least = Math.min(...values);
      const range = Math.max(...values) - least || 1;
      return values.map((value) => 12 + ((value - least) / range) * (size - 24));
    };
    const [across, down] = [fit(x, SIZE.width), fit(y, SIZE.height)];
    places = across.map((left, i) => [left, SIZE.height - down[i]]);
    points.forEach((point, i) => {
      point.setAttribute("cx", places[i][0].toFixed(1));
      point.setAttribute("cy", places[i][1].toFixed(1));
    });
    follow();
  };

  const follow = () => {
    let nearest = 0;
    latent.seconds.forEach((s, i) => {
      if (Math.abs(s - view.at) < Math.abs(latent.seconds[nearest] - view.at)) nearest = i;
    });
    current.setAttribute("cx", places[nearest][0]);
    current.setAttribute("cy", places[nearest][1]);
  };

  const colour = () => {
    const by = chosen("colour");
    document.getElementById("threshold-label").hidden = by !== "contact";
    const entries = { contact: byContact, time: byTime, subset: bySubset }[by](points, latent, Number(threshold.value));
    legend.replaceChildren(...entries);
    const projection = chosen("projection") === "pca" ? "principal components" : "t-SNE";
    svg.setAttribute("aria-label", `${points.length} latent means by ${projection}: ${legend.textContent}`);
  };

  controls.addEventListener("change", () => {
    arrange();
    colour();
  });
  threshold.addEventListener("input", colour);
  onMoment(follow);
  arrange();
  colour();
}

function paint(points, classOf) {
  const counts = {};
  points.forEach((point, i) => {
    const name = classOf(i);
    point.removeAttribute("style");
    point.setAttribute("class", name);
    counts[name] = (counts[name] ?? 0) + 1;
  });
  return counts;
}

function byContact(points, { newtons }, threshold) {
  const counts = paint(points, (i) => (newtons[i] === null ? "c6" : newtons[i] > threshold ? "c0" : "c1"));
  const entries = [
    legendEntry("c0", `contact: force above ${threshold} N (${counts.c0 ?? 0})`, true),
    legendEntry("c1", `free (${counts.c1 ?? 0})`, true),
  ];
  return counts.c6 ? [...entries, legendEntry("c6", `unknown (${counts.c6})`, true)] : entries;
}

function byTime(points, { seconds }) {
  const last = seconds[seconds.length - 1] - seconds[0] || 1;
  points.forEach((point, i) => {
    const place = (5 * (seconds[i] - seconds[0])) / last;
    const low = Math.min(4, Math.floor(place));
    point.setAttribute("class", "timed");
    point.setAttribute("style", `color: color-mix(in srgb, var(--t${low + 1}) ${Math.round(100 * (place - low))}%, var(--t${low}))`);
  });
  return [element("span", {}, clock(seconds[0]), element("span", { class: "ramp" }), clock(seconds[seconds.length - 1]))];
}

/** The six most frequent sets have a colour each, the others share the last. */
function bySubset(points, { subset, subsets }) {
  const counts = paint(points, (i) => `c${Math.min(subset[i], 6)}`);
  const named = subsets.slice(0, 6).map((name, i) => legendEntry(`c${i}`, `${name.replaceAll("+", " + ") || "nothing"} (${counts[`c${i}`] ?? 0})`, true));
  return subsets.length > 6 ? [...named, legendEntry("c6", `other sets (${counts.c6 ?? 0})`, true)] : named;
}
