/** libtorch that Fornax fetches, and that prebuilt addons are built against. */
export const TORCH_PINNED = '2.14.1';
/** Versions of libtorch that a build from source accepts, both inclusive (major.minor). */
export const TORCH_OLDEST = '2.11';
export const TORCH_NEWEST = '2.15';
