// The images of an open record: one as large as its pane, the others in a strip below it. The original file is shown where
// it can be reached from the page's folder; until it is read, and where it is not there, the thumbnail, in the same place.

function drawStage(record) {
  const images = imagesOf(record);
  const frame = el("div", { class: "frame" }), caption = el("figcaption");
  const buttons = images.length < 2 ? [] : images.map((image, place) => el("button", {
    type: "button", "aria-label": `Image ${place + 1} of ${images.length}: ${image.name}`,
    title: place < 9 ? `Image ${place + 1} (${place + 1})` : `Image ${place + 1}`, click: () => show(place),
  }, small(image), el("span", { "aria-hidden": "true" }, String(place + 1))));

  function show(place) {
    const image = images[place];
    if (!image) return;
    buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === place)));
    const note = el("span"), regions = image.missing ? null : drawRegions(record, place);
    frame.replaceChildren(large(image, note), ...(regions ? [regions.drawing] : []));
    caption.replaceChildren(
      el("span", { dir: "auto" }, `${images.length > 1 ? `${place + 1} of ${images.length}: ` : ""}${image.name}`),
      ...[image.size && el("span", null, `${image.size[0]} × ${image.size[1]}`),
        image.link && !(image.missing && isBeside(image)) && el("a", { href: image.link, target: "_blank", rel: "noopener noreferrer" }, "original")].filter(Boolean),
      note,
      ...(regions ? [el("span", { class: "labels", role: "group", "aria-label": "Labels" }, ...regions.buttons)] : []));
  }
  const element = images.length ? el("figure", { class: "stage" }, frame, caption,
    buttons.length > 0 && el("div", { class: "strip", role: "group", "aria-label": "Images of this record" }, ...buttons)) : null;
  show(0);
  return { element, show };
}

/** Whether the original is a file that a page on disk can link to. */
const isBeside = (image) => image.link?.startsWith("./");

/** An image that fills its pane. `note` says why it is not sharp. */
function large(image, note) {
  if (image.missing) {
    return el("p", { class: "absent" }, el("strong", null, "This image is missing."), el("span", { dir: "auto" }, image.missing));
  }
  const shown = el("img", { src: thumbnail(image.thumbnail), alt: image.name, draggable: "false", class: "thumbnail" });
  if (!isBeside(image)) {
    note.textContent = "shown from its thumbnail";
    return shown;
  }
  const original = el("img", { src: image.link, alt: image.name, draggable: "false", class: "original", decoding: "async" });
  original.decode().then(
    () => shown.replaceWith(original),
    () => { note.textContent = "shown from its thumbnail: the original is not beside the page, or is of a kind that this browser cannot show"; });
  return shown;
}
