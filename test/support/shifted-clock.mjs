/*
 * Preloaded into a service that a test starts (`NODE_OPTIONS=--import=…`): its clock runs CLOCK_SPEED times as fast as
 * the machine's from CLOCK_ANCHOR_MS on, and stands off by the milliseconds in the file CLOCK_SHIFT_FILE, which is read
 * at the start and at SIGUSR2. Nothing of the kind is in the product.
 */
import { readFileSync } from 'node:fs';

const MachineDate = Date;
const anchorMs = Number(process.env.CLOCK_ANCHOR_MS ?? MachineDate.now());
const speed = Number(process.env.CLOCK_SPEED ?? 1);
const file = process.env.CLOCK_SHIFT_FILE;
let shiftMs = 0;

function readShift() {
  if (file !== undefined) shiftMs = Number(readFileSync(file, 'utf8'));
}

readShift();
process.on('SIGUSR2', readShift);

globalThis.Date = class extends MachineDate {
  constructor(...parts) {
    super(...(parts.length === 0 ? [globalThis.Date.now()] : parts));
  }

  static now() {
    return Math.floor(anchorMs + (MachineDate.now() - anchorMs) * speed + shiftMs);
  }
};
