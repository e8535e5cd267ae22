// JSON laid out over lines. Its tokens stay as they are written: parsed, a long number would be rounded.

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const LINE = 60;  // characters of a list or object that stays on one line

/** [text, kind] of each piece of a JSON text: `key`, `string`, `value` (a number, true, false, null) or `sign`. */
function jsonPieces(text) {
  const tokens = text.match(TOKENS) ?? [], pieces = [];
  let depth = 0, inline = false;
  const breakLine = () => pieces.push([inline ? " " : `\n${"  ".repeat(depth)}`, "sign"]);
  tokens.forEach((token, place) => {
    if (token === "{" || token === "[") {
      pieces.push([token, "sign"]);
      inline = isShort(tokens, place);
      depth++;
      if (!inline) breakLine();
    } else if (token === "}" || token === "]") {
      depth--;
      if (!inline) breakLine();
      inline = false;
      pieces.push([token, "sign"]);
    } else if (token === ",") {
      pieces.push([token, "sign"]);
      breakLine();
    } else if (token === ":") pieces.push([": ", "sign"]);
    else pieces.push([token, kindOf(token, tokens[place + 1])]);
  });
  return pieces;
}

/** Whether the list or object that begins at a place holds no other one and is short. */
function isShort(tokens, place) {
  for (let end = place + 1, length = 2; end < tokens.length && length <= LINE; end++) {
    if (tokens[end] === "}" || tokens[end] === "]") return true;
    if (tokens[end] === "{" || tokens[end] === "[") return false;
    length += tokens[end].length + 1;
  }
  return false;
}

function kindOf(token, after) {
  if (token.startsWith('"')) return after === ":" ? "key" : "string";
  return "value";
}

/** An answer's text as it is shown: JSON over lines, any other as it is. */
function shownText(answer) {
  if (!answer?.json) return answer?.text;
  answer.laidOut ??= jsonPieces(answer.text).map(([piece]) => piece).join("");
  return answer.laidOut;
}
