// One record in full: its images, and beside them the conversation, answers, settings, metadata; below, its mark.

function drawDetail({ onStep, onClose }) {
  const dialog = byId("detail");
  let record = null, stage = null, content = null, marking = null;
  dialog.addEventListener("close", onClose);

  function open(next) {
    record = next;
    stage = drawStage(record);
    marking = drawMarking(record);
    content = el("div", { class: "content", tabindex: "0", role: "group", "aria-label": `Record ${record.id}` }, ...sections(record, actions));
    const place = view.shown.indexOf(record);
    dialog.replaceChildren(
      el("header", null,
        el("div", null,
          el("p", { class: "place" }, place < 0 ? `Record ${readable(record.number)}` : `${readable(place + 1)} of ${readable(view.shown.length)}`),
          el("h2", { id: "detail-title", dir: "auto" }, record.id)),
        el("div", { class: "steps" },
          step("Previous record", "←", "‹", -1, place > 0),
          step("Next record", "→", "›", 1, place >= 0 && place + 1 < view.shown.length),
          el("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", click: () => dialog.close() }, "×"))),
      el("div", { class: stage.element ? "panes" : "panes alone" }, ...[stage.element, content].filter(Boolean)),
      marking.element);
    if (!dialog.open) dialog.showModal();
    content.focus({ preventScroll: true });
  }
  const actions = {
    showImage: (place) => stage.show(place),
    /** Shows answers as Markdown, or as they are written; of every record, until it is asked for again. */
    toggleMarkdown() {
      view.markdown = !view.markdown;
      const top = content.scrollTop, focused = content.querySelector(".as-markdown") === document.activeElement;
      content.replaceChildren(...sections(record, actions));
      content.scrollTop = top;
      if (focused) content.querySelector(".as-markdown")?.focus({ preventScroll: true });
    },
  };
  function step(label, key, sign, by, possible) {
    return el("button", { type: "button", "aria-label": label, title: `${label} (${key})`, disabled: !possible, click: () => onStep(by) }, sign);
  }
  return {
    open, ...actions, isOpen: () => dialog.open, record: () => record, close: () => dialog.close(),
    refreshMark: () => marking?.refresh(), focusNote: () => marking.focusNote(),
  };
}

/** Good, bad and a note: two buttons and a field. */
function drawMarking(record) {
  const buttons = KINDS.map((kind) => el("button", {
    type: "button", class: `mark-${kind}`, title: `Mark as ${kind} (${kind[0]})`, click: () => toggleMark(record, kind),
  }, `${kind[0].toUpperCase()}${kind.slice(1)}`));
  const note = el("textarea", { id: "note", rows: "1", placeholder: "Note", "aria-label": "Note", title: "Note (n)", spellcheck: "true",
    input: () => marks.set(record, { note: note.value.trim() ? note.value : "" }) });
  function refresh() {
    const { mark, note: text = "" } = marks.of(record);
    buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(KINDS[place] === mark)));
    if (note !== document.activeElement && note.value !== text) note.value = text;
  }
  refresh();
  return { element: el("footer", { class: "marking" }, el("div", { role: "group", "aria-label": "Mark" }, ...buttons), note), refresh, focusNote: () => note.focus() };
}

/** Sets a mark, or takes it back where it is set already. */
function toggleMark(record, kind) {
  marks.set(record, { mark: marks.of(record).mark === kind ? null : kind });
}

function sections(record, actions) {
  const asked = el("div", { class: "asked" }, section("Prompt", prompt(record.prompt, actions)));
  return [
    asked,
    el("div", { class: comparing ? "answers two" : "answers" }, ...record.answers.map((answer, place) => answerSection(record, answer, place, actions))),
    truthOf(record),
    record.metadata && section("Metadata", properties(record.metadata)),
  ].filter(Boolean);
}

function section(title, ...children) {
  return el("section", null, el("h3", null, title), ...children);
}

