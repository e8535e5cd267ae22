// Boxes, points and polygons drawn over an image of an open record, each label in a colour of its own. A drawing has the
// image's own coordinates, and is laid over it as the image is fitted into its pane, so that both keep to the same place.

const UNNAMED = "object";  // what a region without a label is called
const regionLabel = (region) => (region.label == null ? UNNAMED : String(region.label));

/** The labels of a record's regions, in the order of the alphabet. */
function labelsOf(record) {
  return [...new Set(answersOf(record).flatMap((answer) => (answer.regions ?? []).map(regionLabel)))].sort(collator.compare);
}

/** Every label of the page -> its colour: hues as far apart as the golden angle puts them. */
const LABEL_COLOURS = new Map([...new Set(records.flatMap(labelsOf))].sort(collator.compare)
  .map((label, place) => [label, `hsl(${Math.round(place * 137.5) % 360} 85% 48%)`]));

/** An element in the colour of a label. Set on the element itself: the page's policy refuses styles in attributes. */
function inColourOf(label, element) {
  element.style.setProperty("--label", LABEL_COLOURS.get(label));
  return element;
}

/** The drawing over one image, and a button for each of its labels that shows and hides it; null where there is nothing. */
function drawRegions(record, place) {
  const size = record.answers.map((answer) => answer?.sizes?.[place]).find((known) => known?.[0] > 0 && known?.[1] > 0);
  const found = record.answers.flatMap((answer, run) => (answer?.regions ?? [])
    .filter((region) => (region.image ?? 0) === place).map((region) => ({ region, run })));
  if (!size || !found.length) return null;
  const [width, height] = size, unit = Math.max(width, height) / 100;
  const groups = new Map();
  for (const { region, run } of found) {
    const label = regionLabel(region);
    if (!groups.has(label)) groups.set(label, inColourOf(label, svg("g", { class: "region" })));
    groups.get(label).append(...shapesOf(region, run, unit));
  }
  const labels = [...groups.keys()].sort(collator.compare);
  const buttons = labels.map((label) => {
    const button = el("button", {
      type: "button", class: "label", "aria-pressed": "true", dir: "auto", title: `Show or hide ${label}`,
      click: () => {
        const isShown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(isShown));
        groups.get(label).setAttribute("visibility", isShown ? "visible" : "hidden");
      },
    }, label);
    return inColourOf(label, button);
  });
  const drawing = svg("svg", {
    class: "regions", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${found.length} ${found.length === 1 ? "region" : "regions"}: ${labels.join(", ")}`,
  }, ...groups.values());
  return { drawing, buttons };
}

/** The outline of a region and its label beside it. Of two runs, B's outlines are dashed. */
function shapesOf(region, run, unit) {
  const kind = comparing ? `outline run-${run}` : "outline";
  const name = regionLabel(region) + (region.confidence == null ? "" : ` ${readable(region.confidence)}`);
  const shapes = [];
  let corner = null;
  if (region.box) {
    const [x0, y0, x1, y1] = region.box;
    corner = [x0, y0];
    shapes.push(svg("rect", { class: kind, x: x0, y: y0, width: x1 - x0, height: y1 - y0 }));
  } else if (region.polygon) {
    corner = region.polygon[0];
    shapes.push(svg("polygon", { class: kind, points: region.polygon.map(([x, y]) => `${x},${y}`).join(" ") }));
  } else if (region.point) {
    corner = region.point;
    shapes.push(svg("circle", { class: `${kind} point`, cx: corner[0], cy: corner[1], r: unit }));
  }
  if (!corner) return [];
  // Above its corner, or below where that is the image's edge.
  const y = corner[1] < 4 * unit ? corner[1] + 3 * unit : corner[1] - unit;
  return [...shapes, svg("text", { x: corner[0] + 0.4 * unit, y, "font-size": 2.6 * unit, "stroke-width": 0.6 * unit }, name)];
}
