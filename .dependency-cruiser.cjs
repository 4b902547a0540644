'use strict';
/*
 * The one import rule of the house: `platform/` imports packages only; a feature imports `platform/` and the services
 * (and, to wire them, the modules) of the features above it in this list.
 */
const FEATURES = [
  'audit',
  'keys',
  'evidence',
  'organizations',
  'resources',
  'agents',
  'quota',
  'federation',
  'credentials',
  'tokens',
  'revocations',
  'webhooks',
  'operator',
  'recovery',
  'cli',
];

const featureRules = FEATURES.flatMap((feature, index) => {
  const below = FEATURES.slice(index + 1);
  const above = FEATURES.slice(0, index);
  return [
    below.length > 0 && {
      name: `${feature}-not-downwards`,
      comment: `${feature}/ imports a feature that stands below it.`,
      severity: 'error',
      from: { path: `^src/${feature}/` },
      to: { path: `^src/(${below.join('|')})/` },
    },
    above.length > 0 && {
      name: `${feature}-services-only`,
      comment: `${feature}/ imports something else than a service or module of another feature.`,
      severity: 'error',
      from: { path: `^src/${feature}/` },
      to: { path: `^src/(${above.join('|')})/`, pathNot: '\\.(service|module)\\.ts$' },
    },
  ].filter(Boolean);
});

module.exports = {
  forbidden: [
    ...featureRules,
    {
      name: 'platform-imports-packages-only',
      comment: 'platform/ knows no feature.',
      severity: 'error',
      from: { path: '^src/platform/' },
      to: { path: '^src/', pathNot: '^src/platform/' },
    },
    {
      name: 'known-rooms-only',
      comment: 'A room of src/ that the list of features does not name.',
      severity: 'error',
      from: {},
      to: { path: '^src/[^/]+/', pathNot: `^src/(platform|${FEATURES.join('|')})/` },
    },
    {
      name: 'no-import-of-the-boot',
      comment: 'The files at the top of src/ put the rooms together; no room imports them.',
      severity: 'error',
      from: { path: '^src/[^/]+/', pathNot: '\\.spec\\.ts$|^src/cli/' },
      to: { path: '^src/[^/]+\\.ts$' },
    },
    {
      name: 'no-tests-in-the-product',
      comment: 'The product imports neither tests nor scripts.',
      severity: 'error',
      from: { path: '^(src|ormconfig\\.ts)', pathNot: '\\.spec\\.ts$' },
      to: { path: '^(test|scripts)/|\\.spec\\.ts$' },
    },
    {
      name: 'no-development-packages-in-the-product',
      comment:
        'The product imports a package that is installed for development only, or that package.json does not name.',
      severity: 'error',
      from: { path: '^(src|ormconfig\\.ts)', pathNot: '\\.spec\\.ts$' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-circles',
      comment: 'The file imports itself by way of others.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'resolvable',
      comment: 'The import leads nowhere.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
