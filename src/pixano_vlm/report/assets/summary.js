// The head of the page: what was run, what came of it, and with which settings. Figures are of whole runs.

function drawSummary(container) {
  byId("figures-said").textContent = inOneLine();
  byId("subtitle").append(...subtitle());
  drawPages(byId("pages"));
  container.append(comparing ? verdictTiles() : tiles(data.runs[0]));
  if (comparing) container.append(runsTable());
  const properties = settings();
  if (properties) container.append(properties);
  byId("made").textContent = `pixano-vlm ${data.version}`;
}

/** What is left of the figures while they are folded away. */
function inOneLine() {
  if (comparing) {
    const { same = 0, different = 0 } = data.verdicts;
    return `${readable(data.total)} records: ${readable(same)} the same, ${readable(different)} different`;
  }
  const { records: all, ok, flagged } = data.runs[0];
  return `${readable(all)} records: ${readable(ok)} answered, ${readable(all - ok)} failed${flagged ? `, ${readable(flagged)} flagged` : ""}`;
}

function subtitle() {
  return data.runs.map((run, place) => el("span", { class: "run" },
    comparing && el("span", { class: `name run-${place}` }, NAMES[place]),
    el("span", { dir: "auto" }, [run.model, run.file === data.title ? null : run.file].filter(Boolean).join(", "))));
}

function drawPages(nav) {
  if (data.pages.length < 2) return;
  nav.hidden = false;
  const first = records[0]?.number ?? 0, last = records[records.length - 1]?.number ?? 0;
  nav.append(
    el("span", null, `Records ${readable(first)} to ${readable(last)} of ${readable(data.total)}`),
    el("span", { class: "links" }, ...data.pages.map((name, place) => el(
      "a", { href: `./${encodeURIComponent(name)}`, "aria-current": place === data.page ? "page" : null,
             "aria-label": `Page ${place + 1}` }, String(place + 1)))));
}

function tile(label, value, note, kind) {
  return el("div", { class: `tile ${kind ?? ""}` }, el("dt", null, label), el("dd", null, value, note && el("small", null, note)));
}

function share(part, whole) {
  if (!whole || !part || part === whole) return null;
  const percent = (100 * part) / whole;
  return percent < 0.1 ? "< 0.1 %" : percent > 99.9 ? "> 99.9 %" : `${measure.format(percent)} %`;
}

function tiles(run) {
  const failed = run.records - run.ok;
  return el("dl", { class: "tiles" },
    tile("Records", readable(run.records)),
    tile("Answered", readable(run.ok), share(run.ok, run.records)),
    tile("Failed", readable(failed), share(failed, run.records), failed ? "bad" : ""),
    run.trust && tile("Right", percent(run.trust.right[0]), `of ${readable(run.trust.right[3])}`),
    run.flagged > 0 && tile("Flagged", readable(run.flagged), share(run.flagged, run.records), "warn"),
    tile("Prompt tokens", readable(run.input)),
    tile("Answer tokens", readable(run.output), run.ok ? `${measure.format(run.output / run.ok)} each` : null),
    run.tokens_per_second && tile("Tokens per second", readable(run.tokens_per_second)),
    run.seconds && tile("Wall time", duration(run.seconds)));
}

function verdictTiles() {
  const { same = 0, different = 0, "only first": first = 0, "only second": second = 0 } = data.verdicts;
  return el("dl", { class: "tiles" },
    tile("Records", readable(data.total)),
    tile("Same answer", readable(same), share(same, data.total)),
    tile("Different", readable(different), share(different, data.total), different ? "warn" : ""),
    hasTruth && tile("Became right", readable(data.truth.changes["became right"] ?? 0), null, "good"),
    hasTruth && tile("Became wrong", readable(data.truth.changes["became wrong"] ?? 0), null, data.truth.changes["became wrong"] ? "bad" : ""),
    first > 0 && tile("Only in A", readable(first)),
    second > 0 && tile("Only in B", readable(second)));
}

function runsTable() {
  const figures = [
    ["Model", (run) => run.model || "–"],
    ["Answered", (run) => readable(run.ok)],
    ["Failed", (run) => readable(run.records - run.ok)],
    ...(hasTruth ? [["Right", (run) => `${percent(run.trust.right[0])}${between(run.trust.right)}`]] : []),
    ["Flagged", (run) => readable(run.flagged)],
    ["Prompt tokens", (run) => readable(run.input)],
    ["Answer tokens", (run) => readable(run.output)],
    ["Tokens per second", (run) => readable(run.tokens_per_second)],
    ["Wall time", (run) => (run.seconds ? duration(run.seconds) : "–")],
  ];
  return el("div", { class: "scrolls" }, el("table", { class: "runs" },
    el("thead", null, el("tr", null, el("td"), ...figures.map(([label]) => el("th", { scope: "col" }, label)))),
    el("tbody", null, ...data.runs.map((run, place) => el("tr", null,
      el("th", { scope: "row" }, el("span", { class: `name run-${place}` }, NAMES[place])),
      ...figures.map(([, value]) => el("td", { dir: "auto" }, value(run))))))));
}

/** Settings and versions; of two runs, those that differ are marked and come first. */
function settings() {
  const names = [...new Set(data.runs.flatMap((run) => Object.keys(run.properties)))];
  if (!names.length) return null;
  const rows = names.map((name) => ({ name, values: data.runs.map((run) => run.properties[name] ?? "–") }));
  for (const row of rows) row.differs = comparing && row.values[0] !== row.values[1];
  rows.sort((a, b) => b.differs - a.differs);
  return el("details", { class: "settings" },
    el("summary", null, "Settings and versions"),
    el("div", { class: "scrolls" }, el("table", null,
      comparing && el("thead", null, el("tr", null, el("td"), ...NAMES.map((name, place) =>
        el("th", { scope: "col" }, el("span", { class: `name run-${place}` }, name))))),
      el("tbody", null, ...rows.map((row) => el("tr", { class: row.differs ? "differs" : null },
        el("th", { scope: "row" }, row.name), ...row.values.map((value) => el("td", { dir: "auto" }, value))))))));
}
