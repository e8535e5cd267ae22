// JSON laid out over lines. Its tokens stay as they are written: parsed, a long number would be rounded.

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** [text, kind] of each piece of a JSON text: `key`, `string`, `value` (a number, true, false, null) or `sign`. */
function jsonPieces(text) {
  const tokens = text.match(TOKENS) ?? [], pieces = [];
  let depth = 0;
  const breakLine = () => pieces.push([`\n${"  ".repeat(depth)}`, "sign"]);
  tokens.forEach((token, place) => {
    const before = tokens[place - 1], after = tokens[place + 1];
    if (token === "}" || token === "]") {
      depth--;
      if (before !== "{" && before !== "[") breakLine();
    }
    pieces.push([token === ":" ? ": " : token, kindOf(token, after)]);
    if (token === "{" || token === "[") {
      depth++;
      if (after !== "}" && after !== "]") breakLine();
    } else if (token === ",") breakLine();
  });
  return pieces;
}

function kindOf(token, after) {
  if (token.startsWith('"')) return after === ":" ? "key" : "string";
  return "{}[],:".includes(token) ? "sign" : "value";
}

/** An answer's text as it is shown: JSON over lines, any other as it is. */
function shownText(answer) {
  if (!answer?.json) return answer?.text;
  answer.laidOut ??= jsonPieces(answer.text).map(([piece]) => piece).join("");
  return answer.laidOut;
}
