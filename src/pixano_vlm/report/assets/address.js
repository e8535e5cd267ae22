// The page's address and its history: an open record has an entry of its own, so that Back closes it, and an address that can
// be kept; so has the gallery. Knows no element.

const STEPS_REST = 200;  // ms: browsers refuse an address that changes many times per second, as a held key would make it

/** Keeps the address. `onRecord` is called with the record that it names, or null, when the reader goes back or forth. */
function keepAddress(onRecord) {
  let waiting = null;  // a change of address that waits for the steps to rest
  let leaving = false, after = null;  // on the way back to the list, and a record that was opened meanwhile

  const named = () => new URLSearchParams(location.hash.slice(1));
  const recordNamed = () => {
    const id = named().get("record");
    return id === null ? null : records.find((one) => one.id === id) ?? null;
  };
  function hash(record) {
    const names = new URLSearchParams();
    if (view.gallery) names.set("view", "gallery");
    if (record) names.set("record", record.id);
    return names.size ? `#${names}` : location.pathname + location.search;
  }
  function write(method, state, record) {
    clearTimeout(waiting);
    try {
      history[method](state, "", hash(record));
    } catch { /* some browsers refuse this to files; the page does without */ }
  }
  addEventListener("popstate", () => {
    leaving = false;
    const opened = after;
    after = null;
    if (opened) write("pushState", { opened: true }, opened);
    else onRecord(recordNamed());
  });
  return {
    recordNamed,
    galleryNamed: () => named().get("view") === "gallery",
    opened(record) {
      if (leaving) after = record;
      else write("pushState", { opened: true }, record);
    },
    stepped(record) {
      clearTimeout(waiting);
      waiting = setTimeout(() => write("replaceState", history.state, record), STEPS_REST);
    },
    closed() {
      clearTimeout(waiting);
      after = null;
      if (!named().has("record")) return;  // Back has closed it
      if (history.state?.opened) {
        leaving = true;
        history.back();
      } else write("replaceState", null, null);
    },
    viewed: (record) => write("replaceState", history.state, record),
  };
}
