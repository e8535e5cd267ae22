// One record in full: pictures, conversation, answers, settings, metadata.

function drawDetail({ onStep, onClose }) {
  const dialog = byId("detail");
  dialog.addEventListener("close", onClose);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  function open(record) {
    const place = view.shown.indexOf(record);
    dialog.replaceChildren(
      el("header", null,
        el("div", null,
          el("p", { class: "place" }, `${readable(place + 1)} of ${readable(view.shown.length)}`),
          el("h2", { id: "detail-title", dir: "auto" }, record.id)),
        el("div", { class: "steps" },
          step("Previous record", "k", "‹", -1, place > 0),
          step("Next record", "j", "›", 1, place + 1 < view.shown.length),
          el("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", click: () => dialog.close() }, "×"))),
      el("div", { class: "content", tabindex: "0", role: "group", "aria-label": `Record ${record.id}` }, ...sections(record)));
    if (!dialog.open) dialog.showModal();
    dialog.querySelector(".content").focus({ preventScroll: true });
  }
  function step(label, key, sign, by, possible) {
    return el("button", { type: "button", "aria-label": label, title: `${label} (${key})`, disabled: !possible, click: () => onStep(by) }, sign);
  }
  return { open, isOpen: () => dialog.open };
}

function sections(record) {
  const asked = el("div", { class: "asked" }, section("Prompt", prompt(record, record.prompt)));
  return [
    pictures(record),
    asked,
    el("div", { class: comparing ? "answers two" : "answers" }, ...record.answers.map((answer, place) => answerSection(record, answer, place))),
    record.metadata && section("Metadata", facts(record.metadata)),
  ].filter(Boolean);
}

function section(title, ...children) {
  return el("section", null, el("h3", null, title), ...children);
}

function pictures(record) {
  const numbers = record.pictures ?? [];
  if (!numbers.length) return null;
  return el("div", { class: "pictures" }, ...numbers.map((number, place) => {
    const picture = data.pictures[number];
    const name = `${numbers.length > 1 ? `${place + 1}. ` : ""}${picture.name}`;
    return el("figure", null, image(picture), el("figcaption", null,
      el("span", { dir: "auto" }, name),
      picture.size && el("span", null, `${picture.size[0]} × ${picture.size[1]}`),
      picture.missing && el("span", { class: "failed" }, picture.missing),
      picture.link && el("a", { href: picture.link, target: "_blank", rel: "noopener noreferrer" }, "original")));
  }));
}

function prompt(record, value) {
  if (value == null) return el("p", { class: "none" }, "The manifest with the prompts was not found, or has none for this record.");
  if (typeof value === "string") return el("p", { class: "text", dir: "auto" }, ...marked(value, view.words));
  return el("ol", { class: "messages" }, ...value.map((message) => el("li", { class: message.role },
    el("span", { class: "role" }, message.role),
    el("p", { class: "text", dir: "auto" }, ...message.parts.flatMap((part) => typeof part === "string"
      ? marked(part, view.words) : [el("span", { class: "badge" }, `picture ${part + 1}`)])))));
}

function answerSection(record, answer, place) {
  const title = comparing
    ? [el("span", { class: `name run-${place}` }, NAMES[place]), el("span", { dir: "auto" }, answer?.model ?? data.runs[place].model)] : ["Answer"];
  if (!answer) return section(title, el("p", { class: "none" }, "This output has no such record."));
  return el("section", null,
    el("h3", null, ...title, ...endings(answer).map(([kind, text]) => el("span", { class: `badge ${kind}` }, text))),
    answer.prompt && el("div", { class: "own-prompt" }, el("h4", null, "Asked in other words"), prompt(record, answer.prompt)),
    answerBody(record, answer, place),
    facts({
      "Prompt tokens": answer.input, "Answer tokens": answer.output, Seconds: answer.seconds, Attempts: answer.attempts,
      Model: comparing ? null : answer.model, ...answer.settings, ...answer.more,
    }));
}

function answerBody(record, answer, place) {
  if (answer.error) return el("p", { class: "text failed", dir: "auto" }, ...marked(answer.error[1], view.words));
  if (!answer.text) return el("p", { class: "none" }, "The answer is empty.");
  const compared = record.verdict === "different" && comparison(record);
  const onlySpace = compared && compared.every((side) => side.every(([, changed]) => !changed));
  const text = compared ? changes(record, place) : answer.json ? coloured(answer.text) : marked(answer.text, view.words);
  return el("div", null,
    el("p", { class: answer.json ? "text json" : "text", dir: "auto" }, ...text),
    onlySpace && el("p", { class: "none" }, "The two differ in white space only."),
    answer.flags?.includes("invalid_json") && el("p", { class: "invalid" },
      answer.json ? "This is JSON, but does not follow the schema that was asked for." : "This is not the JSON that was asked for."));
}

/** JSON over lines, its keys, texts and values each in a colour of their own. */
function coloured(text) {
  return jsonPieces(text).map(([piece, kind]) => el("span", { class: kind }, ...marked(piece, view.words)));
}

function facts(values) {
  const known = Object.entries(values).filter(([, value]) => value != null);
  return el("dl", { class: "facts" }, ...known.map(([name, value]) => el("div", null,
    el("dt", { dir: "auto" }, name.replaceAll("_", " ")),
    el("dd", { dir: "auto" }, asText(value)))));
}
