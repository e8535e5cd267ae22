// A small, safe part of Markdown as elements: headings, paragraphs, lists, quotes, code, tables, emphasis. Knows no record.
// HTML stays text, a link is its text and its address and cannot be followed, an image is its description. Every step is
// linear in the text's length and nothing nests without end, whatever the text.

const DEEPEST = 10;  // lists and quotes inside each other
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const COLUMN = /^:?-+:?$/;

/** A text's blocks as elements. `write` makes nodes of plain text. */
function markdown(text, write) {
  return blocks(text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"), write, 0);
}

function blocks(lines, write, depth) {
  const made = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) at++;
    else {
      const [element, next] = block(lines, at, write, depth);
      made.push(element);
      at = next;
    }
  }
  return made;
}

/** The block that begins at a line, and where the next one may begin. */
function block(lines, at, write, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return fenced(lines, at, write);
  if (HEADING.test(line)) return [heading(line, write), at + 1];
  if (RULE.test(line)) return [el("hr"), at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, write, depth);
  if (depth < DEEPEST && ITEM.test(line)) return listing(lines, at, write, depth);
  if (isTable(lines, at)) return table(lines, at, write);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !beginsBlock(lines, end, depth)) end++;
  return [el("p", null, inline(lines.slice(at, end).map((each) => each.trimStart()).join("\n"), write)), end];
}

function beginsBlock(lines, at, depth) {
  const line = lines[at];
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || isTable(lines, at)
    || (depth < DEEPEST && (QUOTE.test(line) || ITEM.test(line)));
}

function fenced(lines, at, write) {
  const sign = lines[at].match(FENCE)[1];
  let end = at + 1;
  while (end < lines.length && !(lines[end].trim().startsWith(sign) && !lines[end].trim().replaceAll(sign[0], ""))) end++;
  return [el("pre", null, el("code", null, write(lines.slice(at + 1, end).join("\n")))), end + 1];
}

