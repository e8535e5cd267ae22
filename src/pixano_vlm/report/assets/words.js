// Two texts compared word by word. Knows no record; white space alone makes no difference here.

const MOST_CELLS = 4e6;

/** The words of a text and the white space behind each. Letters and digits make words; other signs stand alone. */
function wordsOf(text) {
  return [...text.matchAll(/([\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_])(\s*)/gu)].map((found) => [found[1], found[2]]);
}

/** The words of both texts, each with whether the other lacks it: two lists of [text, changed] pieces. */
function compareWords(one, other) {
  const a = wordsOf(one), b = wordsOf(other);
  let start = 0, endA = a.length, endB = b.length;
  while (start < endA && start < endB && a[start][0] === b[start][0]) start++;
  while (endA > start && endB > start && a[endA - 1][0] === b[endB - 1][0]) { endA--; endB--; }
  const keptA = new Set(), keptB = new Set();
  keepCommon(a, b, start, endA, endB, keptA, keptB);
  return [
    pieces(one, a, (place) => place < start || place >= endA || keptA.has(place)),
    pieces(other, b, (place) => place < start || place >= endB || keptB.has(place)),
  ];
}

/** Notes the places of a longest common subsequence; none where the texts are too long to find one quickly. */
function keepCommon(a, b, start, endA, endB, keptA, keptB) {
  const rows = endA - start, columns = endB - start, width = columns + 1;
  if (rows * columns === 0 || rows * columns > MOST_CELLS) return;
  const lengths = new Uint16Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      lengths[i * width + j] = a[start + i][0] === b[start + j][0]
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (a[start + i][0] === b[start + j][0]) { keptA.add(start + i++); keptB.add(start + j++); }
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
}

function pieces(text, words, isKept) {
  const found = [[text.match(/^\s*/)[0], false]];
  words.forEach(([word, space], place) => {
    const changed = !isKept(place), last = found[found.length - 1];
    const goesOn = changed && !isKept(place + 1) && place + 1 < words.length;  // space between two changed words
    if (last[1] === changed) last[0] += word;
    else found.push([word, changed]);
    if (goesOn || !changed) found[found.length - 1][0] += space;
    else found.push([space, false]);
  });
  return found.filter(([piece]) => piece);
}

/** The answers of a record compared, once: null where there are not two texts. */
function comparison(record) {
  if (record.compared === undefined) {
    const [one, other] = record.answers;
    record.compared = one?.text != null && other?.text != null ? compareWords(shownText(one), shownText(other)) : null;
  }
  return record.compared;
}
