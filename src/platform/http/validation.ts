import { ValidationPipe, type ArgumentMetadata, type PipeTransform, type ValidationError } from '@nestjs/common';
import { getMetadataStorage, ValidationTypes, validateSync } from 'class-validator';
import { Problem, problems, type FieldFault } from '../kernel/problem.js';
import { jsonPointer } from './json-pointer.js';
import { OAuthForm } from './oauth-form.js';

/** The most faults that one answer names. */
const MAX_FAULTS = 100;
/**
 * Rules about the kind of a value, those of what holds others first: where one is broken, what the other rules say of the
 * value is no help.
 */
const OF_KIND = ['isArray', 'isObject', 'isString', 'isInt', 'isBoolean'] as const;
/** How many items of an array are looked at singly to name the faulty ones. */
const MAX_INSPECTED_ITEMS = 256;

const objectRequired = problems.validationFailed.withErrors({ pointer: '', detail: 'A JSON object is required.' });

/**
 * The pipe that checks the parameters of management routes against their DTOs: unknown members are refused, nothing
 * is converted unless a DTO says so, and every fault is named by its JSON Pointer (RFC 6901) or the query parameter's.
 * OAuth forms pass untouched; the OAuth endpoints check them themselves.
 */
export function managementValidationPipe(): PipeTransform {
  return new ManagementValidationPipe();
}

type Dto = NonNullable<ArgumentMetadata['metatype']>;

class ManagementValidationPipe implements PipeTransform {
  private readonly pipe = new ValidationPipe({
    whitelist: true,
    forbidNonWhitelisted: true,
    transform: true,
    validationError: { target: true, value: true },
    exceptionFactory: (errors) => problems.validationFailed.withErrors(...faultsOf(errors)),
  });

  /** Synchronous where there is nothing to check, which is always so on the hot path. */
  transform(value: unknown, metadata: ArgumentMetadata): unknown {
    if (metadata.type === 'custom' || value instanceof OAuthForm) return value;
    if (isDto(metadata.metatype)) {
      if (metadata.type === 'body') return this.checkBody(value, metadata, metadata.metatype);
      refuseInheritedNames(value, metadata.metatype);
    }
    return this.pipe.transform(value, metadata);
  }

  private async checkBody(value: unknown, metadata: ArgumentMetadata, dto: Dto): Promise<unknown> {
    if (value !== undefined && (typeof value !== 'object' || value === null || Array.isArray(value))) {
      throw objectRequired;
    }
    refuseInheritedNames(value, dto);
    refuseConstructors(value, []);
    try {
      return (await this.pipe.transform(value, metadata)) as unknown;
    } catch (error) {
      throw value === undefined && error instanceof Problem ? objectRequired : error;
    }
  }
}

function isDto(metatype: ArgumentMetadata['metatype']): metatype is Dto {
  return (
    metatype !== undefined && ![Object, Array, String, Number, Boolean, OAuthForm].some((type) => type === metatype)
  );
}

/**
 * Refuses unknown members that every object inherits, such as `constructor`, and `prototype`, in a DTO and in the DTOs that
 * it holds: class-transformer and Nest drop some of them in silence, and class-validator takes the others for known.
 */
function refuseInheritedNames(value: unknown, dto: Dto): void {
  const nested = getMetadataStorage()
    .getTargetValidationMetadatas(dto, '', false, false)
    .filter(({ type }) => type === ValidationTypes.NESTED_VALIDATION)
    .flatMap(({ propertyName }) => membersOf(value, propertyName));
  const faults = [{ path: [], object: value }, ...nested].flatMap(({ path, object }) =>
    Object.keys(object ?? {})
      .filter((name) => name in Object.prototype || name === 'prototype')
      .map((name) => unknownName([...path, name])),
  );
  if (faults.length > 0) throw problems.validationFailed.withErrors(...faults.slice(0, MAX_FAULTS));
}

