// Search, filters and, where the columns have no heads, sorting. Tells `onChange` when the view is to be made anew.

function drawToolbar(onChange) {
  const search = byId("search"), filters = byId("filters"), clear = byId("clear");
  const selects = new Map();
  for (const filter of FILTERS) {
    const found = choices(filter);
    if (found.length < 2) continue;  // there is nothing to choose
    const select = el("select", { id: `filter-${filter.key}` }, el("option", { value: "" }, "All"),
      ...found.map(([value, number]) =>
        el("option", { value }, `${filter.words[value] ?? value} (${readable(number)})`)));
    select.addEventListener("change", () => change(() => { view.filters[filter.key] = select.value; }));
    selects.set(filter.key, select);
    filters.append(el("label", null, el("span", null, filter.label), select));
  }
  const sort = el("select", { id: "sort" },
    ...COLUMNS.map((column) => el("option", { value: column.key }, column.title ?? column.label)));
  sort.addEventListener("change", () => change(() => { view.sort = sort.value; view.descending = false; }));
  const turn = el("button", { type: "button", id: "turn", "aria-label": "Reverse the order", click: () =>
    change(() => { view.descending = !view.descending; }) }, "↑");
  filters.append(el("div", { class: "narrow-only" }, el("label", null, el("span", null, "Sort"), sort), turn));

  function change(set) {
    set();
    updateView();
    show();
    onChange();
  }
  function show() {
    const { length } = view.shown;
    byId("count").textContent = isNarrowed()
      ? `${readable(length)} of ${readable(records.length)} records` : `${readable(length)} records`;
    clear.hidden = !isNarrowed();
    sort.value = view.sort;
    turn.textContent = view.descending ? "↓" : "↑";
    for (const [key, select] of selects) select.classList.toggle("set", Boolean(view.filters[key]));
  }
  function clearAll() {
    search.value = "";
    for (const select of selects.values()) select.value = "";
    change(() => { view.words = []; view.filters = {}; });
  }
  search.addEventListener("input", () => change(() => {
    view.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  }));
  byId("toolbar").addEventListener("submit", (event) => event.preventDefault());
  clear.addEventListener("click", () => { clearAll(); search.focus(); });
  byId("nothing").querySelector("button").addEventListener("click", clearAll);
  show();
  return {
    sortBy: (key) => change(() => {
      view.descending = view.sort === key && !view.descending;
      view.sort = key;
    }),
  };
}
