// Brings the parts together: what a key, a click and the address do.

document.documentElement.classList.toggle("two-runs", comparing);
const showPlots = drawPlots(byId("plots"));
drawSummary(byId("summary"));
const address = keepAddress((record) => {
  if (record) open(record, { entry: false });
  else if (detail.isOpen()) detail.close();
});
view.gallery = address.galleryNamed();
updateView();

const detail = drawDetail({
  onStep: (by) => step(by),
  onClose: () => {
    address.closed();
    if (view.filters.mark != null) toolbar.refresh();  // what was marked meanwhile may fit no longer
    if (list.active()) list.activate(list.active());
  },
});
const list = drawList((record) => open(record));
let showTrust = () => {};
const toolbar = drawToolbar(() => {
  list.refresh();
  showPlots(view.shown);
  showTrust();
  if (address.galleryNamed() !== view.gallery) address.viewed(null);
});
showTrust = drawTrust(byId("trust"), (side) => toolbar.filterBy("threshold", side));
drawMarksMenu(() => list.refresh());
marks.listen((record) => {
  if (detail.isOpen()) detail.refreshMark();
  if (record) list.redraw(record);
  else list.refresh();
});

function open(record, { entry = true } = {}) {
  const wasOpen = detail.isOpen();
  list.activate(record, { focus: false });
  detail.open(record);
  if (!entry) return;
  if (wasOpen) address.stepped(record);
  else address.opened(record);
}

/** Goes by so many records from the active one; from none, to the first or last that is shown. */
function step(by) {
  const place = view.shown.indexOf(list.active());
  const next = view.shown[place < 0 ? (by > 0 ? 0 : view.shown.length - 1) : place + by];
  if (!next) return;
  if (detail.isOpen()) open(next);
  else list.activate(next);
}

list.heads.addEventListener("click", (event) => {
  const key = event.target.closest("button")?.dataset.sort;
  if (key) toolbar.sortBy(key);
});

const active = () => (detail.isOpen() ? detail.record() : list.active());
const mark = (kind) => { if (active()) toggleMark(active(), kind); };

const KEYS = {
  j: () => step(1), k: () => step(-1),
  g: () => mark("good"), b: () => mark("bad"),
};
const LIST_KEYS = {
  ArrowDown: () => step(list.across()), ArrowUp: () => step(-list.across()),
  ArrowRight: () => view.gallery && step(1), ArrowLeft: () => view.gallery && step(-1),
  "/": () => byId("search").focus(),
  v: () => toolbar.setGallery(!view.gallery),
  n: () => {
    if (!list.active()) return;
    open(list.active());
    detail.focusNote();
  },
};
const RECORD_KEYS = {
  ArrowRight: () => step(1), ArrowLeft: () => step(-1),
  m: () => detail.toggleMarkdown(),
  n: () => detail.focusNote(),
};

const isTyping = (element) => element.matches("input, select, textarea");

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key, target } = event;
  if (isTyping(target)) {
    if (key !== "Escape") return;
    target.blur();  // Esc leaves a field before it closes the record
    if (detail.isOpen()) {
      byId("detail").querySelector(".content").focus({ preventScroll: true });
      event.preventDefault();
    }
    return;
  }
  const own = detail.isOpen() ? RECORD_KEYS : LIST_KEYS;
  const does = Object.hasOwn(own, key) ? own[key] : Object.hasOwn(KEYS, key) ? KEYS[key] : null;
  if (does) does();
  else if (detail.isOpen() && /^[1-9]$/.test(key)) detail.showImage(Number(key) - 1);
  else if (key === "Enter" && target === document.body && list.active()) open(list.active());
  else return;
  event.preventDefault();
});

// The head of the list sticks below the toolbar, however many lines that takes.
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--toolbar", `${byId("toolbar").offsetHeight}px`);
}).observe(byId("toolbar"));

list.refresh();

// Thumbnails are at the file's end: the first rows are on the screen before they are read.
document.addEventListener("DOMContentLoaded", () => {
  list.refresh();
  const record = address.recordNamed() ?? (detail.isOpen() ? detail.record() : null);
  if (record) open(record, { entry: false });
  document.documentElement.dataset.ready = "true";
});
