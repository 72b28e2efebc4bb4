// Trust of the modalities over time: one lane each, with the times of distrust and of faults that were put on the bag.

function drawTrust() {
  const holder = document.getElementById("trust-chart");
  if (!holder) return;
  const row = 58;
  const lanes = data.trust.map((lane) => ({ ...lane, series: unpack(lane.trust) }));
  const words = lanes.map((lane) => `${lane.name} ${lane.words}`).join(", ");
  timeChart(holder, `Trust over time: ${words}`, row * lanes.length, (plot) => {
    const span = (from, to, rest) => {
      const x = plot.x(from);
      plot.body.append(shape("rect", { x, width: Math.max(1, plot.x(to) - x), ...rest }));
    };
    lanes.forEach(({ name, series, distrusted, faults }, i) => {
      const top = i * row + 4;
      const height = row - 18;
      const y = (value) => top + height * (1 - value);
      plot.svg.append(shape("text", { x: plot.left - 6, y: top + height / 2 + 4, "text-anchor": "end" }, short(name)));
      span(view.from, view.to, { class: "track", y: top, height });
      for (const [from, to] of distrusted) span(from, to, { class: "shade", y: top, height });
      plot.body.append(shape("line", { class: "rule", x1: plot.left, x2: plot.right, y1: y(0.5), y2: y(0.5) }));
      drawLines(plot, [{ series, classes: `${colourOf[name]} thick` }], y);
      for (const [from, to] of faults) span(from, Math.min(to ?? data.end, data.end), { class: "bar ink", y: top + height + 2, height: 4 });
    });
  });
  const legend = document.getElementById("trust-legend");
  legend.append(legendEntry("ink thick", "trust, from 0 to 1 in each lane"), legendEntry("quiet", "distrusted", true));
  legend.querySelectorAll("svg")[1].querySelector("rect").setAttribute("class", "shade");
  if (lanes.some(({ faults }) => faults.length)) legend.append(legendEntry("ink", "a fault was put on the bag", true));
}
