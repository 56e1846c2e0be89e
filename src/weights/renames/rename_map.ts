/** How one publication's names become those of the zoo. */
export interface RenameMap {
  /** For people: `timm's ConvNeXt`. */
  name: string;
  /**
   * Given all names of a file, a function from one of them to the zoo's; null where it has none. Applied to
   * names of other kinds it may return nonsense: a map is used only if it finds more of a model's names.
   */
  renamer: (names: readonly string[]) => (name: string) => string | null;
  /** Tensors may differ from the model's in dimensions of size one. */
  reshapes?: boolean;
  /** Buffers that follow from the architecture, and that such files lack. */
  derived?: RegExp;
}
