// Availability, errors, values and attention of the modalities over time.

function drawAvailability() {
  const holder = document.getElementById("availability-chart");
  const row = 26;
  const words = data.modalities.map((m) => `${m.name} in ${m.share} of the sets`).join(", ");
  timeChart(holder, `Availability over time: ${words}`, row * data.modalities.length, (plot) => {
    data.modalities.forEach(({ name }, i) => {
      const top = i * row + 4;
      const height = row - 10;
      plot.svg.append(shape("text", { x: plot.left - 6, y: top + height / 2 + 4, "text-anchor": "end" }, short(name)));
      plot.body.append(shape("rect", { class: "track", x: plot.left, y: top, width: plot.pixels, height }));
      const found = columns(available[name], plot.x, plot.pixels);
      let start = 0;
      for (let k = 1; k <= found.length; k++) {
        if (k < found.length && level(found[k]) === level(found[start])) continue;
        const end = k < found.length ? found[k].x : plot.right;
        const part = level(found[start]);
        if (part > 0) {
          const at = { x: found[start].x, y: top + height * (1 - part), width: Math.max(0.7, end - found[start].x), height: height * part };
          plot.body.append(shape("rect", { class: `bar ${colourOf[name]}`, "data-modality": name, ...at }));
        }
        start = k;
      }
      for (const [from, to] of data.gaps) {
        const at = { x: plot.x(from), y: top, width: Math.max(0.7, plot.x(to) - plot.x(from)), height };
        plot.body.append(shape("rect", { class: "gap", ...at }), shape("rect", { class: "track", ...at }));
      }
    });
  });
}

function level({ mean }) {
  return mean > 0.999 ? 1 : mean > 0.001 ? 0.5 : 0;
}

function short(name) {
  return name.length > 7 ? `${name.slice(0, 6)}…` : name;
}

/** Add a panel with its title and, at the right, the values at the moment. */
function panel(parent, id, title) {
  const values = element("output");
  const holder = element("figure", { class: "chart", id }, element("figcaption", {}, title, values));
  parent.append(holder);
  return [holder, values];
}

/** Return the mean of the span at the moment. */
function now(series) {
  return series.mean[Math.max(0, spansOf(view.at, view.at)[0])];
}

function drawErrors() {
  const select = document.getElementById("compare");
  const parent = document.getElementById("errors-charts");
  const cache = {};
  const series = (name, key) => (cache[`${name} ${key}`] ??= unpack(data.errors[name].series[key]));
  for (const { name } of data.modalities) {
    const { trivial } = data.errors[name];
    const [holder, values] = panel(parent, `errors-${name}`, name);
    if (!trivial) {
      values.textContent = "–: not recorded, or never different from the training mean";
      continue;
    }
    const factor = 1 / trivial;
    const lines = () => [
      { series: series(name, select.value), classes: "quiet dashed", factor },
      { series: series(name, "set"), classes: colourOf[name], factor },
    ];
    timeChart(holder, `NMSE of ${name} over time`, 130, (plot) => {
      const shown = lines();
      const all = shown.flatMap((l) => columns(l.series, plot.x, plot.pixels)).map((c) => c.mean * factor).filter((v) => v > 0);
      const most = Math.log10(Math.max(1.5, ...all));
      const least = Math.max(-4, Math.log10(Math.min(0.5, ...all)));
      const y = (value) => 6 + ((most - Math.max(least, Math.log10(Math.max(value, 1e-9)))) / (most - least)) * (plot.height - 8);
      const powers = [0.001, 0.01, 0.1, 1, 10, 100].filter((v) => Math.log10(v) >= least && Math.log10(v) <= most);
      yAxis(plot, powers, y, (v) => `${+(v * 100).toPrecision(2)} %`);
      shadeAbsence(plot, name);
      plot.body.append(shape("line", { class: "rule", x1: plot.left, x2: plot.right, y1: y(1), y2: y(1) }));
      drawLines(plot, shown, y);
    });
    const tell = () => {
      const [other, came] = lines().map((l) => 100 * now(l.series) * factor);
      values.textContent = `at ${clock(view.at)}: ${figure(came)} % · ${figure(other)} %`;
    };
    onMoment(tell);
    select.addEventListener("change", tell);
    tell();
  }
  const legend = document.getElementById("errors-legend");
  const explain = () => {
    const chosen = select.selectedOptions[0].textContent;
    legend.replaceChildren(
      legendEntry("ink", "from the set as it came (in the modality's colour)"),
      legendEntry("quiet dashed", `from ${chosen}`),
      legendEntry("quiet", "the modality itself was not in the set", true),
      "100 %: as far off as the training mean; the scale is logarithmic",
    );
    legend.querySelectorAll("svg")[2].querySelector("rect").setAttribute("class", "shade");
  };
  select.addEventListener("change", () => {
    explain();
    show(view.from, view.to);
  });
  explain();
}

