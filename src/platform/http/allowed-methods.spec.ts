import { describe, expect, it } from '@jest/globals';
import { fastify } from 'fastify';
import { AllowedMethods } from './allowed-methods.js';
import { isOAuthPath, pathOf } from './oauth-path.js';

describe('AllowedMethods', () => {
  const app = fastify();
  const methods = new AllowedMethods(app);
  app.get('/a/:id', () => '');
  app.delete('/a/:id', () => '');
  app.post('/a/special', () => '');
  app.get('/files/*', () => '');
  app.get('/dot.json', () => '');

  it.each([
    ['/a/1', 'DELETE, GET, HEAD'],
    ['/a/1?x=/y', 'DELETE, GET, HEAD'],
    ['/%61/1', 'DELETE, GET, HEAD'],
    ['/a/x%2Fy', 'DELETE, GET, HEAD'],
    ['/a/special', 'DELETE, GET, HEAD, POST'],
    ['/files/x/y', 'GET, HEAD'],
    ['/dot.json', 'GET, HEAD'],
    ['/dotXjson', undefined],
    ['/a/', undefined],
    ['/a/1/', undefined],
    ['/a', undefined],
    ['/toString', undefined],
  ])('%s: %s', (url, allow) => {
    expect(methods.refusalFor(url).headers['Allow']).toBe(allow);
    expect(methods.refusalFor(url).status).toBe(allow === undefined ? 404 : 405);
  });
});

describe('paths', () => {
  it.each([
    ['/api/v1/token', true],
    ['/api/v1/token?client_secret=x', true],
    ['/api/v1/%74oken', true],
    ['/api/v1/token#x', true],
    ['http://host/api/v1/token', true],
    ['/api/v1/token/introspect', true],
    ['/api/v1/token/revoke', true],
    ['/api/v1/authorize?response_type=code', true],
    ['/api/v1/tokens', false],
    ['/api/v1/token/', false],
    ['/API/v1/token', false],
    ['/api/v1/token%2Frevoke', false],
    ['/?/api/v1/token', false],
  ])('%s is an OAuth path: %p', (url, expected) => {
    expect(isOAuthPath(url)).toBe(expected);
  });

  it('survives what cannot be decoded', () => {
    expect(pathOf('/%zz?x')).toBe('/%zz');
    expect(pathOf('*')).toBe('*');
  });
});
