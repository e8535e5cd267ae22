// What the records can be narrowed by: how they ended, marks, metadata. Knows no element.

const MOST_CHOICES = 30;  // distinct values of a metadata key that is still offered as a choice
const LONGEST_CHOICE = 80;

/** A name, the values that a record has, and words for a value where they differ from it. */
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
  {
    key: "region", label: "Found", words: {},
    values: (record) => answersOf(record).flatMap((answer) => (answer.regions ?? []).map((region) => region.label ?? "object")),
  },
  { key: "error", label: "Error", values: (record) => answersOf(record).map((answer) => answer.error?.[0]), words: {} },
];

const BANDS = [[0.99, "0.99 to 1"], [0.9, "0.9 to 0.99"], [0.7, "0.7 to 0.9"], [0.5, "0.5 to 0.7"], [0, "below 0.5"]];
const bandOf = (confidence) => (confidence == null ? "unknown" : BANDS.find(([least]) => confidence >= least)[1]);

/** Filters that a page has only where its records have what they are about. */
FILTERS.push(...[
  {
    key: "confidence", label: "Confidence", always: BANDS.map(([, name]) => name).reverse(), words: { unknown: "No confidence" },
    values: (record) => answersOf(record).map((answer) => bandOf(answer.confidence)),
    isKnown: (answer) => answer.confidence != null,
  },
  {
    key: "right", label: "Truth", words: { right: "Right", wrong: "Wrong", unknown: "No truth" },
    values: (record) => answersOf(record).map((answer) => (answer.right == null ? "unknown" : answer.right ? "right" : "wrong")),
    isKnown: (answer) => answer.right != null,
  },
].filter(({ isKnown }) => records.some((record) => answersOf(record).some(isKnown))));
if (records.some((record) => record.change)) {
  FILTERS.push({ key: "change", label: "Change", values: (record) => [record.change], words: { "became right": "Became right", "became wrong": "Became wrong" } });
}

/** Which side of the threshold that is dragged; not one of the menus. */
const THRESHOLD_FILTER = {
  key: "threshold", label: "Threshold", words: {},
  values: (record) => answersOf(record).filter((answer) => answer.confidence != null)
    .map((answer) => (answer.confidence >= view.threshold ? "from" : "below")),
};

const MARK_FILTER = {
  key: "mark", label: "Mark", always: ["good", "bad", "note", "none"],
  values: (record) => {
    const { mark, note } = marks.of(record);
    const values = [mark, note && "note"].filter(Boolean);
    return values.length ? values : ["none"];
  },
  words: { good: "Good", bad: "Bad", note: "With a note", none: "Not marked" },
};

const wordFor = (filter, value) => (Object.hasOwn(filter.words, value) ? filter.words[value] : value);

/** The values of a filter with how many records have each, most frequent first. */
function choices(filter) {
  const counts = new Map((filter.always ?? []).map((value) => [value, 0]));
  for (const record of records) {
    for (const value of new Set(filter.values(record))) {
      if (value != null) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
  }
  return filter.always ? [...counts] : [...counts].sort((a, b) => b[1] - a[1]);
}

/** The texts of a record's metadata under a key; those of a list are values of their own. */
function metadataTexts(record, key) {
  if (!record.metadata || !Object.hasOwn(record.metadata, key)) return [];
  const value = record.metadata[key];
  return (Array.isArray(value) ? value : [value]).map(asText);
}

/** A filter for each metadata key with few values that differ, and the keys of all others, which are searched as text. */
const METADATA = (() => {
  const found = new Map();  // key -> its distinct texts; null: too many, or too long
  for (const record of records) {
    for (const key of Object.keys(record.metadata ?? {})) {
      if (!found.has(key)) found.set(key, new Set());
      const texts = found.get(key);
      if (!texts) continue;
      for (const text of metadataTexts(record, key)) {
        texts.add(text);
        if (texts.size > MOST_CHOICES || text.length > LONGEST_CHOICE) found.set(key, null);
      }
    }
  }
  const filters = [], texts = [];
  for (const [key, distinct] of found) {
    if (!distinct) texts.push(key);
    else filters.push({
      key: `metadata ${key}`, label: key, words: { "": "No value" },
      values: (record) => {
        const values = metadataTexts(record, key);
        return values.length ? values : [""];
      },
    });
  }
  return { filters, texts };
})();

const ALL_FILTERS = [...FILTERS, MARK_FILTER, THRESHOLD_FILTER, ...METADATA.filters];
