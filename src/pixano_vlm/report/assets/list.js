// The records as a list or as a gallery: only what is on the screen exists, all of one height, so 10,000 cost what 20 do.

const AHEAD = { list: 6, gallery: 2 };  // lines of records drawn above and below the window

function drawList(open) {
  const table = byId("table"), body = byId("rows"), heads = byId("heads");
  const drawn = new Map();  // place in view.shown -> its row or tile
  let height = 0, across = 1, width = 0, active = null;
  table.classList.toggle("comparing", comparing);
  table.classList.toggle("one-question", oneQuestion);
  table.classList.toggle("with-confidence", hasConfidence);
  const headOf = new Map(COLUMNS.map((column) => [column.key, el("div", { role: "columnheader", class: column.kind },
    el("button", { type: "button", title: column.title, "data-sort": column.key }, column.label))]));
  heads.append(...headOf.values());

  function element(record, place) {
    const common = { "data-number": record.number, click: () => { if (getSelection().isCollapsed) open(record); } };
    const name = (kind) => (record === active ? `${kind} active` : kind);
    return view.gallery
      ? el("div", { ...common, role: "listitem", class: name("tile-record"), "aria-posinset": place + 1, "aria-setsize": view.shown.length }, ...tileParts(record))
      : el("div", { ...common, role: "row", class: name("row"), "aria-rowindex": place + 2 },
        ...COLUMNS.map((column) => el("div", { role: "cell", class: column.kind }, ...CELLS[column.kind](record, column))));
  }
  function draw() {
    const top = -body.getBoundingClientRect().top, ahead = view.gallery ? AHEAD.gallery : AHEAD.list;
    const from = Math.max(0, Math.floor(top / height) - ahead) * across;
    const to = Math.min(view.shown.length, (Math.ceil((top + innerHeight) / height) + ahead) * across);
    for (const place of [...drawn.keys()]) {
      if (place < from || place >= to) remove(place);
    }
    const after = [...drawn.keys()].sort((a, b) => a - b), made = [];
    for (let place = from, next = 0; place < to; place++) {
      if (drawn.has(place)) continue;
      while (next < after.length && after[next] < place) next++;
      made.push(insert(place, drawn.get(after[next]) ?? null));
    }
    for (const each of made) fitBadges(each.querySelector(".outcome"));
  }
  function remove(place) {
    drawn.get(place).remove();
    drawn.delete(place);
  }
  /** Draws one record, in the order of the records: that is the order of reading and of the Tab key. */
  function insert(place, before) {
    const made = element(view.shown[place], place);
    made.style.transform = `translate(${(place % across) * width}px, ${Math.floor(place / across) * height}px)`;
    if (view.gallery) made.style.width = `${width}px`;
    drawn.set(place, made);
    return body.insertBefore(made, before);
  }
  function refresh() {
    for (const place of [...drawn.keys()]) remove(place);
    table.classList.toggle("gallery", view.gallery);
    document.documentElement.classList.toggle("has-gallery", view.gallery);
    // A gallery has no columns: a screen reader gets a list.
    table.setAttribute("role", view.gallery ? "list" : "table");
    body.setAttribute("role", view.gallery ? "presentation" : "rowgroup");
    const style = getComputedStyle(table);
    height = parseFloat(style.getPropertyValue("--row"));
    across = view.gallery ? Math.max(1, Math.floor(body.clientWidth / parseFloat(style.getPropertyValue("--tile")))) : 1;
    width = body.clientWidth / across;
    body.style.height = `${Math.ceil(view.shown.length / across) * height}px`;
    if (view.gallery) table.removeAttribute("aria-rowcount");
    else table.setAttribute("aria-rowcount", view.shown.length + 1);
    byId("nothing").hidden = view.shown.length > 0;
    for (const [key, head] of headOf) {
      head.setAttribute("aria-sort", key !== view.sort ? "none" : view.descending ? "descending" : "ascending");
    }
    draw();
  }
  /** Draws one record again: it has been marked. */
  function redraw(record) {
    const place = view.shown.indexOf(record);
    if (!drawn.has(place)) return;
    const before = drawn.get(place), next = before.nextSibling, focused = before.contains(document.activeElement);
    remove(place);
    fitBadges(insert(place, next).querySelector(".outcome"));
    if (focused) drawn.get(place).querySelector("button").focus({ preventScroll: true });
  }
  /** Makes a record the active one and brings it into the window. */
  function activate(record, { focus = true } = {}) {
    active = record;
    const place = view.shown.indexOf(record);
    if (place < 0) return;
    const top = body.getBoundingClientRect().top + Math.floor(place / across) * height;
    const covered = covers();
    if (top < covered) scrollBy(0, top - covered);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight + 8);
    draw();
    for (const [at, made] of drawn) made.classList.toggle("active", at === place);
    if (focus) drawn.get(place)?.querySelector("button")?.focus({ preventScroll: true });
  }
  /** How much of the window's top the toolbar and the columns' heads cover. */
  function covers() {
    if (!view.gallery && heads.offsetHeight) return heads.getBoundingClientRect().bottom;
    return getComputedStyle(byId("toolbar")).position === "sticky" ? byId("toolbar").offsetHeight : 0;
  }
  let waits = false;
  addEventListener("scroll", () => {
    if (!waits) requestAnimationFrame(() => { waits = false; draw(); });
    waits = true;
  }, { passive: true });
  addEventListener("resize", refresh);
  return { refresh, redraw, activate, active: () => active, across: () => across, heads };
}