function heading(line, write) {
  const level = line.match(HEADING)[1].length;
  let text = line.trim().slice(level).trim();
  const bare = text.replace(/(^|\s)#+$/, "$1");
  if (bare !== text) text = bare.trimEnd();
  // Below the headings of the page, which are of levels 1 to 3.
  return el(`h${Math.min(6, level + 3)}`, { class: `level-${level}` }, inline(text, write));
}

function quote(lines, at, write, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  return [el("blockquote", null, blocks(lines.slice(at, end).map((line) => line.replace(QUOTE, "")), write, depth + 1)), end];
}

function listing(lines, at, write, depth) {
  const [, , first] = lines[at].match(ITEM);
  const ordered = /\d/.test(first), sign = first.slice(-1), items = [];
  let end = at;
  while (end < lines.length) {
    const found = lines[end].match(ITEM);
    if (!found || found[2].slice(-1) !== sign || /\d/.test(found[2]) !== ordered || RULE.test(lines[end])) break;
    const width = found[1].length + 2;  // lines indented at least so far belong to the item
    const inside = [lines[end].slice(found[0].length)];
    for (end++; end < lines.length; end++) {
      const line = lines[end], indent = line.length - line.trimStart().length;
      if (!line.trim()) {
        const after = lines[end + 1];
        if (after === undefined || !after.trim() || after.length - after.trimStart().length < width) break;
        inside.push("");
      } else if (indent >= width) inside.push(line.slice(width));
      else if (beginsBlock(lines, end, depth) || !inside[inside.length - 1].trim()) break;
      else inside.push(line.trimStart());  // a paragraph that continues without its indent
    }
    items.push(inside);
    let next = end;
    while (next < lines.length && !lines[next].trim()) next++;
    if (next < lines.length && ITEM.test(lines[next])) end = next;
  }
  const children = items.map((inside) => {
    const made = blocks(inside, write, depth + 1);
    return el("li", null, ...(made[0]?.localName === "p" ? [...made[0].childNodes, ...made.slice(1)] : made));
  });
  return [el(ordered ? "ol" : "ul", ordered ? { start: String(parseInt(first, 10)) } : null, children), end];
}

/** The cells of a table's line; a bar behind a backslash is text. */
function cellsOf(line) {
  const cells = [];
  let cell = "";
  for (const part of line.trim().replace(/^\|/, "").split("|")) {
    if (part.endsWith("\\")) cell += `${part.slice(0, -1)}|`;
    else {
      cells.push((cell + part).trim());
      cell = "";
    }
  }
  if (cell) cells.push(cell.trim());
  if (cells.length > 1 && !cells[cells.length - 1]) cells.pop();
  return cells;
}

function isTable(lines, at) {
  if (!lines[at].includes("|") || !lines[at + 1]?.includes("-") || !/^[\s|:-]+$/.test(lines[at + 1])) return false;
  const columns = cellsOf(lines[at + 1]);
  return columns.every((cell) => COLUMN.test(cell)) && columns.length === cellsOf(lines[at]).length;
}

function table(lines, at, write) {
  const columns = cellsOf(lines[at + 1]).map((cell) => (cell.endsWith(":") ? cell.startsWith(":") ? "middle" : "end" : null));
  const row = (line, name) => {
    const cells = cellsOf(line).slice(0, columns.length);
    return el("tr", null, cells.map((cell, place) => el(name, { class: columns[place] }, inline(cell, write))));
  };
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end++;
  return [el("div", { class: "scrolls" }, el("table", null,
    el("thead", null, row(lines[at], "th")),
    el("tbody", null, lines.slice(at + 2, end).map((line) => row(line, "td"))))), end];
}

const PIECE = /\\[!-/:-@[-`{-~]|\\\n| {2,8}\n|`+|\*+|_+|~~|!?\[[^[\]\n]{0,1000}\]\([^()\s]{0,2000}\)/g;
const LINK = /^(!?)\[(.*)\]\((.*)\)$/s;
const MOST_OPEN = 12;  // emphasis inside each other
const WORD = /[\p{L}\p{N}]/u;

/** Emphasis, code, links and line breaks of a text as nodes. */
function inline(text, write) {
  const nodes = [], open = [];  // open: signs of emphasis that wait for their end, by their place in `nodes`
  const ends = codeEnds(text);
  let done = 0;
  const plain = (from, to) => { if (to > from) for (const node of write(text.slice(from, to))) nodes.push(node); };
  PIECE.lastIndex = 0;
  for (let found; (found = PIECE.exec(text));) {
    const [piece] = found, at = found.index;
    let next = at + piece.length;
    plain(done, at);
    done = next;
    if (piece.endsWith("\n")) nodes.push(el("br"));
    else if (piece[0] === "\\") plain(at + 1, next);
    else if (piece[0] === "`") {
      const end = ends(piece.length, next);
      if (end < 0) plain(at, next);
      else {
        nodes.push(el("code", null, write(codeText(text.slice(next, end)))));
        done = next = end + piece.length;
      }
    } else if (piece.endsWith(")")) {
      nodes.push(link(piece, write));
    } else emphasis(piece, text[at - 1] ?? " ", text[next] ?? " ", nodes, open, write);
    PIECE.lastIndex = next;  // a link's text was read with the same expression
  }
  plain(done, text.length);
  return nodes;
}

/** Finds where a span of code ends: the next run of as many backticks. */
function codeEnds(text) {
  const runs = new Map();
  for (const { 0: run, index } of text.matchAll(/`+/g)) {
    if (!runs.has(run.length)) runs.set(run.length, []);
    runs.get(run.length).push(index);
  }
  const reached = new Map();
  return (length, from) => {
    const places = runs.get(length);
    let at = reached.get(length) ?? 0;
    while (at < places.length && places[at] < from) at++;
    reached.set(length, at);
    return places[at] ?? -1;
  };
}

function codeText(text) {
  const flat = text.replaceAll("\n", " ");
  return flat.length > 2 && flat.startsWith(" ") && flat.endsWith(" ") && flat.trim() ? flat.slice(1, -1) : flat;
}

function link(piece, write) {
  const [, image, text, address] = piece.match(LINK);
  if (image) return el("span", { class: "described" }, "image: ", write(text || address));
  return el("span", null, inline(text, write), text === address ? null : el("span", { class: "address" }, ` (${address})`));
}

/** Ends the emphasis that a sign closes, or notes that it may open one; else the sign is text. */
function emphasis(piece, before, after, nodes, open, write) {
  const inWord = piece[0] === "_";
  const closes = before.trim() && !(inWord && WORD.test(after));
  const opens = after.trim() && !(inWord && WORD.test(before));
  let left = piece.length;
  if (closes && left <= 3) {
    for (let at; left > 0 && (at = open.findLastIndex((one) => one.sign === piece[0])) >= 0;) {
      const one = open[at], used = piece[0] === "~" ? 2 : Math.min(one.left, left, 2);
      const [, ...inside] = nodes.splice(one.place);  // the sign itself is left out
      open.length = at;
      one.left -= used;
      left -= used;
      if (one.left) {
        nodes.push(one.sign.repeat(one.left));
        open.push(one);
      }
      nodes.push(el(piece[0] === "~" ? "s" : used === 2 ? "strong" : "em", null, inside));
    }
  }
  if (left && opens && left <= 3) {
    if (open.length === MOST_OPEN) open.shift();
    open.push({ sign: piece[0], left, place: nodes.length });
  }
  if (left) nodes.push(piece[0].repeat(left));
}
