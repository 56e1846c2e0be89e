import js from '@eslint/js';
import tseslint from 'typescript-eslint';

// Without type information: the whole project is checked in seconds. What types can find, tsc's strict mode does.
export default tseslint.config(
  {
    ignores: ['dist/', 'build/', 'build-cmake/', 'node_modules/', 'runs/', 'test/golden/', 'test/fixtures/'],
  },
  js.configs.recommended,
  ...tseslint.configs.strict,
  {
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-console': 'error',
      'no-constant-condition': ['error', { checkLoops: false }],
      'no-else-return': 'error',
      'no-implicit-coercion': ['error', { boolean: false }],
      'object-shorthand': 'error',
      'prefer-const': 'error',
      'no-unused-vars': 'off',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' },
      ],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      // Indexing arrays whose length is known by construction is everywhere in numeric code.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-extraneous-class': 'off',
      '@typescript-eslint/unified-signatures': 'off',
    },
  },
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: {
      globals: {
        process: 'readonly',
        performance: 'readonly',
        URL: 'readonly',
        console: 'readonly',
        setTimeout: 'readonly',
        Buffer: 'readonly',
      },
    },
  },
  {
    // Programs that talk to a person in a terminal.
    files: ['src/cli/**', 'bench/**', 'examples/**', 'test/conformance/**', 'scripts/**'],
    rules: { 'no-console': 'off' },
  },
);
