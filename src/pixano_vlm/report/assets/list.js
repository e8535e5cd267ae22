// The list: only the rows that are on the screen exist, all of one height, so 5,000 records cost what 20 do.

const AHEAD = 6;  // rows drawn above and below the window
const SNIPPET = 420;  // characters of a text that fit into a row

function drawList(open) {
  const table = byId("table"), body = byId("rows"), heads = byId("heads");
  const drawn = new Map();  // place in view.shown -> its row
  let height = 0, active = null;
  table.classList.toggle("comparing", comparing);
  table.classList.toggle("timed", timed);
  const headOf = new Map(COLUMNS.map((column) => [column.key, el("div", { role: "columnheader", class: column.kind },
    el("button", { type: "button", title: column.title, "data-sort": column.key }, column.label))]));
  heads.append(...headOf.values());

  function row(record, place) {
    return el("div", {
      role: "row", class: record === active ? "row active" : "row", "aria-rowindex": place + 2, "data-number": record.number,
      click: () => { if (getSelection().isCollapsed) open(record); },
    }, ...COLUMNS.map((column) => el("div", { role: "cell", class: column.kind }, ...CELLS[column.kind](record, column))));
  }
  function draw() {
    const top = -body.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / height) - AHEAD);
    const to = Math.min(view.shown.length, Math.ceil((top + innerHeight) / height) + AHEAD);
    for (const [place, element] of drawn) {
      if (place < from || place >= to) {
        element.remove();
        drawn.delete(place);
      }
    }
    for (let place = from; place < to; place++) {
      if (drawn.has(place)) continue;
      const element = row(view.shown[place], place);
      element.style.transform = `translateY(${place * height}px)`;
      drawn.set(place, element);
      // In the order of the records, which is that of reading and of the Tab key.
      const next = [...drawn.keys()].filter((other) => other > place).sort((a, b) => a - b)[0];
      body.insertBefore(element, drawn.get(next) ?? null);
    }
  }
  function refresh() {
    for (const element of drawn.values()) element.remove();
    drawn.clear();
    height = parseFloat(getComputedStyle(table).getPropertyValue("--row"));
    body.style.height = `${view.shown.length * height}px`;
    table.setAttribute("aria-rowcount", view.shown.length + 1);
    byId("nothing").hidden = view.shown.length > 0;
    for (const [key, head] of headOf) {
      head.setAttribute("aria-sort", key !== view.sort ? "none" : view.descending ? "descending" : "ascending");
    }
    draw();
  }
  /** Makes a record the active one and brings it into the window. */
  function activate(record, { focus = true } = {}) {
    const before = active;
    active = record;
    const place = view.shown.indexOf(record);
    if (place < 0) return;
    const top = body.getBoundingClientRect().top + place * height;
    const covered = heads.getBoundingClientRect().bottom;
    if (top < covered) scrollBy(0, top - covered);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight + 8);
    draw();
    for (const [at, element] of drawn) {
      if (view.shown[at] === before || at === place) element.classList.toggle("active", at === place);
    }
    if (focus) drawn.get(place)?.querySelector("button")?.focus({ preventScroll: true });
  }
  let waits = false;
  addEventListener("scroll", () => {
    if (!waits) requestAnimationFrame(() => { waits = false; draw(); });
    waits = true;
  }, { passive: true });
  addEventListener("resize", refresh);
  return { refresh, activate, active: () => active, heads };
}

const CELLS = {
  number: (record) => [readable(record.number)],
  picture: (record) => {
    const numbers = record.pictures ?? [];
    if (!numbers.length) return [];
    return [image(data.pictures[numbers[0]]), numbers.length > 1 && el("span", { class: "more" }, `+${numbers.length - 1}`)];
  },
  record: (record) => [
    el("button", { type: "button", class: "id", dir: "auto" }, ...marked(record.id, view.words)),
    el("p", { dir: "auto" }, ...marked(snippet(question(record.prompt)), view.words)),
  ],
  answer: (record, { place }) => {
    const answer = record.answers[place];
    if (!answer) return [el("p", { class: "none" }, "no record")];
    if (answer.status === "error") return [el("p", { class: "failed", dir: "auto" }, ...marked(snippet(answerText(answer)), view.words))];
    if (!answer.text) return [el("p", { class: "none" }, "empty answer")];
    if (record.verdict === "different" && comparison(record)) return [el("p", { dir: "auto" }, ...changes(record, place, SNIPPET))];
    return [el("p", { dir: "auto" }, ...marked(snippet(shownText(answer)), view.words))];
  },
  tokens: (record, { value }) => [readable(value(record))],
  outcome: (record) => [
    record.verdict && el("span", { class: `badge ${record.verdict === "same" ? "plain" : "changed"}` },
      FILTERS[0].words[record.verdict]),
    ...badges(record),
  ],
};

/** The part of a text that a row has room for: its beginning, or where the first searched word is. */
function snippet(text) {
  const at = view.words.length ? Math.min(...view.words.map((word) => {
    const found = text.toLowerCase().indexOf(word);
    return found < 0 ? Infinity : found;
  })) : 0;
  const start = Number.isFinite(at) && at > 120 ? at - 40 : 0;
  return (start ? "… " : "") + text.slice(start, start + SNIPPET);
}

/** An answer's text with the words that the other one lacks marked; `room` cuts it to begin near the first. */
function changes(record, place, room = Infinity) {
  const parts = comparison(record)[place];
  const shown = [];
  let left = room;
  for (const [index, [text, changed]] of parts.entries()) {
    const long = index === 0 && !changed && room < Infinity && text.length > 120;
    const piece = (long ? `… ${text.slice(-60)}` : text).slice(0, Math.max(0, left));
    left -= piece.length;
    if (piece) shown.push(changed ? el(place ? "ins" : "del", null, piece) : piece);
  }
  return shown;
}

function image(picture) {
  const source = picture.thumbnail == null ? null : thumbnail(picture.thumbnail);
  if (picture.missing) return el("span", { class: "missing", title: `${picture.name}: ${picture.missing}` }, "missing");
  return source ? el("img", { src: source, alt: picture.name, draggable: "false" }) : el("span", { class: "waits" });
}

/** How the answers ended, each ending once; of two that ended differently, which is which. */
function badges(record) {
  const all = record.answers.map((answer) => (answer ? endings(answer) : []));
  if (!comparing) return all[0].map(([kind, text]) => el("span", { class: `badge ${kind}` }, text));
  return all.flatMap((some, place) => some.filter(([kind]) => kind !== "plain").map(([kind, text]) =>
    el("span", { class: `badge ${kind}` }, `${NAMES[place]} ${text}`)));
}

/** [kind, text] of each badge of an answer. */
function endings(answer) {
  const end = outcome(answer);
  const kind = answer.status === "error" ? "bad" : end === "length" ? "warn" : "plain";
  const flags = answer.flags ?? [];
  // That an answer was cut off need not be said twice.
  return [...(flags.includes("cut_off") ? [] : [[kind, end]]), ...flags.map((flag) => ["flag", flag])];
}
