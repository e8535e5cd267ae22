// Brings the parts together: what a key, a click and the address do.

document.documentElement.classList.toggle("two-runs", comparing);
const showPlots = drawPlots(byId("plots"));
drawSummary(byId("summary"));
updateView();

const detail = drawDetail({
  onStep: (by) => step(by),
  onClose: () => {
    address(null);
    if (list.active()) list.activate(list.active());
  },
});
const list = drawList(open);
const toolbar = drawToolbar(() => {
  list.refresh();
  showPlots(view.shown);
});

function open(record) {
  list.activate(record, { focus: false });
  detail.open(record);
  address(record);
}

/** Goes by so many records from the active one; from none, to the first or last that is shown. */
function step(by) {
  const place = view.shown.indexOf(list.active());
  const next = view.shown[place < 0 ? (by > 0 ? 0 : view.shown.length - 1) : place + by];
  if (!next) return;
  if (detail.isOpen()) open(next);
  else list.activate(next);
}

/** Puts the open record into the address, so that it can be bookmarked. */
function address(record) {
  const hash = record ? `#record=${encodeURIComponent(record.id)}` : "";
  try {
    history.replaceState(null, "", hash || location.pathname + location.search);
  } catch { /* some browsers refuse this to files; the page does without */ }
}

list.heads.addEventListener("click", (event) => {
  const key = event.target.closest("button")?.dataset.sort;
  if (key) toolbar.sortBy(key);
});

const isTyping = (element) => element.matches("input, select, textarea");

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  else if (event.key === "/" && !detail.isOpen()) byId("search").focus();
  else return;
  event.preventDefault();
});

// The head of the list sticks below the toolbar, however many lines that takes.
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--toolbar", `${byId("toolbar").offsetHeight}px`);
}).observe(byId("toolbar"));

list.refresh();

// Thumbnails stand at the file's end: the first rows are on the screen before they are read.
document.addEventListener("DOMContentLoaded", () => {
  list.refresh();
  const named = new URLSearchParams(location.hash.slice(1)).get("record");
  const record = named === null ? null : records.find((one) => one.id === named);
  if (record) open(record);
  document.documentElement.dataset.ready = "true";
});
