// Which answers to trust: whether confidences are true, and how many answers are right from a threshold on. Figures are of
// whole runs; the records that are shown are those of this page.

const hasConfidence = records.some((record) => answersOf(record).some((answer) => answer.confidence != null));
const hasTruth = data.truth != null;
const SIDE = 200;  // height of a drawing, in its own units
const WIDE = 400;  // width of the one with the threshold
const percent = (share) => (share == null ? "–" : `${measure.format(100 * share)}\u00a0%`);
const between = ([, low, high]) => (low == null ? "" : ` (95 % interval ${measure.format(100 * low)} to ${measure.format(100 * high)})`);

/** Draws what can be drawn; returns a function that shows which side of the threshold is filtered. */
function drawTrust(container, filterBy) {
  const known = data.runs.map((run, place) => ({ place, trust: run.trust })).filter(({ trust }) => trust?.curve);
  container.hidden = !known.length;
  if (!known.length) return () => {};
  const threshold = drawThreshold(known, filterBy);
  container.append(reliability(known), threshold.figure);
  return threshold.refresh;
}

/** A place on the vertical axis, which goes from 0 below to 1. */
const up = (share) => SIDE * (1 - share);

/** An area whose axes both go from 0 to 1, the origin below on the left. */
function area(label, width, ...children) {
  const lines = [0.25, 0.5, 0.75].flatMap((share) => [
    svg("line", { class: "grid", x1: width * share, x2: width * share, y1: 0, y2: SIDE }),
    svg("line", { class: "grid", y1: up(share), y2: up(share), x1: 0, x2: width }),
  ]);
  return svg("svg", { viewBox: `-8 -8 ${width + 16} ${SIDE + 16}`, role: "img", "aria-label": label }, ...lines,
    svg("rect", { class: "edge", x: 0, y: 0, width, height: SIDE }), ...children,
    ...[[11, "100 % right"], [SIDE - 5, "0 %"]].map(([y, text]) => said(svg("text", { class: "scale", x: 5, y }), text)));
}

function said(element, text) {
  element.textContent = text;
  return element;
}

/** For answers of about the same confidence: how many of them are right. On the diagonal the confidence is true. */
function reliability(known) {
  const drawing = area("Reliability: share of right answers by confidence", SIDE,
    svg("line", { class: "diagonal", x1: 0, y1: SIDE, x2: SIDE, y2: 0 }),
    ...known.flatMap(({ place, trust }) => trust.bins.map(([low, high, confidence, right]) => {
      const [value, from, to, n] = right, x = SIDE * confidence;
      return svg("g", { class: `bin run-${place}` },
        svg("title", null, `${comparing ? `${NAMES[place]}: ` : ""}confidence ${measure.format(low)} to ${measure.format(high)}: ${percent(value)} of ${readable(n)} right${between(right)}`),
        svg("line", { x1: x, x2: x, y1: up(from ?? value), y2: up(to ?? value) }),
        svg("circle", { cx: x, cy: up(value), r: 3 + 4 * Math.sqrt(n / trust.n) }));
    })));
  return el("figure", { class: "reliability" },
    el("figcaption", null, el("strong", null, "Reliability"),
      ...known.map(({ place, trust }) => el("span", { class: `stats run-${place}` },
        `${comparing ? `${NAMES[place]} ` : ""}calibration error ${trust.error == null ? "–" : measure.format(trust.error)}`))),
    drawing, ends("confidence 0", "1"));
}

const ends = (low, high) => el("p", { class: "ends", "aria-hidden": "true" }, el("span", null, low), el("span", null, high));

/** Accuracy against coverage, and a threshold that is dragged along it. */
function drawThreshold(known, filterBy) {
  // Every confidence that can be a threshold, the highest first: the curves begin with the fewest answers.
  const steps = [...new Set(known.flatMap(({ trust }) => trust.curve.map(([threshold]) => threshold)))].sort((a, b) => b - a);
  const slider = el("input", { type: "range", id: "threshold", min: 0, max: steps.length - 1, step: 1, "aria-label": "Threshold of confidence" });
  slider.value = String(steps.length - 1);
  const markers = known.map(({ place }) => svg("circle", { class: `marker run-${place}`, r: 5 }));
  const drawing = area("Share of right answers among the most confident ones, by how many these are", WIDE,
    ...known.map(({ place, trust }) => svg("polyline", {
      class: `curve run-${place}`,
      points: trust.curve.map(([, [value, , , n]]) => `${(WIDE * n) / trust.n},${up(value)}`).join(" "),
    })), ...markers);
  const figures = el("output", { id: "threshold-said", for: "threshold" });
  const sides = [["below", "Show those below, to check"], ["from", "Show those from it on"]].map(([side, label]) =>
    el("button", { type: "button", "data-side": side, "aria-pressed": "false", click: () => {
      filterBy(view.filters.threshold === side ? null : side);
    } }, label));
  /** The last row of a curve that is at least as confident; null where no answer is. */
  const rowAt = (trust) => trust.curve.filter(([threshold]) => threshold >= view.threshold).pop() ?? null;
  function show() {
    view.threshold = steps[Number(slider.value)];
    slider.setAttribute("aria-valuetext", `confidence ${measure.format(view.threshold)}`);
    figures.replaceChildren(...known.map(({ place, trust }, index) => {
      const row = rowAt(trust), marker = markers[index];
      const [value, , , n] = row?.[1] ?? [null, null, null, 0];
      marker.setAttribute("cx", (WIDE * n) / trust.n);
      marker.setAttribute("cy", up(value ?? 1));
      return el("span", { class: `stats run-${place}` }, `${comparing ? `${NAMES[place]} ` : ""}confidence from ${view.threshold.toPrecision(4)}: ${readable(n)} of ${readable(trust.n)} answers (${percent(n / trust.n)}), ${percent(value)} of them right${row ? between(row[1]) : ""}`);
    }));
    if (view.filters.threshold != null) filterBy(view.filters.threshold);
  }
  slider.addEventListener("input", show);
  // A drag on the drawing is one of the slider: the place is the share of answers.
  drawing.addEventListener("pointerdown", (event) => { drawing.setPointerCapture(event.pointerId); drag(event); });
  drawing.addEventListener("pointermove", (event) => { if (drawing.hasPointerCapture(event.pointerId)) drag(event); });
  function drag(event) {
    const { left, width } = drawing.querySelector(".edge").getBoundingClientRect(), { trust } = known[0];
    const wanted = ((event.clientX - left) / width) * trust.n;
    const [nearest] = [...trust.curve].sort((a, b) => Math.abs(a[1][3] - wanted) - Math.abs(b[1][3] - wanted));
    slider.value = String(steps.indexOf(nearest[0]));
    show();
  }
  const figure = el("figure", { class: "coverage" },
    el("figcaption", null, el("strong", null, "Right answers from a threshold on"),
      ...known.map(({ place, trust }) => el("span", { class: `stats run-${place}` }, `${comparing ? `${NAMES[place]} ` : ""}AUROC ${trust.auroc == null ? "–" : measure.format(trust.auroc)}`))),
    drawing, ends("the most confident", "all answers"), slider, figures, el("div", { class: "sides" }, ...sides));
  show();
  return {
    figure,
    refresh: () => sides.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.side === view.filters.threshold))),
  };
}