function prompt(value, actions) {
  if (value == null) return el("p", { class: "none" }, "The manifest with the prompts was not found, or has none for this record.");
  if (typeof value === "string") return el("p", { class: "text", dir: "auto" }, marked(value, view.words));
  return el("ol", { class: "messages" }, ...value.map((message) => el("li", { class: message.role },
    el("span", { class: "role" }, message.role),
    el("p", { class: "text", dir: "auto" }, message.parts.flatMap((part) => typeof part === "string"
      ? marked(part, view.words)
      : [el("button", { type: "button", class: "badge", title: "Show this image", click: () => actions.showImage(part) }, `image ${part + 1}`)])))));
}

function answerSection(record, answer, place, actions) {
  const title = comparing
    ? [el("span", { class: `name run-${place}` }, NAMES[place]), el("span", { dir: "auto" }, answer?.model ?? data.runs[place].model)] : ["Answer"];
  if (!answer) return section(title, el("p", { class: "none" }, "This output has no such record."));
  const asMarkdown = answer.text && !answer.json && el("button", {
    type: "button", class: "as-markdown", "aria-pressed": String(view.markdown), title: "Show Markdown as it is meant to look (m)",
    click: () => actions.toggleMarkdown(),
  }, "Markdown");
  return el("section", null,
    el("div", { class: "head" }, el("h3", null, ...title, ...rightBadge(answer), ...endings(answer).map(badge)), asMarkdown),
    answer.prompt && el("div", { class: "own-prompt" }, el("h4", null, "Asked in other words"), prompt(answer.prompt, actions)),
    thoughtsOf(answer),
    answerBody(record, answer, place),
    labelBars(answer, record.truth),
    sampleList(answer),
    properties({
      "Prompt tokens": answer.input, "Answer tokens": answer.output, "Of these thoughts": answer.thinking, Attempts: answer.attempts,
      Confidence: answer.confidence, "Raw confidence": answer.raw,
      Model: comparing ? null : answer.model, ...answer.settings, ...(answer.labels && { choices: null }), ...answer.more,
    }));
}

const thoughtsOf = (answer) => answer.thoughts && el("details", { class: "thoughts" },
  el("summary", null, "Thoughts"), el("p", { class: "text", dir: "auto" }, marked(answer.thoughts, view.words)));

const rightBadge = (answer) => (answer.right == null ? [] : [badge(answer.right ? ["good", "right"] : ["bad", "wrong"])]);

function answerBody(record, answer, place) {
  if (answer.error) return el("p", { class: "text failed", dir: "auto" }, marked(answer.error[1], view.words));
  if (!answer.text) return el("p", { class: "none" }, "The answer is empty.");
  if (view.markdown && !answer.json) {
    return el("div", { class: "text markdown", dir: "auto" }, markdown(answer.text, (text) => marked(text, view.words)));
  }
  const compared = record.verdict === "different" && comparison(record);
  const onlySpace = compared && compared.every((side) => side.every(([, changed]) => !changed));
  const text = compared ? changes(record, place) : answer.json ? coloured(answer.text) : marked(answer.text, view.words);
  return el("div", null,
    el("p", { class: answer.json ? "text json" : "text", dir: "auto" }, text),
    onlySpace && el("p", { class: "none" }, "The two differ in white space only."),
    answer.flags?.includes("invalid_json") && el("p", { class: "invalid" },
      answer.json ? "This is JSON, but does not follow the schema that was asked for." : "This is not the JSON that was asked for."));
}

/** JSON over lines, its keys, texts and values each in a colour of their own. */
function coloured(text) {
  return jsonPieces(text).map(([piece, kind]) => el("span", { class: kind }, marked(piece, view.words)));
}

function properties(values) {
  const known = Object.entries(values).filter(([, value]) => value != null);
  return el("dl", { class: "properties" }, ...known.map(([name, value]) => el("div", null,
    el("dt", { dir: "auto" }, name.replaceAll("_", " ")),
    el("dd", { dir: "auto" }, asText(value)))));
}
