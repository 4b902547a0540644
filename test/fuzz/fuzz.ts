import fc from 'fast-check';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { ApiDocument, type Operation } from './api-document.js';
import type { Rendered } from './render.js';
import { plansOf, type Plan } from './request.js';
import { faultsOfReply } from './verdict.js';
import { Wire } from './wire.js';
import { World } from './world.js';

/** Requests of one operation that are under way at once. */
const AT_ONCE = 8;
/** After how many requests it is seen to that there are still things to ask for. */
const STRETCH = 20;
/** What does its work once at a time for each organization, and says that it is busy where more is asked. */
const EASILY_BUSY = /^\/api\/v1\/audit\/(verify|export|checkpoint)/;
/** How many different faults of an operation are told. */
const TOLD = 5;
/** How many faults of a run are made as small as they go, which takes up to five seconds each. */
const MADE_SMALL = 8;

/** Nothing waits, however much is asked and however often it is refused; and keys, of which hundreds are made, cost little. */
const SETTINGS = {
  SIGNING_ALG: 'EdDSA',
  RATE_LIMIT_FREE: '0',
  RATE_LIMIT_PRO: '0',
  RATE_LIMIT_ENTERPRISE: '0',
  AUTHENTICATION_FAILURES_PER_CLIENT: '1000',
  AUTHENTICATION_FAILURES_PER_ADDRESS: '1000000',
};

/** Of the runs that decide whether a commit is fit: they must not fail by chance. `npm run test:fuzz` takes another each time. */
const SEED = 20_261_128;

/** Sends generated requests to every operation of a running service. The seed is printed; FC_SEED brings it back. */
export class Fuzzer {
  /** How often each operation answered with which status. */
  readonly tallies = new Map<string, Record<string, number>>();
  private madeSmall = 0;

  private constructor(
    readonly seed: number,
    readonly service: TestApp,
    readonly document: ApiDocument,
    readonly world: World,
    private readonly wire: Wire,
  ) {}

  static async start(): Promise<Fuzzer> {
    const seed = Number(process.env['FC_SEED'] ?? SEED);
    const service = await startTestApp({ env: { ...SETTINGS, LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'silent' } });
    const document = await ApiDocument.read(service.api);
    const wire = new Wire(service.url);
    return new Fuzzer(seed, service, document, await World.make(service, document, wire, seed), wire);
  }

  async close(): Promise<void> {
    this.wire.close();
    await this.service.close();
  }

  /**
   * Sends `count` requests to an operation.
   *
   * @returns what is wrong with the answers, each with the request in its smallest form
   */
  async fuzz(operation: Operation, count: number): Promise<string[]> {
    const plans = plansOf(this.document, operation);
    await this.world.letTimePass();
    const failures = new Map<string, number>();
    const underway = new Set<Promise<void>>();
    let run = 0;
    const launch = async (plan: Plan): Promise<void> => {
      const index = run;
      run += 1;
      if (index % STRETCH === 0) await this.world.provide(operation);
      const done = this.ask(operation, plan)
        .then(({ faults }) => {
          for (const fault of faults) if (!failures.has(kindOf(fault))) failures.set(kindOf(fault), index);
        })
        .finally(() => underway.delete(done));
      underway.add(done);
      // One at a time where the service says that it can be busy: then it is not.
      while (underway.size >= (EASILY_BUSY.test(operation.path) ? 1 : AT_ONCE)) await Promise.race(underway);
    };
    await fc.assert(fc.asyncProperty(plans, launch), { seed: this.seed, numRuns: count });
    await Promise.all(underway);
    await this.reach(operation, plans);
    const told: string[] = [];
    for (const [kind, index] of [...failures].slice(0, TOLD))
      told.push(await this.smallest(operation, plans, kind, index));
    return told;
  }

  private async ask(operation: Operation, plan: Plan): Promise<{ faults: string[]; sent: string }> {
    const { request, place } = this.world.prepare(operation, plan);
    const sent = textOf(request);
    try {
      const reply = await this.wire.send(request);
      this.count(operation, reply.status);
      await this.world.digest(operation, place, plan, request, reply);
      const faults = [
        ...faultsOfReply(this.document, operation, request, reply),
        ...this.world.leaksOf(plan, request, reply),
      ];
      return { faults, sent };
    } catch (error) {
      return { faults: [`does not answer: ${String(error)}`], sent };
    }
  }

  /** How many requests were sent, and how many answers there were of each class. */
  summary(): string {
    const answers = [...this.tallies.values()].flatMap((tally) => Object.entries(tally));
    const count = (first: string): number =>
      answers.reduce((sum, [status, times]) => sum + (status.startsWith(first) ? times : 0), 0);
    return `${count('')} requests; answers 2xx: ${count('2')}, 3xx: ${count('3')}, 4xx: ${count('4')}, 5xx: ${count('5')}`;
  }

  /** Whether a request passed every check: what is in conflict with the state has, too. */
  isReached(operation: Operation): boolean {
    return Object.keys(this.tallies.get(labelOf(operation)) ?? {}).some((status) => /^2|^409$/.test(status));
  }

  /** Asks on with right requests alone where chance has not yet brought one that passed every check. */
  private async reach(operation: Operation, plans: fc.Arbitrary<Plan>): Promise<void> {
    for (const plan of fc.sample(plans, { seed: this.seed + 1, numRuns: 300 })) {
      if (operation.success === undefined || this.isReached(operation)) return;
      if (plan.mutations.length > 0) continue;
      await this.world.provide(operation);
      await this.ask(operation, plan);
    }
  }

  private count(operation: Operation, status: number): void {
    const tally = this.tallies.get(labelOf(operation)) ?? {};
    tally[status] = (tally[status] ?? 0) + 1;
    this.tallies.set(labelOf(operation), tally);
  }

  /** Makes a failing request as small as it goes while it fails in the same way. */
  private async smallest(
    operation: Operation,
    plans: fc.Arbitrary<Plan>,
    kind: string,
    index: number,
  ): Promise<string> {
    this.madeSmall += 1;
    if (this.madeSmall > MADE_SMALL) return `${labelOf(operation)}: ${kind} (run ${index})`;
    let last = `${kind} (run ${index}, which did not happen again)`;
    const again = fc.asyncProperty(plans, async (plan) => {
      const { faults, sent } = await this.ask(operation, plan);
      const fault = faults.find((each) => kindOf(each) === kind);
      if (fault === undefined) return true;
      last = `${fault}\n    ${plan.caller}: ${sent}`;
      return false;
    });
    await fc.check(again, { seed: this.seed, path: String(index), numRuns: 1, interruptAfterTimeLimit: 5000 });
    return `${labelOf(operation)}: ${last}`;
  }
}

export function labelOf({ method, path }: Operation): string {
  return `${method} ${path}`;
}

/** Faults that differ in ids and numbers only are one. */
function kindOf(fault: string): string {
  return fault
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID')
    .replace(/mark[0-9a-f]+/g, 'MARK')
    .slice(0, 120);
}

/** A request as a person can read and repeat it; tokens are cut, they would not hold any more. */
function textOf({ method, target, headers, body }: Rendered): string {
  const content = body === undefined ? '' : ` ${JSON.stringify(body.toString('latin1'))}`;
  return `${method} ${target} ${JSON.stringify(headers)}${content}`
    .replace(/eyJ[\w-]{10,}\.[\w.-]+/g, '<token>')
    .slice(0, 2000);
}
