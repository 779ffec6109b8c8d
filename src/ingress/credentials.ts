// Credentials that a client sent, wherever else they stand in what it sent. What came is told in messages, but not these: answers and log
// lines are read by others.
//
// Promises: of the credentials no piece of PIECE_LETTERS is shown, in capitals or small letters, as they are or as JSON and URLs escape
// them. Costs the letters of the text times those of the credentials, of which MAX_LETTERS count; paid for errors alone.

/** Of fewer letters there is nothing to learn, and a message would lose its sense. */
const PIECE_LETTERS = 8;
/** More than any token has that is taken (auth.ts), also in base64. */
const MAX_LETTERS = 2048;

/** Letters of ASCII alone: with others the text may change its length. */
function inSmall(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** What to hide of one secret: how a message may have it. */
export function secretsOf(secret: string): readonly string[] {
  const plain = secret.slice(0, MAX_LETTERS);
  const forms = [plain, JSON.stringify(plain).slice(1, -1), encodeURIComponent(plain)];
  return [...new Set(forms.map(inSmall))].filter((form) => form.length >= PIECE_LETTERS);
}

/** The same of an `Authorization` header, whatever its scheme: what stands behind that, and what Basic has in base64. */
export function secretsOfHeader(header: string): readonly string[] {
  const said = header.replace(/^[A-Za-z0-9-]+[ \t]+/, '');
  const basic = /^basic[ \t]/i.test(header) ? Buffer.from(said, 'base64').toString('latin1') : '';
  return [...secretsOf(said), ...secretsOf(basic)];
}

/** The text with … for each piece of a secret. @param secrets as `secretsOf` gives them */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  if (secrets.length === 0) return text;
  const small = inSmall(text);
  let shown = '';
  let hiddenTo = 0;
  for (let i = 0; i < text.length; i++) {
    const piece = small.slice(i, i + PIECE_LETTERS);
    if (piece.length === PIECE_LETTERS && secrets.some((secret) => secret.includes(piece))) {
      if (i >= hiddenTo) shown += '…';
      hiddenTo = i + PIECE_LETTERS;
    } else if (i >= hiddenTo) shown += text[i];
  }
  return shown;
}
