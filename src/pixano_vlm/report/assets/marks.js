// What a reader thinks of the records: good, bad, a note. Kept by the browser under a key of these outputs, so that two
// reports do not mix; saved and loaded as JSON lines. A mark belongs to an answer: one of an earlier answer is not shown.

const MARKS_KEY = `pixano-vlm report ${data.marks}`;
const KINDS = ["good", "bad"];

const marks = (() => {
  const listeners = [];
  const known = new Map(records.map((record) => [keyOf(record), record]));
  let kept = true;  // false where the browser does not keep them
  let lines = read() ?? new Map();

  function keyOf({ id, occurrence = 0 }) {
    return `${occurrence} ${id}`;
  }
  /** The lines that the browser keeps, by key; null where it cannot be asked. */
  function read() {
    let text;
    try {
      text = localStorage.getItem(MARKS_KEY);
    } catch {
      kept = false;
      return null;
    }
    try {
      const stored = JSON.parse(text ?? "[]");
      return new Map((Array.isArray(stored) ? stored : []).filter(isMark).map((line) => [keyOf(line), line]));
    } catch {
      return new Map();
    }
  }
  function write(record = null) {
    try {
      localStorage.setItem(MARKS_KEY, JSON.stringify([...lines.values()]));
      kept = true;
    } catch {
      kept = false;
    }
    notify(record);
  }
  /** Says that marks have changed: of one record, or, without one, of any. */
  const notify = (record = null) => listeners.forEach((listener) => listener(record));
  /** Whether a line is of the answers that this page shows; of a record on another page, that is not known here. */
  function isCurrent(line) {
    const record = known.get(keyOf(line));
    return record ? isOf(line, record) : data.pages.length > 1;
  }
  /** A line that was loaded names no answer, where the record is on another page: it is taken for any. */
  const isOf = (line, record) => line.answer == null || line.answer === fingerprint(record);

  function put({ id, occurrence }, { mark, note }) {
    const record = known.get(keyOf({ id, occurrence }));
    const line = { id, ...(occurrence && { occurrence }), ...(mark && { mark }), ...(note && { note }) };
    if (mark || note) lines.set(keyOf(line), { ...line, ...(record && { answer: fingerprint(record) }) });
    else lines.delete(keyOf(line));
  }
  /** The marks in the records' order. */
  function current() {
    const place = (line) => known.get(keyOf(line))?.number ?? Number.MAX_SAFE_INTEGER;
    return [...lines.values()].filter(isCurrent).sort((a, b) => place(a) - place(b));
  }
  addEventListener("storage", (event) => {  // another page of this report, in another window
    if (event.key !== MARKS_KEY && event.key !== null) return;
    lines = read() ?? lines;
    notify();
  });
  return {
    of(record) {
      const line = lines.get(keyOf(record));
      return line && isOf(line, record) ? line : {};
    },
    /** Changes the mark or the note of a record. What another window has marked meanwhile is kept. */
    set(record, change) {
      const { mark, note } = this.of(record);
      lines = (kept && read()) || lines;
      put(record, { mark, note, ...change });
      write(record);
    },
    clear() {
      lines = new Map();
      write();
    },
    current,
    earlier: () => [...lines.values()].filter((line) => known.has(keyOf(line)) && !isCurrent(line)).length,
    isKept: () => kept,
    listen: (listener) => listeners.push(listener),
    text: () => current().map(({ answer, ...line }) => `${JSON.stringify(line)}\n`).join(""),
    /** The ids of one kind, one per line; an id with a line break is written as a JSON string. */
    ids: (kind) => current().filter((line) => line.mark === kind)
      .map(({ id }) => `${/[\r\n]/.test(id) ? JSON.stringify(id) : id}\n`).join(""),
    /** Takes the marks of a text of JSON lines, and returns how many it took and what is wrong with the others. */
    load(text) {
      lines = (kept && read()) || lines;
      let taken = 0;
      const refused = [];
      text.replace(/^\ufeff/, "").split("\n").forEach((each, place) => {
        if (!each.trim()) return;
        let line = null;
        try {
          line = JSON.parse(each);
        } catch { /* said below */ }
        if (!isMark(line)) refused.push(`line ${place + 1} is not a mark`);
        else if (!known.has(keyOf(line)) && data.pages.length === 1) refused.push(`line ${place + 1}: there is no record ${line.id}`);
        else {
          put(line, line);
          taken++;
        }
      });
      write();
      return { taken, refused };
    },
  };
})();

/** Whether a JSON value is the line of a mark. */
function isMark(value) {
  if (value === null || typeof value !== "object" || typeof value.id !== "string") return false;
  const { mark, note, occurrence } = value;
  return (mark == null || KINDS.includes(mark)) && (note == null || typeof note === "string") && Boolean(mark || note)
    && (occurrence == null || Number.isSafeInteger(occurrence));
}

/** A short text that differs where the answers differ (FNV-1a, 32 bits). */
function fingerprint(record) {
  if (record.fingerprint === undefined) {
    const text = record.answers.map((answer) => answer?.text ?? answer?.error?.[0] ?? "").join("\0");
    let hash = 0x811c9dc5;
    for (let place = 0; place < text.length; place++) hash = Math.imul(hash ^ text.charCodeAt(place), 0x01000193);
    record.fingerprint = (hash >>> 0).toString(36);
  }
  return record.fingerprint;
}

/** [kind, text] of each badge of a record's mark. */
function markBadges(record) {
  const { mark, note } = marks.of(record);
  return [mark && [`mark-${mark}`, mark], note && ["mark-note", "note"]].filter(Boolean);
}
