// What a row of the list and a tile of the gallery show of a record.

const SNIPPET = 420;  // characters of a text that fit into a row
const MOST_BADGES = 8;

const CELLS = {
  number: (record) => [readable(record.number)],
  image: (record) => firstImage(record),
  record: (record) => [
    idButton(record),
    el("p", { dir: "auto" }, marked(snippet(question(record.prompt)), view.words)),
  ],
  answer: (record, { place }) => [answerSnippet(record, place)],
  tokens: (record, { value }) => [readable(value(record))],
  sure: (record, { place }) => confidenceCell(record.answers[place]),
  outcome: (record) => allBadges(record),
};

/** Whether all records ask the same, as a run over a folder does: the tiles need not repeat it. */
const oneQuestion = records.every((record) => question(record.prompt) === question(records[0].prompt));

/** A tile of the gallery: the image first, large. */
function tileParts(record) {
  return [
    el("div", { class: "frame" }, ...firstImage(record)),
    idButton(record),
    !oneQuestion && el("p", { class: "question", dir: "auto" }, marked(snippet(question(record.prompt)), view.words)),
    ...record.answers.map((answer, place) => el("div", { class: "answer" }, answerSnippet(record, place))),
    el("div", { class: "outcome" }, ...allBadges(record)),
  ].filter(Boolean);
}

function idButton(record) {
  return el("button", { type: "button", class: "id", dir: "auto", title: record.id }, marked(record.id, view.words));
}

function firstImage(record) {
  const images = imagesOf(record);
  if (!images.length) return [];
  return [small(images[0]), images.length > 1 && el("span", { class: "more", title: `${images.length} images` }, `+${images.length - 1}`)];
}

/** An image's thumbnail, or that there is none. */
function small(image) {
  if (image.missing) return el("span", { class: "missing", title: `${image.name}: ${image.missing}` }, "missing");
  const source = thumbnail(image.thumbnail);
  return source ? el("img", { src: source, alt: image.name, draggable: "false" }) : el("span", { class: "waits" });
}

function answerSnippet(record, place) {
  const answer = record.answers[place];
  if (!answer) return el("p", { class: "none" }, "no record");
  if (answer.status === "error") return el("p", { class: "failed", dir: "auto" }, marked(snippet(answerText(answer)), view.words));
  if (!answer.text) return el("p", { class: "none" }, "empty answer");
  if (record.verdict === "different" && comparison(record)) return el("p", { dir: "auto" }, changes(record, place, SNIPPET));
  return el("p", { dir: "auto" }, marked(snippet(shownText(answer)), view.words));
}

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

/** A confidence as a number above a bar. */
function confidenceCell(answer) {
  if (answer?.confidence == null) return ["–"];
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  bar.style.inlineSize = `${100 * answer.confidence}%`;
  return [el("span", null, answer.confidence.toFixed(3)), el("span", { class: "track" }, bar)];
}

const badge = ([kind, text]) => el("span", { class: `badge ${kind}`, title: text }, text);

/** A record's mark, verdict and endings. */
function allBadges(record) {
  return [
    ...markBadges(record),
    ...rightBadges(record),
    ...(record.verdict ? [[record.verdict === "same" ? "plain" : "changed", FILTERS[0].words[record.verdict]]] : []),
    ...answersOf(record).filter((answer) => answer.confidence != null).slice(0, comparing ? 0 : 1)
      .map((answer) => ["confidence", `sure ${answer.confidence.toFixed(2)}`]),
    ...outcomeBadges(record),
  ].filter(([kind]) => !(view.gallery && kind === "plain")).map(badge);
}

/** Whether an answer is right; of two, what became right or wrong. */
function rightBadges(record) {
  if (record.change) return [[record.change === "became right" ? "good" : "bad", record.change]];
  const known = answersOf(record).filter((answer) => answer.right != null);
  if (!known.length) return [];
  return [known.every((answer) => answer.right) ? ["good", comparing ? "both right" : "right"]
    : ["bad", comparing && known.length > 1 ? "both wrong" : "wrong"]];
}

/** Leaves as many badges as there is room for, and says how many more there are. */
function fitBadges(place) {
  const isOver = () => place.scrollHeight > place.clientHeight + 1 || place.scrollWidth > place.clientWidth + 1;
  if (place.children.length <= MOST_BADGES && !isOver()) return;
  const rest = [], more = el("span", { class: "badge" });
  place.append(more);
  while (place.children.length > 2 && (place.children.length > MOST_BADGES || isOver())) {
    rest.unshift(place.children[place.children.length - 2].textContent);
    place.children[place.children.length - 2].remove();
    more.textContent = `+${rest.length}`;
    more.title = rest.join(", ");
  }
  if (!rest.length) more.remove();
  place.classList.toggle("tight", isOver());
}

/** How the answers ended, each ending once; of two that ended differently, which is which. */
function outcomeBadges(record) {
  const all = record.answers.map((answer) => (answer ? endings(answer) : []));
  if (!comparing) return all[0];
  return all.flatMap((some, place) => some.filter(([kind]) => kind !== "plain").map(([kind, text]) => [kind, `${NAMES[place]} ${text}`]));
}

/** [kind, text] of each badge of an answer. */
function endings(answer) {
  const end = outcome(answer);
  const kind = answer.status === "error" ? "bad" : end === "length" ? "warn" : "plain";
  const flags = answer.flags ?? [];
  // That an answer was cut off need not be said twice.
  return [...(flags.includes("cut_off") ? [] : [[kind, end]]), ...flags.map((flag) => ["flag", flag])];
}
