import { applyDecorators, createParamDecorator, SetMetadata, type ExecutionContext } from '@nestjs/common';
import { ApiSecurity } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { isIP } from 'node:net';
import type { Client } from './client.js';
import type { Principal, RequestOrigin } from './principal.js';
import { OPERATOR_SCOPE, type BuiltInScope } from './scopes.js';

/** Refuses a request by its shape, before anybody is authenticated. Throws an `OAuthError`. */
export type ShapeCheck = (request: FastifyRequest) => void;

/** What a route asks of its caller. A route that declares nothing is refused by the access-token guard. */
export type Access =
  | { readonly kind: 'public' }
  | { readonly kind: 'client'; readonly shape: ShapeCheck }
  | {
      readonly kind: 'scopes';
      /** What a Bearer token must hold. */
      readonly scopes: readonly BuiltInScope[];
      /** What a client that authenticates itself must be allowed; `null`: client authentication is not taken. */
      readonly clientScopes: readonly BuiltInScope[] | null;
      /** Whether the operator's scope alone will do as well. */
      readonly orOperator?: true;
    };

/** The metadata key under which a route's `Access` stands. */
export const ACCESS = 'sentryagent:access';

const declarations = new WeakMap<object, Access | null>();

/** What the metadata of a handler or a controller declares; read once each, because guards ask for every request. */
function declaredAt(target: object): Access | null {
  let declared = declarations.get(target);
  if (declared === undefined) {
    declared = (Reflect.getMetadata(ACCESS, target) as Access | undefined) ?? null;
    declarations.set(target, declared);
  }
  return declared;
}

/** What the route under way asks of its caller: what its handler declares, else its controller; null: nothing. */
export function accessOf(context: ExecutionContext): Access | null {
  return declaredAt(context.getHandler()) ?? declaredAt(context.getClass());
}

/** The route is open to everybody. */
export const Public = () => SetMetadata(ACCESS, { kind: 'public' } satisfies Access);

/**
 * The route takes client authentication (RFC 6749 §2.3) only.
 *
 * @param shape refuses malformed requests before the client is authenticated
 */
export const AuthenticateClient = (shape: ShapeCheck) =>
  applyDecorators(SetMetadata(ACCESS, { kind: 'client', shape } satisfies Access), ApiSecurity('clientBasic'));

/** The route takes a Bearer token that holds all of `scopes`; none named: any valid Bearer token. */
export const RequireScopes = (...scopes: BuiltInScope[]) =>
  applyDecorators(
    SetMetadata(ACCESS, { kind: 'scopes', scopes, clientScopes: null } satisfies Access),
    ApiSecurity('bearer', scopes),
  );

/** The route takes a Bearer token that holds all of `scopes`, or the operator's scope. */
export const RequireScopesOrOperator = (...scopes: BuiltInScope[]) =>
  applyDecorators(
    SetMetadata(ACCESS, { kind: 'scopes', scopes, clientScopes: null, orOperator: true } satisfies Access),
    ApiSecurity('bearer', scopes),
    ApiSecurity('bearer', [OPERATOR_SCOPE]),
  );

/**
 * The route takes a Bearer token that holds all of `scopes`, or client authentication of an agent that is allowed all of
 * `clientScopes`.
 */
export const RequireScopesOrClient = (scopes: readonly BuiltInScope[], clientScopes: readonly BuiltInScope[]) =>
  applyDecorators(
    SetMetadata(ACCESS, { kind: 'scopes', scopes, clientScopes } satisfies Access),
    ApiSecurity('bearer', [...scopes]),
    ApiSecurity('clientBasic'),
  );

/** A request on which a guard has put the authenticated caller. */
export interface AuthenticatedRequest extends FastifyRequest {
  /** Who calls, at routes that require scopes. */
  principal?: Principal;
  /** The client, where it authenticated itself. */
  client?: Client;
}

/** Injects the authenticated caller; only for routes that require scopes. */
export const Caller = createParamDecorator((_: unknown, context: ExecutionContext): Principal => {
  const { principal } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (principal === undefined) throw new Error('a route asked for its caller but no guard authenticated one');
  return principal;
});

/** Injects the authenticated client; only for routes that take client authentication only. */
export const CallingClient = createParamDecorator((_: unknown, context: ExecutionContext): Client => {
  const { client } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (client === undefined) throw new Error('a route asked for its client but no guard authenticated one');
  return client;
});

/** Where `request` came from; see `RequestOrigin`. */
export function originOf(request: FastifyRequest): RequestOrigin {
  const userAgent = request.headers['user-agent'];
  return { ip: addressOf(request), userAgent: userAgent === undefined ? null : userAgent.slice(0, 256) };
}

function addressOf({ ip, socket }: FastifyRequest): string | null {
  const peer = socket.remoteAddress ?? null;
  // Unless a trusted proxy names another one. It may pass on anything in X-Forwarded-For: what is no address is not
  // taken for one.
  if (ip === peer) return peer;
  const forwarded = withoutPort(ip);
  return isIP(forwarded) === 0 ? peer : forwarded;
}

/** Some proxies write `192.0.2.7:4711` or `[2001:db8::7]:4711`. */
function withoutPort(address: string): string {
  const [, bracketed, plain] = /^(?:\[([^\]]+)\](?::\d+)?|([\d.]+):\d+)$/.exec(address) ?? [];
  return bracketed ?? plain ?? address;
}

/** Injects where the request came from. */
export const Origin = createParamDecorator((_: unknown, context: ExecutionContext): RequestOrigin =>
  originOf(context.switchToHttp().getRequest<FastifyRequest>()),
);