function drawVectors() {
  for (const vector of data.vectors) {
    const parent = document.getElementById(`values-${vector.name}`);
    document.getElementById(`legend-${vector.name}`).append(
      legendEntry("ink thick", "recorded"),
      legendEntry(colourOf[vector.name], "predicted from the set"),
      legendEntry("quiet dashed", `predicted from the set without ${vector.name}`),
    );
    for (const [i, channel] of vector.channels.entries()) {
      const lines = [
        { series: unpack(channel.seen), classes: "ink thick" },
        { series: unpack(channel.without), classes: "quiet dashed" },
        { series: unpack(channel.predicted), classes: colourOf[vector.name] },
      ];
      const [holder, values] = panel(parent, `values-${vector.name}-${i}`, channel.title);
      timeChart(holder, `${channel.title} over time, recorded and predicted`, 110, (plot) => {
        const found = lines.flatMap((l) => columns(l.series, plot.x, plot.pixels)).filter((c) => !Number.isNaN(c.mean));
        let least = Math.min(...found.map((c) => c.least));
        let most = Math.max(...found.map((c) => c.most));
        if (!(most > least)) [least, most] = found.length ? [least - 1, most + 1] : [-1, 1];
        const y = (value) => 5 + ((most - value) / (most - least)) * (plot.height - 10);
        yAxis(plot, ticks(least, most, 4, [1, 2, 2.5, 5]), y, (v) => `${+v.toPrecision(3)}`);
        shadeAbsence(plot, vector.name);
        drawLines(plot, lines, y);
      });
      const tell = () => {
        const [seen, without, predicted] = lines.map((l) => figure(now(l.series)));
        values.textContent = `at ${clock(view.at)}: ${seen} · ${predicted} · ${without}`;
      };
      onMoment(tell);
      tell();
    }
  }
}

function drawAttention() {
  const members = data.modalities.map(({ name, attention, attention_share }) => ({ name, attention, share: attention_share, colour: colourOf[name] }));
  if (data.attention_of_memory) members.push({ name: "memory", ...data.attention_of_memory, colour: `c${members.length % 7}` });
  const shares = members.map(({ colour, attention }) => ({ colour, series: unpack(attention) }));
  document.getElementById("attention-legend").append(...members.map(({ name, colour }) => legendEntry(colour, name, true)));
  const words = members.map((m) => `${m.name} ${m.share}`).join(", ");
  timeChart(document.getElementById("attention-chart"), `Attention over time; on average ${words}`, 160, (plot) => {
    const y = (value) => 4 + (1 - value) * (plot.height - 4);
    yAxis(plot, [0, 0.5, 1], y, (v) => `${100 * v} %`);
    const found = shares.map(({ series }) => columns(series, plot.x, plot.pixels).map((c) => ({ ...c, mean: c.mean || 0 })));
    const floor = found[0].map(() => 0);
    shares.forEach(({ colour }, i) => {
      const low = found[i].map((c, k) => `${c.x.toFixed(1)} ${y(floor[k]).toFixed(1)}`).reverse();
      const top = found[i].map((c, k) => `${c.x.toFixed(1)} ${y((floor[k] += c.mean)).toFixed(1)}`);
      plot.body.append(shape("path", { class: `bar ${colour}`, d: `M${[...top, ...low].join("L")}Z` }));
    });
  });
}
