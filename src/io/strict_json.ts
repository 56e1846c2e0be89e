/**
 * What JSON.parse lets through and an untrusted file must not: duplicate keys (the last one silently wins, so two
 * readers of one file may see different things) and deep nesting.
 */

/**
 * Walks over JSON that JSON.parse has already accepted.
 *
 * @throws SyntaxError naming the first duplicate key or the nesting beyond `maxDepth`.
 */
export function checkJson(text: string, options: { maxDepth: number }): void {
  // One set of keys per open object, null per open array.
  const open: (Set<string> | null)[] = [];
  let expectKey = false;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x7b: // {
      case 0x5b: // [
        expectKey = text[i] === '{';
        open.push(expectKey ? new Set() : null);
        if (open.length > options.maxDepth)
          throw new SyntaxError(`nested deeper than ${options.maxDepth} levels`);
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        expectKey = false;
        break;
      case 0x2c: // ,
        expectKey = open[open.length - 1] instanceof Set;
        break;
      case 0x22: {
        const start = i;
        for (i++; text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++;
        if (!expectKey) break;
        const raw = text.slice(start + 1, i);
        const key = raw.includes('\\') ? (JSON.parse(text.slice(start, i + 1)) as string) : raw;
        const keys = open[open.length - 1];
        if (keys?.has(key)) throw new SyntaxError(`the key '${key.slice(0, 80)}' occurs twice`);
        keys?.add(key);
        expectKey = false;
        break;
      }
    }
  }
}
