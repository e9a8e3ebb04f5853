// Which conversations hold what a reader looks for.

/** Those whose title or turns hold each of the words, wherever it stands; wide letters and capitals are the same as others. */
export function matching(conversations, words) {
  const wanted = plain(words).split(/\s+/).filter(Boolean);
  return conversations.filter(({ title, turns }) => {
    const texts = [title, ...turns.map((turn) => turn.content)].map(plain);
    return wanted.every((word) => texts.some((text) => text.includes(word)));
  });
}

function plain(text) {
  return text.normalize("NFKC").toLowerCase();
}
