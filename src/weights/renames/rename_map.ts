/** How one publication's names become those of the zoo. */
export interface RenameMap {
  /** For people: `timm's ConvNeXt`. */
  name: string;
  /**
   * Given all names of a file, in its order, a function from one of them to the zoo's; null where it has none. Of
   * names of other kinds it may make nonsense: a map is used only if it finds more of a model's names than none.
   */
  renamer: (names: readonly string[]) => (name: string) => string | null;
  /** The same elements may stand under another shape: a linear layer as a 1×1 convolution. */
  reshapes?: boolean;
  /** Why the zoo's model computes something else with these weights; null if it does not. */
  caveat?: (names: readonly string[]) => string | null;
  /** Buffers that follow from the architecture, and that such files lack. */
  derived?: RegExp;
  /** Names in such files (as they stand there) that follow from the architecture. */
  redundant?: RegExp;
}

/** Applies the first rule whose pattern is the whole beginning of a name; `$1` and functions as in `replace`. */
export type Rule = readonly [RegExp, string | ((...groups: string[]) => string)];

export function byRules(rules: readonly Rule[]): (name: string) => string | null {
  return (name) => {
    for (const [pattern, replacement] of rules) {
      if (!pattern.test(name)) continue;
      return typeof replacement === 'string'
        ? name.replace(pattern, replacement)
        : name.replace(pattern, (_, ...groups: string[]) => replacement(...groups));
    }
    return null;
  };
}
