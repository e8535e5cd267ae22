// How tokens are distributed: small histograms. Of two runs, A is above the line and B below.

const MOST_BINS = 40;
const PLOT = { width: 400, height: 56 };
const WIDEST = 14;  // of a bar: few values make no wall

const MEASURES = [
  { key: "output", label: "Tokens of the answer", unit: "tokens" },
  { key: "input", label: "Tokens of the prompt", unit: "tokens" },
  { key: "confidence", label: "Confidence", unit: "" },
];

/** Draws a plot for each measure that varies; returns a function that shows which records are in view. */
function drawPlots(container) {
  const plots = MEASURES.map(plot).filter((one) => one !== null);
  container.hidden = !plots.length;
  container.append(...plots.map((one) => one.figure));
  return (shown) => plots.forEach((one) => one.update(shown));
}

function valuesOf(some, place, key) {
  return some.map((record) => record.answers[place]?.[key]).filter((value) => value != null);
}

function plot({ key, label, unit }) {
  const all = data.runs.map((run, place) => valuesOf(records, place, key).sort((a, b) => a - b));
  const low = Math.min(...all.map((values) => values[0] ?? Infinity));
  const high = Math.max(...all.map((values) => values[values.length - 1] ?? -Infinity));
  if (!(high > low)) return null;
  const whole = all.every((values) => values.every(Number.isInteger));
  const step = whole ? Math.ceil((high - low + 1) / MOST_BINS) : (high - low) / MOST_BINS;
  const bins = whole ? Math.ceil((high - low + 1) / step) : MOST_BINS;
  const counted = (values) => {
    const counts = new Array(bins).fill(0);
    for (const value of values) counts[Math.min(bins - 1, Math.floor((value - low) / step))]++;
    return counts;
  };
  const counts = all.map(counted);
  const most = Math.max(...counts.flat());
  const range = (bin) => {
    const from = low + bin * step, to = whole ? from + step - 1 : from + step;
    return from === to ? readable(from) : `${readable(from)} to ${readable(to)}`;
  };
  const front = [];
  const height = PLOT.height * data.runs.length;
  const drawing = svg("svg", {
    viewBox: `0 0 ${PLOT.width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${label}: ${all.map((values, place) => spoken(values, place)).join("; ")}`,
    class: comparing ? "mirrored" : null,
  });
  counts.forEach((run, place) => {
    const width = PLOT.width / bins;
    front[place] = run.map((number, bin) => {
      const wide = Math.min(width * 0.88, WIDEST);
      const shape = (kind) => svg("rect", { class: `${kind} run-${place}`, x: (bin + 0.5) * width - wide / 2, width: wide });
      const back = shape("back"), bar = shape("front");
      size(back, number, most, place);
      const title = `${comparing ? `${NAMES[place]}: ` : ""}${range(bin)} ${unit}: ${readable(number)} records`;
      drawing.append(svg("g", null, svg("title", null, title), back, bar));
      return bar;
    });
  });
  drawing.append(svg("line", { x1: 0, x2: PLOT.width, y1: PLOT.height, y2: PLOT.height, class: "axis" }));
  const figure = el("figure", null,
    el("figcaption", null, el("strong", null, label),
      ...all.map((values, place) => el("span", { class: `stats run-${place}` }, spoken(values, place)))),
    drawing,
    el("p", { class: "ends", "aria-hidden": "true" }, el("span", null, readable(low)), el("span", null, `${readable(high)} ${unit}`)));
  const update = (shown) => front.forEach((bars, place) => {
    const now = counted(valuesOf(shown, place, key));
    bars.forEach((bar, bin) => size(bar, now[bin], most, place));
  });
  update(records);
  return { figure, update };
}

/** Gives a bar its height: one record is still to be seen beside a thousand. */
function size(bar, number, most, place) {
  const height = number ? Math.max(1.5, (number / most) * (PLOT.height - 2)) : 0;
  bar.setAttribute("height", height);
  bar.setAttribute("y", place ? PLOT.height : PLOT.height - height);
}

function spoken(values, place) {
  const name = comparing ? `${NAMES[place]} ` : "";
  if (!values.length) return `${name}none`;
  const at = (share) => readable(values[Math.min(values.length - 1, Math.floor(share * values.length))]);
  return `${name}median ${at(0.5)} · 95 % ≤ ${at(0.95)} · max ${readable(values[values.length - 1])}`;
}
