// Search, filters, sorting and the choice between list and gallery. Calls `onChange` when the view has changed.

function drawToolbar(onChange) {
  const search = byId("search"), clear = byId("clear");
  const selects = new Map();
  for (const filter of [...FILTERS, MARK_FILTER]) addFilter(filter, byId("filters"));
  for (const filter of METADATA.filters) addFilter(filter, byId("metadata-filters"));
  const metadata = drawMetadataSearch();
  byId("metadata").hidden = !byId("metadata-filters").childElementCount && !METADATA.texts.length;

  const sort = el("select", { id: "sort" },
    ...COLUMNS.map((column) => el("option", { value: column.key }, column.title ?? column.label)));
  const turn = el("button", { type: "button", id: "turn", "aria-label": "Reverse the order", title: "Reverse the order", click: () =>
    change(() => { view.descending = !view.descending; }) }, "↑");
  sort.addEventListener("change", () => change(() => { view.sort = sort.value; view.descending = false; }));
  byId("sorting").append(el("label", null, el("span", null, "Sort"), sort), turn);

  function addFilter(filter, container) {
    const found = new Map(choices(filter)), values = [...found.keys()];
    if (values.length < 2) return;  // there is nothing to choose
    const select = el("select", { id: `filter-${filter.key}` }, el("option", { value: "" }, "All"), values.map((value) => el("option", { value })));
    // By its place: the value of a metadata key may be the empty text.
    select.addEventListener("change", () => change(() => {
      view.filters[filter.key] = select.selectedIndex ? values[select.selectedIndex - 1] : null;
    }));
    selects.set(filter.key, select);
    container.append(el("label", null, el("span", { dir: "auto" }, filter.label), select));
    count(filter, found);
  }
  /** Says in each option how many records have its value. */
  function count(filter, counts) {
    const [, ...options] = selects.get(filter.key).options;
    [...counts].forEach(([value, number], place) => {
      options[place].textContent = `${wordFor(filter, value)} (${readable(number)})`;
    });
  }
  /** The keys with many values: one is chosen, and a text that its values contain. */
  function drawMetadataSearch() {
    if (!METADATA.texts.length) return null;
    const select = el("select", { id: "metadata-key", "aria-label": "Metadata key" }, ...METADATA.texts.map((name) => el("option", { value: name }, name)));
    const field = el("input", { id: "metadata-text", type: "search", placeholder: "contains …", "aria-label": "Text in this metadata key", autocomplete: "off", spellcheck: "false" });
    const set = () => change(() => { view.metadata = { key: METADATA.texts[select.selectedIndex], text: field.value }; });
    select.addEventListener("change", set);
    field.addEventListener("input", set);
    byId("metadata-search").append(select, field);
    return field;
  }
  function change(set) {
    set();
    updateView();
    show();
    onChange();
  }
  function show() {
    const { length } = view.shown, number = filtersSet();
    byId("count").textContent = isNarrowed()
      ? `${readable(length)} of ${readable(records.length)} records` : `${readable(length)} records`;
    byId("filters-set").textContent = number ? readable(number) : "";
    const inMenu = METADATA.filters.filter((filter) => view.filters[filter.key] != null).length + Boolean(view.metadata.text.trim());
    byId("metadata-set").textContent = inMenu ? readable(inMenu) : "";
    clear.hidden = !isNarrowed();
    sort.value = view.sort;
    turn.textContent = view.descending ? "↓" : "↑";
    for (const [key, select] of selects) select.classList.toggle("set", view.filters[key] != null);
    metadata?.classList.toggle("set", Boolean(view.metadata.text.trim()));
    for (const button of document.querySelectorAll("#views button")) {
      button.setAttribute("aria-pressed", String((button.dataset.view === "gallery") === view.gallery));
    }
  }
  function clearAll() {
    search.value = "";
    for (const select of selects.values()) select.selectedIndex = 0;
    if (metadata) metadata.value = "";
    change(() => { view.words = []; view.filters = {}; view.metadata = { key: "", text: "" }; });
  }
  search.addEventListener("input", () => change(() => {
    view.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  }));
  byId("toolbar").addEventListener("submit", (event) => event.preventDefault());
  clear.addEventListener("click", () => { clearAll(); search.focus(); });
  byId("nothing").querySelector("button").addEventListener("click", clearAll);
  const setGallery = (gallery) => change(() => { view.gallery = gallery; });
  for (const button of document.querySelectorAll("#views button")) {
    button.addEventListener("click", () => setGallery(button.dataset.view === "gallery"));
  }
  marks.listen(() => count(MARK_FILTER, choices(MARK_FILTER)));
  show();
  return {
    setGallery,
    filterBy: (key, value) => change(() => { view.filters[key] = value; }),
    refresh: () => change(() => {}),
    sortBy: (key) => change(() => {
      view.descending = view.sort === key && !view.descending;
      view.sort = key;
    }),
  };
}
