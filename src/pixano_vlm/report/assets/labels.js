// What an open record shows of how sure the model was: labels with bars, samples and their agreement, the truth.

const MOST_LABELS = 12;

/** Each label with its probability as a bar, the likeliest first; what is beyond the first few is folded. */
function labelBars(answer, truth) {
  if (!answer.labels?.length) return null;
  const rows = answer.labels.map(([label, probability]) => {
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.inlineSize = `${Math.max(0.5, 100 * probability)}%`;
    return el("li", { class: label === answer.text ? "chosen" : null },
      el("span", { class: "label-name", dir: "auto" }, label, truth === label && el("span", { class: "badge good" }, "truth")),
      el("span", { class: "track" }, bar), el("span", { class: "share" }, probability < 0.0005 ? "< 0.1 %" : `${(100 * probability).toFixed(1)} %`));
  });
  const rest = rows.slice(MOST_LABELS);
  return el("div", { class: "labels-of" }, el("h4", null, "Labels"), el("ol", { class: "label-bars" }, ...rows.slice(0, MOST_LABELS)),
    rest.length > 0 && el("details", null, el("summary", null, `${readable(rest.length)} more`), el("ol", { class: "label-bars" }, ...rest)));
}

/** Samples of an answer, each with whether it says what the answer says. */
function sampleList(answer) {
  if (!answer.samples?.length) return null;
  const agree = answer.samples.filter((sample) => sample.agrees).length;
  return el("div", { class: "samples-of" },
    el("h4", null, `${readable(answer.samples.length)} samples, ${readable(agree)} agree${answer.agreement == null ? "" : ` (${percent(answer.agreement)})`}`),
    el("ol", { class: "samples" }, ...answer.samples.map((sample) => el("li", { class: sample.agrees ? "agrees" : "differs" },
      el("span", { class: `badge ${sample.agrees ? "good" : "plain"}` }, sample.agrees ? "agrees" : "differs"),
      el("span", { class: "said", dir: "auto" }, sample.text ? marked(sample.text, view.words) : el("i", { class: "none" }, "empty")),
      sample.confidence != null && el("span", { class: "share", title: "Confidence" }, sample.confidence.toFixed(3))))));
}

/** The truth of a record, where there is one. */
function truthOf(record) {
  if (record.truth == null) return null;
  return section("Truth", el("p", { class: "text truth", dir: "auto" }, marked(record.truth, view.words)),
    el("p", { class: "muted" }, `Compared by ${data.truth.metric}: ${data.truth.says}`));
}
