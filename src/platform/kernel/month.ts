/** A UTC calendar month as a number that sorts: 202611 for November 2026. */
export type CalendarMonth = number;

/** The UTC calendar month of an instant. */
export function monthOf(instant: Date): CalendarMonth {
  return instant.getUTCFullYear() * 100 + instant.getUTCMonth() + 1;
}

/** The first instant of the month after the one of `instant`, UTC. */
export function nextMonth(instant: Date): Date {
  return new Date(Date.UTC(instant.getUTCFullYear(), instant.getUTCMonth() + 1, 1));
}

/** A month as callers see it: `2026-11`. */
export function formatMonth(month: CalendarMonth): string {
  return `${Math.floor(month / 100)}-${String(month % 100).padStart(2, '0')}`;
}
