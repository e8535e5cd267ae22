// Parts of the page that open and close: a menu closes by Esc and by a click elsewhere; on a narrow window, figures and
// filters begin closed, so that the first record is on the first screen.

const narrow = matchMedia("(max-width: 900px)");

for (const menu of document.querySelectorAll("details.menu, #narrowing")) {
  const isMenu = () => menu.matches(".menu") || narrow.matches;
  document.addEventListener("click", (event) => { if (isMenu() && !menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isMenu() || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.stopPropagation();
  });
}

function fold() {
  for (const part of document.querySelectorAll("details.folds")) part.open = !narrow.matches;
}
narrow.addEventListener("change", fold);
fold();

/** The menu of the marks: how many there are, saved and loaded as files. */
function drawMarksMenu(onChange) {
  const said = byId("marks-said"), total = byId("marks-total"), file = byId("marks-file");
  const stem = data.pages[0].replace(/\.[^.]*$/, "");
  function show() {
    const all = marks.current(), earlier = marks.earlier();
    const number = (fits) => all.filter(fits).length;
    total.textContent = all.length
      ? `${readable(number(({ mark }) => mark === "good"))} good, ${readable(number(({ mark }) => mark === "bad"))} bad, ${readable(number(({ note }) => note))} with a note`
      : "No record is marked yet.";
    byId("marks-count").textContent = all.length ? readable(all.length) : "";
    byId("marks-earlier").textContent = earlier ? `${readable(earlier)} of an earlier answer, not shown.` : "";
    byId("marks-kept").textContent = marks.isKept() ? "Marks stay in this browser until you save them."
      : "This browser does not keep marks: save them before you close the page.";
    for (const button of document.querySelectorAll("#marks [data-save], #marks-clear")) button.disabled = !all.length;
  }
  for (const button of document.querySelectorAll("#marks [data-save]")) {
    button.addEventListener("click", () => {
      const kind = button.dataset.save;
      if (kind === "all") save(`${stem}.marks.jsonl`, marks.text());
      else save(`${stem}.${kind}.txt`, marks.ids(kind));
    });
  }
  byId("marks-load").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    const { taken, refused } = marks.load(await file.files[0].text());
    file.value = "";
    said.textContent = `${readable(taken)} marks loaded.${refused.length ? ` ${readable(refused.length)} lines not: ${refused[0]}.` : ""}`;
    onChange();
  });
  byId("marks-clear").addEventListener("click", () => {
    if (!confirm("Remove every mark and note of this report?")) return;
    marks.clear();
    said.textContent = "Removed.";
    onChange();
  });
  marks.listen(show);
  show();
}

/** Hands a text to the reader as a file. */
function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
