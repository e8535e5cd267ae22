// Elements made from names, attributes and text. Text from users only ever becomes a text node.

/** An element; a child that is null or false is left out, a string is text, an array is all of its members. */
function el(name, attributes, ...children) {
  const element = document.createElement(name);
  // One by one: as arguments of one call, the pieces of a long text are more than a browser takes.
  for (const child of children.flat()) if (child != null && child !== false) element.append(child);
  setAttributes(element, attributes);  // last: under `dir="auto"`, every child makes the browser read all of them again
  return element;
}

/** The same for drawings. */
function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  setAttributes(element, attributes);
  element.append(...children.filter((child) => child != null));
  return element;
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
}

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
const measure = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A number for people: 1,234 and 0.59; a dash for one that is not known. */
function readable(value) {
  if (value == null) return "–";
  return Number.isInteger(value) || Math.abs(value) >= 1000 ? count.format(Math.round(value)) : measure.format(value);
}

function duration(seconds) {
  if (seconds < 90) return `${readable(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Any JSON value as text. */
function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** Text with the words that are searched for marked. */
function marked(text, words) {
  if (!words.length) return [text];
  const lower = text.toLowerCase();
  // Where lower case has another length (İ), places do not carry over: the text stays unmarked.
  if (lower.length !== text.length) return [text];
  const pieces = [];
  let done = 0;
  while (done < text.length) {
    let start = -1, length = 0;
    for (const word of words) {
      const at = lower.indexOf(word, done);
      if (at >= 0 && (start < 0 || at < start || (at === start && word.length > length))) {
        start = at;
        length = word.length;
      }
    }
    if (start < 0) break;
    pieces.push(text.slice(done, start), el("mark", null, text.slice(start, start + length)));
    done = start + length;
  }
  pieces.push(text.slice(done));
  return pieces;
}
