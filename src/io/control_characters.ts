/** Names and labels from files are printed: control characters in them could rewrite a terminal. */

// eslint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

export function hasControlCharacters(text: string): boolean {
  return CONTROL.test(text);
}

/** For messages about text that was not checked: control characters become `\u001b`. */
export function escapeControlCharacters(text: string): string {
  return text.replace(
    new RegExp(CONTROL, 'g'),
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
