// The records of this page, and which of them are shown in what order. Knows no element but the one with the data.

const data = JSON.parse(byId("data").textContent);
const records = data.records;
const comparing = data.runs.length > 1;
const NAMES = ["A", "B"];

/** A thumbnail's data URL; null while the rest of the file is still being read. */
function thumbnail(number) {
  return byId(`thumbnail-${number}`)?.textContent ?? null;
}

/** A prompt as one text: the messages of a conversation below each other. */
function promptText(prompt) {
  if (prompt == null || typeof prompt === "string") return prompt ?? "";
  return prompt.map((message) => message.parts.filter((part) => typeof part === "string").join(" ")).join("\n");
}

/** The text of the last message that a user wrote: what the answer answers. */
function question(prompt) {
  if (prompt == null || typeof prompt === "string") return prompt ?? "";
  const asked = prompt.filter((message) => message.role === "user");
  return promptText(asked.slice(-1)) || promptText(prompt);
}

/** What an answer says: its text, or why there is none. */
function answerText(answer) {
  return answer?.text ?? (answer?.error ? answer.error[1] : "");
}

/** What is searched in: everything that the record says, in lower case. */
function searched(record) {
  if (record.searched === undefined) {
    record.searched = [
      record.id,
      promptText(record.prompt),
      ...(record.pictures ?? []).map((number) => data.pictures[number].name),
      record.metadata ? JSON.stringify(record.metadata) : "",
      ...record.answers.map((answer) => answer
        ? [answer.text, answer.error?.join(" "), answer.flags?.join(" "), promptText(answer.prompt)].join("\n") : ""),
    ].join("\n").toLowerCase();
  }
  return record.searched;
}

const answersOf = (record) => record.answers.filter((answer) => answer != null);

/** What can be filtered by: a name, the values that a record has, and words for a value where they differ from it. */
const FILTERS = [
  {
    key: "verdict", label: "Answers", values: (record) => [record.verdict],
    words: { same: "Same", different: "Different", "only first": "Only in A", "only second": "Only in B" },
  },
  {
    key: "status", label: "Status", values: (record) => answersOf(record).map((answer) => answer.status),
    words: { ok: "Answered", error: "Failed" },
  },
  {
    key: "finish", label: "Finish", values: (record) => answersOf(record).map((answer) => answer.finish),
    words: { stop: "stop: ended by itself", length: "length: cut off" },
  },
  {
    key: "flag", label: "Flag",
    values: (record) => {
      const flags = answersOf(record).flatMap((answer) => answer.flags ?? []);
      return flags.length ? flags : ["none"];
    },
    words: { none: "No flag" },
  },
  { key: "error", label: "Error", values: (record) => answersOf(record).map((answer) => answer.error?.[0]), words: {} },
];

/** The values of a filter with how many records have each, most frequent first. */
function choices(filter) {
  const counts = new Map();
  for (const record of records) {
    for (const value of new Set(filter.values(record))) {
      if (value != null) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
  }
  return [...counts].sort((a, b) => b[1] - a[1]);
}

const collator = new Intl.Collator("en", { numeric: true });

const timed = records.some((record) => answersOf(record).some((answer) => answer.seconds != null));

/** What each column is sorted by. `kind` gives its width and place on the page. */
const COLUMNS = [
  { key: "number", label: "#", title: "Order", kind: "number", value: (record) => record.number },
  { key: "picture", label: "Picture", kind: "picture", value: (record) => data.pictures[record.pictures?.[0]]?.name },
  { key: "record", label: "Record", kind: "record", value: (record) => record.id },
  ...data.runs.map((run, place) => ({
    key: `answer-${place}`, label: comparing ? `Answer ${NAMES[place]}` : "Answer", kind: "answer", place,
    value: (record) => answerText(record.answers[place]),
  })),
  ...(comparing ? [] : [
    { key: "input", label: "Tokens in", title: "Tokens of the prompt", kind: "tokens", value: (record) => record.answers[0].input },
  ]),
  ...data.runs.map((run, place) => ({
    key: `output-${place}`, label: comparing ? `Tokens ${NAMES[place]}` : "Tokens out", title: `Tokens of the answer${comparing ? ` ${NAMES[place]}` : ""}`,
    kind: "tokens", value: (record) => record.answers[place]?.output,
  })),
  ...(timed ? data.runs.map((run, place) => ({
    key: `seconds-${place}`, label: comparing ? `s ${NAMES[place]}` : "Seconds", title: "Seconds from request to answer",
    kind: "tokens", value: (record) => record.answers[place]?.seconds,
  })) : []),
  { key: "outcome", label: "Outcome", kind: "outcome", value: (record) => record.verdict ?? outcome(record.answers[0]) },
];

/** How an answer ended, in a word. */
function outcome(answer) {
  return answer.status === "error" ? answer.error?.[0] ?? "error" : answer.finish ?? "ok";
}

const view = { words: [], filters: {}, sort: "number", descending: false, shown: records };

/** Finds what is shown: every word and every filter must fit. */
function updateView() {
  const chosen = FILTERS.filter((filter) => view.filters[filter.key]);
  const shown = records.filter((record) =>
    view.words.every((word) => searched(record).includes(word)) &&
    chosen.every((filter) => filter.values(record).includes(view.filters[filter.key])));
  const { value } = COLUMNS.find((column) => column.key === view.sort);
  const keyed = shown.map((record) => [value(record), record]);
  const sign = view.descending ? -1 : 1;
  keyed.sort(([a, one], [b, other]) => {
    const known = (b != null && b !== "") - (a != null && a !== "");  // what is not known comes last, either way
    return known || sign * order(a, b) || one.number - other.number;
  });
  view.shown = keyed.map(([, record]) => record);
}

function order(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a ?? ""), String(b ?? ""));
}

const isNarrowed = () => view.words.length > 0 || Object.values(view.filters).some(Boolean);
