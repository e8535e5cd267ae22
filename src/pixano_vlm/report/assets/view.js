// Which records are shown, in what order and how. Knows no element.

const collator = new Intl.Collator("en", { numeric: true });

/** What each column is sorted by. `kind` gives its width and place on the page. */
const COLUMNS = [
  { key: "number", label: "#", title: "Order", kind: "number", value: (record) => record.number },
  { key: "image", label: "Image", kind: "image", value: (record) => imagesOf(record)[0]?.name },
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
  ...(records.some((record) => answersOf(record).some((answer) => answer.confidence != null)) ? data.runs.map((run, place) => ({
    key: `confidence-${place}`, label: comparing ? `Sure ${NAMES[place]}` : "Confidence", title: `Confidence${comparing ? ` ${NAMES[place]}` : ""}`, kind: "sure", place,
    value: (record) => record.answers[place]?.confidence,
  })) : []),
  { key: "outcome", label: "Outcome", kind: "outcome", value: (record) => record.verdict ?? outcome(record.answers[0]) },
];

const view = {
  words: [], filters: {}, metadata: { key: "", text: "" }, sort: "number", descending: false, shown: records,
  gallery: false, markdown: false, threshold: 0,
};

/** Finds the records to show: every word and every filter must fit. */
function updateView() {
  const chosen = ALL_FILTERS.filter((filter) => view.filters[filter.key] != null);
  const { key, text } = view.metadata, part = text.trim().toLowerCase();
  const shown = records.filter((record) =>
    view.words.every((word) => searched(record).includes(word)) &&
    chosen.every((filter) => filter.values(record).includes(view.filters[filter.key])) &&
    (!part || metadataTexts(record, key).some((value) => value.toLowerCase().includes(part))));
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

/** How many filters are set, the search aside. */
const filtersSet = () => Object.values(view.filters).filter((value) => value != null).length + Boolean(view.metadata.text.trim());

const isNarrowed = () => view.words.length > 0 || filtersSet() > 0;
