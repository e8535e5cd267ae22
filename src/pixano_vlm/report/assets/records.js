// The records of this page and what they say. Knows no element but those with the data.

const data = JSON.parse(byId("data").textContent);
const records = data.records;
const comparing = data.runs.length > 1;
const NAMES = ["A", "B"];

/** A thumbnail's data URL; null while the rest of the file is still being read. */
function thumbnail(number) {
  return byId(`thumbnail-${number}`)?.textContent ?? null;
}

const imagesOf = (record) => (record.images ?? []).map((number) => data.images[number]);
const answersOf = (record) => record.answers.filter((answer) => answer != null);

/** A prompt as one text: the messages of a conversation below each other. */
function promptText(prompt) {
  if (prompt == null || typeof prompt === "string") return prompt ?? "";
  return prompt.map((message) => message.parts.filter((part) => typeof part === "string").join(" ")).join("\n");
}

/** The text of the last message that a user wrote: what the answer answers. */
function question(prompt) {
  if (prompt == null || typeof prompt === "string") return prompt ?? "";
  const asked = prompt.filter((message) => message.role === "user");
  return promptText(asked.slice(-1)) || promptText(prompt);
}

/** What an answer says: its text, or why there is none. */
function answerText(answer) {
  return answer?.text ?? (answer?.error ? answer.error[1] : "");
}

/** How an answer ended, in a word. */
function outcome(answer) {
  return answer.status === "error" ? answer.error?.[0] ?? "error" : answer.finish ?? "ok";
}

/** What is searched in: everything that the record says, in lower case. */
function searched(record) {
  if (record.searched === undefined) {
    record.searched = [
      record.id,
      promptText(record.prompt),
      ...imagesOf(record).map((image) => image.name),
      record.metadata ? JSON.stringify(record.metadata) : "",
      record.truth ?? "",
      ...record.answers.map((answer) => answer
        ? [answer.text, answer.error?.join(" "), answer.flags?.join(" "), promptText(answer.prompt)].join("\n") : ""),
    ].join("\n").toLowerCase();
  }
  return record.searched;
}
