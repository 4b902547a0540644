import { claimsOf } from '../support/api.js';
import type { ApiDocument, Json, Operation } from './api-document.js';

/** The values of the parameters in a path. */
export type Place = Readonly<Record<string, string>>;

/** An agent's id with a secret of it. */
export interface KnownClient {
  readonly agentId: string;
  readonly credentialId: string;
  readonly clientSecret: string;
}

/** How many of a kind are kept: the newest. */
const KEPT = 64;

const WORTH_KEEPING = /(?:Id|^kid|^jti|^checkpoint)$/;

/**
 * What an organization has, as the answers of the service tell it: nothing here knows what operations there are, so that
 * new ones are met as well.
 */
export class Pool {
  readonly clients: KnownClient[] = [];
  private readonly values = new Map<string, unknown[]>();
  private readonly places = new Map<string, Place[]>();

  /**
   * @param organizationId whose it is
   * @param spared ids of those who call: nothing is done to them
   */
  constructor(
    private readonly document: ApiDocument,
    private readonly organizationId: string,
    private readonly spared: ReadonlySet<string>,
  ) {}

  /** A value for the member or parameter `name`; undefined while none is known. */
  value(name: string, pick: number): unknown {
    const known = this.values.get(name) ?? [];
    return known[pick % Math.max(1, known.length)];
  }

  /** Parameters for a path, of things that belong together; undefined while none are known. */
  place(path: string, pick: number): Place | undefined {
    const known = this.placesOf(path);
    return known[pick % Math.max(1, known.length)];
  }

  /** How many things a path could be about. */
  count(path: string): number {
    return this.placesOf(path).length;
  }

  /** Forgets a thing that is no more. */
  forget(path: string, place: Place): void {
    const [, name = ''] = /\{(\w+)\}$/.exec(thingOf(path)) ?? [];
    const values = this.values.get(name) ?? [];
    if (values.length > 1)
      this.values.set(
        name,
        values.filter((value) => value !== place[name]),
      );
    const kept = this.placesOf(path).filter((each) => each !== place);
    this.places.set(thingOf(path), kept);
  }

  /** Keeps what an answer to `operation` about `place` tells of. */
  learn({ path }: Operation, place: Place, answer: unknown): void {
    if (typeof answer !== 'object' || answer === null) return;
    this.gather(answer);
    const { data } = answer as { data?: unknown };
    for (const each of Array.isArray(data) ? (data as unknown[]) : [answer]) {
      if (typeof each === 'object' && each !== null && this.isOurs(each)) this.learnPlaces(path, place, each as Json);
    }
    const { clientId, credentialId, clientSecret } = answer as Json;
    if (typeof clientSecret === 'string') {
      keep(this.clients, { agentId: String(clientId), credentialId: String(credentialId), clientSecret });
    }
  }

  private placesOf(path: string): readonly Place[] {
    return this.places.get(thingOf(path)) ?? [];
  }

  /** What is answered at `/things` by the name `thingId` is found at `/things/{thingId}`. */
  private learnPlaces(path: string, place: Place, thing: Json): void {
    for (const { path: below } of this.document.operations) {
      const [, name] = below.startsWith(`${path}/`) ? (/^\/\{(\w+)\}/.exec(below.slice(path.length)) ?? []) : [];
      if (name === undefined || typeof thing[name] !== 'string') continue;
      const key = `${path}/{${name}}`;
      const known = this.places.get(key) ?? [];
      const found: Place = { ...place, [name]: thing[name] };
      if (Object.values(found).some((id) => this.spared.has(id))) continue;
      if (!known.some((each) => JSON.stringify(each) === JSON.stringify(found))) keep(known, found);
      this.places.set(key, known);
    }
  }

  /** What names another organization is that one's, unless it is the organization itself. */
  private isOurs(thing: object): boolean {
    const { organizationId = this.organizationId } = thing as Json;
    const others = Object.keys(thing).filter((name) => name !== 'organizationId' && WORTH_KEEPING.test(name));
    return organizationId === this.organizationId || others.length === 0;
  }

  private gather(value: unknown): void {
    if (typeof value !== 'object' || value === null || !this.isOurs(value)) return;
    const { checkpoint, sequence } = value as Json;
    if (typeof checkpoint === 'string' && typeof sequence === 'number') this.note('checkpointSequence', sequence);
    for (const [name, member] of Object.entries(value)) {
      if (typeof member === 'object') this.gather(member);
      if (typeof member !== 'string') continue;
      if (WORTH_KEEPING.test(name)) this.note(name, member);
      if (name === 'nextCursor') this.note('cursor', member);
      if (name === 'access_token') {
        this.note('token', member);
        this.note('jti', claimsOf(member)['jti']);
      }
    }
  }

  private note(name: string, value: unknown): void {
    const known = this.values.get(name) ?? [];
    if (!known.includes(value)) keep(known, value);
    this.values.set(name, known);
  }
}

/** The part of a path that names a thing: `/things/{thingId}` of `/things/{thingId}/suspend`. */
export function thingOf(path: string): string {
  return path.slice(0, path.lastIndexOf('}') + 1);
}

function keep<T>(known: T[], value: T): void {
  known.push(value);
  if (known.length > KEPT) known.shift();
}