/** Refuses members called `constructor` or `prototype` in maps, too: Nest's pipe drops them in silence, at any depth. */
function refuseConstructors(value: unknown, path: readonly string[]): void {
  if (typeof value !== 'object' || value === null) return;
  for (const [name, member] of Object.entries(value)) {
    const here = [...path, name];
    if (name === 'constructor' || name === 'prototype') throw problems.validationFailed.withErrors(unknownName(here));
    refuseConstructors(member, here);
  }
}

/** The objects that a member of `value` holds: itself, or the items of a list. */
function membersOf(value: unknown, name: string): { readonly path: readonly string[]; readonly object: unknown }[] {
  const member = (value as Record<string, unknown> | null | undefined)?.[name];
  return Array.isArray(member)
    ? member.map((object: unknown, index) => ({ path: [name, String(index)], object }))
    : [{ path: [name], object: typeof member === 'object' ? member : null }];
}

function unknownName(path: readonly string[]): FieldFault {
  return { pointer: jsonPointer(path), detail: 'This name is not known.' };
}

function faultsOf(errors: readonly ValidationError[]): FieldFault[] {
  const faults: FieldFault[] = [];
  collectFaults(errors, [], faults);
  return faults;
}

function collectFaults(errors: readonly ValidationError[], path: readonly string[], faults: FieldFault[]): void {
  for (const error of errors) {
    const here = [...path, error.property];
    for (const fault of faultsOfMember(error, here)) {
      if (faults.length === MAX_FAULTS) return;
      faults.push(fault);
    }
    collectFaults(error.children ?? [], here, faults);
  }
}

function faultsOfMember(error: ValidationError, path: readonly string[]): FieldFault[] {
  const found = Object.entries(error.constraints ?? {}).flatMap(([constraint, message]) =>
    faultsOfConstraint(error, constraint, message, path).map((fault) => ({ constraint, fault })),
  );
  const kinds = new Map<string, string>();
  for (const kind of OF_KIND) {
    for (const { constraint, fault } of found) {
      if (constraint === kind && !kinds.has(fault.pointer)) kinds.set(fault.pointer, kind);
    }
  }
  return found
    .filter(({ constraint, fault }) => (kinds.get(fault.pointer) ?? constraint) === constraint)
    .map(({ fault }) => fault);
}

function faultsOfConstraint(
  error: ValidationError,
  constraint: string,
  message: string,
  path: readonly string[],
): FieldFault[] {
  if (constraint === 'whitelistValidation') return [unknownName(path)];
  const items = faultyItems(error, constraint);
  if (items.length === 0) return [{ pointer: jsonPointer(path), detail: message }];
  const detail = message.replace(/^each value in /, '');
  return items.map((index) => ({ pointer: jsonPointer([...path, index]), detail }));
}

/**
 * Which items of an array break `constraint`. class-validator names only the array, so each item is checked once
 * more, alone.
 */
function faultyItems({ target, property, value }: ValidationError, constraint: string): number[] {
  if (!Array.isArray(value) || target === undefined || !isEachConstraint(target, property, constraint)) return [];
  const faulty: number[] = [];
  for (const [index, item] of (value as unknown[]).slice(0, MAX_INSPECTED_ITEMS).entries()) {
    const alone: object = Object.assign(Object.create(Object.getPrototypeOf(target) as object) as object, target, {
      [property]: [item],
    });
    const errors = validateSync(alone, { forbidUnknownValues: false });
    const broken = errors.find((error) => error.property === property)?.constraints;
    if (broken !== undefined && Object.hasOwn(broken, constraint)) faulty.push(index);
  }
  return faulty;
}

function isEachConstraint(target: object, property: string, constraint: string): boolean {
  return getMetadataStorage()
    .getTargetValidationMetadatas(target.constructor, '', false, false)
    .some((rule) => rule.each && rule.propertyName === property && (rule.name ?? rule.type) === constraint);
}
